"""What result.json holds (DESIGN §4, "Run folder")."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
from scipy.special import expit

from galm_tf import evaluation, search_space, selection
from galm_tf.domains.build import named_classes, with_classes
from galm_tf.domains.domain import Domain
from galm_tf.domains.generated import NOTICE
from galm_tf.network_size import Size, network_size, numbers_read, tower_size, trunk_size
from galm_tf.preparation import Prepared
from galm_tf.readings import Readings
from galm_tf.run_folder import environment
from galm_tf.search import Search


def build_result(search: Search | Readings, prepared: Prepared, log_odds: np.ndarray) -> dict[str, Any]:
    """What result.json holds (DESIGN §4, "Run folder").

    log_odds: [t, N], what the networks say of the test images; probabilities would hold all that is sure for equal.
    """
    config, domain, split, state = search.config, prepared.domain, prepared.split, search.state
    learned = split.trained if config.finetunes_on_validation else split.train
    labels = domain.labels[split.test]
    rows = [
        _attribute_row(i, a, search, prepared, labels[:, i], log_odds[:, i])
        for i, a in enumerate(_architectures(search))
    ]
    names = domain.attributes
    per_attribute = dict(zip(names, rows))
    per_attribute.update({name: {"excluded": reason} for name, reason in prepared.excluded.items()})
    return {
        "domains": list(domain.domain_names),
        "method": config.method,
        "seed": config.seed,
        "split_seed": config.split_seed,
        "data_source": "+".join(sorted(set(domain.data_sources))),
        "data_sources": dict(zip(domain.domain_names, domain.data_sources)),
        "notice": NOTICE if domain.generated else None,
        "notes": [*domain.notes, *(state.transfer or {}).get("notes", [])],
        **environment(),
        "image_size": config.image_size,
        "num_attributes": len(names),
        "num_attributes_excluded": len(prepared.excluded),
        "num_attributes_rewarded": state.search.get("num_attributes_rewarded", 0),
        "num_attributes_tested": sum(r["test_auc"] is not None for r in rows),
        "num_images": {k: len(getattr(split, k)) for k in ("train", "validation_classes", "validation_images", "test")},
        "num_images_tested": int(np.isfinite(labels).any(axis=1).sum()),
        "bad_images": [list(pair) for pair in prepared.bad_images],
        "class_disjoint": domain.class_disjoint,
        "classes_seen": _with_those_of_sources(state.transfer, "classes_seen", named_classes(domain, split.trained)),
        "classes_learned": _with_those_of_sources(state.transfer, "classes_learned", named_classes(domain, learned)),
        "held_out_classes": list(split.held_out_classes),
        "val_mauc": state.best_mauc if state.best_mauc >= 0 else None,
        "test_mauc": evaluation.means(rows, "test_auc"),
        "test_mauc_interval": interval_over_classes(
            domain,
            split.test,
            labels,
            log_odds,
            np.isin(domain.class_ids[split.test], domain.class_ids[split.trained]),
        ),
        "temperature": state.temperature,
        "log_odds_shift": state.log_odds_shift,
        **{f"test_{key}": evaluation.means(rows, f"test_{key}") for key in evaluation.BESIDE_AUC},
        "per_attribute": per_attribute,
        "transfer": state.transfer,
        "choice_frequencies": choice_frequencies(per_attribute),
        "network": _size(search).to_json(),
        "trunk": search.trunk and search.trunk.about,
        "readout": _about_readout(search),
        "search": _about_search(search),
    }


def searched_rows(result: dict[str, Any]) -> dict[str, Any]:
    """Attribute name -> its row of result.json, of all that were not left out."""
    return {name: row for name, row in result["per_attribute"].items() if "excluded" not in row}


def interval_over_classes(
    domain: Domain, index: np.ndarray, labels: np.ndarray, scores: np.ndarray, learned: np.ndarray
) -> Optional[dict[str, Any]]:
    """Where the mean AUC over all that the tested were drawn from lies: `low` and `high` at 95 %, None where too few
    were tested, `over` what, and how many were, `count`; of joined domains each draws its own, and where one has too
    few, these two are of that one.

    Args:
      domain: of the images.
      index: int [m], those that are judged.
      labels: [m, N] in {0, 1, NaN}.
      scores: [m, N].
      learned: bool [m], which are of classes that were learned. Of a domain without such, that has classes, these were
        drawn; else photographs.

    Returns:
      None where nothing is told.
    """
    classed = with_classes(domain)[index] & _of_new_classes(domain, index, learned)
    units = np.where(classed, domain.class_ids[index], len(domain.classes) + domain.photographs[index])
    domains = domain.image_domains[index]
    found = evaluation.mean_auc_interval(labels, scores, units, domains)
    if not found:
        return None
    low, high, count, tells = found
    classed = classed[tells]
    over = " and ".join(kind for kind, there in (("classes", classed.any()), ("images", not classed.all())) if there)
    if low is None and len(domain.domain_names) > 1:
        over += f" of {' and '.join(domain.domain_names[i] for i in np.unique(domains[tells]))}"
    return {"low": low, "high": high, "count": count, "over": over}


def _of_new_classes(domain: Domain, index: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """Of records int64 [m], whether none of their domain is of a class that was learned: bool [m]."""
    domains = domain.image_domains[index]
    return ~np.isin(domains, domains[learned])


def _with_those_of_sources(transfer: Optional[dict[str, Any]], key: str, names: frozenset[str]) -> list[str]:
    """Classes that a run has seen, or learned, and those that its sources have; a run that was begun by an earlier
    version tells what they saw alone.
    """
    theirs = transfer or {}
    return sorted({*theirs.get(key, theirs.get("classes_seen", [])), *names})


def choice_frequencies(per_attribute: dict[str, Any]) -> dict[str, dict[str, Optional[float]]]:
    """Table 4 of the architectures that were chosen for a reason, by rows of result.json; nothing of none."""
    chosen = [
        search_space.Architecture.from_json(row["architecture"]).number
        for row in per_attribute.values()
        if row.get("architecture") and not evaluation.unjudged(row)
    ]
    return selection.choice_frequencies(np.array(chosen)) if chosen else {}


def _about_search(search: Search | Readings) -> dict[str, Any]:
    """What a search reached on validation, None where that was not measured, and what it cost."""
    state = search.state
    return {
        **dict.fromkeys(("specialisation", "skill")),
        **{k: v for k, v in state.search.items() if k != "num_attributes_rewarded"},
        "seconds": sum(state.phase_seconds.values()),
        "phase_seconds": {**state.before, **state.phase_seconds},
        "architectures_scored": state.architectures_scored,
    }


def _about_readout(search: Search | Readings) -> Optional[dict[str, float]]:
    """The share of the trunk's reading in every score, and its penalty; None where nothing is read."""
    penalty = search.state.readout_penalty
    return (
        None
        if penalty is None
        else {"share": search.config.readout_share if search.state.chosen else 1.0, "penalty": penalty}
    )


def _architectures(search: Search | Readings) -> list[Optional[search_space.Architecture]]:
    """[N], None of a network without a tower."""
    chosen = search.state.chosen
    return (
        [None] * len(search.domain.attributes)
        if chosen is None
        else [*map(search_space.Architecture.from_number, chosen)]
    )


def _size(search: Search | Readings) -> Size:
    """Of the trunk and all chosen networks."""
    architectures = _architectures(search)
    trunk = trunk_size(search.config.image_size, search.trunk and search.trunk.about, any(architectures))
    return network_size(architectures, search_space.map_side(search.config), _read(search), trunk)


def _read(search: Search | Readings) -> int:
    """How many numbers of the trunk are read beside each tower."""
    return 0 if search.state.readout_penalty is None else numbers_read(search.trunk and search.trunk.about)


def _attribute_row(
    i: int,
    architecture: Optional[search_space.Architecture],
    search: Search | Readings,
    prepared: Prepared,
    labels: np.ndarray,
    log_odds: np.ndarray,
) -> dict[str, Any]:
    config, domain, state = search.config, prepared.domain, search.state
    threshold = state.thresholds[i]
    tested = evaluation.attribute_metrics(labels, expit(log_odds), np.nan if threshold is None else threshold, log_odds)
    row = {
        "val_auc": state.val_auc[i],
        "judged_by": prepared.split.judged_by[i],
        **{f"test_{k}": v for k, v in tested.items()},
        "test_positives": int((labels > 0.5).sum()),
        "test_negatives": int((labels <= 0.5).sum()),
        "threshold": threshold,
        "architecture": architecture and architecture.to_json(),
        "description": architecture.describe() if architecture else "linear reading of the trunk",
        **tower_size(architecture, search_space.map_side(search.config), _read(search)).to_json(),
        "train_positives": config.train_positives or None,  # of all that the data have
        "prevalence": float(np.nanmean(domain.labels[prepared.split.train, i])),
    }
    # why it is not judged, not tested, or both
    reason = prepared.split.reasons.get(domain.attributes[i])
    if row["test_auc"] is None:
        reason = reason or "its known test labels are of one kind only"
    return {**row, "reason": reason} if reason else row
