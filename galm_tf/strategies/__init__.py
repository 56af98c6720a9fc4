"""Search methods behind --method, each in the same loop as GALM's own.

`METHODS` maps a name to a `Strategy`; `main` and the benchmarks hand one to
`pipeline.run`. The core imports none of them.
"""

from galm_tf.controller_training import ControllerTraining
from galm_tf.strategies.enas import Enas
from galm_tf.strategies.evolution import Evolution
from galm_tf.strategies.tabular import Exhaustive, RandomArchitecture, SingleBest

METHODS = {
    "galm": ControllerTraining,
    "random": RandomArchitecture,
    "single_best": SingleBest,
    "exhaustive": Exhaustive,
    "evolution": Evolution,
    "enas": Enas,
}
