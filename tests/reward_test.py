"""The exact engine against the Keras model, one architecture at a time."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from galm_tf import reward, search_space
from galm_tf.supernet import build_supernet
from galm_tf.tracing import untraced
from one_by_one import score_one_by_one

SIZE, N, CALIBRATION, SCORED = 64, 3, 20, 60


@pytest.fixture(scope="module")
def supernet():
    net = build_supernet(N, SIZE, 0.3, seed=0)
    rng = np.random.default_rng(0)
    for variable in net.trainable.values():
        variable.assign(variable + 0.1 * rng.normal(size=variable.shape).astype(np.float32))
    return net


def _images(supernet, calibration):
    rng, size = np.random.default_rng(1), supernet.trunk.inputs[0].shape[1]
    x = rng.normal(size=(calibration + SCORED, size, size, 3)).astype(np.float32)
    maps = tuple(m.numpy() for m in supernet.trunk(x, training=True))
    labels = (rng.random((SCORED, N)) < 0.4).astype(np.float32)
    labels[:7, 1] = np.nan
    labels[:, 2] = 1.0
    return reward.ScoringImages(maps, calibration, labels, np.arange(SCORED) % 2)


@pytest.fixture(scope="module")
def images(supernet):
    return _images(supernet, CALIBRATION)


def _numbers():
    return np.random.default_rng(4).choice(search_space.NUM_ARCHITECTURES, 40, replace=False)


@pytest.mark.parametrize("calibration, size", [(CALIBRATION, SIZE), (0, SIZE), (CALIBRATION, 96)])
def test_scores_equal_one_by_one(supernet, calibration, size):
    supernet = supernet if size == SIZE else build_supernet(N, size, 0.3, seed=0)  # larger maps go by other operations
    images = _images(supernet, calibration)
    engine = reward.RewardEngine(supernet, images, "auc", 1024)
    scores = engine.scores(1).reshape(search_space.NUM_DISTINCT, SCORED)
    rows = reward.expand_heads(np.arange(search_space.NUM_DISTINCT))
    numbers = _numbers()
    one_by_one = score_one_by_one(supernet, images, 1, numbers)
    assert one_by_one.std() > 0.05
    np.testing.assert_allclose(scores[rows[numbers]], one_by_one, atol=1e-5 * max(1.0, np.abs(one_by_one).max()))


def test_an_engine_that_runs_untraced_traces_nothing(supernet, images):
    engine = reward.RewardEngine(supernet, images, "auc", 1024)
    with untraced():
        eager = engine.table([0])
    assert engine._scores.experimental_get_tracing_count() == 0
    np.testing.assert_allclose(eager.full, engine.table([0]).full, atol=3e-3)  # a pair or two of images may swap


def test_rewards_equal_scikit_learn_on_known_labels(supernet, images):
    engine = reward.RewardEngine(supernet, images, "auc", 1024)
    rewards = engine.rewards(1)
    known = np.isfinite(images.labels[:, 1])
    for number, scores in zip(_numbers(), score_one_by_one(supernet, images, 1, _numbers())):
        for row, subset in zip(rewards, (known, known & (images.halves == 0), known & (images.halves == 1))):
            assert row[number] == pytest.approx(roc_auc_score(images.labels[subset, 1], scores[subset]), abs=2e-3)


def test_accuracies_are_judged_at_the_attributes_own_offset(supernet, images, monkeypatch):
    engine = reward.RewardEngine(supernet, images, "accuracy", 1024, np.array([5.0, 0.3, -5.0]))
    scores = np.random.default_rng(2).normal(size=(8, 16, 12, SCORED))
    monkeypatch.setattr(engine, "_each_conv4", lambda attribute, judge: [judge(some) for some in scores])
    known = np.isfinite(images.labels[:, 1])
    for rewards, subset in zip(engine.rewards(1), (known, known & (images.halves == 0), known & (images.halves == 1))):
        right = (scores[..., subset] > 0.3) == (images.labels[subset, 1] > 0.5)
        np.testing.assert_allclose(rewards, reward.expand_heads(right.mean(axis=-1)), rtol=1e-6)


def test_a_table_is_stored_with_each_half_under_its_own_name():
    full, first, second = np.float32([[[0.5]], [[0.6]], [[0.7]]])
    arrays = reward.RewardTable(full, (first, second)).to_arrays()
    assert arrays == {"full": full, "half_a": first, "half_b": second}
    again = reward.RewardTable.from_arrays(arrays)
    assert (again.full, *again.halves) == (full, first, second)


def test_rewards_do_not_depend_on_the_block_size(supernet, images):
    small, large = (reward.RewardEngine(supernet, images, "auc", mib) for mib in (64, 4096))
    assert small._block_variants < large._block_variants
    np.testing.assert_allclose(small.scores(0), large.scores(0), atol=1e-6)
    np.testing.assert_array_equal(small.rewards(0), large.rewards(0))


def test_many_images_go_in_parts_that_calibration_images_lead(supernet, images, monkeypatch):
    whole = reward.RewardEngine(supernet, images, "auc", 1024)
    monkeypatch.setattr(reward, "_VALUES_PER_POSITION", 10**6)
    parts = reward.RewardEngine(supernet, images, "auc", 64)
    assert len(whole._rows) == 1 and [(s.start, s.stop) for s in parts._rows] == [(0, 30), (30, 60)]
    np.testing.assert_allclose(parts.scores(0), whole.scores(0), atol=3e-5)  # sums of other lengths
    np.testing.assert_array_equal(parts.rewards(1), whole.rewards(1))
    of_all = reward.RewardEngine(supernet, _images(supernet, 0), "auc", 64)  # statistics are of the scored images
    assert len(of_all._rows) == 1


@pytest.mark.parametrize(
    "count, most, expected",
    [
        (10, 10, [(0, 10)]),
        (11, 10, [(0, 6), (5, 11)]),
        (12, 5, [(0, 4), (4, 8), (8, 12)]),
        (7, 3, [(0, 3), (2, 5), (4, 7)]),
    ],
)
def test_parts_are_as_long_as_each_other_and_hold_all(count, most, expected):
    assert [(s.start, s.stop) for s in reward.slices(count, most)] == expected


def test_an_attribute_with_one_label_has_no_reward(supernet, images):
    table = reward.RewardEngine(supernet, images, "balanced_accuracy", 1024).table([0, 2])
    assert table.rewarded.tolist() == [True, False] == table.crossfitted.tolist()
    assert np.isnan(table.full[1]).all()


def test_void_twins_share_a_reward():
    values = reward.expand_heads(np.arange(search_space.NUM_DISTINCT))
    twins = search_space.canonical_numbers()
    np.testing.assert_array_equal(values, values[twins])
    assert len(np.unique(values)) == search_space.NUM_DISTINCT


def test_many_threads_that_wait_for_one_trace_are_not_taken_for_retracing(supernet, images, monkeypatch, caplog):
    """TensorFlow warns from the fifth thread on, though it traces once."""
    monkeypatch.setattr(reward, "usable_cores", lambda: 16)
    traced, head = [], reward._head_margins
    monkeypatch.setattr(reward, "_head_margins", lambda *args: (traced.append(1), head(*args))[1])
    engine = reward.RewardEngine(supernet, images, "auc", 1024)
    engine.rewards(0)
    engine.rewards(1)
    assert len(traced) == 1 and not caplog.records
