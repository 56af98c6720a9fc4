import pytest

from galm_tf.config import Config
from galm_tf.schedule import ADAPT, CONTROLLER, SUPERNET, WARMUP, build_schedule, cosine, search_steps

SETTINGS = dict(warmup_steps=10, rounds=2, supernet_steps=5, controller_steps=7, adapt_steps=3, finetune_steps=2)


def test_phases_alternate_after_the_warm_up():
    schedule = build_schedule(Config(**SETTINGS))
    assert [p.kind for p in schedule] == [WARMUP, SUPERNET, CONTROLLER, SUPERNET, CONTROLLER, ADAPT, "finetune"]
    assert [p.first_step for p in schedule] == [0, 10, 0, 15, 7, 20, 23]
    assert search_steps(Config(**SETTINGS)) == 20


def test_a_method_that_does_not_learn_gets_the_same_supernet_steps():
    schedule = build_schedule(Config(**SETTINGS), learns=False)
    assert [(p.kind, p.steps) for p in schedule][0] == (WARMUP, 20)
    assert schedule[-1].first_step == build_schedule(Config(**SETTINGS))[-1].first_step


def test_an_empty_adaptation_stays_because_it_validates():
    kinds = [
        p.kind for p in build_schedule(Config(**{**SETTINGS, "warmup_steps": 0, "adapt_steps": 0, "finetune_steps": 0}))
    ]
    assert kinds == [SUPERNET, CONTROLLER, SUPERNET, CONTROLLER, ADAPT]


def test_learning_rate_rises_then_falls():
    rates = [cosine(step, 1000, 0.1) for step in range(1000)]
    assert rates[0] == pytest.approx(0.1 / 50) and max(rates) > 0.099
    assert rates[-1] == pytest.approx(0.001, rel=0.01)
    assert all(a >= b for a, b in zip(rates[60:], rates[61:]))
