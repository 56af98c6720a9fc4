"""Attribute learners: a planted task, twins, shuffled and unknown labels, features files, the suite."""

import dataclasses
import itertools
import types

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import KernelPCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import LinearSVC

from galm_tf import evaluation, leakage, linear_pixels, preparation
from galm_tf.baselines import (
    afs,
    ale,
    convnet,
    dap,
    ft,
    hap,
    iap,
    learner,
    mdg,
    network_features,
    sources,
    umf,
)
from galm_tf.baselines.features import read_features
from galm_tf.baselines.learner import Inputs, LearnerData
from galm_tf.benchmark import given, learner_data, learners, methods
from galm_tf.config import Config
from galm_tf.errors import UserError
from galm_tf.run_folder import RunFolder
from galm_tf.supernet import build_supernet
from small_domains import LEFT_OUT, few_images

ALL = tuple(name for name in learners.LEARNERS if name not in learners.SEE_IMAGES)
DEFAULT = Config(warmup_steps=80, rounds=1, supernet_steps=0, adapt_steps=0, finetune_steps=0)


def _inputs(features):
    """Learners on features do not look at images."""
    return Inputs(np.zeros((len(features), 0, 0, 3), np.uint8), features)


def _make(name):
    """The learner as the suite makes it, but where one is slow with a single λ."""
    if name == "afs":
        return afs.AFS(learners.training(DEFAULT), source_weights=(0.1,))
    return learners.LEARNERS[name](DEFAULT)


def _data(features, labels, class_ids):
    return LearnerData(_inputs(features), labels, class_ids)


def _planted(classes, images=12, attributes=8, width=24, noise=1.0, seed=0):
    """Features that hold the attributes of their class along fixed directions: (features, labels, class ids)."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(99).normal(size=(attributes, width))
    class_ids = np.repeat(np.arange(classes), images)
    labels = rng.integers(0, 2, (classes, attributes)).astype(np.float32)[class_ids]
    features = labels @ directions + noise * rng.normal(size=(len(class_ids), width))
    return features.astype(np.float32), labels, class_ids


def _test_mauc(made, labels, class_ids, features):
    test_features, test_labels, _ = _planted(40, seed=1)
    scores = made.fit(_data(features, labels, class_ids)).score(_inputs(test_features))
    assert scores.shape == test_labels.shape and np.isfinite(scores).all()
    return evaluation.mean_auc(evaluation.auc_per_attribute(test_labels, scores))


@pytest.mark.parametrize("name", ALL)
def test_a_planted_task_is_learned_for_unseen_classes_and_shuffled_labels_are_not(name):
    features, labels, class_ids = _planted(16)
    made = _make(name)
    assert _test_mauc(made, labels, class_ids, features) > 0.8 and made.chosen
    shuffled = np.random.default_rng(0).permutation(labels)
    assert abs(_test_mauc(_make(name), shuffled, class_ids, features) - 0.5) < 0.1


@pytest.mark.parametrize("name", ALL)
def test_some_unknown_labels_and_an_attribute_of_one_kind_do_no_harm(name):
    features, labels, class_ids = _planted(16)
    labels[np.random.default_rng(0).random(labels.shape) < 0.4] = np.nan
    labels[class_ids < 3, 1] = np.nan  # whole classes
    labels[:, 0] = np.where(np.isnan(labels[:, 0]), np.nan, 1.0)
    test_features, test_labels, _ = _planted(40, seed=1)
    scores = _make(name).fit(_data(features, labels, class_ids)).score(_inputs(test_features))
    aucs = evaluation.auc_per_attribute(test_labels, scores)
    assert np.isfinite(scores).all() and aucs[1] > 0.65 and aucs[1:].mean() > 0.8


@pytest.mark.parametrize("name", ALL)
def test_what_stands_behind_an_unknown_label_does_not_matter(name):
    """Two label matrices that become the same once the unknown are hidden; and NaN is not read as 0."""
    features, labels, class_ids = _planted(12)
    unknown = np.random.default_rng(0).random(labels.shape) < 0.3
    hidden, flipped = (np.where(unknown, np.nan, v) for v in (labels, np.where(unknown, 1 - labels, labels)))
    fits = [_make(name).fit(_data(features, v, class_ids)).score(_inputs(features)) for v in (hidden, flipped)]
    np.testing.assert_array_equal(*fits)
    zeros = _make(name).fit(_data(features, np.nan_to_num(hidden), class_ids)).score(_inputs(features))
    assert np.abs(zeros - fits[0]).max() > 0.01


def test_folds_are_disjoint_by_class_and_one_class_is_refused():
    class_ids = np.repeat(np.arange(7), 5)
    held = []
    for train, part in learner.class_folds(class_ids):
        assert not set(class_ids[train]) & set(class_ids[part])
        held += part.tolist()
    assert sorted(held) == list(range(35))
    with pytest.raises(UserError, match="at least two training classes.*Received: 1 among 4"):
        learner.class_folds(np.zeros(4, int))


def test_a_single_fold_is_one_that_can_judge():
    """The largest class, a fold of its own, has one kind of label: settings that differ elsewhere were a tie."""
    class_ids = np.repeat(np.arange(4), [50, 10, 10, 10])
    labels = np.where(class_ids == 0, 1.0, np.arange(80) % 2)[:, None]
    seen = []

    def scores_of(train, held):
        seen.append(set(class_ids[held].tolist()))
        yield from (1 - labels[held], labels[held])

    assert learner.choose(["wrong", "right"], scores_of, labels, class_ids, folds=1) == "right" and 0 not in seen[0]
    # nothing can be judged
    assert learner.choose(["first", "other"], scores_of, np.ones((80, 1)), class_ids) == "first"
    seen.clear()
    # in its turn, without a say
    assert learner.choose(["wrong", "right"], scores_of, labels, class_ids) == "right" and {0} in seen


def test_shares_of_votes_are_fitted_in_place_of_labels():
    """Labels say nothing here, the shares order the images; who fits labels alone cannot know."""
    features, planted, class_ids = _planted(16)
    shares = 0.1 + 0.3 * planted  # all below one half
    labels = np.random.default_rng(3).permutation(planted)
    test_features, test_labels, _ = _planted(40, seed=1)
    for name in ("iap", "ale", "umf"):
        made = _make(name).fit(dataclasses.replace(_data(features, labels, class_ids), shares=shares))
        assert (
            evaluation.mean_auc(evaluation.auc_per_attribute(test_labels, made.score(_inputs(test_features)))) > 0.75
        ), name
    split = types.SimpleNamespace(
        train=np.arange(0, len(labels), 2),
        validation=np.arange(1, len(labels), 2),
        validation_classes=np.arange(0),
        test=np.arange(len(labels)),
        judged_by=("images",) * labels.shape[1],
    )
    scores = linear_pixels.fit_and_score(features, planted, shares, split, lambda index: None)
    assert evaluation.mean_auc(evaluation.auc_per_attribute(planted, scores)) > 0.8
    joined = learner.join(
        [dataclasses.replace(_data(features, labels, class_ids), shares=shares), _data(features, labels, class_ids)]
    )
    n, count = labels.shape
    np.testing.assert_allclose(joined.targets[:n, :count], shares, rtol=1e-6)
    np.testing.assert_array_equal(joined.targets[n:, count:], labels)
    assert np.isnan(joined.targets[:n, count:]).all()


def test_settings_are_chosen_on_held_out_classes_without_test_classes():
    """The planted best setting wins; candidates only ever see training rows."""
    _, labels, class_ids = _planted(9)

    def scores_of(train, held):
        assert len(train) and not set(class_ids[train]) & set(class_ids[held])
        return [1 - labels[held], labels[held], 0 * labels[held]]

    assert learner.choose("abc", scores_of, labels, class_ids) == "b"
    with pytest.raises(AssertionError, match="3 scores of 4 settings"):
        learner.choose("abcd", scores_of, labels, class_ids)


def test_a_setting_is_chosen_by_all_folds_and_not_by_the_first():
    _, labels, class_ids = _planted(9)
    folds = []

    def scores_of(train, held):
        folds.append(held)
        return [labels[held] if len(folds) == 1 else -labels[held], 0 * labels[held]]  # AUCs 1, 0, 0 and 0.5 each

    assert learner.choose(["by luck", "never wrong"], scores_of, labels, class_ids) == "never wrong"
    assert len(folds) == learner.FOLDS


def test_some_rows_keep_their_shares_and_the_whole_source():
    data = _with_source()
    data = dataclasses.replace(data, shares=np.random.default_rng(0).random(data.labels.shape).astype(np.float32))
    rows = np.array([4, 1])
    part = data.take(rows)
    for name in ("features", "labels", "class_ids", "targets"):
        np.testing.assert_array_equal(getattr(part, name), getattr(data, name)[rows])
    assert part.source is data.source and (part.targets != part.labels).all()


@pytest.mark.parametrize(
    "name, module, number",
    [("ale", ale, 1), ("dap", dap, 1), ("hap", hap, 1), ("iap", iap, 1), ("mdg", mdg, 4), ("umf", umf, 1)],
)
def test_settings_are_tried_without_held_out_labels_and_the_chosen_one_is_fitted(name, module, number, monkeypatch):
    """Both on shares of votes where there are some."""
    features, labels, class_ids = _planted(6, attributes=3, width=6)
    noise, asked = np.random.default_rng(3).random(labels.shape), []
    monkeypatch.setattr(
        module, "choose", lambda settings, scores_of, *_, **__: asked.append(scores_of) or settings[number]
    )
    held = class_ids > 3
    made = [
        _make(name).fit(dataclasses.replace(_data(features, of, class_ids), shares=(of + noise).astype(np.float32) / 2))
        for of in (labels, np.where(held[:, None], 1 - labels, labels))
    ]

    def tried(scores_of, train, held):
        return list(itertools.islice(scores_of(np.flatnonzero(train), np.flatnonzero(held)), number + 1))[number]

    np.testing.assert_array_equal(*(tried(scores_of, ~held, held) for scores_of in asked))
    if name == "dap":  # whose scores are sigmoids of what is tried
        return
    every = np.full(len(labels), True)
    np.testing.assert_allclose(tried(asked[0], every, every), made[0].score(_inputs(features)), rtol=1e-4, atol=1e-5)


def test_class_attributes_are_shares_of_known_labels():
    labels = np.array([[1, 0], [0, np.nan], [np.nan, np.nan], [1, np.nan]])
    classes, matrix = learner.class_attributes(labels, np.array([4, 4, 4, 2]))
    assert classes.tolist() == [2, 4]
    np.testing.assert_array_equal(matrix, [[1, np.nan], [0.5, 0]])


def test_scaled_rows_have_a_norm_of_about_one_at_any_width():
    for width in (5, 500):
        features = 7 + 3 * np.random.default_rng(0).normal(size=(400, width))
        assert (learner.FeatureScaler(features)(features) ** 2).sum(axis=1).mean() == pytest.approx(1)


def test_dap_is_scikit_learns_calibrated_svm_on_the_known_rows():
    features, labels, class_ids = _planted(24, noise=2.0)
    labels[np.random.default_rng(0).random(len(labels)) < 0.3, 2] = np.nan
    made = dap.DAP(penalties=(0.5,)).fit(_data(features, labels, class_ids))
    x, known = learner.FeatureScaler(features)(features), np.isfinite(labels[:, 2])
    row = np.full(len(x), -1)
    row[known] = np.arange(known.sum())
    folds = [(row[a][known[a]], row[b][known[b]]) for a, b in learner.class_folds(class_ids)]
    twin = CalibratedClassifierCV(LinearSVC(C=0.5, dual=False, tol=1e-3), method="sigmoid", cv=folds, ensemble=False)
    expected = twin.fit(x[known], labels[known, 2]).predict_proba(x)[:, 1]
    np.testing.assert_allclose(made.score(_inputs(features))[:, 2], expected, atol=2e-3)


def test_a_sigmoid_never_turns_the_svm_around():
    margins, labels = np.array([-2.0, -1, 1, 2, np.nan]), np.array([1.0, 1, 0, 0, 0])
    slope, offset = dap.platt(margins, labels)
    assert 0 < slope < 0.1 and offset == pytest.approx(np.log(3 / 4))
    assert dap.platt(margins, 1 - labels)[0] > 0.5
    assert dap.platt(margins, np.ones(5)) == (1.0, 0.0)


def test_a_sigmoid_of_what_is_told_apart_is_platts():
    labels = np.array([1.0] * 2 + [0.0] * 8)
    slope, offset = dap.platt(2 * labels - 1, labels)
    # N + 1 of N + 2 positives, 1 of N + 2 negatives
    assert (expit(slope + offset), expit(offset - slope)) == (pytest.approx(3 / 4), pytest.approx(1 / 10))


def test_iap_is_the_class_posterior_times_the_class_matrix():
    features, labels, class_ids = _planted(6)
    made = iap.IAP(penalties=(2.0,)).fit(_data(features, labels, class_ids * 3 + 1))
    x = learner.FeatureScaler(features)(features)
    posterior = LogisticRegression(C=2.0, tol=1e-3, max_iter=200).fit(x, class_ids).predict_proba(x)
    np.testing.assert_allclose(made.score(_inputs(features)), posterior @ labels[::12], rtol=1e-6)


def test_iap_shares_out_the_posterior_of_classes_with_unknown_attributes():
    matrix = np.array([[1, np.nan, np.nan], [0, 1, np.nan], [0.5, 0, np.nan]])
    got = iap.attribute_probabilities(np.array([[0.5, 0.3, 0.2]]), matrix)
    np.testing.assert_allclose(got, [[0.6, 0.3 / 0.5, 0.5]])


def test_ale_steps_are_those_of_the_full_matrix():
    """One epoch by the paper's update of W, [D, N], step by step, with the same draws."""
    features, labels, class_ids = _planted(5, images=4)
    features = features.astype(np.float64)
    embedding = ale.label_embedding(learner.class_attributes(labels, class_ids)[1])
    start = 0.1 * np.random.default_rng(1).normal(size=(features.shape[1], 5))
    got = ale.ranking_epoch(features, class_ids, embedding, start, 0.05, np.random.default_rng(7)) @ embedding
    rng, w, steps = np.random.default_rng(7), start @ embedding, 0
    for i in rng.permutation(len(features)):
        x, y = features[i], class_ids[i]
        others = [c for c in range(5) if c != y]
        for tries, c in enumerate((others[j] for j in rng.permutation(4)), 1):
            if 1 + x @ w @ embedding[c] > x @ w @ embedding[y]:
                beta = sum(1 / j for j in range(1, 4 // tries + 1))
                w, steps = w + 0.05 * beta * np.outer(x, embedding[y] - embedding[c]), steps + 1
                break
    assert steps > 3
    np.testing.assert_allclose(got, w, rtol=1e-6, atol=1e-9)


def test_ales_first_step_in_closed_form():
    """Two classes, one image, W = 0: the only other class violates, its rank is 1, so W = rate · θ (φ(y) - φ(y'))ᵀ."""
    embedding, x = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[2.0, 3.0, 5.0]])
    w = ale.ranking_epoch(x, np.array([1]), embedding, np.zeros((3, 2)), 0.5, np.random.default_rng(0)) @ embedding
    np.testing.assert_allclose(w, 0.5 * np.outer(x[0], [-1, 1]))


def test_label_embedding_is_centred_and_of_norm_one_and_unknown_is_nothing():
    got = ale.label_embedding(np.array([[1, 0, np.nan], [0, 0, np.nan], [0.5, np.nan, 1.0]]))
    np.testing.assert_allclose(got, [[1, 0, 0], [-1, 0, 0], [0, 0, 0]])


def test_hap_is_the_minimum_of_its_objective_with_the_dense_laplacian():
    features, labels, _ = _planted(5, images=4)
    labels[3:9, 2], labels[11, 0] = np.nan, np.nan
    x, member = features.astype(np.float64), np.nan_to_num(labels).astype(np.float64)
    inside = [x[rows > 0] for rows in member.T]
    distance = [
        np.mean([((a - b) ** 2).sum() for i, a in enumerate(e) for j, b in enumerate(e) if i != j]) for e in inside
    ]
    weight = np.exp(-np.array(distance) / np.mean(distance))
    np.testing.assert_allclose(hap.edge_weights(x, member), weight)
    degree, size = member @ weight, member.sum(axis=0)
    root = np.divide(1, np.sqrt(degree), out=np.zeros(len(x)), where=degree > 0)
    laplacian = np.eye(len(x)) - np.diag(root) @ member @ np.diag(weight / size) @ member.T @ np.diag(root)
    assert (degree > 0).all()
    np.testing.assert_allclose(laplacian @ np.sqrt(degree), 0, atol=1e-9)  # its null vector
    np.testing.assert_allclose(hap.smoothness(x, labels), x.T @ laplacian @ x, atol=1e-6)
    (b,) = hap.predictors(x, labels, [(3.0, 0.7)])
    residual = x @ b - (2 * labels - 1)
    residual = np.nan_to_num(residual - np.nanmean(residual, axis=0))  # the best constant; unknown ones have no part
    np.testing.assert_allclose(x.T @ laplacian @ x @ b + 3 * x.T @ residual + 0.7 * b, 0, atol=1e-6)  # the gradient


def test_images_in_no_hyperedge_have_no_part_in_its_cut():
    rng = np.random.default_rng(4)
    x, labels = rng.normal(size=(12, 3)), (rng.random((12, 4)) < 0.4).astype(float)
    labels[:5] = 0
    lone = ~labels.any(axis=1)
    np.testing.assert_allclose(hap.smoothness(x, labels), hap.smoothness(x[~lone], labels[~lone]), atol=1e-9)


def test_hyperedges_of_one_image_or_none_weigh_nothing():
    member = np.array([[1.0, 1, 0, 1], [1, 0, 0, 1], [1, 0, 0, 1]])
    np.testing.assert_allclose(hap.edge_weights(np.array([[0.0], [0], [3]]), member), [np.exp(-1), 0, 0, np.exp(-1)])
    np.testing.assert_allclose(hap.edge_weights(np.ones((3, 1)), member), [1, 0, 0, 1])  # all in one place
    np.testing.assert_array_equal(hap.edge_weights(np.ones((3, 1)), member[:, 1:3]), [0, 0])


def test_hap_without_its_hypergraph_is_ridge_regression():
    features, labels, _ = _planted(6)
    (b,) = hap.predictors(features.astype(np.float64), labels, [(1e9, 2e9)])
    ridge = Ridge(alpha=2.0).fit(features.astype(np.float64), 2 * labels - 1)
    np.testing.assert_allclose(b, ridge.coef_.T, rtol=1e-5, atol=1e-7)


def test_haps_kernel_map_with_every_image_a_landmark_is_the_kernel():
    features, labels, class_ids = _planted(6)
    made = hap.HAP(fits=(1.0,), penalties=(1.0,)).fit(_data(features, labels, class_ids))
    x = learner.FeatureScaler(features)(features)
    mapped = made._map(features)
    distances = ((x[:, None] - x[None]) ** 2).sum(axis=-1)
    np.testing.assert_allclose(mapped @ mapped.T, np.exp(-hap.KERNEL_WIDTH * distances), atol=1e-6)


def _umf_problem():
    features, labels, class_ids = _planted(5, images=4)
    labels[3:9, 2], labels[11, 0] = np.nan, np.nan
    rng = np.random.default_rng(3)
    model = tuple(rng.normal(size=s) for s in ((24, 3), (5, 3), (3, 8), (8,)))
    return model, features.astype(np.float64), labels, class_ids


def test_umfs_objective_term_by_term_and_its_gradient():
    model, x, labels, class_ids = _umf_problem()
    u, shift, w, b = model
    losses = [[] for _ in b]
    for i, c in enumerate(class_ids):
        for n in range(8):
            if np.isfinite(labels[i, n]):
                logit = sum(w[r, n] * (x[i] @ u[:, r]) * (1 + shift[c, r]) for r in range(3)) + b[n]
                losses[n].append(np.log1p(np.exp(-logit if labels[i, n] else logit)))
    expected = sum(np.mean(v) for v in losses) + 0.1 * ((u**2).sum() + (w**2).sum()) + 0.35 * (shift**2).sum()
    known, member = np.isfinite(labels), np.eye(5)[class_ids]

    def value(step, direction):
        moved = tuple(m + step * d for m, d in zip(model, direction))
        return umf.objective(moved, x, labels, known, member, 0.2, 0.7)

    assert value(0, model)[0] == pytest.approx(expected)
    direction = tuple(np.random.default_rng(4).normal(size=m.shape) for m in model)
    slope = sum((g * d).sum() for g, d in zip(value(0, direction)[1], direction))
    assert slope == pytest.approx((value(1e-5, direction)[0] - value(-1e-5, direction)[0]) / 2e-5, rel=1e-5)


def test_umf_without_categories_is_scikit_learns_logistic_regression():
    """One attribute: λ/2 (‖U‖² + ‖w‖²) is then λ ‖U w‖ at its least, whose stationary point is that of C = ‖U w‖ / λ /
    n.
    """
    features, labels, class_ids = _planted(12)
    x = learner.FeatureScaler(features)(features)
    u, shift, w, b = umf.fit_latent(x, labels[:, :1], class_ids, 3, 0.02, np.inf, 0)
    direction = (u @ w)[:, 0]
    assert not shift.any() and np.linalg.norm(direction) > 0.5
    twin = LogisticRegression(C=np.linalg.norm(direction) / 0.02 / len(x), tol=1e-8).fit(x, labels[:, 0])
    np.testing.assert_allclose(direction, twin.coef_[0], atol=0.01 * np.linalg.norm(direction))
    assert b[0] == pytest.approx(twin.intercept_[0], abs=0.01)


def test_umf_averages_its_category_factors_by_the_posterior():
    model, x, _, _ = _umf_problem()
    posterior = np.random.default_rng(0).dirichlet(np.ones(5), len(x))
    by_class = np.stack([umf.expected_logits(model, x, np.eye(5)[[c] * len(x)]) for c in range(5)])
    np.testing.assert_allclose(umf.expected_logits(model, x, posterior), np.einsum("mc,cmn->mn", posterior, by_class))


def test_mdg_without_domains_and_labels_is_scikit_learns_kernel_pca():
    features, labels, class_ids = _planted(6)
    made = mdg.MDG((0.0,), (0.0,), (1.0,)).fit(_data(features, labels, class_ids))
    x = learner.FeatureScaler(features)(features)
    z = made._kernel.transform(x)  # every image a landmark: the kernel itself
    got = (z - z.mean(axis=0)) @ mdg.components(z, labels, class_ids, 0.0, 0.0, count=5)
    twin = KernelPCA(5, kernel="rbf", gamma=hap.KERNEL_WIDTH).fit_transform(x)
    np.testing.assert_allclose(np.abs(got), np.abs(twin), atol=1e-4)


def test_mdgs_components_are_stationary_and_become_invariant():
    """B are generalised eigenvectors of the dense n × n formula; a great β leaves the category means no variance."""
    features, labels, class_ids = _planted(6)
    labels[3:9, 2] = np.nan
    z, n = features.astype(np.float64), len(features)
    h = np.eye(n) - 1 / n
    member = np.eye(6)[class_ids] / 12
    q = member @ (np.eye(6) - 1 / 6) @ member.T / 6  # tr(K Q) is the distributional variance
    np.testing.assert_allclose(mdg.mean_scatter(z, class_ids), z.T @ q @ z, atol=1e-9)
    y = np.nan_to_num(labels - np.nanmean(labels, axis=0))
    gain = z.T @ h @ z / n + 3.0 * z.T @ h @ (y @ y.T / 8) @ h @ z / n**2
    cost = 5.0 * z.T @ q @ z + np.eye(z.shape[1])
    b = mdg.components(z, labels, class_ids, 5.0, 3.0, count=4)
    values = np.diag(b.T @ gain @ b)
    np.testing.assert_allclose(gain @ b, cost @ b * values, atol=1e-6)
    assert (np.diff(values) < 0).all()
    trace = [
        np.trace(b.T @ mdg.mean_scatter(z, class_ids) @ b) / np.trace(b.T @ b)
        for b in (mdg.components(z, labels, class_ids, beta, 0.0, count=4) for beta in (0.0, 1e6))
    ]
    assert trace[1] < 1e-3 * trace[0]


def test_the_scatter_is_of_means_that_count_alike_however_many_images_they_have():
    z = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 0.0], [4.0, 0.0]])
    np.testing.assert_allclose(mdg.mean_scatter(z, np.array([0, 1, 1, 1])), [[4, 0], [0, 0]])


def test_afs_in_numpy_and_no_attribute_asks_itself():
    rng = np.random.default_rng(0)
    for same in (False, True):
        network, x = afs.FriendlyStrangers(6, 3, 3, same, 0), np.float32(rng.normal(size=(4, 6)))
        for variable in network.variables.values():
            variable.assign(rng.normal(size=variable.shape))
        v = {k: value.numpy() for k, value in network.variables.items()}
        own, others = (v[k] / np.linalg.norm(v[k], axis=0) for k in ("targets/kernel", "sources/kernel"))
        weight = np.exp(own.T @ others) * (1 - np.eye(3) * same)
        weight /= weight.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(network.attention(), weight, rtol=1e-5)
        h = np.tanh(x @ v["embedding/kernel"] + v["embedding/bias"])
        target = h @ (v["targets/kernel"] + v["sources/kernel"] @ weight.T) + v["targets/bias"]
        expected = np.concatenate([target, h @ v["sources/kernel"] + v["sources/bias"]], axis=1)
        np.testing.assert_allclose(network(x), expected, rtol=1e-5, atol=1e-5)


def test_afs_reads_features_of_deviation_1_at_any_width():
    for width in (4, 400):
        features = 7 * np.random.default_rng(0).normal(size=(200, width)).astype(np.float32) + 3
        made = afs.AFS(dataclasses.replace(learners.training(DEFAULT), steps=1), source_weights=(0.1,))
        made._scale = learner.FeatureScaler(features)
        np.testing.assert_allclose(made._standardised(features).std(axis=0), 1, rtol=1e-2)


def test_afs_reads_both_domains_alike_and_the_sources_loss_counts_by_its_weight(monkeypatch):
    losses, data = [], _data(*_planted(2, attributes=3))
    other = dataclasses.replace(data, inputs=_inputs(5 + 3 * data.features))
    monkeypatch.setattr(afs, "choose", lambda *_, **__: (0.1, 1.0))
    monkeypatch.setattr(afs, "train", lambda *arguments, **_: losses.append(arguments[4]) or iter([1]))
    made = afs.AFS(learners.training(DEFAULT)).fit(dataclasses.replace(data, source=other))
    both = np.concatenate([data.features, other.features])
    np.testing.assert_allclose(made._scale(both), learner.FeatureScaler(both)(both))
    targets, logits = np.random.default_rng(0).random((2, 5, 6)).astype(np.float32)
    own, of_source = (convnet.attribute_loss(targets[:, part], logits[:, part]) for part in np.split(np.arange(6), 2))
    assert float(losses[0](targets, logits)) == pytest.approx(float(own + 0.1 * of_source), rel=1e-5)


def test_afs_listens_to_the_source_attribute_that_is_the_same():
    """Five source attributes from other images, the last of which has the causes of the target's one attribute."""
    features, labels, class_ids = _planted(16)
    other = _data(*_planted(20, seed=2))
    data = dataclasses.replace(
        _data(features, labels[:, 4:5], class_ids), source=dataclasses.replace(other, labels=other.labels[:, :5])
    )
    made = afs.AFS(dataclasses.replace(learners.training(Config()), steps=150), source_weights=(1.0,)).fit(data)
    attention = made._network.attention().numpy()
    assert attention.shape == (1, 5) and attention[0].argmax() == 4
    assert attention.sum() == pytest.approx(1, abs=1e-5)


def _save(path, names, features):
    np.savez(path, image=np.array(names), features=np.asarray(features, np.float16))
    return str(path)


def test_a_features_file_is_matched_by_path_in_any_order(tmp_path):
    paths = ["/data/x/a/1.jpg", "/data/x/b/1.jpg", "/data/x/b/2.jpg"]
    path = _save(tmp_path / "f.npz", ["b/2.jpg", "c/9.jpg", "a\\1.jpg", "./b/1.jpg"], [[2], [9], [0], [1]])
    got = read_features(path, paths)
    assert got.dtype == np.float32 and got.tolist() == [[0], [1], [2]]


def test_names_of_features_as_bytes_and_with_letters_composed_otherwise(tmp_path):
    one, two = "/data/\u00e9/1.jpg", "/data/o\u0308/2.jpg"  # composed in one letter, and of two
    path = _save(tmp_path / "f.npz", ["e\u0301/1.jpg", "\u00f6/2.jpg"], [[1], [2]])
    assert read_features(path, [two, one]).tolist() == [[2], [1]]
    path = _save(tmp_path / "bytes.npz", ["\u00e9/1.jpg".encode(), b"2.jpg"], [[1], [2]])
    assert read_features(path, [two, one]).tolist() == [[2], [1]]
    with pytest.raises(UserError, match="Received: 'utf-8' codec can't decode"):
        read_features(_save(tmp_path / "latin.npz", [b"\xe9/1.jpg"], [[1]]), [one])


def test_objects_of_one_picture_take_its_rows_in_order(tmp_path):
    path = _save(tmp_path / "f.npz", ["p.jpg", "q.jpg", "p.jpg"], [[1], [2], [3]])
    assert read_features(path, ["/d/p.jpg", "/d/p.jpg", "/d/q.jpg"]).tolist() == [[1], [3], [2]]
    with pytest.raises(UserError, match=r"Received: 3 rows, only 2 for /d/p.jpg; make the file"):
        read_features(path, ["/d/p.jpg"] * 3)


def test_bad_features_files_are_told_in_a_sentence(tmp_path):
    good = _save(tmp_path / "f.npz", ["a/1.jpg"], [[1]])
    with pytest.raises(UserError, match=r"features of all 3 images in .*f.npz. Received: 1 rows, none for /d/b/2.jpg"):
        read_features(good, ["/d/a/1.jpg", "/d/b/2.jpg", "/d/c/3.jpg"])
    short = _save(tmp_path / "short.npz", ["1.jpg"], [[1]])
    with pytest.raises(UserError, match="one image each. Received: 1.jpg, the end of both /d/a/1.jpg and /d/b/1.jpg"):
        read_features(short, ["/d/a/1.jpg", "/d/b/1.jpg"])
    with pytest.raises(UserError, match="NaN, infinity or more for 1 of 1 images, first /d/a/1.jpg"):
        read_features(_save(tmp_path / "nan.npz", ["a/1.jpg"], [[np.nan]]), ["/d/a/1.jpg"])
    with pytest.raises(UserError, match=r"Received: image <U1 \[1\], features float16 \[2, 1\]; write both"):
        read_features(_save(tmp_path / "length.npz", ["a"], [[1], [2]]), ["/d/a"])
    np.savez(tmp_path / "large.npz", image=["a"], features=np.full((1, 1), 1e39))
    with pytest.raises(
        UserError, match="within float32. Received: NaN, infinity or more for 1 of 1 images, first /d/a;"
    ):
        read_features(str(tmp_path / "large.npz"), ["/d/a"])
    with pytest.raises(
        UserError, match=r"features float16 \[1, 0\]; write both, with one row per name and at least one column"
    ):
        read_features(_save(tmp_path / "empty.npz", ["a"], np.zeros((1, 0))), ["/d/a"])
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(UserError, match="Received: neither"):
        read_features(str(tmp_path / "other.npz"), ["/d/a"])
    np.savez(tmp_path / "objects.npz", image=np.array(["a", None], object), features=np.zeros((2, 1)))
    np.save(tmp_path / "one.npy", np.zeros((2, 1)))
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "f.npz").read_bytes()[:300])
    for name in ("objects.npz", "text.npz", "one.npy", "cut.npz"):
        with pytest.raises(UserError, match=f"npz of plain arrays in .*{name}"):
            read_features(str(tmp_path / name), ["/d/a"])
    with pytest.raises(UserError, match="which is no file"):
        read_features(str(tmp_path / "absent.npz"), ["/d/a"])


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["dop"], "Received: dop; nearest: dap"),
        ([], "Received: none"),
        (["dap", "dap"], "--learners to name each once. Received: learners=dap,dap"),
    ],
)
def test_learners_that_are_none_are_told(arguments, text):
    with pytest.raises(UserError, match=text):
        given.expect_names("learners", arguments, learners.LEARNERS)


@pytest.mark.parametrize(
    "settings, text",
    [
        (dict(features="file"), "Expected --features_file beside"),
        (dict(features_file="f.npz"), "Received: features=pixels and features_file=f.npz"),
        (dict(features="trunk"), "Expected --features_run beside --features=trunk"),
        (dict(features="vgg16"), "Expected --vgg16_weights beside"),
    ],
)
def test_flags_of_features_that_do_not_fit_are_told(settings, text):
    with pytest.raises(UserError, match=text):
        learner_data.FeatureSettings(**settings)


def test_several_sources_are_one_with_unknown_labels_between_them():
    parts = [_data(*_planted(3, images=2, attributes=a, seed=a)) for a in (2, 3)]
    joined = learner.join(parts)
    assert joined.labels.shape == (12, 5) and len(np.unique(joined.class_ids)) == 6
    np.testing.assert_array_equal(joined.labels[:6, :2], parts[0].labels)
    np.testing.assert_array_equal(joined.labels[6:, 2:], parts[1].labels)
    assert np.isnan(joined.labels[:6, 2:]).all() and np.isnan(joined.labels[6:, :2]).all()
    np.testing.assert_array_equal(joined.take(np.array([7])).features[0], parts[1].features[1])


class _Seen(learner.AttributeLearner):
    """Remembers what it was fitted on, and scores the first features."""

    def __init__(self):
        self.chosen = {"C": 1.0}

    def fit(self, data):
        self.data = data
        return self

    def score(self, inputs):
        return inputs.features[:, : self.data.labels.shape[1]].astype(np.float64)


def _with_source():
    """Two attributes of the target; three of a source."""
    own, other = (_data(*_planted(3, images=2, attributes=a, seed=a)) for a in (2, 3))
    return dataclasses.replace(own, source=other)


def test_a_union_of_domains_hides_labels_and_scores_the_targets_attributes():
    made, data = sources.Union(_Seen), _with_source()
    scores = made.fit(data).score(data.inputs)
    seen = made._learner.data
    assert seen.source is None and seen.labels.shape == (12, 5) and len(np.unique(seen.class_ids)) == 6
    np.testing.assert_array_equal(
        np.isnan(seen.labels), np.kron(np.array([[0, 0, 1, 1, 1], [1, 1, 0, 0, 0]]), np.ones((6, 1)))
    )
    np.testing.assert_array_equal(scores, data.features[:, :2])
    assert made.chosen == {"C": 1.0}


def test_scores_of_source_attributes_are_further_features():
    made, data = sources.ScoresAsFeatures(_Seen), _with_source()
    scores = made.fit(data).score(data.inputs)
    seen = made._learner.data
    assert made._of_source.data is data.source and seen.source is None and made.chosen == {"C": 1.0}
    np.testing.assert_array_equal(seen.features, np.concatenate([data.features, data.features[:, :3]], axis=1))
    np.testing.assert_array_equal(seen.labels, data.labels)
    np.testing.assert_array_equal(scores, data.features[:, :2])


@pytest.mark.parametrize("name", learners.LEARNERS)
def test_every_learner_uses_a_source_in_a_stated_way(name):
    ways = {"dap": sources.ScoresAsFeatures, "afs": afs.AFS, "ft": ft.FT}
    data, alone = _with_source(), learners.training(DEFAULT)
    assert type(learners.make(name, DEFAULT, data)) is ways.get(name, sources.Union)
    data = dataclasses.replace(data, source=None)
    assert type(learners.make(name, DEFAULT, data)) is type(learners.LEARNERS[name](alone))


@pytest.mark.parametrize("name", ["afs", "amt", "fmt", "ft"])
def test_networks_see_as_much_of_the_target_with_a_source_as_alone(name, monkeypatch):
    """The source has three times the target's images; FT's network sees them one after the other."""
    taken = []
    monkeypatch.setitem(learners.LEARNERS, name, lambda training: taken.append(training.steps) or _Seen())
    own, other = (_data(*_planted(3, images=images, attributes=2)) for images in (2, 6))
    learners.make(name, DEFAULT, own).fit(own)
    learners.make(name, DEFAULT, dataclasses.replace(own, source=other)).fit(dataclasses.replace(own, source=other))
    assert taken[1] == (1 if name == "ft" else 4) * taken[0]


def test_a_source_helps_dap_where_it_knows_the_causes(capsys):
    """Four images a class of the target, under noise; the source's attributes have the same causes and many images."""
    features, labels, class_ids = _planted(6, images=2, noise=2.0)
    data = dataclasses.replace(_data(features, labels, class_ids), source=_data(*_planted(40, noise=2.0, seed=2)))
    test_features, test_labels, _ = _planted(40, seed=1, noise=2.0)
    made = (dap.DAP((1.0,)).fit(data), sources.ScoresAsFeatures(lambda: dap.DAP((1.0,))).fit(data))
    alone, helped = (
        evaluation.mean_auc(evaluation.auc_per_attribute(test_labels, m.score(_inputs(test_features)))) for m in made
    )
    assert helped > alone + 0.02
    svms = 4 * labels.shape[1]  # three folds and all rows
    assert f"SVMs: 100% {svms}/{svms} [" in capsys.readouterr().err


@pytest.fixture
def small(drawn):
    with few_images(6):
        yield Config(domain=("sun",), image_size=32, cache_dir=drawn, leave_out=LEFT_OUT)


def test_the_suite_pairs_learners_over_splits_and_says_which_features(small, tmp_path, capsys):
    table = learners.run_learners(small, ["iap", "ale"], range(2), "split_seed", learner_data.FeatureSettings())
    assert table["method"].tolist() == ["ridge", "iap", "ale"] * 2 and table["test_mauc"].between(0, 1).all()
    assert set(table["features"]) == {"pixels 16x16 (768)"}
    assert (table.groupby("split")["num_attributes_tested"].nunique() == 1).all()
    told = capsys.readouterr()
    assert [line for line in told.out.splitlines() if line.startswith("Learner")] == [
        f"Learner {3 * split + number} of 6: {name}, split {split}"
        for split in (0, 1)
        for number, name in enumerate(("ridge", "iap", "ale"), 1)
    ]
    assert "choosing a setting: 100% 15/15 [" in told.err
    methods.write(table, "iap", "learners", str(tmp_path))
    text = (tmp_path / "learners.txt").read_text()
    assert text.strip() == capsys.readouterr().out.strip() and text.count("pixels 16x16 (768)") == 3 and "low" in text
    assert "settings" in (tmp_path / "learners.csv").read_text().splitlines()[0]


def test_where_labels_are_few_ridge_leaves_out_validation_and_learners_are_refused(small, tmp_path, monkeypatch):
    fit, fitted = linear_pixels.fit_and_score, []

    def spy(features, labels, targets, split, weights, with_validation=True):
        fitted.append(with_validation)
        return fit(features, labels, targets, split, weights, with_validation)

    monkeypatch.setattr(linear_pixels, "fit_and_score", spy)
    few = dataclasses.replace(small, train_positives=3)
    for config in (small, few):
        methods.run_methods(config, [], [0], "seed", str(tmp_path))
        prepared = preparation.prepare(config)
        learners.run_one(
            "ridge", learners.features_of(prepared, config, learner_data.FeatureSettings()), prepared, config
        )
    assert fitted == [True, True, False, False]
    monkeypatch.setattr(preparation, "prepare", None)
    with pytest.raises(
        UserError, match="all labels where .*Received: learners=iap,ale and train_positives=3; leave one out"
    ):
        learners.run_learners(few, ["iap", "ale"], [0], "seed", learner_data.FeatureSettings())


def test_weights_that_are_absent_are_told_before_any_image_is_read(small, monkeypatch):
    """VGG16's images are large: gigabytes of a whole data set."""
    monkeypatch.setattr(preparation, "prepare", None)
    absent = learner_data.FeatureSettings("vgg16", vgg16_weights="~/absent.h5")
    for config in (small, dataclasses.replace(small, source_run=("absent",))):
        with pytest.raises(UserError, match="Received: vgg16_weights=/.*absent.h5, which is no file; fetch"):
            learners.run_learners(config, ["iap"], [0], "seed", absent)


def test_a_table_tells_who_weighs_classes():
    (told,) = learners.weighing(Config(), ("GALM", "ridge regression"))
    assert (
        "classes count alike to GALM and ridge regression (--class_balance), and to the learners every image does"
        in told
    )
    assert learners.weighing(Config(class_balance=0.0), ("GALM",)) == []


def test_a_file_in_any_order_gives_the_suite_the_same_figures_and_one_image_less_is_told(small, tmp_path):
    prepared = preparation.prepare(small)
    names, pixels = list(prepared.domain.paths), linear_pixels.pixel_features(prepared.images)
    order = np.random.default_rng(0).permutation(len(names))
    np.savez(tmp_path / "f.npz", image=np.array(names)[order], features=pixels[order])
    by_file = learner_data.FeatureSettings("file", str(tmp_path / "f.npz"))
    kinds = (learner_data.FeatureSettings(), by_file)
    tables = [learners.run_learners(small, ["iap"], [0], "seed", kind) for kind in kinds]
    assert tables[0]["test_mauc"].tolist() == tables[1]["test_mauc"].tolist()
    assert set(tables[1]["features"]) == {"f.npz (768)"}
    np.savez(tmp_path / "f.npz", image=np.array(names)[1:], features=pixels[1:])
    with pytest.raises(UserError, match=f"none for {names[0]}; make the file for this --data_dir"):
        learners.run_learners(small, ["iap"], [0], "seed", by_file)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, drawn):
    """(settings, data, supernet, path) of a folder with what is read of a finished run."""
    with few_images(6):
        config = Config(domain=("sun",), image_size=32, cache_dir=drawn)
        path = str(tmp_path_factory.mktemp("runs") / "run")
        prepared = preparation.prepare(config)
        yield config, prepared, _write_run(path, config, prepared), path


def _write_run(path, config, prepared, seen=()):
    folder = RunFolder.create(path, config)
    supernet = build_supernet(2, 32, 0.0, 7)
    folder.write_json("result.json", {"classes_seen": [*prepared.domain.class_names(prepared.split.trained), *seen]})
    leakage.write_seen(folder, config, prepared.domain, prepared.split, [])
    folder.write_json("architectures.json", {"sun/a": {}, "sun/b": {}})
    folder.write_json("split.json", prepared.split.to_json())
    folder.save_checkpoint({f"supernet/{k}": v.numpy() for k, v in supernet.variables.items()}, {"chosen": [0, 1]})
    return supernet


def test_trunk_features_are_conv_3_with_the_statistics_of_training_images(finished):
    config, prepared, supernet, path = finished
    settings = learner_data.FeatureSettings("trunk", features_run=path)
    got, name = learner_data.make_features(settings, config, prepared)
    assert name == "trunk of run" and got.shape == (len(prepared.images), 4 * 4 * 64) and got.dtype == np.float32
    scaled = tf.constant(prepared.images / np.float32(127.5) - 1)
    assert len(prepared.split.train) <= config.calibration_images
    supernet.trunk(tf.gather(scaled, prepared.split.train), training=True)
    np.testing.assert_allclose(got, supernet.trunk(scaled)[2].numpy().reshape(len(got), -1), atol=1e-4)


def test_images_without_a_label_have_no_part_in_the_statistics_of_a_trunk(finished, monkeypatch):
    config, prepared, _, path = finished
    labels, train, calibration = prepared.domain.labels.copy(), prepared.split.train, []
    labels[train[::2]] = np.nan
    monkeypatch.setattr(network_features, "trunk_features", lambda source, images, index, _: calibration.extend(index))
    lacking = dataclasses.replace(prepared, domain=dataclasses.replace(prepared.domain, labels=labels))
    learner_data.make_features(learner_data.FeatureSettings("trunk", features_run=path), config, lacking)
    assert calibration == train[1::2].tolist()


def test_a_run_whose_trunk_cannot_be_taken_is_named_by_its_flag(finished, tmp_path):
    config, prepared, _, path = finished
    larger = dataclasses.replace(config, image_size=2 * config.image_size)
    with pytest.raises(UserError, match=f"Expected the image_size of --features_run={path}, which is"):
        learner_data.make_features(learner_data.FeatureSettings("trunk", features_run=path), larger, prepared)
    RunFolder.create(str(tmp_path / "begun"), config)
    settings = learner_data.FeatureSettings("trunk", features_run=str(tmp_path / "begun"))
    with pytest.raises(
        UserError, match="a finished run in --features_run=.*begun. Received: a run without result.json"
    ):
        learner_data.make_features(settings, config, prepared)


def test_a_trunk_that_has_seen_test_classes_or_images_is_refused(finished):
    config, prepared, _, path = finished
    settings = learner_data.FeatureSettings("trunk", features_run=path)
    other = dataclasses.replace(config, split_seed=3)
    with pytest.raises(
        UserError,
        match="Received: --features_run=.*run, which has seen sun/.*; give both runs the same split: --split_seed=-1",
    ):
        learner_data.make_features(settings, other, preparation.prepare(other))
    mixed = dataclasses.replace(prepared.split, test=np.sort([*prepared.split.test, prepared.split.train[0]]))
    with pytest.raises(
        UserError, match="Received: --features_run=.*run, which was trained on 1 of 61, the first is generated://"
    ):
        learner_data.make_features(settings, config, dataclasses.replace(prepared, split=mixed))


def test_a_trunk_whose_own_source_has_seen_a_test_class_is_refused(finished, tmp_path):
    config, prepared, _, _ = finished
    tested = prepared.domain.classes[prepared.domain.class_ids[prepared.split.test[0]]]
    elsewhere = dataclasses.replace(config, domain=("awa",), split_seed=5)
    _write_run(str(tmp_path / "awa"), elsewhere, preparation.prepare(elsewhere), ["awa/any", tested])
    settings = learner_data.FeatureSettings("trunk", features_run=str(tmp_path / "awa"))
    with pytest.raises(
        UserError, match=f"Received: --features_run=.*awa, which has seen {tested}; give both runs the same split"
    ):
        learner_data.make_features(settings, config, prepared)


def test_a_source_on_the_same_domain_or_with_few_labels_is_refused(finished, monkeypatch):
    base, _, _, path = finished
    config = dataclasses.replace(base, source_run=(path,))
    with pytest.raises(
        UserError, match="other domains than --domain=sun. Received: source_run=.*run on sun; leave it out"
    ):
        learner_data.source_data(config, learner_data.FeatureSettings())
    elsewhere = dataclasses.replace(config, domain=("awa",))
    source, (learned,) = learner_data.source_data(elsewhere, learner_data.FeatureSettings())
    assert learned.path == path and len(learned.seen) == 2 * 180  # images, and photographs
    monkeypatch.setattr(learner_data, "read_config", lambda path: dataclasses.replace(base, train_positives=3))
    with pytest.raises(
        UserError, match="source_run with all labels .*Received: source_run=.*run with train_positives=3; name another"
    ):
        learner_data.source_data(elsewhere, learner_data.FeatureSettings())
    assert source.labels.shape == (180, 20) and source.features.shape == (180, 768)


def test_learners_are_not_tested_on_what_their_source_has_trained(finished, monkeypatch):
    """The same pictures under another name, split otherwise."""
    config, prepared, _, path = finished
    swapped = dataclasses.replace(prepared.split, train=prepared.split.test, test=prepared.split.train)
    learned = leakage.Learned.of(path, dataclasses.replace(config, split_seed=4), prepared.domain, swapped)
    renamed = dataclasses.replace(learned, classes=frozenset({"zoo/scene00"}))
    monkeypatch.setattr(learner_data, "source_data", lambda *_: (None, [renamed]))
    message = (
        "Received: --source_run=.*run, which was trained on 60 of 60, .*; give both runs the same split: --split_seed=4"
    )
    with pytest.raises(UserError, match=message):
        learners.run_learners(config, ["dap"], [0], "seed", learner_data.FeatureSettings())


def test_a_trunk_of_another_split_is_told_before_anything_is_fitted_with_flags_that_the_suite_takes(
    small, tmp_path, monkeypatch
):
    path, own = str(tmp_path / "run"), dataclasses.replace(small, split_seed=0)
    prepared = preparation.prepare(own)
    _write_run(path, own, prepared)
    monkeypatch.setattr(learners, "run_one", None)
    settings = learner_data.FeatureSettings("trunk", features_run=path)
    message = "Received: --features_run=.*run, which has seen sun/.*; give both runs the same split: --splits=0, --test_split=official.$"
    with pytest.raises(UserError, match=message):
        learners.run_learners(small, ["iap"], [0, 1], "split_seed", settings)
    of_source = leakage.Learned.of(path, own, prepared.domain, prepared.split)
    monkeypatch.setattr(learner_data, "source_data", lambda *_: (None, [of_source]))
    with pytest.raises(UserError, match=message.replace("features_run", "source_run")):
        learners.run_learners(small, ["iap"], [1], "split_seed", learner_data.FeatureSettings())
    with pytest.raises(UserError, match="the same split: --split_seed=0, no --splits_file, "):
        learners.run_learners(dataclasses.replace(small, split_seed=1), ["iap"], [0], "seed", settings)


def test_data_without_classes_are_refused_before_anything_is_fitted(finished, monkeypatch):
    config, prepared, _, _ = finished
    domain = dataclasses.replace(prepared.domain, class_ids=np.zeros_like(prepared.domain.class_ids))
    with pytest.raises(UserError, match="Expected classes in sun, .* Received: none; add a column class"):
        learners.expect_classes(domain)
    monkeypatch.setattr(preparation, "prepare", lambda *of: dataclasses.replace(prepared, domain=domain))
    with pytest.raises(UserError, match="Expected classes in sun"):
        learners.run_learners(config, ["dap"], [0], "seed", learner_data.FeatureSettings())


def test_vgg16_sees_bgr_less_the_mean_and_its_weights_are_never_fetched(monkeypatch, tmp_path):
    def tiny(weights):
        image = tf.keras.Input((224, 224, 3))
        hidden = tf.keras.layers.GlobalAveragePooling2D(name="fc2")(image)
        return tf.keras.Model(image, tf.keras.layers.Dense(2)(hidden))

    with pytest.raises(UserError, match="vgg16_weights=absent.h5, which is no file; fetch .* nothing is downloaded"):
        network_features.vgg16_features("absent.h5", np.zeros((1, 224, 224, 3), np.uint8))
    (tmp_path / "w.h5").write_bytes(b"")
    monkeypatch.setattr(tf.keras.applications, "VGG16", tiny)
    images = np.broadcast_to(np.uint8([10, 20, 30]), (33, 224, 224, 3))
    got = network_features.vgg16_features(str(tmp_path / "w.h5"), images)
    np.testing.assert_allclose(got, np.tile([30 - 103.939, 20 - 116.779, 10 - 123.68], (33, 1)), atol=0.1)
    monkeypatch.setattr(tf.keras.applications, "VGG16", lambda weights: tf.keras.layers.Layer().load_weights(1, 2, 3))
    with pytest.raises(UserError, match="Expected VGG16's weights with its top layers in .*w.h5. Received: .*; fetch"):
        network_features.vgg16_features(str(tmp_path / "w.h5"), images)
