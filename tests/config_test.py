import pathlib

import numpy as np
import pytest

from galm_tf.config import Config
from galm_tf.errors import UserError


def test_a_whole_number_is_a_number():
    assert Config(dropout=0, learning_rate=1) == Config(dropout=0.0, learning_rate=1.0)


def test_json_round_trip():
    config = Config(domain=("awa", "sun"), data_dir=("a", "b"), learning_rate=0.5, augment_flip=False)
    assert Config.from_json(config.to_json()) == config


def test_numbers_of_numpy_become_pythons():
    config = Config(learning_rate=np.float64(0.1), rounds=np.int64(2), measure_skill=np.bool_(False))
    assert [type(v) for v in (config.learning_rate, config.rounds, config.measure_skill)] == [float, int, bool]


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(image_size=50), "multiple of 32. Received: image_size=50; try 64"),
        (dict(domain=()), "a name in --domain. Received: none; name a domain, or leave it out"),
        (dict(domain=("sun", "sun")), "name each domain once. Received: domain=sun,sun"),
        (dict(domain=("sun", "awa"), data_dir=("x",)), r"domain=sun,awa \(2\) and data_dir=x \(1\)"),
        (dict(layout=("sun",)), "--data_dir beside --layout"),
        (dict(domain="sun"), r"tuple in the setting domain. Received: 'sun'; write domain=\('sun',\)"),
        (
            dict(transfer=["trunk"]),
            r"tuple in the setting transfer. Received: \['trunk'\]; write transfer=tuple\(\['trunk'\]\)",
        ),
        (dict(image_size="64"), "a whole number in the setting image_size. Received: '64'; leave it out for 64"),
        (dict(image_size=32.0), "a whole number in the setting image_size. Received: 32.0"),
        (dict(warmup_steps=2.5), "a whole number in the setting warmup_steps. Received: 2.5"),
        (dict(rounds=True), "a whole number in the setting rounds. Received: True"),
        (dict(seed=None), "a whole number in the setting seed. Received: None; leave it out for 0"),
        (dict(dropout="0"), "a number in the setting dropout. Received: '0'"),
        (dict(dropout=False), "a number in the setting dropout. Received: False"),
        (dict(resume="no"), "True or False in the setting resume. Received: 'no'; leave it out for False"),
        (dict(resume=0), "True or False in the setting resume. Received: 0"),
        (dict(run_dir=pathlib.Path("a")), "a text in the setting run_dir. Received: .*Path"),
        (dict(domain=(1,)), r"texts in the setting domain. Received: \(1,\); write each in quotes"),
        (dict(domain=np.array(["a", "b"])), "tuple in the setting domain. Received: array"),
        (dict(splits_file="s.mat", split_seed=3), "splits_file=s.mat and split_seed=3"),
        (dict(reward="f2"), r"one of \['auc', 'accuracy', 'balanced_accuracy'\]. Received: reward='f2'"),
        (dict(dropout=2.0), "between 0.0 and 0.9. Received: dropout=2.0"),
        (dict(rounds=0), "at least 1. Received: rounds=0"),
        (dict(seed=2**64), "between 0 and 4294967294. Received: seed=18446744073709551616"),
        (dict(batch_size=2**63), "--batch_size to be at most 2147483647. Received: batch_size=9223372036854775808"),
        (dict(embedding_scale=1e308), "--embedding_scale to be between 0.0 and 1000.0. Received: embedding_scale=1e"),
        (dict(learning_rate=float("nan")), "finite number. Received: learning_rate=nan"),
        (dict(class_balance=-0.5), "--class_balance between 0 and 1, or -1 to go by the split"),
        (dict(reward_data="batch", method="enas"), "--method=galm or random with --reward_data=batch"),
    ],
)
def test_contradictions_name_both_values(settings, message):
    with pytest.raises(UserError, match=message):
        Config(**settings)


def test_unknown_settings_name_the_nearest():
    with pytest.raises(UserError, match="batchsize=3. Did you mean batch_size?"):
        Config.from_json({"batchsize": 3})
