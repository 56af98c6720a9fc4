"""Several domains as one: a single attribute axis, labels unknown outside an image's own domain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from galm_tf.domains.copies import originals
from galm_tf.domains.domain import Domain


def join_domains(domains: Sequence[Domain]) -> Domain:
    """Joins domains with different names; a single one is returned as it is."""
    if len(domains) == 1:
        return domains[0]
    widths = [len(d.attributes) for d in domains]
    starts = np.cumsum([0] + widths)
    labels = np.full((sum(len(d.paths) for d in domains), starts[-1]), np.nan, np.float32)
    shares = np.full(labels.shape, np.nan, np.float32)
    class_starts = np.cumsum([0] + [len(d.classes) for d in domains])
    row = 0
    for domain, start, width in zip(domains, starts, widths):
        labels[row : row + len(domain.paths), start : start + width] = domain.labels
        if domain.shares is not None:
            shares[row : row + len(domain.paths), start : start + width] = domain.shares
        row += len(domain.paths)
    rows = np.cumsum([0] + [len(d.paths) for d in domains])

    def draw(index: int, size: int) -> np.ndarray:
        group = int(np.searchsorted(rows, index, side="right")) - 1
        return domains[group].draw(index - int(rows[group]), size)

    return Domain(
        name="+".join(d.name for d in domains),
        attributes=sum((d.attributes for d in domains), ()),
        classes=sum((d.classes for d in domains), ()),
        paths=sum((d.paths for d in domains), ()),
        boxes=np.concatenate([d.boxes for d in domains]),
        class_ids=np.concatenate([d.class_ids + s for d, s in zip(domains, class_starts)]).astype(np.int32),
        labels=labels,
        shares=shares if any(d.shares is not None for d in domains) else None,
        subsets=np.concatenate([d.subsets for d in domains]),
        image_domains=np.repeat(np.arange(len(domains), dtype=np.int32), [len(d.paths) for d in domains]),
        attribute_domains=np.repeat(np.arange(len(domains), dtype=np.int32), widths),
        domain_names=sum((d.domain_names for d in domains), ()),
        data_sources=sum((d.data_sources for d in domains), ()),
        layouts=sum((d.layouts for d in domains), ()),
        crop_paddings=sum((d.crop_paddings for d in domains), ()),
        draw=draw if any(d.draw for d in domains) else None,
        notes=sum((d.notes for d in domains), ()),
        originals=originals([path for d in domains for path in d.paths if "://" not in path]),
    )
