"""The runs of search methods in one --out, which Tables 2 and 3, few_labels and few_steps share: each made once, read
afterwards.

A run's folder is OUT/runs/METHOD-DOMAINS[-from-SOURCES][-pPOSITIVES][-dDIVISOR]-VARYn[-without-DIGEST], such
as galm-sun-split_seed0 or galm-sun-from-awa+apay-split_seed0. Source runs on several
domains are searched jointly. One that holds all domains, and so its target's too,
is not fine-tuned, because that would train on the images that the target
validates on. The classes of the test are the same in both, by the same split,
and `transfer` refuses a source that has seen one. No run trains on photographs
that another domain of the table tests, whether or not it is the source of one
that does. Where some of its own or of its sources are left out so, the digest
says which: a table of other domains has runs of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np

from galm_tf import preparation
from galm_tf.attribute_names import domain_of
from galm_tf.begun import content_settings
from galm_tf.benchmark.methods import free_networks, run_once
from galm_tf.benchmark.same_data import SameData
from galm_tf.config import SOURCE_SETTINGS, Config
from galm_tf.domains import load_domains
from galm_tf.domains.build import classed_domains
from galm_tf.domains.domain import Domain
from galm_tf.run_folder import read_config

_SHOWN = 12  # of a digest's digits, in a name
_UNUSED = "training records show photographs that another domain of the table tests and are unused."
_STEPS = ("warmup_steps", "supernet_steps", "controller_steps", "adapt_steps", "finetune_steps")
_RATES = ("learning_rate", "adapt_learning_rate", "finetune_learning_rate")


@dataclasses.dataclass(frozen=True)
class Less:
    """What a target's run is given less of than the settings say; its sources have all.

    Attributes:
      positives: known positives of each attribute; 0 for all.
      divisor: of the steps of every phase, none of which falls below one; the networks' learning rates are as many
        times higher, so that their weights can move as far.
    """

    positives: int = 0
    divisor: int = 1

    @property
    def suffix(self) -> str:
        """In the names of folders and cells; empty where nothing is less."""
        return f"-p{self.positives}" * bool(self.positives) + f"-d{self.divisor}" * (self.divisor > 1)

    def of(self, config: Config) -> Config:
        """The settings with less."""
        steps = {
            name: max(1, round(count / self.divisor)) if (count := getattr(config, name)) else 0 for name in _STEPS
        }
        rates = {name: self.divisor * getattr(config, name) for name in _RATES}
        return dataclasses.replace(config, train_positives=self.positives, **steps, **rates)


WHOLE = Less()


class TableRuns:
    """Makes or reads runs.

    Args:
      config: all domains and the settings of every run.
      vary: `split_seed` or `seed`, what differs between repetitions.
      out: the folder of all tables.
    """

    def __init__(self, config: Config, vary: str, out: str) -> None:
        self.config, self.vary, self.out = config, vary, out
        self._looked_at: set[str] = set()  # finished runs whose data are as they were
        self._subsets: dict[int, dict[str, np.ndarray]] = {}  # by repetition and domain
        self._unused: dict[tuple[str, int], list[int]] = {}  # by domain and repetition
        self._data = SameData(f"table in {out}")
        self._classed: dict[str, bool] = {}  # by domain

    def settings(self) -> dict[str, Any]:
        """What a table's cells have in common: settings, and what the data hold."""
        settings = {**self.config.to_json(), "vary": self.vary}
        for domain in self.config.domain:
            settings.update(content_settings(self.content(domain), domain))
        return settings

    @property
    def seen(self) -> dict[str, Any]:
        """What search methods see, as a row of a table has it: features and other_networks, whether a part of them was
        trained on other images.
        """
        size, pretrained = self.config.image_size, bool(self.config.trunk_model)
        return {
            "features": f"images {size}x{size}" + " on a pretrained trunk" * pretrained,
            "other_networks": pretrained,
        }

    def content(self, domain: str) -> dict[str, str]:
        """Digests of a domain's images and labels, whatever their split (`data_digests.content_digests`)."""
        if domain not in self._data.digests:
            self._load(self.subset((domain,)))
        return self._data.digests[domain]

    def has_classes(self, domain: str) -> bool:
        """Whether a domain has classes, by which it is split; without them it is by photographs."""
        self.content(domain)
        return self._classed[domain]

    def _load(self, config: Config, told: bool = False) -> Domain:
        """Some domains, with their notes where `prepare` tells of a run's own split; raises UserError where one is not as
        it was at the table's start.
        """
        domain = load_domains(config, untold=lambda note: not told)
        for name in domain.domain_names:
            self._data.expect(domain.only(name))
        self._classed.update(classed_domains(domain))
        return domain

    def subset(self, domains: Sequence[str], number: Optional[int] = None) -> Config:
        """The settings of a run on some of the domains, with all their labels; of a repetition where one is named."""
        index = [self.config.domain.index(d) for d in domains]
        folders = {k: tuple(v[i] for i in index) for k in ("data_dir", "layout") if (v := getattr(self.config, k))}
        varied: dict[str, Any] = {} if number is None else {self.vary: number}
        varied["leave_out"] = tuple(name for name in self.config.leave_out if domain_of(name) in domains)
        return dataclasses.replace(self.config, domain=tuple(domains), train_positives=0, **folders, **varied)

    def _subsets_of(self, domains: Sequence[str], number: int) -> np.ndarray:
        """Who trains and who tests in a repetition, of the records of some domains; photographs that others test are
        unused.
        """
        if number not in self._subsets:
            together = self._load(self.subset(self.config.domain, number))
            self._subsets[number] = {
                name: together.subsets[together.image_domains == i] for i, name in enumerate(self.config.domain)
            }
        return np.concatenate([self._subsets[number][name] for name in domains])

    @functools.cached_property
    def _shares_photographs(self) -> bool:
        """Whether a photograph is in two domains, so that one may train on what another tests."""
        together = self._load(self.subset(self.config.domain))
        places = np.unique(np.stack([together.photographs, together.image_domains]), axis=1)
        return len(np.unique(places[0])) < places.shape[1]

    def left_out(self, domains: Sequence[str], number: int) -> str:
        """A digest of the training records of some domains that are unused in a repetition, since another domain of the
        table tests their photographs; "" of none.
        """
        if len(self.config.domain) == 1 or not self._shares_photographs:
            return ""
        unused = {}
        for name in domains:
            if (name, number) not in self._unused:
                own = self._load(self.subset((name,), number)).subsets
                self._unused[name, number] = np.flatnonzero(self._subsets_of((name,), number) != own).tolist()
            unused[name] = self._unused[name, number]
        return hashlib.sha256(json.dumps(unused).encode()).hexdigest() if any(unused.values()) else ""

    def repetition(self, domains: Sequence[str], number: int) -> str:
        """In names of what trains on some domains: which repetition, and what they are given less of in this table."""
        left_out = self.left_out(domains, number)
        return f"{self.vary}{number}" + (f"-without-{left_out[:_SHOWN]}" if left_out else "")

    def prepare(self, config: Config) -> preparation.Prepared:
        """The data of a run on some of the domains; photographs that others test are unused."""
        domain = self._load(config, told=True)
        subsets = self._subsets_of(config.domain, getattr(config, self.vary))
        unused = int((subsets != domain.subsets).sum())
        note = f"{unused} {_UNUSED}"
        return preparation.prepare(
            config, dataclasses.replace(domain, subsets=subsets, notes=(*domain.notes, *([note] if unused else [])))
        )

    def path(
        self, domains: Sequence[str], number: int, sources: Sequence[str] = (), less: Less = WHOLE, method: str = ""
    ) -> str:
        """The folder of a run."""
        name = f"{method or self.config.method}-{'+'.join(domains)}"
        name += (f"-from-{'+'.join(sources)}" if sources else "") + less.suffix
        return os.path.join(self.out, "runs", f"{name}-{self.repetition((*domains, *sources), number)}")

    def result(
        self, target: str, number: int, sources: Sequence[str] = (), less: Less = WHOLE, method: str = ""
    ) -> dict[str, Any]:
        """What result.json holds of a run on one domain; its source run is made first where it is not there yet.

        Args:
          target: a domain.
          number: of the repetition.
          sources: domains to start from.
          less: what the target has less of.
          method: of --method; the settings' own when left out.
        """
        source_run = (self.source(sources, number),) if sources else ()
        config = less.of(self.subset((target,), number))
        config = dataclasses.replace(config, source_run=source_run, method=method or self.config.method)
        return self._search(config, self.path((target,), number, sources, less, method))

    def source(self, domains: Sequence[str], number: int) -> str:
        """The folder of the finished run on these domains from nothing; a single one's is that of `result`."""
        config = self.subset(domains, number)
        if 1 < len(domains) == len(self.config.domain):
            config = dataclasses.replace(config, finetune_steps=0)
        path = self.path(domains, number)
        self._search(config, path)
        return path

    def _search(self, config: Config, path: str) -> dict[str, Any]:
        """The result of a run: read, resumed or made."""
        if not config.source_run:
            # defaults, so that the run's flags repeat it, but of a run that was begun its own
            own = read_config(path) if os.path.exists(os.path.join(path, "config.json")) else Config()
            config = dataclasses.replace(config, **{k: getattr(own, k) for k in SOURCE_SETTINGS})
        finished = os.path.exists(os.path.join(path, "result.json"))
        look = finished and path not in self._looked_at
        prepared = self.prepare(config) if look or not finished else None
        told = [note for note in prepared.domain.notes if note.endswith(_UNUSED)] if prepared and not finished else []
        result = run_once(dataclasses.replace(config, run_dir=path), prepared, told)
        self._looked_at.add(path)
        if not finished:
            free_networks()
        return result
