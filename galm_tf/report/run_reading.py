"""A finished run, read back from its folder and checked."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
from typing import Any, Optional

import numpy as np

from galm_tf.attribute_names import domain_of
from galm_tf.config import READING, Config
from galm_tf.errors import UserError
from galm_tf.network_size import Size, of_result, tower_size
from galm_tf.run_folder import in_use, read_config, read_policy
from galm_tf.search_space import Architecture, map_side

_NUMBER = (int, float)
_FIELDS = {
    "domains": list,
    "method": str,
    "seed": int,
    "num_attributes": int,
    "num_attributes_tested": int,
    "num_images": dict,
    "val_mauc": (*_NUMBER, type(None)),
    "test_mauc": (*_NUMBER, type(None)),
    "per_attribute": dict,
    "choice_frequencies": dict,
    "search": dict,
    "seconds_total": _NUMBER,
}
_ROW_FIGURES = ("val_auc", "test_auc", "threshold", "prevalence")
_REPAIR = "run it again, or restore the file from a copy"


def folder_name(path: str) -> str:
    """The last part of a path, for a person."""
    return os.path.basename(os.path.abspath(path))


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """What a run folder holds.

    Attributes:
      path: the folder, as the user named it.
      config: its settings.
      result: result.json.
      records: lines of metrics.jsonl; none when the file is not there.
      flags: text of flags.txt; empty when it is not there.
      policy: decision -> probability of its choices float32 [N, choices], in the order of `rows`, or None without a
        policy.
      vectors: attribute embeddings float [N, D] in the order of `rows`, or None for a method that learns none.
    """

    path: str
    config: Config
    result: dict[str, Any]
    records: tuple[dict[str, Any], ...]
    flags: str
    policy: Optional[dict[str, np.ndarray]]
    vectors: Optional[np.ndarray]

    @property
    def name(self) -> str:
        return folder_name(self.path)

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """Attribute name -> its row of result.json, of all that have a network."""
        return {name: row for name, row in self.result["per_attribute"].items() if "excluded" not in row}

    @property
    def attribute_domains(self) -> np.ndarray:
        """The domain of every one of `rows`, str [N]."""
        return np.array([domain_of(name) for name in self.rows])

    @property
    def excluded(self) -> dict[str, str]:
        """Attribute name -> why it could not be learned."""
        return {n: row["excluded"] for n, row in self.result["per_attribute"].items() if "excluded" in row}

    @property
    def architectures(self) -> dict[str, Architecture]:
        """Attribute name -> its chosen architecture in canonical form, of those that have one: a linear reading of a
        trunk has none.
        """
        stored = {name: row["architecture"] for name, row in self.rows.items()}
        return {name: Architecture.from_json(told).canonical() for name, told in stored.items() if told is not None}

    @property
    def searched(self) -> bool:
        """Whether architectures were searched: not where `--method=reading` reads a trunk."""
        return self.result["method"] != READING

    @property
    def size(self) -> Size:
        """Of all its networks together."""
        return of_result(self.result, self.config.image_size)

    def tower_size(self, name: str) -> Size:
        """Of an attribute's own layers; counted where a run of an earlier version does not say."""
        row = self.rows[name]
        if "multiply_adds" in row:
            return Size(row["multiply_adds"], row["parameters"])
        return tower_size(self.architectures.get(name), map_side(self.config), read=0)


def read_run(path: str) -> FinishedRun:
    """Reads the folder of a finished run; raises UserError where there is none, or a damaged one."""
    if not os.path.isdir(path):
        raise UserError(f"Expected the folder of a run. Received: {path}, which is no folder; name one below runs/.")
    config = read_config(path)
    result = _result(path)
    count = sum("excluded" not in row for row in result["per_attribute"].values())
    return FinishedRun(
        path, config, result, _records(path), _text(path, "flags.txt"), read_policy(path, count), _vectors(path, count)
    )


def _result(path: str) -> dict[str, Any]:
    file = os.path.join(path, "result.json")
    if not os.path.exists(file):
        if in_use(path):
            raise UserError(
                f"Expected a finished run. Received: {path}, which is still at work; wait for its result.json, and watch it by "
                f"tensorboard --logdir={shlex.quote(path)}"
            )
        raise UserError(
            f"Expected a finished run. Received: {path}, which has no result.json yet; finish it by "
            f"python -m galm_tf.main --resume --run_dir={shlex.quote(path)}"
        )
    try:
        with open(file, encoding="utf-8") as opened:
            result = json.load(opened, parse_constant=_refuse)
    except (OSError, ValueError) as error:
        raise UserError(
            f"Expected the figures of a run in {file}. Received: a file that cannot be read ({error}); {_REPAIR}."
        ) from error
    problem = _problem(result)
    if problem:
        raise UserError(f"Expected the figures of a run in {file}. Received: {problem}; {_REPAIR}.")
    return result


def _refuse(constant: str) -> None:
    """Called for NaN and infinities, which no run writes."""
    raise ValueError(f"it holds {constant}")


def _problem(result: Any) -> str:
    """What is wrong with the content of result.json; "" when nothing is."""
    if not isinstance(result, dict):
        return f"{type(result).__name__} instead of an object"
    for name, kind in _FIELDS.items():
        if name not in result:
            return f"no field {name}"
        if not isinstance(result[name], kind):
            return f"{name}={str(result[name])[:60]!r}"
    for name, row in result["per_attribute"].items():
        if not isinstance(row, dict):
            return f"per_attribute[{name!r}]={str(row)[:60]!r}"
        if "excluded" not in row:
            try:
                if row["architecture"] is not None:
                    Architecture.from_json(row["architecture"])
            except (KeyError, TypeError, UserError) as error:
                return f"no architecture of {name!r} ({error})"
            for key in _ROW_FIGURES:
                if key not in row:
                    return f"no {key} of {name!r}"
                if not isinstance(row[key], (*_NUMBER, type(None))):
                    return f"{key}={row[key]!r} of {name!r}"
    return ""


def _records(path: str) -> tuple[dict[str, Any], ...]:
    """Lines of metrics.jsonl; a torn line, as a full disk leaves it, is passed over."""
    records = []
    for line in _text(path, "metrics.jsonl").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "step" in record and "phase" in record:
            records.append(record)
    return tuple(records)


def _text(path: str, name: str) -> str:
    try:
        with open(os.path.join(path, name), encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise UserError(
            f"Expected to read {os.path.join(path, name)}. Received: {error.strerror}; check its rights."
        ) from error


def _vectors(path: str, count: int) -> Optional[np.ndarray]:
    """Attribute embeddings [count, D]; None when the run left none, or not one for each attribute."""
    lines = _text(path, os.path.join("tensorboard", "attributes.tsv")).splitlines()
    try:
        vectors = np.array([[float(v) for v in line.split("\t")] for line in lines])
    except ValueError:
        return None
    usable = vectors.ndim == 2 and len(vectors) == count and np.isfinite(vectors).all()
    return vectors if usable and np.abs(vectors).sum(axis=1).all() else None
