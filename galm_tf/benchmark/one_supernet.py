"""One supernet per split, which methods that share weights have in common: its rewards, what they cost, and
fine-tuning.

The supernet is trained with uniformly sampled architectures by as many steps
as a run has before its networks are derived. All rewards are then computed
twice: on validation, from which methods choose, and on the test classes, on
which each choice is looked up. Suites `choosing`, `derived` and `nas` read them.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any, Mapping, Optional

import numpy as np

from galm_tf import data_digests, pipeline, preparation, progress, run_result
from galm_tf.benchmark.auc_rewards import expect_judged
from galm_tf.benchmark.methods import begin_or_resume, free_networks
from galm_tf.config import Config
from galm_tf.errors import UserError
from galm_tf.reward import RewardTable
from galm_tf.run_folder import RunFolder, environment
from galm_tf.schedule import WARMUP, search_steps
from galm_tf.search import Search, archive
from galm_tf.search_space import Architecture
from galm_tf.strategies.tabular import RandomArchitecture
from galm_tf.strategy import Strategy
from galm_tf.telemetry import Telemetry

_COSTS = "costs.json"
NETWORK = "network"  # deriving it and fixing its batch norms, beside the phases of its training


@dataclasses.dataclass(frozen=True)
class SharedRewards:
    """What one supernet gives every method.

    Attributes:
      validation, test: rewards of all architectures, of the same attributes.
      costs: supernet_steps, seconds of the supernet's training (supernet) and of both tables (validation, test), and
        the environment in which they were computed; what earlier versions did not note is missing.
    """

    validation: RewardTable
    test: RewardTable
    costs: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def shared_rewards(config: Config, path: str, prepared: preparation.Prepared) -> SharedRewards:
    """Those of a supernet kept in the run folder `path`: read, resumed or made; raises UserError where it began with
    other data, and where no attribute can be judged by both.
    """
    expect_judged(prepared.split.judged_and_tested, prepared.domain)
    config = dataclasses.replace(config, method="random", adapt_steps=0, finetune_steps=0)
    config, folder = begin_or_resume(path, config)
    data_digests.remember_data(config, folder, prepared.domain, prepared.split)
    stored = [folder.read_arrays(f"tables/{name}.npz") for name in ("validation", "test")]
    if None in stored:
        return _computed(config, folder, prepared)
    costs = folder.read_json(_COSTS) if folder.has(_COSTS) else {}
    return SharedRewards(*map(RewardTable.from_arrays, stored), costs)


def _computed(config: Config, folder: RunFolder, prepared: preparation.Prepared) -> SharedRewards:
    search = pipeline.search(config, folder, prepared, RandomArchitecture)
    test = prepared.split.test
    started = time.monotonic()
    images = search.validation.features(test, prepared.domain.labels[test])
    tested = search.validation.engine(images).table(np.arange(search.num_attributes))
    between = time.monotonic()
    judged = search.validation.exact_table("validation")
    costs = {
        "supernet_steps": search_steps(config), "supernet": search.state.phase_seconds.get(WARMUP, 0.0),
        "validation": time.monotonic() - between, "test": between - started, "environment": environment(),
    }  # fmt: skip
    folder.write_json(_COSTS, costs)
    for name, table in (("validation", judged), ("test", tested)):
        folder.write_arrays(f"tables/{name}.npz", table.to_arrays())
    archive(folder)
    return SharedRewards(judged, tested, costs)


def finetuned(
    config: Config, path: str, supernet: str, prepared: preparation.Prepared, chosen: np.ndarray
) -> dict[str, Any]:
    """The result of networks that are adapted and fine-tuned from a supernet's weights, and tested once.

    Args:
      config: settings; the steps before adaptation are left out.
      path: run folder of the networks; a finished one is read.
      supernet: run folder of `shared_rewards`.
      prepared: the data.
      chosen: int64 [N], an architecture per attribute.

    Raises:
      UserError: the finished ones are of other architectures, which another version chose.
    """
    config = dataclasses.replace(config, method="random", warmup_steps=0, supernet_steps=0)
    config, folder = begin_or_resume(path, config)
    data_digests.remember_data(config, folder, prepared.domain, prepared.split)
    if not folder.has("result.json"):
        weights, _ = RunFolder(supernet, lock=False).load_checkpoint()
        folder.write_json("result.json", _finetune(config, folder, prepared, weights, chosen))
        folder.drop_checkpoints()  # nothing starts from these networks
        free_networks()
    result = folder.read_json("result.json")
    rows = run_result.searched_rows(result).values()
    tested = [Architecture.from_json(row["architecture"]).canonical() for row in rows]
    if tested != [Architecture.from_number(number).canonical() for number in chosen]:
        raise UserError(
            f"Expected the networks of {path} to be those that are chosen now. Received: others, which an earlier version "
            "chose; name another folder by --out."
        )
    return result


def _finetune(config, folder: RunFolder, prepared: preparation.Prepared, weights, chosen: np.ndarray) -> dict[str, Any]:
    arguments = (config, prepared.domain, prepared.split, prepared.images, folder)
    searched = Search(*arguments, lambda n, settings: _Chosen(n, settings, chosen))
    for name, variable in searched.supernet.variables.items():
        variable.assign(weights[f"supernet/{name}"])
    with Telemetry(folder) as telemetry:
        searched.run(telemetry)
    with progress.timed(searched.state.phase_seconds, NETWORK):
        network = pipeline.derive_network(searched)
    return run_result.build_result(searched, prepared, pipeline.test(network, prepared))


class _Chosen(Strategy):
    """Architectures that were chosen before: int64 [N]."""

    learns = rewarded = False

    def __init__(self, num_attributes: int, config: Config, chosen: np.ndarray) -> None:
        super().__init__(num_attributes, config)
        self._chosen = chosen

    def choose(self, table: Optional[RewardTable]) -> np.ndarray:
        return self._chosen
