"""Fig. 5, Tables 4 and 5, confidence and clusters on planted embeddings, policies and architectures."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pandas as pd
import pytest
from report_runs import SURE, policy

from galm_tf.config import Config
from galm_tf.errors import UserError
from galm_tf.report import analysis, figures, relations, relations_section, single
from galm_tf.report.relations import EMBEDDINGS, SCORES, Relations, find_relations, of_embeddings, of_scores
from galm_tf.report.run_data import Evidence, RunData, Scores
from galm_tf.report.run_reading import FinishedRun
from galm_tf.search_space import Architecture

NAMES = ("a/one", "a/two", "b/three", "b/four", "c/five")
# Degrees in the plane: one and two lie beside three, four alone, five beside four.
ANGLES = (0, 20, 9, 120, 130)
READS_FC1 = Architecture(True, False, 5, False, False, False, 3, 64, 0, "fc1")
READS_FC2 = Architecture(True, False, 3, False, False, False, 3, 64, 256, "fc2")


def planted(
    names=NAMES, angles=ANGLES, architectures=(READS_FC1, READS_FC2, READS_FC2, READS_FC1, READS_FC2), sure=True
) -> FinishedRun:
    turned = np.deg2rad(angles)
    rows = {n: {"architecture": a.to_json()} for n, a in zip(names, architectures)}
    result = {
        "domains": list(dict.fromkeys(n[0] for n in names)),
        "method": "galm",
        "per_attribute": {**rows, "a/never": {"excluded": "why"}},
    }
    # lengths do not matter
    vectors = np.stack([np.cos(turned), np.sin(turned)], 1) * np.arange(1, len(names) + 1)[:, None]
    return FinishedRun("run", Config(), result, (), "", policy(len(names)) if sure else None, vectors)


ALIKE = of_embeddings(planted().vectors)
RELATED = [Relations(SCORES, ALIKE, None), Relations(EMBEDDINGS, -ALIKE + 2 * np.eye(5), None)]


def cosine(degrees: float) -> float:
    return float(np.cos(np.deg2rad(degrees)))


def test_domain_correlation_by_hand():
    table = analysis.domain_correlation(planted(), ALIKE).set_index(["figure", "target", "source"])
    without, within = table.loc["5a"], table.loc["5b"]
    assert without["share"].to_dict() == {  # three is nearest to one and two, two to three, five to four
        ("a", "b"): 1,
        ("a", "c"): 0,
        ("b", "a"): 0.5,
        ("b", "c"): 0.5,
        ("c", "a"): 0,
        ("c", "b"): 1,
    }
    assert within["share"].to_dict() == {
        ("a", "a"): 0,
        ("a", "b"): 1,
        ("a", "c"): 0,
        ("b", "a"): 0.5,
        ("b", "b"): 0,
        ("b", "c"): 0.5,
        ("c", "a"): 0,
        ("c", "b"): 1,
        ("c", "c"): 0,  # of one attribute, which is not its own neighbour
    }
    assert without.loc[("a", "b"), "chance"] == pytest.approx(2 / 3) and within.loc[
        ("a", "a"), "chance"
    ] == pytest.approx(1 / 4)
    assert without.loc[("c", "b"), "mean_correlation"] == pytest.approx((cosine(121) + cosine(10)) / 2)
    # of one and two, not of each with itself
    assert within.loc[("a", "a"), "mean_correlation"] == pytest.approx(cosine(20))
    for _, target in table.groupby(["figure", "target"]):
        assert target["share"].sum() == pytest.approx(1) and target["chance"].sum() == pytest.approx(1)


def test_correlated_attributes_are_those_of_other_domains():
    table = analysis.correlated_attributes(planted(), ALIKE)
    assert (table["domain"] != table["source"]).all()
    one = table[table["attribute"] == "a/one"].set_index(["source", "rank"])
    assert one["correlated"].to_dict() == {("b", 1): "b/three", ("b", 2): "b/four", ("c", 1): "c/five"}
    assert one.loc[("b", 1), "correlation"] == pytest.approx(cosine(9)) and one.loc[
        ("b", 2), "correlation"
    ] == pytest.approx(-0.5)


def test_a_single_domain_is_correlated_within():
    run = planted(names=("a/1", "a/2", "a/3", "a/4", "a/5"))
    table = analysis.correlated_attributes(run, ALIKE)
    # three at most, never itself
    assert list(table[table["attribute"] == "a/5"]["correlated"]) == ["a/4", "a/2", "a/3"]
    assert "fig5_domain_correlation" not in analysis.tables(run, RELATED)


def test_table_4_counts_no_void_width():
    table = analysis.choice_frequencies(planted()).set_index(["domain", "decision", "choice"])
    assert (
        table.loc[("a", "conv4_kernel", "5"), "share"] == 0.5
        and table.loc[("a", "conv4_kernel", "5"), "attributes"] == 2
    )
    assert (
        table.loc[("a", "fc2_width", "256"), "share"] == 1 and table.loc[("a", "fc2_width", "256"), "attributes"] == 1
    )
    assert table.groupby(level=[0, 1])["share"].sum().to_numpy() == pytest.approx(1)


def test_confidence_is_what_the_policy_says():
    table = analysis.policy_confidence(planted()).set_index(["decision", "attribute"])
    assert (table["highest_probability"] == SURE).all()
    assert table.loc[("conv1_conv4", "a/one"), "taken_probability"] == pytest.approx(1 - SURE)  # `on` was taken
    assert table.loc[("conv2_conv4", "a/one"), "taken_probability"] == SURE
    assert sorted(table.loc["fc2_width"].index) == ["a/two", "b/three", "c/five"]
    assert table.loc[("fc2_width", "a/two"), "taken_probability"] == pytest.approx((1 - SURE) / 2)
    assert table.loc[("fc2_width", "a/two"), "uniform"] == pytest.approx(1 / 3)
    assert "policy_confidence" not in analysis.tables(planted(sure=False), [])


def test_confidence_and_spread_are_means_over_attributes_and_pairs():
    run = planted()
    run.policy["conv1_conv4"][0] = [0.05, 0.95]  # of one, which took the second
    rows = {row["decision"]: row["cells"][0] for row in single._confidence(run)["rows"]}
    assert rows["Conv-1 → Conv-4 skip"].tolist() == pytest.approx([(0.95 + SURE) / 2, (0.95 + 1 - SURE) / 2])
    found, _ = relations_section.relations_section(run, single.shown_names(run), RELATED[1:], Evidence(missing="why"))
    assert found["spread"] == pytest.approx(np.std(ALIKE[np.triu_indices(5, 1)]))


def test_clusters_find_planted_groups():
    rng = np.random.default_rng(0)
    centres = np.repeat(np.eye(3, 12), [5, 4, 6], axis=0)[rng.permutation(15)]
    found = analysis.clusters(of_embeddings(centres + 0.1 * rng.normal(size=(15, 12))))
    assert pd.crosstab(found.labels, centres.argmax(1)).gt(0).to_numpy().sum() == 3  # each group is one cluster
    assert found.silhouette > 0.6 and found.shown_share > 0.7
    assert list(dict.fromkeys(found.labels[found.order])) == [1, 2, 3]  # along the tree
    assert np.sum(found.tree[:, 2] > found.cut) == 2  # two joins make one of three
    distances = np.linalg.norm(found.points[:, None] - found.points[None], axis=2)
    same = found.labels[:, None] == found.labels[None]
    assert distances[same].max() < distances[~same].min()


def test_random_embeddings_have_no_clusters():
    assert analysis.clusters(of_embeddings(np.random.default_rng(0).normal(size=(60, 50)))).silhouette < 0.15


def test_opposites_are_far_apart():
    alike = of_embeddings(planted(NAMES[:4], (0, 10, 180, 190)).vectors)
    one, two, three, four = analysis.clusters(alike).labels
    assert one == two != three == four
    table = analysis.domain_correlation(
        planted(("a/one", "b/two", "c/three"), ANGLES[:3]), np.array([[1, -0.9, 0.2], [-0.9, 1, 0.1], [0.2, 0.1, 1]])
    )
    assert table.set_index(["figure", "target", "source"]).loc[("5a", "a", "c"), "share"] == 1


def test_clusters_are_as_far_apart_as_their_attributes_are_on_average():
    assert analysis.clusters(ALIKE).tree[-1, 2] == pytest.approx(1 - ALIKE[:3, 3:].mean())


def test_clusters_of_equal_embeddings():
    for equally_far in (np.ones((4, 3)), np.eye(6)):
        assert analysis.clusters(of_embeddings(equally_far)) is None
    found = analysis.clusters(of_embeddings(np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])))
    assert np.isfinite(found.points).all() and np.isfinite(found.shown_share) and found.labels.min() == 1


def test_scores_that_never_change_relate_to_nothing():
    """Else all of them would be most like the first attribute of the first domain."""
    run = planted()
    unrelated = analysis.domain_correlation(run, np.eye(len(run.rows)))
    assert not len(unrelated) and not len(analysis.correlated_attributes(run, np.eye(len(run.rows))))


def test_a_choice_that_nobody_had_has_no_share():
    names, architectures = ("a/one", "a/two"), (READS_FC1, READS_FC1)
    run = planted(names, ANGLES[:2], architectures)
    shares = analysis.choice_frequencies(run).set_index("decision")["share"]
    assert shares["fc2_width"].isna().all() and shares["fc1_width"].sum() == 1
    (row,) = (row for row in single.choice_table(run)["rows"] if row["decision"] == "Fc-2 width")
    assert [choice["shares"] for choice in row["choices"]] == [[None]] * len(row["choices"])


def test_architectures_that_nothing_judged_are_not_counted():
    run = planted()
    name = next(iter(run.rows))
    run.rows[name]["judged_by"] = "none"
    table = analysis.choice_frequencies(run).set_index(["domain", "decision", "choice"])
    assert table.loc[("a", "conv4_kernel", "5"), "attributes"] == 1
    assert name not in set(analysis.policy_confidence(run)["attribute"]) and name in run.architectures
    assert dict(single.choice_table(run)["domains"])["a"] == 1


def test_tables_of_an_earlier_report_that_knew_more_go(tmp_path):
    run = planted()
    (tmp_path / "mine.csv").write_text("")
    analysis.write_tables(run, RELATED, str(tmp_path))
    before = {p.name for p in tmp_path.iterdir()}
    analysis.write_tables(run, [], str(tmp_path))
    after = {p.name for p in tmp_path.iterdir()}
    assert before - after >= {"table5_correlated_attributes.csv"} and "mine.csv" in after
    assert "table4_choice_frequencies.csv" in after


def test_too_few_attributes_have_no_clusters():
    assert analysis.clusters(np.eye(3)) is None


def test_map_and_tree_are_coloured_by_domain():
    run = planted()
    found, names, of = analysis.clusters(ALIKE), list(NAMES), run.attribute_domains
    drawn = figures.attribute_map(found, names, of, ["a", "b", "c"])
    assert [t["name"] for t in drawn["data"]] == ["a", "b", "c"] and len({t["role"] for t in drawn["data"]}) == 3
    leaves = figures.dendrogram(found, names, of, ["a", "b", "c"])["data"][1:-1]
    assert sorted(y for t in leaves for y in t["y"]) == [0, 1, 2, 3, 4] and [len(t["y"]) for t in leaves] == [2, 2, 1]


def test_a_tree_is_cut_into_the_clusters_that_its_leaves_name():
    found = analysis.clusters(ALIKE)
    *_, leaves, cut = figures.dendrogram(found, NAMES, ["all"] * 5, ["all"])["data"]
    assert cut["x"] == [found.cut] * 2 and found.tree[-2, 2] < found.cut < found.tree[-1, 2]
    wanted = {f"{name}, cluster {label}" for name, label in zip(NAMES, found.labels)}
    assert set(leaves["text"]) == wanted and len(set(found.labels)) == 2


def test_a_tree_of_attributes_that_are_as_good_as_one_has_no_axis_of_noise():
    found = analysis.clusters(ALIKE)
    tree = found.tree.copy()
    for longest, end in ((1e-12, 1), (0.25, 0.2575)):
        tree[:, 2] = np.linspace(0, longest, len(tree))
        layout = figures.dendrogram(dataclasses.replace(found, tree=tree), NAMES, ["all"] * 5, ["all"])["layout"]
        assert layout["xaxis"]["range"] == pytest.approx([0, end])


def test_many_points_have_no_names_and_many_groups_have_marks_of_their_own():
    rng = np.random.default_rng(0)
    found, names = analysis.clusters(of_embeddings(rng.normal(size=(26, 8)))), [f"a{i}" for i in range(26)]
    groups = [f"cluster {i}" for i in range(12)]
    drawn = figures.attribute_map(found, names, [groups[i % 12] for i in range(26)], groups)
    assert {t["mode"] for t in drawn["data"]} == {"markers"} and not drawn["layout"]["placed"]
    assert len({(t["role"], t["marker"]["symbol"]) for t in drawn["data"]}) == 12


def test_page_groups_table_5_by_domain():
    run = planted()
    found = relations_section._most_correlated(run, single.shown_names(run), ALIKE)
    assert found["sources"] == ["a", "b", "c"] and [d for d, _ in found["groups"]] == ["a", "b", "c"]
    assert found["groups"][2][1] == [
        (
            "c/five",
            [
                [("two", pytest.approx(cosine(110))), ("one", pytest.approx(cosine(130)))],
                [("four", pytest.approx(cosine(10))), ("three", pytest.approx(cosine(121)))],
                [],
            ],
        )
    ]
    assert found["words"]["a/one"] == "b/three (0.99), c/five (-0.64)"


def test_tables_are_written_whole(tmp_path):
    run = planted()
    analysis.write_tables(run, RELATED, str(tmp_path / "analysis"))
    written = {
        name[: -len(".csv")]: pd.read_csv(tmp_path / "analysis" / name) for name in os.listdir(tmp_path / "analysis")
    }
    assert written.keys() == analysis.tables(run, RELATED).keys() and len(written) == 5
    assert list(written["attribute_clusters"]["attribute"]) == list(NAMES) * 2
    of_basis = written["fig5_domain_correlation"].groupby("basis", sort=False)
    assert list(of_basis.groups) == [SCORES, EMBEDDINGS]
    for related in RELATED:
        got = of_basis.get_group(related.basis).drop(columns="basis").reset_index(drop=True)
        pd.testing.assert_frame_equal(got, analysis.domain_correlation(run, related.matrix), rtol=1e-5)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Expected to be able to write tables into .*--out"):
        analysis.write_tables(run, RELATED, str(tmp_path / "file" / "analysis"))


def test_without_relations_or_with_few_attributes_tables_are_fewer():
    run = planted()
    assert sorted(analysis.tables(run, [])) == ["policy_confidence", "table4_choice_frequencies"]
    two = planted(names=NAMES[:2], angles=ANGLES[:2])
    assert "attribute_clusters" not in analysis.tables(two, [Relations(SCORES, np.eye(2), None)])


def test_a_run_without_architectures_leaves_tables_of_relations_alone():
    run = planted(sure=False)
    rows = {
        name: row if "excluded" in row else {"architecture": None} for name, row in run.result["per_attribute"].items()
    }
    run = dataclasses.replace(run, result={**run.result, "method": "reading", "per_attribute": rows}, vectors=None)
    assert analysis.tables(run, []) == {}
    assert sorted(analysis.tables(run, RELATED[:1])) == [
        "attribute_clusters",
        "fig5_domain_correlation",
        "table5_correlated_attributes",
    ]


def test_scores_relate_attributes_within_each_domain():
    rng = np.random.default_rng(0)
    cause, other = rng.normal(size=(2, 400))
    domains = np.repeat([0, 1], 200)
    shift = np.where(domains == 1, 50.0, 0.0)  # what tells the domains apart is no likeness of attributes
    scores = np.stack([np.exp(cause), cause**3, other + shift, shift - other, np.full(400, 0.5)], axis=1)
    found = of_scores(scores, domains)
    wanted = np.eye(5)
    wanted[0, 1] = wanted[1, 0] = 1  # ranks, whatever the scale
    wanted[2, 3] = wanted[3, 2] = -1
    np.testing.assert_allclose(found, wanted, atol=0.12)
    assert found[0, 1] == pytest.approx(1) and (found[4, :4] == 0).all()
    np.testing.assert_array_equal(
        of_scores(scores, np.append(np.zeros(398, int), [1, 1])), of_scores(scores[:398], np.zeros(398))
    )


def _evidence(agree: bool) -> Evidence:
    """Labels of 300 images in two domains, half of each tested; scores that follow them, or the wrong ones."""
    rng = np.random.default_rng(1)
    causes = rng.normal(size=(300, 3))
    mix = rng.normal(size=(3, 12))
    labels = (causes @ mix + 0.5 * rng.normal(size=(300, 12)) > 0).astype(np.float32)
    seen = causes @ (mix if agree else mix[:, rng.permutation(12)])
    domain = type("Domain", (), {"image_domains": np.repeat([0, 1], 150)})
    split = type("Split", (), {"test": np.arange(0, 300, 2)})
    scores = Scores(seen[::2], seen[::2] > 0, np.ones(12, bool))
    return Evidence(RunData(domain, None, split, labels, labels), scores=scores)


def test_agreement_with_labels_is_told():
    names = tuple(f"{d}/{i}" for d in "ab" for i in range(6))
    run = planted(names=names, angles=tuple(range(12)), architectures=(READS_FC1,) * 12)
    by_scores, by_embeddings = find_relations(run, _evidence(agree=True))
    assert (by_scores.basis, by_embeddings.basis) == (SCORES, EMBEDDINGS)
    assert by_scores.agreement > 0.8 and abs(by_embeddings.agreement) < 0.5
    assert abs(find_relations(run, _evidence(agree=False))[0].agreement) < 0.6
    assert [(r.basis, r.agreement) for r in find_relations(run, Evidence(missing="no data"))] == [(EMBEDDINGS, None)]
    assert find_relations(planted(names=NAMES[:1], angles=ANGLES[:1]), Evidence()) == []


def test_scores_of_few_images_relate_nothing():
    """Two images put any two attributes in the same order, or in the opposite one."""
    names = tuple(f"{d}/{i}" for d in "ab" for i in range(6))
    run = planted(names=names, angles=tuple(range(12)), architectures=(READS_FC1,) * 12)
    evidence = _evidence(agree=True)
    for count, bases in ((9, [EMBEDDINGS]), (10, [SCORES, EMBEDDINGS])):
        kept = np.r_[:count, 75 : 75 + 9]  # of either domain
        split = type("Split", (), {"test": evidence.data.split.test[kept]})
        scores = dataclasses.replace(evidence.scores, probability=evidence.scores.probability[kept])
        few = dataclasses.replace(evidence, data=dataclasses.replace(evidence.data, split=split), scores=scores)
        assert [r.basis for r in find_relations(run, few)] == bases
    few.data.split.test = few.data.split.test[1:]
    reason = "Correlations are taken of at least 10 test images of a domain; this run has 9 of one at most"
    related = [Relations(EMBEDDINGS, of_embeddings(run.vectors), None)]
    found, _ = relations_section.relations_section(run, single.shown_names(run), related, few)
    assert found["without_scores"] == f"{reason}."
    found, _ = relations_section.relations_section(run, single.shown_names(run), [], few)
    assert f"its networks' scores were not compared ({reason})." in found["missing"]


def test_an_agreement_goes_by_ranks_and_by_pairs_enough():
    labels = ALIKE**9  # in the same order
    assert relations._agreement(ALIKE, labels) == pytest.approx(1)
    labels[0, 1] = np.nan
    assert relations._agreement(ALIKE, labels) is None  # nine pairs


def test_labels_of_two_domains_go_together_in_nothing():
    targets = np.random.default_rng(0).integers(0, 2, (20, 3)).astype(float)
    known = np.isfinite(relations._of_labels(targets, np.array(["a", "a", "b"])))
    assert known.tolist() == [[True, True, False], [True, True, False], [False, False, True]]
