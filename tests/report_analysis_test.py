"""Fig. 5, Tables 4 and 5, confidence and clusters on planted embeddings, policies and architectures."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest
from report_runs import SURE, policy

from galm_tf.config import Config
from galm_tf.errors import UserError
from galm_tf.report import analysis, figures, single
from galm_tf.report.run_reading import FinishedRun
from galm_tf.search_space import Architecture

NAMES = ("a/one", "a/two", "b/three", "b/four", "c/five")
# Degrees in the plane: one and two lie beside three, four alone, five beside four.
ANGLES = (0, 20, 9, 120, 130)
READS_FC1 = Architecture(True, False, 5, False, False, False, 3, 64, 0, "fc1")
READS_FC2 = Architecture(True, False, 3, False, False, False, 3, 64, 256, "fc2")


def planted(names=NAMES, angles=ANGLES, architectures=(READS_FC1, READS_FC2, READS_FC2, READS_FC1, READS_FC2), sure=True) -> FinishedRun:
    turned = np.deg2rad(angles)
    rows = {n: {"architecture": a.to_json()} for n, a in zip(names, architectures)}
    result = {"domains": list(dict.fromkeys(n[0] for n in names)), "method": "galm", "per_attribute": {**rows, "a/never": {"excluded": "why"}}}
    vectors = np.stack([np.cos(turned), np.sin(turned)], 1) * np.arange(1, len(names) + 1)[:, None]  # lengths do not matter
    return FinishedRun("run", Config(), result, (), "", policy(len(names)) if sure else None, vectors)


def cosine(degrees: float) -> float:
    return float(np.cos(np.deg2rad(degrees)))


def test_domain_correlation_by_hand():
    table = analysis.domain_correlation(planted()).set_index(["figure", "target", "source"])
    without, within = table.loc["5a"], table.loc["5b"]
    assert without["share"].to_dict() == {  # three is nearest to one and two, two to three, five to four
        ("a", "b"): 1, ("a", "c"): 0, ("b", "a"): 0.5, ("b", "c"): 0.5, ("c", "a"): 0, ("c", "b"): 1,
    }
    assert within["share"].to_dict() == {
        ("a", "a"): 0, ("a", "b"): 1, ("a", "c"): 0, ("b", "a"): 0.5, ("b", "b"): 0, ("b", "c"): 0.5, ("c", "a"): 0, ("c", "b"): 1,
        ("c", "c"): 0,  # of one attribute, which is not its own neighbour
    }
    assert without.loc[("a", "b"), "chance"] == pytest.approx(2 / 3) and within.loc[("a", "a"), "chance"] == pytest.approx(1 / 4)
    assert without.loc[("c", "b"), "mean_cosine"] == pytest.approx((cosine(121) + cosine(10)) / 2)
    assert within.loc[("a", "a"), "mean_cosine"] == pytest.approx(cosine(20))  # of one and two, not of each with itself
    for _, target in table.groupby(["figure", "target"]):
        assert target["share"].sum() == pytest.approx(1) and target["chance"].sum() == pytest.approx(1)


def test_correlated_attributes_are_those_of_other_domains():
    table = analysis.correlated_attributes(planted())
    assert (table["domain"] != table["source"]).all()
    one = table[table["attribute"] == "a/one"].set_index(["source", "rank"])
    assert one["correlated"].to_dict() == {("b", 1): "b/three", ("b", 2): "b/four", ("c", 1): "c/five"}
    assert one.loc[("b", 1), "cosine"] == pytest.approx(cosine(9)) and one.loc[("b", 2), "cosine"] == pytest.approx(-0.5)


def test_a_single_domain_is_correlated_within():
    run = planted(names=("a/1", "a/2", "a/3", "a/4", "a/5"))
    table = analysis.correlated_attributes(run)
    assert list(table[table["attribute"] == "a/5"]["correlated"]) == ["a/4", "a/2", "a/3"]  # three at most, never itself
    assert "fig5_domain_correlation" not in analysis.tables(run)


def test_table_4_counts_no_void_width():
    table = analysis.choice_frequencies(planted()).set_index(["domain", "decision", "choice"])
    assert table.loc[("a", "conv4_kernel", "5"), "share"] == 0.5 and table.loc[("a", "conv4_kernel", "5"), "attributes"] == 2
    assert table.loc[("a", "fc2_width", "256"), "share"] == 1 and table.loc[("a", "fc2_width", "256"), "attributes"] == 1
    assert table.groupby(level=[0, 1])["share"].sum().to_numpy() == pytest.approx(1)


def test_confidence_is_what_the_policy_says():
    table = analysis.policy_confidence(planted()).set_index(["decision", "attribute"])
    assert (table["highest_probability"] == SURE).all()
    assert table.loc[("conv1_conv4", "a/one"), "taken_probability"] == pytest.approx(1 - SURE)  # `on` was taken
    assert table.loc[("conv2_conv4", "a/one"), "taken_probability"] == SURE
    assert sorted(table.loc["fc2_width"].index) == ["a/two", "b/three", "c/five"]
    assert table.loc[("fc2_width", "a/two"), "taken_probability"] == pytest.approx((1 - SURE) / 2)
    assert table.loc[("fc2_width", "a/two"), "uniform"] == pytest.approx(1 / 3)
    assert "policy_confidence" not in analysis.tables(planted(sure=False))


def test_clusters_find_planted_groups():
    rng = np.random.default_rng(0)
    centres = np.repeat(np.eye(3, 12), [5, 4, 6], axis=0)[rng.permutation(15)]
    found = analysis.clusters(centres + 0.1 * rng.normal(size=(15, 12)))
    assert pd.crosstab(found.labels, centres.argmax(1)).gt(0).to_numpy().sum() == 3  # each group is one cluster
    assert found.silhouette > 0.6 and found.shown_share > 0.7
    assert list(dict.fromkeys(found.labels[found.order])) == [1, 2, 3]  # along the tree
    assert np.sum(found.tree[:, 2] > found.cut) == 2  # two joins make one of three
    distances = np.linalg.norm(found.points[:, None] - found.points[None], axis=2)
    same = found.labels[:, None] == found.labels[None]
    assert distances[same].max() < distances[~same].min()


def test_random_embeddings_have_no_clusters():
    assert analysis.clusters(np.random.default_rng(0).normal(size=(60, 50))).silhouette < 0.15


@pytest.mark.parametrize("vectors", [np.ones((4, 3)), np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])])
def test_clusters_of_equal_embeddings(vectors):
    found = analysis.clusters(vectors)
    assert np.isfinite(found.points).all() and np.isfinite(found.shown_share) and found.labels.min() == 1


def test_too_few_attributes_have_no_clusters():
    assert analysis.clusters(np.eye(3)) is None


def test_map_and_tree_are_coloured_by_domain():
    run = planted()
    found, names, of = analysis.clusters(run.vectors), list(NAMES), analysis.attribute_domains(run)
    drawn = figures.attribute_map(found, names, of)
    assert [t["name"] for t in drawn["data"]] == ["a", "b", "c"] and len({t["role"] for t in drawn["data"]}) == 3
    leaves = figures.dendrogram(found, names, of)["data"][1:-1]
    assert sorted(y for t in leaves for y in t["y"]) == [0, 1, 2, 3, 4] and [len(t["y"]) for t in leaves] == [2, 2, 1]


def test_page_groups_table_5_by_domain():
    run = planted()
    found = single._most_correlated(run, single.shown_names(run))
    assert found["sources"] == ["a", "b", "c"] and [d for d, _ in found["groups"]] == ["a", "b", "c"]
    assert found["groups"][2][1] == [("c/five", [[("two", pytest.approx(cosine(110))), ("one", pytest.approx(cosine(130)))],
                                                 [("four", pytest.approx(cosine(10))), ("three", pytest.approx(cosine(121)))], []])]
    assert found["words"]["a/one"] == "b/three (0.99), c/five (-0.64)"


def test_tables_are_written_whole(tmp_path):
    run = planted()
    analysis.write_tables(run, str(tmp_path / "analysis"))
    written = {name[: -len(".csv")]: pd.read_csv(tmp_path / "analysis" / name) for name in os.listdir(tmp_path / "analysis")}
    assert written.keys() == analysis.tables(run).keys() and len(written) == 5
    assert list(written["attribute_clusters"]["attribute"]) == list(NAMES)
    pd.testing.assert_frame_equal(written["fig5_domain_correlation"], analysis.domain_correlation(run), rtol=1e-5)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Expected to be able to write tables into .*--out"):
        analysis.write_tables(run, str(tmp_path / "file" / "analysis"))
