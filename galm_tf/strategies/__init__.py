"""Search methods behind --method, each in the same loop as GALM's own.

`METHODS` maps a name to a `Strategy`; `main` and the benchmarks hand one to
`pipeline.run`. The core imports none of them.

Hyperband (Li et al. 2018) is not among them: what it saves is the training of
poor children, and here children share weights that are trained anyhow. The
only lesser fidelity in a table is one half of validation. With two fidelities
that differ by a factor of two its brackets look at 2/3 + 1/2 = 1.17 times as
many networks as random search for the same images: nothing worth a method. It
stands among the peers that train every child (`benchmark/peers`), as does
reinforced NAS (Zoph & Le 2017): on a table of rewards it is `enas_each`, and
what sets it apart is that every child is trained from new weights.
"""

from galm_tf.config import COUNTING
from galm_tf.controller_training import ControllerTraining
from galm_tf.strategies.bayesian import Bayesian
from galm_tf.strategies.enas import Enas
from galm_tf.strategies.enas_each import EnasEach
from galm_tf.strategies.evolution import Evolution
from galm_tf.strategies.progressive import Progressive
from galm_tf.strategies.sequential import RandomSearch
from galm_tf.strategies.tabular import Exhaustive, RandomArchitecture, SingleBest

METHODS = {
    "galm": ControllerTraining,
    "random": RandomArchitecture,
    "single_best": SingleBest,
    "exhaustive": Exhaustive,
    "evolution": Evolution,
    "enas": Enas,
    "enas_each": EnasEach,
    "random_search": RandomSearch,
    "bayesian": Bayesian,
    "progressive": Progressive,
}


def passed_over(method: str) -> set[str]:
    """Names of the settings that a --method does not read."""
    unread = set() if method in COUNTING else {"evaluations"}
    if method in METHODS and not METHODS[method].rewarded:
        unread.add("size_penalty")
    return unread
