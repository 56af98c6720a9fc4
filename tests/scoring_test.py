import tracemalloc

import numpy as np
import pytest
import tensorflow as tf

from galm_tf import reward, scoring
from galm_tf.supernet import build_supernet
from one_by_one import score_one_by_one


def test_chosen_scores_equal_one_by_one_in_any_block(monkeypatch):
    net = build_supernet(5, 32, 0.0, seed=0)
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    scorer = scoring.Scoring(net)
    scorer.calibrate_trunk(images[:20])
    maps = scorer.trunk_features(images, np.arange(40), 16)
    scored = reward.ScoringImages(maps, 20, np.zeros((20, 5), np.float32), np.zeros(20, int))
    numbers = [3, 700, 2303, 12, 1500]
    whole = scorer.score_chosen(scored, range(5), numbers)
    for i, number in enumerate(numbers):
        alone = score_one_by_one(net, scored, i, [number])[0]
        np.testing.assert_allclose(whole[:, i], alone, atol=1e-4)
    asked, margins = [], scorer._margins
    monkeypatch.setattr(
        scorer, "_margins", lambda maps, ids, *others: asked.append(len(ids)) or margins(maps, ids, *others)
    )
    for block_bytes, blocks in ((1, [1] * 5), (3 * 4 * 40 * 4 * 4 * 32, [3] * 2)):  # all of a length, and of one trace
        monkeypatch.setattr(scoring, "_BLOCK_BYTES", block_bytes)
        np.testing.assert_allclose(scorer.score_chosen(scored, range(5), numbers), whole, atol=1e-4)
        assert asked == blocks
        asked.clear()
    monkeypatch.setattr(scoring, "_BLOCK_BYTES", 1)
    assert whole.std() > 1e-3
    monkeypatch.setattr(scoring, "_PART_BYTES", 1)  # as many at a time as calibrate: two parts
    more = reward.ScoringImages(
        tuple(np.concatenate([m, m[25:37]]) for m in maps), 20, np.zeros((32, 5), np.float32), np.zeros(32, int)
    )
    for lead in (0, 20):
        found = scorer.score_chosen(more, range(5), numbers, calibration=not lead)[20 - lead :]
        np.testing.assert_allclose(found, np.concatenate([whole, whole[5:17]]), atol=1e-4)


def test_features_do_not_depend_on_the_batch_size():
    net = build_supernet(1, 32, 0.0, seed=0)
    images = np.random.default_rng(1).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    scorer = scoring.Scoring(net)
    scorer.calibrate_trunk(images)
    by_three, at_once = (scorer.trunk_features(images, size=s) for s in (3, 10))
    for a, b in zip(by_three, at_once):
        assert a == pytest.approx(b, abs=1e-4)


def test_what_batches_give_is_held_once():
    images = np.zeros((64, 4, 4, 3), np.uint8)
    index = np.arange(63, -1, -1)
    maps = lambda batch: tf.zeros([len(batch), 64, 64, 16]) + tf.cast(tf.reduce_sum(batch), tf.float32)  # noqa: E731
    tracemalloc.start()  # NumPy's arrays; TensorFlow's own are not seen
    try:
        found = scoring.in_batches(maps, images, index, 5)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.shape == (64, 64, 64, 16) and not found.any() and peak < 1.3 * found.nbytes
    images[:, 0, 0, 0] = np.arange(64)
    rows = scoring.in_batches(lambda batch: tf.reduce_max(batch, [1, 2, 3])[:, None], images, index, 5)
    assert rows.dtype == np.uint8 and rows[:, 0].tolist() == index.tolist()
    everything = scoring.in_batches(lambda batch: tf.reduce_max(batch, [1, 2, 3]), images)
    assert everything.tolist() == list(range(64))
