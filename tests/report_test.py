"""The page says what the run folder says, escapes names, leaves out what is not there, and refuses bad input."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import html
import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from report_runs import NASTY, NUMBERS, TRUNK, Reddish, page_of, write_data, write_json, write_run
from sklearn.metrics import log_loss

from galm_tf import data_digests, pipeline, report
from galm_tf.config import Config, unstated
from galm_tf.data import class_weights
from galm_tf.domains import load_domains
from galm_tf.errors import UserError
from galm_tf.network_size import network_size, trunk_size
from galm_tf.report import analysis, figures, notices, rivals, run_data, single
from galm_tf.report.__main__ import comparison_file, expect_page
from galm_tf.report.compare import compare_page
from galm_tf.report.diagram import architecture_svg
from galm_tf.report.names import breakable, in_a_row, without_directions
from galm_tf.report.page import Page, better, percent, render, score, signed, write_page
from galm_tf.report.pictures import PictureSource
from galm_tf.report.run_data import Unavailable, gather, load_data
from galm_tf.report.run_reading import read_run
from galm_tf.report.transfer_section import transfer_section
from galm_tf.run_folder import RunFolder, read_config
from galm_tf.search_space import Architecture
from galm_tf.words import millions


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folder -> result of three runs, `galm`, `random` and `reading`, on the same pictures."""
    root = tmp_path_factory.mktemp("report")
    data = write_data(root / "data")
    return root, {name: write_run(root / name, data, root / "cache", name) for name in ("galm", "random", "reading")}


@pytest.fixture
def copy(runs, tmp_path):
    """A copy of the galm run that a test may damage."""
    shutil.copytree(runs[0] / "galm", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def read_copy(runs, tmp_path):
    """The same of the run that reads a trunk."""
    shutil.copytree(runs[0] / "reading", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def galm_html(runs):
    return render(page_of(read_run(str(runs[0] / "galm"))))


@pytest.fixture(scope="module")
def reading_html(runs):
    return render(page_of(read_run(str(runs[0] / "reading"))))


def text_of(page: str) -> str:
    """What a reader sees."""
    body = re.sub(r"<(script|style)[^>]*>.*?</\1>", " ", page[page.index("<body>") :], flags=re.S)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)))


def drawn(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.S)[1])


def test_a_run_at_work_is_told_from_one_that_stopped(copy):
    (copy / "result.json").unlink()
    with pytest.raises(UserError, match="which has no result.json yet; finish it by"):
        read_run(str(copy))
    folder = RunFolder(str(copy))  # as a process has it that writes
    with pytest.raises(UserError, match="which is still at work; wait for its result.json"):
        read_run(str(copy))
    del folder
    with pytest.raises(UserError, match="finish it by"):
        read_run(str(copy))


def test_headline_figures_are_those_of_result_json(runs, galm_html):
    result, text = runs[1]["galm"], text_of(galm_html)
    assert f'<b id="test-mauc">{result["test_mauc"]:.3f}</b>' in galm_html
    assert '<b id="val-mauc">0.812</b>' in galm_html
    assert (
        '<b id="balanced-accuracy">0.625</b>' in galm_html
        and "3 attributes tested of 4 " in text
        and "2.5 min whole run" in text
    )
    for name, value in (("skill", "0.88"), ("specialisation", "−0.062"), ("regret", "0.031"), ("entropy", "1.50")):
        assert f"{name} {value}" in text
    assert "even choice among 4 of 2304" in text  # e^1.5 = 4.48
    assert "warm-up of the shared weights 1.5 min" in text and "loading 12 s" in text and "test and export 18 s" in text
    size = network_size(map(Architecture.from_number, NUMBERS), 4, 0, trunk_size(32))
    assert f"{size.multiply_adds / 1e6:.2f} M multiply-adds an image, {size.parameters / 1e6:.2f} M parameters" in text
    assert "above every image that does not have it, 0.5 is chance." in text and "Do not have it, scored" in text
    assert "Network: c4 and c5 are the kernels of Conv-4 and Conv-5, digits after + the earlier convolutions" in text
    assert "18,432 rewards" in text and "galm_tf 0.1.0" in text and "0123456789ab." in text


def test_where_other_classes_would_put_the_mean_stands_beside_it(runs, galm_html):
    assert "like those that were tested" not in text_of(galm_html)  # of an earlier version, or too few classes
    run = read_run(str(runs[0] / "galm"))
    result = {**run.result, "test_mauc_interval": {"low": 0.61, "high": 0.8204, "over": "classes", "count": 7}}
    text = text_of(render(page_of(dataclasses.replace(run, result=result))))
    assert (
        "Over all classes like those that were tested the mean lies between 0.610 and 0.820 (95 %, by the jackknife over these 7)."
        in text
    )
    few = {**result, "test_mauc_interval": {"low": None, "high": None, "over": "classes", "count": 2}}
    text = text_of(render(page_of(dataclasses.replace(run, result=few))))
    assert "The test tells of 2 classes: too few to say what others would give ." in text and "jackknife" not in text


def test_table_has_every_attribute_with_its_figures(runs, galm_html):
    rows = re.findall(r"<tr data-network=.*?</tr>", galm_html, re.S)
    wanted = {n: r for n, r in runs[1]["galm"]["per_attribute"].items() if "excluded" not in r}
    assert len(rows) == len(wanted) == 4
    for row, (name, figures_of) in zip(rows, wanted.items()):
        text = html.unescape(re.sub(r"<[^>]+>", "|", row))
        assert name.split("/", 1)[1] in text
        more = json.loads(html.unescape(html.unescape(re.search('data-more="(.*?)"', row)[1])))
        assert (
            more["test images with / without it"] == f"{figures_of['test_positives']} / {figures_of['test_negatives']}"
        )
        with_it, without, share = figures_of["test_positives"], figures_of["test_negatives"], figures_of["prevalence"]
        plain = log_loss([1] * with_it + [0] * without, [share] * (with_it + without), labels=[0, 1])
        assert more["log loss"] == f"0.375, of its frequency alone {plain:.3f}"
        # the template's order
        assert list(more)[:2] == ["validation AUC", "test images with / without it"] and list(more)[-1] == "not tested"
        assert Architecture.from_json(figures_of["architecture"]).canonical().describe() in text
        for key in ("test_auc", "val_auc"):
            assert ("–" if figures_of[key] is None else f"{figures_of[key]:.3f}") in text
    assert "no test image has it" in html.unescape(html.unescape(rows[3])) and "1 attribute could not" in text_of(
        galm_html
    )


def test_names_are_escaped_in_html_and_in_plots(galm_html):
    assert "<img src=x" not in galm_html and "<class" not in galm_html and "<b>note" not in galm_html
    assert NASTY in text_of(galm_html) and "<b>note</b>" in text_of(galm_html)
    labels = json.dumps(drawn(galm_html)["correlation"])
    assert "&lt;img" in labels and "&#36;x&#36;" in labels


def test_page_is_self_contained(galm_html):
    head = re.sub(r"<script>.*?</script>", "", galm_html, flags=re.S)
    assert not re.findall(r'(?:src|href)="(?!data:|#)', head) and "default-src 'none'" in head
    assert "data:image/webp;base64," in galm_html and len(galm_html.encode()) < 3e6
    packed = re.search(r'<script type="application/gzip" id="plotly">(.*?)</script>', galm_html)[1]
    assert "* plotly.js v" in gzip.decompress(base64.b64decode(packed)).decode()[:200]
    assert galm_html.count("<html") == 1 and "prefers-color-scheme: dark" in galm_html


def test_examples_are_the_scored_test_images(runs):
    run = read_run(str(runs[0] / "galm"))
    found = page_of(run).content["pictures"]
    examples = found["examples"]["mine/red"]
    scores = [p.score for p in examples.hits]
    assert scores == sorted(scores, reverse=True) and examples.num_known == run.result["num_images"]["test"]
    assert min(scores) > 0.5 and all(p.decision for p in examples.hits)  # Reddish knows red
    assert {p.caption for p in examples.hits + examples.false_alarms} <= {"<class 6>", "<class 7>"}
    spoken = {p.spoken.split(": ")[1] for p in examples.hits + examples.false_alarms + examples.misses}
    assert "the network says yes, a hit" in spoken and spoken & {
        "the network says no, rightly",
        "the network says yes, a false alarm",
    }
    assert len(found["sheet"]["training"]) == 18 and len(found["sheet"]["test"]) == 12


def test_examples_are_what_a_network_is_surest_of_and_what_it_misses(runs):
    run = read_run(str(runs[0] / "galm"))
    data, surely = load_data(run), np.linspace(0.95, 0.4, 12, dtype=np.float32)
    labels, decides = data.labels.copy(), np.array([True, False, True, True])
    labels[data.split.test, :2] = np.array([1, 0, 1, 1, 1, 0, 1, 1, np.nan, 1, 0, 1])[:, None]
    scores = run_data.Scores(np.tile(surely[:, None], 4), np.tile(surely[:, None] > 0.5, 4), decides)
    source = PictureSource(run, dataclasses.replace(data, labels=labels))
    red, undecided = source.scored_examples(["mine/red", f"mine/{NASTY}"], scores).values()
    assert (red.num_having, red.num_known) == (8, 11)
    kinds = (red.hits, [0, 2, 3, 4, 6, 7]), (red.false_alarms, [1, 5, 10]), (red.misses, [11, 9])
    for pictures, places in kinds:
        assert [picture.score for picture in pictures] == [float(surely[place]) for place in places]
    ends = [pictures[0].spoken.split("the network says ")[1] for pictures, _ in kinds]
    assert ends == ["yes, a hit", "yes, a false alarm", "no, a miss"] and red.false_alarms[2].spoken.endswith(
        "no, rightly"
    )
    assert {p.decision for p in undecided.hits + undecided.misses} == {None}


def test_networks_stand_by_how_many_use_them_and_ridge_beside_each_attribute(runs):
    run = read_run(str(runs[0] / "galm"))
    content = page_of(run).content
    assert [len(network["names"]) for network in content["networks"]] == [2, 1, 1]
    aucs = rivals.ridge(run, load_data(run)).aucs
    assert [row["ridge"] for row in content["attributes"]] == [aucs.get(name) for name in run.rows]


def test_choice_table_is_table_4_of_result_json(runs):
    run = read_run(str(runs[0] / "galm"))
    table = single.choice_table(run)
    assert table["domains"] == [("mine", 3)]
    shares = [[c["shares"][0] for c in row["choices"]] for row in table["rows"]]
    assert shares == [list(v.values()) for v in run.result["choice_frequencies"].values()]


def test_choice_table_has_a_column_per_domain(copy):
    result = json.loads((copy / "result.json").read_text())
    rows = list(result["per_attribute"].values())[:3]
    result.update(domains=["a", "b"], per_attribute=dict(zip(("a/x", "b/x", "b/y"), rows)))
    write_json(copy / "result.json", result)
    table = single.choice_table(read_run(str(copy)))
    assert table["domains"] == [("a", 1), ("b", 2)]
    kernel = table["rows"][2]["choices"]
    assert [c["shares"][1] for c in kernel] == [
        np.mean([Architecture.from_number(n).conv4_kernel == k for n in NUMBERS[1:3]]) for k in (3, 5)
    ]


def test_relations_are_those_of_the_scores(runs, galm_html):
    figure, text = drawn(galm_html)["correlation"], text_of(galm_html)
    run = read_run(str(runs[0] / "galm"))
    data = load_data(run)
    wanted = pd.DataFrame(
        Reddish()(tf.constant(data.images[data.split.test] / np.float32(127.5) - 1)).numpy(), columns=list(run.rows)
    ).corr("spearman")
    names, values = figure["layout"]["names"], figure["data"][0]["hundredths"]
    i, j = sorted((names.index("red"), names.index("dark")))
    assert values[j][i] == pytest.approx(100 * wanted.loc["mine/red", "mine/dark"], abs=0.51)
    assert "Rank correlation of the networks' scores on the 12 test images, similar attributes" in text
    assert "By the embeddings" not in text  # four attributes have six pairs: too few to say how labels agree


def test_every_method_has_relations_by_its_scores(runs):
    page = render(page_of(read_run(str(runs[0] / "random"))))
    assert {"correlation", "map", "tree"} < set(drawn(page)) and "Rank correlation of the networks' scores" in text_of(
        page
    )


def test_without_data_correlation_is_the_cosine_in_clustered_order(runs):
    page = render(page_of(read_run(str(runs[0] / "galm")), with_pictures=False))
    assert (
        "would say more, but they are not there. Pictures, ridge regression and relations by scores are left out: the report was made"
        in text_of(page)
    )
    figure = drawn(page)["correlation"]
    names, values = figure["layout"]["names"], figure["data"][0]["hundredths"]
    assert max(len(html.unescape(tick)) for tick in figure["layout"]["ticks"]) <= 24 < len(NASTY)
    red, nasty = names.index("red"), next(i for i, n in enumerate(names) if "onerror" in n)
    assert [len(row) for row in values] == [1, 2, 3, 4]  # the other half is the same
    by_names = {frozenset((a, b)): values[i][j] for i, a in enumerate(names) for j, b in enumerate(names[: i + 1])}
    assert by_names[frozenset((names[red], names[nasty]))] == 60 and by_names[frozenset(("red", "unseen"))] == -100
    assert abs(red - nasty) == 1 and by_names[frozenset(("red",))] == 100
    tree = drawn(page)["tree"]
    assert tree["layout"]["yaxis"]["ticktext"] == figure["layout"]["ticks"]  # the same order
    assert len([x for x in tree["data"][0]["x"] if x is None]) == 3  # joins of four leaves
    assert max(x for x in tree["data"][0]["x"] if x) > 1  # `unseen` points away from all
    assert all(trace["cliponaxis"] is False for trace in tree["data"] if trace["mode"] == "markers")


def test_curves_are_the_records(galm_html):
    curves = drawn(galm_html)
    assert curves["curve-loss"]["data"][0]["x"] == [24, 49] and curves["curve-loss"]["data"][0]["y"] == pytest.approx(
        [0.676, 0.651]
    )
    assert curves["curve-entropy"]["data"][1]["name"] == "uniform, ln 2304" and "curve-validation" not in curves


def test_losses_are_drawn_phase_by_phase(runs):
    phases = {
        "warmup": "supernet/loss",
        "supernet": "supernet/loss",
        "adapt": "derived/loss",
        "finetune": "derived/loss",
    }
    records = [{"phase": phase, "step": i, tag: 0.7 - 0.1 * i} for i, (phase, tag) in enumerate(phases.items())]
    run = dataclasses.replace(read_run(str(runs[0] / "galm")), records=tuple(records))
    drawn_lines = figures.learning_curves(run)["loss"]["data"]
    assert [(line["x"], line["y"]) for line in drawn_lines] == [((i,), (0.7 - 0.1 * i,)) for i in range(4)]


def test_a_policy_stands_beside_one_that_knows_nothing(galm_html):
    policy, uniform = drawn(galm_html)["curve-entropy"]["data"]
    assert uniform["y"] == [pytest.approx(np.log(2304))] * 2 and max(policy["y"]) < uniform["y"][0]


def test_the_baseline_does_not_cover_the_reward(runs):
    records = [{"phase": "controller", "step": i, "controller/reward": 0.7, "controller/baseline": 0.7} for i in (1, 2)]
    run = dataclasses.replace(read_run(str(runs[0] / "galm")), records=tuple(records))
    reward, baseline = figures.learning_curves(run)["reward"]["data"]
    assert baseline["line"]["dash"] == "dot" and not reward["line"]


@pytest.mark.parametrize(
    "values, ends",
    [((0.76, 0.76), (0.74, 0.78)), ((0.76, 0.764), (0.742, 0.782)), ((1.0, 1.0), (0.98, 1.0)), ((0.7, 0.72), None)],
)
def test_a_flat_curve_has_an_axis_of_its_own(runs, values, ends):
    records = [{"phase": "adapt", "step": i, "derived/validation_mauc": value} for i, value in enumerate(values)]
    run = dataclasses.replace(read_run(str(runs[0] / "galm")), records=tuple(records))
    layout = figures.learning_curves(run)["validation"]["layout"]
    assert layout.get("yaxis") == (ends and {"range": pytest.approx(ends)})


@pytest.mark.parametrize("apart, ends", [(1e-6, (0.72, 0.76)), (0.02, None)])
def test_rewards_that_hardly_differ_look_so(runs, apart, ends):
    tags = ("controller/reward", "validation/table_best")
    records = [
        {"phase": "controller", "step": i, tag: 0.74 + i * apart} for i, tag in enumerate(t for t in tags for _ in "ab")
    ]
    run = dataclasses.replace(read_run(str(runs[0] / "galm")), records=tuple(records))
    layout = figures.learning_curves(run)["reward"]["layout"]
    assert layout.get("yaxis") == (ends and {"range": pytest.approx(ends, abs=1e-5)})


def test_whose_validation_figures_these_are_is_told(runs):
    run = read_run(str(runs[0] / "galm"))
    assert single._validated(run) == "before fine-tuning"
    assert single._validated(dataclasses.replace(run, config=dataclasses.replace(run.config, finetune_steps=0))) == ""


def test_diagram_shows_what_the_architecture_has():
    full = architecture_svg(Architecture(True, True, 5, True, True, True, 3, 64, 256, "fc2"))
    plain = architecture_svg(Architecture(False, False, 3, False, False, False, 3, 128, 64, "fc1"))
    assert full.count('class="skip"') == 10 and plain.count('class="skip"') == 0  # a line and a head each
    assert "Fc2" in full and ">256<" in full and "Fc2" not in plain
    assert full.count("tower k5") == 1 and plain.count("tower k3") == 2


def test_a_pretrained_trunk_is_told_and_drawn_as_one(copy):
    about = {
        "model": "b0 <i>.keras",
        "layers": ["low", "middle", "top"],
        "pixels": "raw",
        "multiply_adds": 1000,
        "parameters": 10,
    }
    edit(copy / "result.json", trunk=about)
    page = render(page_of(read_run(str(copy)), with_pictures=False))
    assert "maps of the layers low, middle, top of the pretrained model b0 <i>.keras, which stays as it is" in " ".join(
        text_of(page).split()
    )
    assert ">7×7<" not in page and ">3×3<" in page  # kernels of the towers alone
    edit(copy / "result.json", trunk={**about, "steps": 100, "loss": [0.2, 0.1]})
    page = render(page_of(read_run(str(copy)), with_pictures=False))
    assert (
        "of the pretrained model b0 <i>.keras, whose upper layers were taught attributes in 100 steps, projected"
        in " ".join(text_of(page).split())
    )


def test_a_reading_of_the_trunk_is_told_without_a_search(reading_html):
    text = text_of(reading_html)
    assert (
        "Nothing was searched: every network is a linear reading of the trunk's 2,192 channels, by ridge regression, its penalty (10,000) chosen on "
        "validation images. The trunk, shared by all, is the pretrained model b0 <i>.keras, which stays as it is; of its layers low, middle, top every channel's mean is read."
    ) in text
    places = re.findall(r'<section id="(\w+)"', reading_html)
    assert places == ["data", "time", "attributes", "examples", "networks", "relations", "repeat"]
    assert set(re.findall(r'href="#(\w+)"', reading_html)) <= set(places)
    told = text_of(reading_html[: reading_html.index('<section id="repeat">')])
    for untrue in (
        "searched on",
        "4 searched",
        "rewards of",
        "rewarded",
        "architecture",
        "Table 4",
        "policy",
        "fine-tuning",
        "Skill",
        "its network and",
        "tower",
        "curves",
    ):
        assert untrue not in told, untrue
    assert '<svg class="net"' not in reading_html and not [
        name for name in drawn(reading_html) if name.startswith("curve")
    ]
    assert (
        "validation mAUC, of readings fitted on training images alone" in text and "3 attributes tested of 4 " in text
    )
    assert (
        "fitting the linear readings, choosing their penalty 45 s" in text
        and "the pretrained trunk and its maps of all images 1.0 min" in text
    )


def test_a_reading_keeps_what_is_told_of_every_network(runs, reading_html):
    run = read_run(str(runs[0] / "reading"))
    assert (
        run.architectures == {} and run.size.parameters == 3528772 and run.tower_size("mine/red").multiply_adds == 2192
    )
    rows = re.findall(r"<tr data-network=.*?</tr>", reading_html, re.S)
    # told once, below
    assert len(rows) == 4 and all(
        'data-network=""' in row and "linear reading" not in re.sub("data-more=.*?>", "", row) for row in rows
    )
    assert (
        json.loads(html.unescape(html.unescape(re.search('data-more="(.*?)"', rows[0])[1])))["network"]
        == "linear reading of the trunk"
    )
    content = page_of(run, others=rivals.neighbours(run)).content
    assert (
        content["pictures"]["examples"]["mine/red"].hits
        and content["relations"]["basis"] == "scores"
        and content["has_scatter"]
    )
    assert {"correlation", "map", "tree", "scatter"} <= set(drawn(reading_html))
    assert (
        rivals.RIDGE in {row["name"] for row in content["rivals"]}
        and "Settings that are not at their default" in reading_html
    )


def test_a_reading_that_nothing_judged_or_that_validation_did_not_teach(read_copy):
    edit(read_copy / "config.json", train_positives=2)
    text = text_of(render(page_of(read_run(str(read_copy)), with_pictures=False)))
    assert "validation mAUC " in text and "on training images alone" not in text
    for name in ("mine/red", f"mine/{NASTY}", "mine/dark"):
        edit_row(read_copy, name, val_auc=None, judged_by="none")
    text = text_of(render(page_of(read_run(str(read_copy)), with_pictures=False)))
    assert (
        "Nothing was judged: the penalty of the linear readings is arbitrary." in text
        and "nothing could tell a good penalty from a poor one" in text
    )
    assert "its penalty (10,000) arbitrary, for nothing was judged." in text and "Arbitrary networks" not in text


def test_a_network_without_an_architecture_among_others(copy):
    edit_row(
        copy, "mine/red", architecture=None, description="linear reading of the trunk", multiply_adds=7, parameters=8
    )
    edit(copy / "result.json", network={"multiply_adds": 70, "parameters": 80})
    run = read_run(str(copy))
    content = page_of(run, with_pictures=False).content
    assert [row["network"] for row in content["attributes"]] == [None, 0, 1, 0] and content["frequencies"][
        "domains"
    ] == [("mine", 2)]
    assert set(analysis.policy_confidence(run)["attribute"]) == {f"mine/{NASTY}", "mine/dark"}


def test_sections_without_material_are_left_out_in_a_sentence(runs):
    page = render(page_of(read_run(str(runs[0] / "random")), with_pictures=False))
    text = text_of(page)
    assert (
        "has no attribute embeddings (method random; galm learns them) and its networks' scores were not compared (Pictures"
        in text
    )
    assert (
        "The heat map, the correlation of domains (Fig. 5), the most correlated attributes (Table 5) and the clusters"
        in text
    )
    assert "Skill, specialisation, regret and entropy are left out" in text
    assert "confidence is left out: this run has no policy (method random)" in text
    assert not {"correlation", "map", "tree"} & set(drawn(page))


@pytest.mark.parametrize(
    "damage, sentence",
    [
        (lambda run: shutil.rmtree(run / "saved_model"), "saved_model cannot be loaded"),
        (lambda run: (run / "split.json").write_text("{"), "split.json cannot be read"),
        (lambda run: (run / "metrics.jsonl").unlink(), "no metrics.jsonl"),
        (lambda run: (run / "flags.txt").unlink(), "no flags.txt"),
        (lambda run: (run / "policy.npz").unlink(), "confidence is left out: this run is from before"),
        (lambda run: (run / "policy.npz").write_bytes(b"PK"), "confidence is left out: this run is from before"),
        (
            lambda run: edit_row(run, "mine/red", prevalence=0.9),
            "ridge regression are left out: the labels of mine/red have changed",
        ),
        (
            lambda run: (
                shutil.rmtree(run / "saved_model"),
                (run / "tensorboard" / "attributes.tsv").write_text("1\t2\nx\ty\n"),
            ),
            "no attribute embeddings",
        ),
        (lambda run: edit(run / "config.json", data_dir=["/nowhere/at all"]), "/nowhere/at all is not on this machine"),
        (
            lambda run: edit(run / "result.json", search={"entropy": 1.0}),
            "Skill, specialisation and regret are left out: this run has no table",
        ),
        (
            lambda run: edit(run / "result.json", search={"entropy": 1.0, "regret": 0.1}),
            "Skill and specialisation are left out: this run has too few attributes that both halves of validation can judge.",
        ),
        (
            lambda run: (
                edit(run / "config.json", measure_skill=False),
                edit(run / "result.json", search={"entropy": 1.0, "regret": 0.1, "specialisation": 0.1}),
            ),
            "Skill is left out: this run did not measure it (--nomeasure_skill).",
        ),
        (  # as of an addition of one attribute
            lambda run: (
                edit(run / "config.json", measure_skill=False),
                edit(run / "result.json", search={"entropy": 1.0, "regret": 0.1}),
            ),
            "Skill is left out: this run did not measure it (--nomeasure_skill). Specialisation is left out: this run has too few attributes",
        ),
        (lambda run: edit_row(run, "mine/red", test_auc=0.25), "images, labels or model have changed since the run"),
    ],
)
def test_missing_pieces_leave_their_section_out(copy, damage, sentence):
    damage(copy)
    assert sentence in text_of(render(page_of(read_run(str(copy)))))


def test_where_data_have_moved_is_noted_in_a_finished_run_and_the_report_tells_how(runs, copy, caplog):
    data, config = str(runs[0] / "data"), read_config(str(copy))
    edit(copy / "config.json", data_dir=["/nowhere/at all"])
    told = text_of(render(page_of(read_run(str(copy)))))
    assert (
        f"where it has moved, note its new place by python -m galm_tf.main --resume --run_dir={copy} --data_dir=NEW."
        in told
    )

    def resume(place):
        moved = dataclasses.replace(config, data_dir=(place,), resume=True)
        pipeline.run(moved, RunFolder.resume(str(copy), moved))

    write_json(copy / "data.json", data_digests.data_digests(load_domains(config)))
    other = write_data(copy.parent / "other")
    first = next((copy.parent / "other" / "images").rglob("*.png"))
    first.write_bytes(first.read_bytes() + b"more")
    for wrong, reason in (
        (f"{data}-2", "which is none"),
        (str(copy), "Expected a known layout"),
        (str(other), "which lay in /nowhere/at all. Received: data_dir=.* with other sizes of image files; name"),
    ):
        with pytest.raises(UserError, match=reason):
            resume(wrong)
        assert read_config(str(copy)).data_dir == ("/nowhere/at all",)
    resume(data)
    assert read_config(str(copy)).data_dir == (data,)
    assert page_of(read_run(str(copy))).content["pictures"]["missing"] == ""
    edit(copy / "config.json", data_dir=["data", data], domain=["mine", "other"])
    elsewhere = f"or not in {os.getcwd()}: make the report where the run was made; where it has moved"
    told = gather(read_run(str(copy))).missing
    assert elsewhere in told and told.endswith(f" --data_dir=NEW,{data}.")


def test_stands_against_ridge_chance_and_other_runs(runs, galm_html):
    run, result = read_run(str(runs[0] / "galm")), runs[1]["galm"]
    others = rivals.neighbours(run)
    # one on a trunk of its own differs in more than the method
    assert [r.name for r in others] == ["random (method random, seed 0)"]
    table = {row["name"]: row for row in page_of(run, with_pictures=False, others=others).content["rivals"]}
    chance = table["chance, or always the majority"]
    assert (
        notices.stronger(list(table.values())) == ""
        and chance["mean"] == pytest.approx(result["test_mauc"] - 0.5)
        and chance["count"] == 3
    )
    assert table["random (method random, seed 0)"]["mean"] == 0 and rivals.RIDGE not in table
    ridge = re.search(rf"<tr><td>{rivals.RIDGE}</td>.*?<b>([0-9.]+)</b>.*?<td class=\"\w*\">([^<]+)</td>", galm_html)
    assert float(ridge[2].replace("−", "-")) == pytest.approx(result["test_mauc"] - float(ridge[1]), abs=0.0011)
    rows = re.findall(r"<tr data-network=.*?</tr>", galm_html, re.S)
    # test, validation and ridge of `unseen`
    assert [re.sub(r"<[^>]+>", "|", r).split("|")[1:].count("–") for r in rows] == [0, 0, 0, 3]


def test_two_ways_are_compared_where_both_were_tested(runs):
    ours, theirs = {"a": 0.9, "b": 0.5, "c": 0.7, "d": 1.0}, {"a": 0.6, "b": 0.6, "c": 0.7, "e": 0.0}
    found = rivals.paired(ours, theirs)
    assert (found["count"], found["better"], found["worse"]) == (3, 1, 1)
    almost = rivals.paired({"a": 0.5001, "b": 0.7}, {"a": 0.5, "b": 0.7001})  # shown as equal
    assert (almost["count"], almost["better"], almost["worse"]) == (2, 0, 0)
    wanted = np.array([0.3, -0.1, 0.0])
    assert [found[k] for k in ("mean", "deviation", "theirs")] == pytest.approx(
        [wanted.mean(), wanted.std(ddof=1), 1.9 / 3]
    )
    run = read_run(str(runs[0] / "galm"))
    weak, strong = (rivals.Rival(str(auc), dict.fromkeys(run.rows, auc)) for auc in (0.4, 0.9))
    assert [row["name"] for row in rivals.table(run, [weak, None, strong, rivals.chance(run)])] == [
        "0.9",
        "chance, or always the majority",
        "0.4",
    ]


def test_a_run_beside_it_that_was_tested_on_others_is_no_rival(runs, copy, tmp_path):
    shutil.copytree(runs[0] / "random", tmp_path / "random")
    run = read_run(str(copy))
    assert len(rivals.neighbours(run)) == 1
    # what one of them does not read is no difference
    edit(tmp_path / "random" / "config.json", size_penalty=0.5, match="cosine", evaluations=3)
    assert len(rivals.neighbours(run)) == 1
    edit(tmp_path / "random" / "config.json", learning_rate=0.5)
    assert rivals.neighbours(run) == []
    shutil.copy(runs[0] / "random" / "config.json", tmp_path / "random" / "config.json")
    tested = json.loads((copy / "data.json").read_text())["tested"]
    edit(tmp_path / "random" / "data.json", tested={**tested, "images": "others"})
    assert rivals.neighbours(run) == []
    (copy / "data.json").unlink()  # as of an earlier version
    assert len(rivals.neighbours(run)) == 1
    split = json.loads((copy / "split.json").read_text())
    edit(tmp_path / "random" / "split.json", test=split["test"][1:])
    assert rivals.neighbours(run) == []


def test_the_best_and_the_worst_of_many_are_shown(runs):
    run = read_run(str(runs[0] / "galm"))
    row = {**run.rows["mine/red"], "test_positives": 30, "test_negatives": 30}
    rows = {f"mine/{i}": {**row, "test_auc": 0.5 + 0.01 * i} for i in (7, 3, 11, 0, 9, 1, 8, 2, 10, 5, 4, 6)}
    found = single._extremes(dataclasses.replace(run, result={**run.result, "per_attribute": rows}))
    assert found == {
        "Best": ["mine/11", "mine/10", "mine/9", "mine/8"],
        "Worst": ["mine/0", "mine/1", "mine/2", "mine/3"],
    }


def test_ridge_is_fitted_on_the_runs_own_images(runs):
    """Red is in the mean colour, which ridge regression reads; dark as well."""
    run = read_run(str(runs[0] / "galm"))
    aucs = rivals.ridge(run, load_data(run)).aucs
    assert aucs["mine/red"] == 1 and "mine/unseen" not in aucs and len(aucs) == 3


def test_ridge_weighs_images_as_the_run_did(runs):
    """Classes of other sizes: each counts alike by default, each image where the run says so."""
    run = read_run(str(runs[0] / "galm"))
    data = load_data(run)
    kept = np.sort(np.concatenate([data.split.train[:5], data.split.train[-9:]]))
    data = dataclasses.replace(data, split=dataclasses.replace(data.split, train=kept))
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            rivals.linear_pixels.ridge,
            "fit",
            lambda x, y, penalties, weights: (
                asked.append(weights) or [lambda f: np.zeros((len(f), y.shape[1]))] * len(penalties)
            ),
        )
        rivals.ridge(run, data)
        rivals.ridge(dataclasses.replace(run, config=dataclasses.replace(run.config, class_balance=0.0)), data)
    np.testing.assert_array_equal(asked[0], class_weights(kept, data.domain, run.config))
    assert np.ptp(asked[0]) > 0 and asked[2] is None


def test_ridge_chooses_by_the_judges_of_the_runs_attributes(runs, monkeypatch):
    """An extended run's split.json has those of its source's attributes alone."""
    run = read_run(str(runs[0] / "galm"))
    data, asked = load_data(run), []
    monkeypatch.setattr(rivals.linear_pixels, "fit_and_score", lambda *of: asked.append(of[3]) or of[1][of[3].test])
    rivals.ridge(run, dataclasses.replace(data, split=dataclasses.replace(data.split, judged_by=("none",))))
    assert asked[0].judged_by == tuple(row["judged_by"] for row in run.rows.values()) and len(run.rows) == 4
    np.testing.assert_array_equal(asked[0].validation, data.split.validation)


def test_comparators_must_have_been_tested_on_the_same_images(runs, copy):
    run = read_run(str(runs[0] / "galm"))
    assert len(rivals.other_runs(run, [str(copy)])) == 1
    (copy / "data.json").unlink()  # as of an earlier version
    (old,) = rivals.other_runs(run, [str(copy)])
    assert notices.doubts([old], {}) == [f"Whether {old.name} had the same test labels, the run folders do not tell."]
    split = json.loads((copy / "split.json").read_text())
    edit(copy / "split.json", test=[*split["test"][1:], split["train"][0]])  # as drawn by another seed
    with pytest.raises(UserError, match="Expected comparators that were tested on the images and labels of"):
        rivals.other_runs(run, [str(copy)])
    edit(copy / "split.json", test=split["test"])
    edit(copy / "config.json", sun_positive=0.9)  # other labels of the same images
    with pytest.raises(UserError, match="Expected comparators that were tested on the images and labels of"):
        rivals.other_runs(run, [str(copy)])
    edit(copy / "config.json", sun_positive=0.5)
    edit(copy / "config.json", split_seed=3)
    with pytest.raises(
        UserError, match="Expected comparators that were tested on the images and labels of .* side by side"
    ):
        rivals.other_runs(run, [str(copy)])


def test_the_command_repeats_a_run_of_an_earlier_version_too(copy, parse):
    """What was not there yet when its flagfile was written has other defaults today."""
    config, flags = read_config(str(copy)), copy / "flags.txt"

    def command():
        page = render(page_of(read_run(str(copy)), with_pictures=False))
        return html.unescape(re.search('<pre id="command">(.*?)</pre>', page)[1])

    plain = f"python -m galm_tf.main --flagfile={flags} --run_dir=NEW_FOLDER"
    assert command() == plain
    late = {f.name for f in dataclasses.fields(Config) if unstated(f.name) != Config().to_json()[f.name]}
    assert {"class_balance", "temperature_scaling", "soft_labels", "readout_share"} < late
    stored = json.loads((copy / "config.json").read_text())
    write_json(copy / "config.json", {name: value for name, value in stored.items() if name not in late})
    lines = [line for line in flags.read_text().splitlines() if re.sub("^--(no)?|=.*", "", line) not in late]
    flags.write_text("\n".join(lines) + "\n")
    told = command().split()
    assert told[:4] == plain.split()[:4] and told[-1] == "--run_dir=NEW_FOLDER"
    again = parse(*told[3:])
    assert dataclasses.replace(again, run_dir=config.run_dir) == read_config(str(copy)) != parse(*plain.split()[3:])


def test_a_report_is_not_told_to_leave_images_out(copy):
    run = read_run(str(copy))
    data = load_data(run)
    picture = pathlib.Path(data.domain.paths[0])
    aside = picture.rename(f"{picture}.aside")
    try:
        for damage, repair in ((lambda: None, "or correct the names[.]$"), (picture.touch, "replace it[.]$")):
            damage()
            with pytest.raises(Unavailable, match=repair):
                load_data(run)
    finally:
        aside.replace(picture)


def test_data_that_changed_since_the_run_are_told(runs, copy, monkeypatch):
    run, other = read_run(str(copy)), read_run(str(runs[0] / "galm"))
    data = load_data(run)
    stored = {
        **data_digests.data_digests(data.domain),
        **data_digests.label_digests(list(run.rows), data.targets),
        "split": "its",
    }
    write_json(copy / "data.json", stored)
    assert load_data(run).labels.shape == data.labels.shape
    for name in ("labels", "boxes", "sizes of image files"):
        write_json(copy / "data.json", {**stored, name: "another"})
        with pytest.raises(Unavailable, match=f"for the data have changed since the run: other {name}[.]"):
            load_data(run)
    write_json(copy / "data.json", {**stored, "names of attributes": "those that were added", "labels": "theirs"})
    load_data(run)
    for changes, same in (
        ({}, True),
        ({"split": "another"}, True),
        ({"source runs": ["another"]}, True),
        ({"labels": "x"}, False),
        ({"boxes": "x", "names of attributes": "y"}, False),
        ({"labels": "x", "names of attributes": "y"}, True),
    ):
        monkeypatch.setattr(data_digests, "read_data", {run.path: stored, other.path: {**stored, **changes}}.get)
        found = rivals.same_test(run, other)
        assert found.same is same, changes
        # labels of other attributes are of no use
        assert found.untold == (() if same and "names of attributes" not in changes else tuple(rivals.tested(run)))


def test_labels_and_images_of_the_test_alone_say_whether_figures_compare(runs, copy):
    """However records are numbered, whatever trains beside them, and however the tables are called."""
    first, data = read_run(str(runs[0] / "galm")), load_data(read_run(str(runs[0] / "galm")))
    order = np.random.default_rng(0).permutation(len(data.domain.paths))
    domain, test = data.domain.select_images(order), np.flatnonzero(np.isin(order, data.split.test))
    labels = domain.labels.copy()
    labels[np.setdiff1d(np.arange(len(order)), test)[:3]] = 1.0
    images = {"images": 3, "names of images": "others", "labels": "others", "names of attributes": "others"}

    def retested(labels):
        told = data_digests.test_digests(dataclasses.replace(domain, labels=labels), test)
        write_json(copy / "data.json", {**images, "tested": told})
        return read_run(str(copy))

    edit(copy / "config.json", label_files=["other.csv"], split_seed=7)
    second = retested(labels)
    assert (
        rivals.same_test(first, second) == rivals.SameTest(True)
        and compare_page([first, second]).content["warnings"] == []
    )
    assert rivals.other_runs(first, [str(copy)])[0].aucs == rivals.tested(second)
    labels[test[0], list(domain.attributes).index("mine/red")] = np.nan
    second = retested(labels)
    page = compare_page([first, second])
    assert page.content["warnings"] == [
        "red was tested on other labels in 2: run than in 1: galm, and left out of the differences: of the test means, only that on attributes "
        "that all tested alike compares."
    ]
    assert page.content["paired"][0][1]["count"] == 2
    assert [row["name"] for row in page.content["rows"] if row["differences"] == [None]] == ["red"]
    assert "test mAUC on attributes that all tested alike (2)" in dict(page.content["headline"])
    others = rivals.other_runs(first, [str(copy)])
    told = page_of(first, with_pictures=False, others=others).content
    assert told["doubts"] == ["red was tested on other labels in run (method galm, seed 0), and left out there."]
    assert [row["count"] for row in told["rivals"] if row["name"].startswith("run")] == [2]
    assert f'<p class="notice">{told["doubts"][0]}</p>' in render(page_of(first, with_pictures=False, others=others))
    retested(np.where(np.isnan(labels), labels, 1 - labels))
    with pytest.raises(UserError, match="tested on the images and labels of .*, with other data"):
        rivals.other_runs(first, [str(copy)])
    told = json.loads((copy / "data.json").read_text())["tested"]
    before = json.loads((runs[0] / "galm" / "data.json").read_text())["tested"]
    without = {name: one for name, one in before["labels"].items() if name != "mine/red"}
    edit(copy / "data.json", tested={**told, "labels": without})  # as of an addition to a run of an earlier version
    assert rivals.same_test(first, second) == rivals.SameTest(True, untold=("mine/red",))
    test = test[1:]
    assert rivals.same_test(first, retested(labels)) == rivals.SameTest(False)


def test_test_digests_tell_equal_images_and_attributes_apart(runs):
    """Copies of an image have no order of their own."""
    data = load_data(read_run(str(runs[0] / "galm")))
    contents, test = data.domain.contents.copy(), data.split.test
    contents[test[1]] = contents[test[0]]
    domain = dataclasses.replace(data.domain, contents=contents)
    labels = domain.labels.copy()
    labels[test[:2]] = labels[test[1::-1]]
    told, swapped = (
        data_digests.test_digests(dataclasses.replace(domain, labels=of), test) for of in (domain.labels, labels)
    )
    assert told == swapped and set(told["labels"]) == set(domain.attributes) and len(set(told["labels"].values())) > 1
    assert told["images"] != data_digests.test_digests(data.domain, test)["images"]


def test_few_labels_are_those_that_the_run_knew(runs, tmp_path, monkeypatch):
    write_run(tmp_path / "few", runs[0] / "data", runs[0] / "cache", seed=3, positives=2)
    run = read_run(str(tmp_path / "few"))
    data = load_data(run)  # the labels have not changed since the run
    assert (np.nansum(data.labels[data.split.train], axis=0) <= 2).all() and np.isfinite(
        data.labels[data.split.validation]
    ).all()
    fit, fitted = rivals.linear_pixels.fit_and_score, []
    monkeypatch.setattr(rivals.linear_pixels, "fit_and_score", lambda *of: fitted.append(of[5]) or fit(*of))
    rivals.ridge(run, data)
    rivals.ridge(read_run(str(runs[0] / "galm")), data)
    assert fitted == [False, True]


MATCH = {"source": "A", "attribute": "a/<b>hot</b>", "sign": -1, "auc": 0.125, "strength": 0.2}


def transferred(copy, *matches, **changes) -> tuple[list[str], str]:
    """The rows and the text of the page of a run with these matches."""
    names = ("mine/red", f"mine/{NASTY}", "mine/dark", "mine/unseen")
    transfer = {
        "sources": ["runs/A/"],
        "parts": ["trunk"],
        "match": "predictor",
        "matches": dict(zip(names, matches)),
        **changes,
    }
    edit(copy / "result.json", transfer=transfer)
    page = render(page_of(read_run(str(copy)), with_pictures=False))
    assert "<b>hot" not in page
    rows = [text_of("<body>" + row) for row in re.findall(r"<tr data-network=.*?</tr>", page, re.S)]
    return rows, text_of(page)


def test_transfer_names_every_start(copy):
    rows, text = transferred(copy, MATCH, None, {**MATCH, "sign": 1, "auc": None}, None)
    assert (
        "a/<b>hot</b> reversed (0.88, strength 0.20)" in rows[0]
        and "nothing" in rows[1]
        and "a/<b>hot</b> c4" in rows[2]
    )
    assert (
        "It started from A (trunk): 2 of 4 attributes found a source attribute whose predictor separates their labels"
        in text
    )
    assert "the source attribute that it matched, though only the trunk was handed over, and how well" in text
    assert "by which it was chosen as the best of all source attributes, which flatters it, and its strength" in text
    rows, text = transferred(copy, *[{name: MATCH[name] for name in MATCH if name != "strength"}] * 4)
    assert "reversed (0.88) c4" in rows[0] and "which flatters it; " in text and "strength" not in text


def test_an_extended_run_tells_who_started_from_what(copy):
    """The last addition, one before it of other parts, one whose run started from others, and one from nothing."""
    red, other, dark, unseen = read_run(str(copy)).rows
    added = {"attributes": [unseen], "source_run": "runs/plus1", "source_seconds": 1.0}
    edit(copy / "result.json", added=added)
    matches = [None, MATCH, {**MATCH, "close": False, "parts": ["towers"]}, {**MATCH, "sign": 1}]
    more = {"sources": ["runs/A/", "runs/plus1"], "parts": ["policy", "trunk", "towers"]}
    rows, text = transferred(copy, *matches, **more)
    assert "What was added started from plus1 (policy, trunk, towers): 1 of 1 attribute found" in text
    assert "names it. 3 others started from A." in text and "the source attribute that it began with, and how" in text
    assert "No match: no source attribute is like it; only its tower" in text
    assert "a/<b>hot</b> reversed (0.88, strength 0.20)" in rows[1] and "no match; tower of a/<b>hot</b>" in rows[2]
    one = {"matches": {unseen: matches[-1]}}  # its source started from nothing
    rows, text = transferred(copy, **{**more, "sources": ["runs/plus1"], **one})
    assert "1 of 1 attribute found" in text and "others started" not in text and "No match:" not in text
    assert not any("hot" in row for row in rows[:3]) and "whose embedding and weights it took over, and how" in text


def test_without_a_match_the_page_explains_no_figures_of_one(copy):
    """What an extended run has of those that are not alike is a tower, or nothing."""
    edit(copy / "result.json", added={"attributes": ["mine/red"], "source_run": "runs/A", "source_seconds": 1.0})
    more = {"parts": ["policy", "trunk", "towers"]}
    rows, text = transferred(copy, {**MATCH, "close": False}, **more)
    assert "no match; tower of a/<b>hot</b>" in rows[0] and "the source attribute" not in text and "AUC −" not in text
    assert "A dash under Started from: it was in" in text and "No match: no source attribute is like it" in text
    near = {**MATCH, "auc": None, "strength": None}  # by chance, before
    rows, text = transferred(copy, {**MATCH, "close": False}, near, **more)
    assert "whose embedding and weights it took over. A dash there: it was in" in text


def test_who_matched_and_who_has_the_nearest_are_counted_apart(copy):
    transferred(copy, MATCH, None, {**MATCH, "close": False}, MATCH)
    found = transfer_section(read_run(str(copy)))
    assert [found[k] for k in ("matched", "nearest", "all")] == [2, 1, 4]


def test_a_match_that_is_not_close_names_the_tower_that_was_handed_over(copy):
    far = {**MATCH, "close": False}
    rows, text = transferred(
        copy, {**MATCH, "close": True}, far, None, MATCH, parts=["policy", "trunk", "towers"], gate=None
    )
    assert (
        "a/<b>hot</b> reversed (0.88, strength 0.20)" in rows[0]
        and "no match; tower of a/<b>hot</b> c4" in rows[1]
        and "nothing" in rows[2]
    )
    assert "It started from A (policy, trunk, towers): 2 of 4 attributes found" in text
    assert (
        "whose embedding and weights it took over" in text
        and "No match: no source attribute is like it; only its tower" in text
    )
    rows, text = transferred(copy, far, far, far, far, parts=["trunk"])
    assert all("nothing" in row for row in rows) and "0 of 4 attributes" in text and "No match:" not in text
    assert "whose predictor separates their labels." in text and "names it" not in text


@pytest.mark.parametrize(
    "match, method, found, taken",
    [
        (
            "cosine",
            "galm",
            "took the source attribute whose embedding points most nearly where theirs does",
            "embedding and weights",
        ),
        ("random", "galm", "drew a source attribute by chance", "embedding and weights"),
        ("random", "single_best", "drew a source attribute by chance", "weights"),
    ],
)
def test_transfer_tells_how_matches_were_found_and_what_was_handed_over(copy, match, method, found, taken):
    edit(copy / "config.json", method=method)
    text = transferred(copy, *[{**MATCH, "sign": 1, "auc": None}] * 4, match=match, parts=["policy", "towers"])[1]
    figure = ", and the cosine between their embeddings" * (match == "cosine")
    assert f"4 of 4 attributes {found}; the table" in text
    assert f"the source attribute whose {taken} it took over{figure}." in text
    assert f"It started from A ({'policy, ' * (method == 'galm')}towers)" in text  # a policy is of galm alone


def test_a_match_by_cosine_tells_the_cosine_and_a_random_one_no_figure(copy):
    match = {**MATCH, "sign": 1, "auc": None, "strength": -0.625}
    rows, text = transferred(copy, *[match] * 3, {**match, "close": False}, match="cosine")
    assert "a/<b>hot</b> (-0.62) c4" in rows[0] and "nothing" in rows[3]
    assert "though only the trunk was handed over, and the cosine between their embeddings." in text
    rows, text = transferred(copy, *[match] * 4, match="random")
    assert "a/<b>hot</b> c4" in rows[0] and "the cosine between" not in text


def test_an_attribute_that_an_added_one_stands_beside_has_a_dash_for_its_start(copy):
    rows, text = transferred(copy, MATCH, MATCH, MATCH, MATCH)
    assert "A dash there" not in text
    rows, text = transferred(copy, MATCH)
    assert "(0.88, strength 0.20) c4" in rows[0] and all("% – c4" in row for row in rows[1:])
    assert "A dash there: it was in the run that was added to." in text


def test_of_several_sources_the_page_tells_which_gave_nothing(copy):
    told = {"sources": ["runs/A", "runs/<b>B", "runs/C/"], "taken_from": "runs/A", "parts": ["trunk", "towers"]}
    text = transferred(copy, *[MATCH] * 4, **told)[1]
    assert "It started from A (trunk, towers): 4 of 4" in text
    assert "the table of attributes names it. Nothing came from <b>B, C." in text
    assert "the best of all attributes of the run that it started from, which flatters it" in text  # B and C had others
    gate = {"fresh_reward": 0.75, "transferred_reward": 0.625, "passed": False}
    text = transferred(copy, *[MATCH] * 4, gate=gate, **told)[1]
    assert "a trial from A (trunk, towers) was no better" in text
    assert "against 0.750). " in text and "Nothing came from" not in text  # not from A either
    text = transferred(copy, *[MATCH] * 4, **{**told, "taken_from": None})[1]
    assert "It started from A, <b>B, C (trunk, towers)" in text and "Nothing came from" not in text
    told = {**told, "taken_from": None, "policy_from": "runs/<b>B", "parts": ["policy", "towers"]}
    text = transferred(copy, *[MATCH] * 4, **told)[1]
    assert "It started from A, <b>B, C (policy, towers)" in text and "The policy came from <b>B alone." in text
    assert "whose weights (of those of <b>B also the embedding) it took over, and how" in text


def test_a_trial_that_was_no_better_is_told(copy):
    gate = {"fresh_reward": 0.75, "transferred_reward": 0.625, "passed": False}
    rows, text = transferred(copy, *[MATCH] * 4, gate=gate)
    assert (
        "It started from nothing: a trial from A (trunk) was no better than one from nothing (mean reward 0.625 against 0.750)."
        in text
    )
    assert not any("hot" in row for row in rows) and "Started from" not in text and "Judged by" in text
    assert "It started from A (trunk): 4 of 4" in transferred(copy, *[MATCH] * 4, gate={**gate, "passed": True})[1]


def test_a_trial_that_was_no_better_leaves_a_pretrained_trunk_of_the_source(copy):
    about = {"model": "lite0.keras", "layers": ["x", "y", "z"], "multiply_adds": 9, "parameters": 9}
    edit(copy / "result.json", trunk=about)
    gate = {"fresh_reward": 0.75, "transferred_reward": 0.625, "passed": False}
    rows, text = transferred(copy, *[MATCH] * 4, gate=gate, parts=["policy", "trunk", "towers"])
    assert (
        "It started from nothing but the pretrained trunk of A: a trial from more of it (policy, towers) was no better than one from "
        "that trunk alone (mean reward 0.625 against 0.750)." in text
    )
    assert not any("hot" in row for row in rows)
    passed = transferred(copy, *[MATCH] * 4, gate={**gate, "passed": True}, parts=["policy", "trunk", "towers"])[1]
    assert "It started from A (policy, trunk, towers): 4 of 4" in passed


def test_one_attribute_is_no_attributes(copy):
    result = json.loads((copy / "result.json").read_text())
    rows = {"mine/red": result["per_attribute"]["mine/red"]}
    edit(copy / "result.json", per_attribute=rows, num_attributes=1, num_attributes_rewarded=1, num_attributes_tested=1)
    (copy / "policy.npz").unlink()
    text = text_of(render(page_of(read_run(str(copy)), with_pictures=False)))
    assert "1 of 1 attribute could be rewarded" in text and "1 attributes" not in text


def test_nothing_tested(copy):
    for name in ("mine/red", f"mine/{NASTY}", "mine/dark"):
        edit_row(copy, name, test_auc=None)
    edit(copy / "result.json", test_mauc=None, num_attributes_tested=0)
    page = render(page_of(read_run(str(copy)), with_pictures=False))
    assert (
        '<b id="test-mauc">–</b>' in page and "no attribute has both labels" in text_of(page) and "--nopictures" in page
    )


def test_who_predicts_better_is_told():
    rows = [{"name": "ridge", "mean": -0.0125}, {"name": "chance", "mean": 0.25}, {"name": "as good", "mean": -0.0001}]
    told = "On the same test images and attributes ridge (by 0.013) has a higher test mAUC than this run's networks."
    assert notices.stronger(rows) == told
    assert "ridge (by 0.013) and B (by 0.500) have a higher" in notices.stronger([*rows, {"name": "B", "mean": -0.5}])


def test_an_auc_of_few_images_is_marked(copy):
    for name, (having, lacking) in zip(("mine/red", f"mine/{NASTY}", "mine/dark"), ((9, 90), (10, 10), (90, 9))):
        edit_row(copy, name, test_positives=having, test_negatives=lacking)
    rows = page_of(read_run(str(copy)), with_pictures=False).content["attributes"]
    assert [row["few_told"] for row in rows] == [True, False, True, False]  # the last is not tested


def test_prevalence_of_few_labels_is_called_so(copy, galm_html):
    assert "the share of the labels known in training that are yes." in text_of(galm_html) and "Few:" in text_of(
        galm_html
    )
    edit(copy / "config.json", train_positives=2)
    text = text_of(render(page_of(read_run(str(copy)), with_pictures=False)))
    assert (
        "of the labels known in training that are yes, once --train_positives" in text
        and "of training images" not in text
    )
    edit_row(copy, "mine/red", train_positives=2)
    told = {
        row["name"]: row["log_loss"] for row in page_of(read_run(str(copy)), with_pictures=False).content["attributes"]
    }
    assert "alone" not in told["red"] and all("alone" in told[name] for name in told if name != "red" and told[name])


def test_long_lists_are_folded(copy):
    result = json.loads((copy / "result.json").read_text())
    row = result["per_attribute"]["mine/red"]
    result.update(
        per_attribute={f"mine/a{i}": row for i in range(12)}, held_out_classes=[f"mine/c{i}" for i in range(9)]
    )
    write_json(copy / "result.json", result)
    page = render(page_of(read_run(str(copy)), with_pictures=False))
    text = text_of(page)
    assert (
        re.search(r"validation images \(\d+ of 9 classes held out whole\),", text)
        and "The 9 held-out classes c0 , c1" in text
    )
    # by name: a0, a1, a10, a11, a2 …
    assert re.search("<b>12×</b> .*<bdi>a5</bdi> <details><summary>4 more</summary><bdi>a6</bdi>, ", page)


def test_figures_are_never_rounded_to_certainty():
    assert [percent(share) for share in (0, 0.0001, 0.005, 0.994, 0.997, 1)] == [
        "0\u00a0%",
        "<0.1\u00a0%",
        "0.5\u00a0%",
        "99\u00a0%",
        ">99\u00a0%",
        "100\u00a0%",
    ]
    assert [millions(count) for count in (0, 2192, 12000, 34567890, 129000000)] == [
        "0",
        "2,192",
        "12,000",
        "34.6 M",
        "129 M",
    ]
    assert [score(p) for p in (0.001, 0.5, 0.994, 0.9995)] == ["<0.01", "0.50", "0.99", ">0.99"]
    assert [(signed(d), better(d)) for d in (0.0003, -0.0003, 0.0006, -0.5, None)] == [
        ("0.000", ""),
        ("0.000", ""),
        ("+0.001", "up"),
        ("−0.500", "down"),
        ("–", ""),
    ]


def test_names_turn_nothing_around_and_break_where_they_may():
    assert without_directions("a\u202eb\u2067c\u200f") == "abc" and figures.plot_text("a\u202eb") == "ab"
    assert str(in_a_row(["a<b", "שלום"])) == "<bdi>a&lt;b</bdi>, <bdi>שלום</bdi>"
    assert str(breakable("a_b/<c>")) == "a_<wbr>b/<wbr>&lt;c&gt;"
    assert figures.tick_text("n" * 24) == "n" * 24 and figures.tick_text("&" * 25) == "&amp;" * 23 + "…"


def luminance(colour: str) -> float:
    """Of #rrggbb, as WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return float(
        np.dot((0.2126, 0.7152, 0.0722), [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts])
    )


def test_text_stands_out_from_what_it_stands_on(galm_html):
    modes = [
        dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in re.findall(r":root[^{]*{(.*?)}", galm_html, re.S)
    ]
    pairs = {
        "page": ("ink", "soft", "accent", "good", "bad"),
        "card": ("ink", "soft", "accent", "good", "bad"),
        "notice": ("ink", "soft"),
        "bar": ("ink", "soft"),
    }
    pairs.update(dict.fromkeys(("trunk", "tower3", "tower5", "fc"), ("ink",)))
    assert len(modes) == 2
    for colours in modes:
        for ground, texts in pairs.items():
            for text in texts:
                light, dark = sorted((luminance(colours[ground]), luminance(colours[text])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)


def test_what_was_not_tested_is_told_at_the_top(copy, galm_html):
    top = text_of(galm_html[: galm_html.index("<nav>")])
    assert (
        "1 of 4 attributes was not tested. No test image has it: unseen." in top
        and "Nothing was judged" not in text_of(galm_html)
    )
    for name in ("mine/red", f"mine/{NASTY}"):
        edit_row(
            copy,
            name,
            test_auc=None,
            reason="not judged: no positive among the validation images; not tested: no negative among the test images",
        )
    found = notices.untested(read_run(str(copy)), {"mine/red": "red", f"mine/{NASTY}": NASTY, "mine/unseen": "unseen"})
    assert found == {
        "count": 3,
        "words": f"No negative among the test images: red and {NASTY}; no test image has it: unseen",
        "folded": [],
    }
    page = render(page_of(read_run(str(copy)), with_pictures=False))
    assert NASTY in text_of(page) and "<img src=x" not in page


def test_what_was_tested_but_not_judged_is_not_called_untested(copy):
    edit_row(copy, "mine/red", reason="not judged: no positive among the validation images")
    run = read_run(str(copy))
    assert notices.untested(run, {"mine/unseen": "unseen"})["count"] == 1
    page = html.unescape(html.unescape(render(page_of(run, with_pictures=False))))
    assert page.count('"not tested": ""') == 3 and "not judged: no positive" not in page


def test_many_untested_attributes_are_folded(copy):
    result = json.loads((copy / "result.json").read_text())
    row = {
        **result["per_attribute"]["mine/red"],
        "test_auc": None,
        "reason": "not tested: no positive among the test images",
    }
    result.update(
        per_attribute={f"mine/a{i}": row for i in range(7)}, num_attributes=7, num_attributes_tested=0, test_mauc=None
    )
    write_json(copy / "result.json", result)
    page = render(page_of(read_run(str(copy)), with_pictures=False))
    notice = re.search(r'<div class="notice" id="untested">(.*?)</div>', page, re.S)[1]
    shown, folded = notice.split("<details>")
    assert (
        "7 of 7 attributes were not tested. No positive among the test images: a0, a1, a2, a3 and 3 more."
        in text_of("<body>" + shown)
    )
    assert "no positive among the test images: " + ", ".join(f"<bdi>a{i}</bdi>" for i in range(7)) in folded


def test_probabilities_that_tell_little_are_told(copy):
    def told():
        run = read_run(str(copy))
        return notices.unsure(run, single.shown_names(run))

    assert told() == ""
    edit(copy / "result.json", temperature=19.6)
    text = text_of(render(page_of(read_run(str(copy)), with_pictures=False)))
    assert "log-odds by 20 (temperature): all probabilities lie near" in text and told().startswith(
        "Validation divides"
    )
    added = {"attributes": ["mine/red"], "source_run": "A", "source_seconds": 1.0, "flattered": [], "temperature": 7.0}
    edit(copy / "result.json", temperature=1.0, added=added)
    whose = "Of %s validation divides log-odds by %d (temperature): all probabilities lie near an attribute's frequency"
    assert told() == whose % ("red (added)", 7)
    earlier = [
        {"attributes": ["mine/dark", "mine/unseen"], "temperature": 12.0},
        {"attributes": [], "temperature": 1.0},
    ]
    edit(copy / "result.json", added={**added, "temperature": 1.0, "earlier": earlier})
    assert told() == whose % ("dark and unseen (added)", 12)
    edit(copy / "result.json", temperature=20.0)
    assert told() == ". ".join(
        [whose % ("the attributes that were not added", 20), whose % ("dark and unseen (added)", 12)]
    )


def test_figures_of_other_pictures_do_not_stand_beside_the_run(copy):
    """Where data.json does not tell of them, the AUCs of the model do."""
    for name in read_run(str(copy)).rows:
        edit_row(copy, name, test_auc=0.123)
    found = gather(read_run(str(copy)))
    assert found.data is None and found.scores is None
    told = "Pictures and ridge regression are left out: images, labels or model have changed since the run (test AUC of"
    assert found.missing.startswith(told)


def test_what_is_sure_is_no_other_data_for_its_ties(copy):
    run = read_run(str(copy))
    labels, probability = np.tile([[0.0], [1.0]], (5, len(run.rows))), np.full((10, len(run.rows)), 0.5, np.float32)
    with pytest.raises(Unavailable, match="have changed since the run"):
        run_data._check_scores(run, labels, probability)
    run_data._check_scores(run, labels, probability + 0.5)


def test_a_network_that_nothing_judged_is_called_arbitrary_among_others(copy):
    before = [name for card in single._networks(read_run(str(copy)), _Same()) for name in card["names"]]
    edit_row(copy, "mine/red", val_auc=None, judged_by="none")
    after = [name for card in single._networks(read_run(str(copy)), _Same()) for name in card["names"]]
    assert set(after) - set(before) == {"mine/red (arbitrary, since not judged)"}


class _Same(dict):
    """Names as they are."""

    def __missing__(self, name):
        return name


def test_networks_that_nothing_judged_are_called_arbitrary(copy):
    for name in ("mine/red", f"mine/{NASTY}", "mine/dark"):
        edit_row(copy, name, val_auc=None, judged_by="none")
    edit(copy / "result.json", val_mauc=None)
    text = text_of(render(page_of(read_run(str(copy)), with_pictures=False)))
    assert "Nothing was judged: all networks below are arbitrary." in text and "Arbitrary networks" in text
    assert "(Table 4): arbitrary, for nothing was judged" in text and "The chosen networks" not in text


def test_short_phases_are_told_together(copy):
    seconds = {"finetune": 40.0, "warmup": 50.0, "controller": 1.0, "derive": 0.5, "new_kind": 3.0}
    edit(copy / "result.json", search={"phase_seconds": seconds}, seconds_total=100.0)
    phases = single._phases(read_run(str(copy)))
    assert [(name, round(value, 3)) for name, value, _ in phases] == [
        ("warm-up of the shared weights", 50.0),
        ("fine-tuning them", 40.0),
        ("new kind", 3.0),
        ("loading, test and export", 5.5),
        ("others", 1.5),
    ]
    assert sum(share for _, _, share in phases) == pytest.approx(1)
    edit(copy / "result.json", search={"phase_seconds": {**seconds, "controller": 2.5}}, seconds_total=100.0)
    # one alone keeps its name
    assert "choosing the networks" in [name for name, _, _ in single._phases(read_run(str(copy)))]
    edit(copy / "result.json", trunk=TRUNK)
    names = [name for name, _, _ in single._phases(read_run(str(copy)))]
    # as of a run that did not count them
    assert "loading, the trunk and its maps of all images, test and export" in names


def test_every_phase_has_a_plain_name_and_a_colour(copy):
    kinds = "test load features match warmup supernet rewards controller derive adapt finetune".split()
    edit(copy / "result.json", search={"phase_seconds": dict.fromkeys(kinds, 9.0)}, seconds_total=100.0)
    page = render(page_of(read_run(str(copy)), with_pictures=False))
    bar = re.search(r'<div class="timebar".*?</div>', page)[0]
    colours = [
        re.search(rf"\.{part} {{ background: (#\w+);", page)[1] for part in re.findall(r'class="(part\d+)"', bar)
    ]
    assert len(colours) == len(set(colours)) == 12
    names = re.findall(r'<li><i class="part\d+"></i>(.*?) <b>', page)
    assert "adapting the chosen networks" in names
    edit(copy / "config.json", adapt_steps=0)
    names = [name for name, _, _ in single._phases(read_run(str(copy)))]
    assert "judging the chosen networks" in names and "adapting the chosen networks" not in names
    assert len(set(names)) == 12 and not set(names) & set(kinds) - {"test"} and names[0] == "loading"


def test_an_addition_names_what_was_added_and_its_own_time(runs, copy):
    added = {"attributes": ["mine/red", "mine/dark"], "source_run": "runs/first/", "source_seconds": 7200.0}
    edit(copy / "result.json", added=added)
    rows = {name: row["test_auc"] for name, row in read_run(str(copy)).rows.items()}
    page = render(page_of(read_run(str(copy)), with_pictures=False))
    assert (
        "<h1>mine: red and dark added to first (galm, seed 0)</h1>" in page
        and "<title>mine: red and dark added to first" in page
    )
    text = text_of(page)
    old, new = rows[f"mine/{NASTY}"], (rows["mine/red"] + rows["mine/dark"]) / 2
    assert f"Test mAUC of the 1 old attribute, as before: {old:.3f} ; of the 2 added: {new:.3f} ." in text
    assert (
        "2.5 min the addition alone; first took 2.0 h , or what was added to it last" in text
        and "whole run" not in text
        and "Time of the addition" in text
    )
    assert "others 18 s" in text  # the test is a phase of an addition
    compared = text_of(render(compare_page([read_run(str(runs[0] / "galm")), read_run(str(copy))])))
    assert "2.5 min 2.5 min (the addition alone)" in compared
    edit(copy / "result.json", added={**added, "searched": {"run": "runs/zero/", "seconds": 49.2}, "earlier": []})
    text = text_of(render(page_of(read_run(str(copy)), with_pictures=False)))
    assert "the addition alone; the search of zero took 49 s " in text and "before this" not in text
    earlier = [{"attributes": ["mine/unseen"], "seconds": 25.2}, {"attributes": [], "seconds": None}]
    searched = {"run": "runs/zero/", "seconds": 49.2}
    edit(copy / "result.json", added={**added, "searched": searched, "earlier": earlier})
    text = text_of(render(page_of(read_run(str(copy)), with_pictures=False)))
    assert (
        "the search of zero took 49 s ; additions before this 25 s" in text and "last" not in text.split("mAUC is")[0]
    )


def test_the_legend_of_clusters_is_in_the_order_of_their_list(galm_html):
    plots = drawn(galm_html)
    for name in ("map", "tree"):
        groups = [t["name"] for t in plots[name]["data"] if t.get("name", "").startswith("cluster")]
        assert len(groups) > 1 and groups == [f"cluster {i}" for i in range(1, len(groups) + 1)]
    assert all(t["mode"] == "markers+text" for t in plots["map"]["data"]) and plots["map"]["layout"]["placed"]
    assert {"red", "dark", "unseen"} < {name for t in plots["map"]["data"] for name in t["text"]}


def test_a_comparison_is_named_by_its_runs(tmp_path):
    assert (
        comparison_file(["runs/A", "runs/B"])
        == comparison_file(["runs/A/", os.path.abspath("runs/B")])
        == "comparison-B.html"
    )
    assert comparison_file(["runs/A", "runs/B", "runs/C"]) == "comparison-B+C.html"
    apart = [
        ["A", "B"],
        ["A", "x/B"],
        ["A", "y/B"],
        ["A", "B", "C"],
        ["A", "B+C"],
        ["A", "ü b"],
        ["A", "ö b"],
        ["A", "n" * 200],
        ["A", "n" * 201],
    ]
    files = [comparison_file([os.path.join("runs", name) for name in names]) for names in apart]
    assert len(set(files)) == len(files) and all(
        re.fullmatch(r"comparison-[\w.+-]{1,90}\.html", file, re.ASCII) for file in files
    )


def test_compares_runs(runs, copy):
    edit_row(copy, "mine/red", test_auc=0.5)
    edit(copy / "config.json", warmup_steps=7)
    edit(copy / "result.json", test_log_loss=0.5)
    first, second = read_run(str(runs[0] / "galm")), read_run(str(copy))
    page = compare_page([first, second])
    assert page.content["settings"] == [("warmup_steps", ["300", "7"])]
    difference = 0.5 - first.rows["mine/red"]["test_auc"]
    pair = page.content["paired"][0][1]
    assert (
        pair["count"] == 3
        and pair["mean"] == pytest.approx(difference / 3)
        and (pair["better"], pair["worse"]) == (0, 1)
    )
    text = text_of(render(page))
    assert f"{difference:.3f}".replace("-", "−") in text and "1: galm" in text and "2: run" in text
    assert (
        "log loss How far probabilities are from the labels" in text
        and "skill How well the search picks" in text
        and "entropy How undecided the policy still is (nats): 7.74 knows nothing, 0 is sure. " in text
    )
    assert (
        "attributes that all tested" not in text
        and page.content["warnings"] == []
        and "multiply-adds an image" in text
        and f"{first.result['test_mauc']:.3f}" in text
    )


def test_bars_are_what_a_run_has_more_than_the_first(copy):
    for name, row in read_run(str(copy)).rows.items():
        edit_row(copy, name, test_positives=30, test_negatives=70, test_auc=row["test_auc"] and 0.75)
    first = read_run(str(copy))
    edit_row(copy, "mine/dark", test_auc=0.5)
    edit_row(copy, f"mine/{NASTY}", test_auc=1.0)
    ((bars,),) = (figure["data"] for figure in compare_page([first, read_run(str(copy))]).figures.values())
    assert bars["x"] == [0.25, 0.0, -0.25] and bars["text"][1:] == ["red", "dark"]  # from the highest, on top


def test_figures_side_by_side_are_those_of_result_json(runs, copy):
    figures_of = {
        "val_mauc": 0.11,
        "test_average_precision": 0.22,
        "test_balanced_accuracy": 0.33,
        "test_log_loss": 0.44,
    }
    edit(copy / "result.json", network={"multiply_adds": 129000000, "parameters": 3520000}, **figures_of)
    first, second = read_run(str(runs[0] / "galm")), read_run(str(copy))
    told = {name: values[1] for name, values in compare_page([first, second]).content["headline"]}
    names = ("validation mAUC", "test average precision", "test balanced accuracy", "test log loss")
    assert [told[name] for name in names] == [f"{value:.3f}" for value in figures_of.values()]
    assert told["multiply-adds an image"].startswith("129") and told["parameters"].startswith("3.5")
    penalised = dataclasses.replace(second, config=dataclasses.replace(second.config, size_penalty=0.5))
    assert compare_page([first, penalised]).content["warnings"] == [
        "2: run has another size penalty than 1: galm: skill and regret do not compare."
    ]


def test_a_comparison_says_whose_data_are_generated(runs):
    first, *others = (
        dataclasses.replace(run, result={**run.result, "notice": notice})
        for run, notice in zip([read_run(str(runs[0] / "galm"))] * 3, ["drawn", None, "drawn"])
    )
    told = [
        re.findall('<p class="notice">(Data.*?)</p>', render(compare_page([first, *of])))
        for of in (others, others[1:], others[:1])
    ]
    assert told == [
        ["Data of <b>1: galm and 3: galm</b>: drawn."],
        ["Data: drawn."],
        ["Data of <b>1: galm</b>: drawn."],
    ]


def test_a_point_is_an_attributes_validation_and_test_auc(runs):
    run = read_run(str(runs[0] / "galm"))
    _, points = figures.validation_against_test(run, single.shown_names(run))["data"]
    wanted = {name.split("/")[1]: (row["val_auc"], row["test_auc"]) for name, row in run.rows.items() if row["val_auc"]}
    assert dict(zip(points["text"], zip(points["x"], points["y"])))["dark"] == wanted["dark"]
    assert len(points["x"]) == len(wanted) == 3 and wanted["dark"][0] != wanted["dark"][1]


def test_a_comparison_keeps_luck_apart(copy):
    def run_with(few):
        for name in names:
            edit_row(copy, name, test_positives=1 if name in few else 30, test_negatives=70)
        return read_run(str(copy))

    names = [name for name, row in read_run(str(copy)).rows.items() if row["test_auc"] is not None]
    first = run_with([])
    page = compare_page([first, run_with(["mine/red"])])
    ((_, pair, sure),) = page.content["paired"]
    assert (pair["count"], sure["count"]) == (3, 2)
    assert [row["name"] for row in page.content["rows"] if row["few"]] == ["red"]
    assert "of one label, whose AUC is luck: 0.000 over 2." in text_of(
        render(page)
    ) and "marked few are not drawn" in text_of(render(page))
    assert "red" not in json.dumps(page.figures["differences"])
    page = compare_page([first, run_with(names)])
    assert (
        not page.figures
        and "Differences are not drawn: few" in text_of(render(page))
        and "over 3 attributes" in text_of(render(page))
    )


def test_compares_a_reading_with_a_search(runs, read_copy):
    edit(read_copy / "config.json", reward="accuracy", size_penalty=0.5)  # which it does not read
    first, second = read_run(str(runs[0] / "galm")), read_run(str(read_copy))
    for pair in ([first, second], [second, first]):
        page = compare_page(pair)
        assert page.content["warnings"] == [] and page.content["paired"][0][1]["count"] == 3
        told = dict(page.content["headline"])
        assert (
            set(told["method"]) == {"galm", "reading"}
            and set(told["architectures scored"]) == {"18,432", "–"}
            and set(told["skill"]) == {"0.88", "–"}
        )
        assert "129 M" in text_of(render(page)) and "by validation a search looks better" in text_of(render(page))
    third = dataclasses.replace(first, config=dataclasses.replace(first.config, reward="accuracy"))
    assert compare_page([second, first, third]).content["warnings"] == [
        "3: galm has another reward than 2: galm: skill, specialisation and regret do not compare."
    ]


def test_a_damaged_note_of_what_was_tested_tells_as_little_as_none(runs, copy):
    first = read_run(str(runs[0] / "galm"))
    data = json.loads((copy / "data.json").read_text())
    del data["tested"]
    write_json(copy / "data.json", data)
    expected = rivals.same_test(first, read_run(str(copy)))
    for told in (None, {}, [], {"images": "more", "labels": []}, {"labels": {}}):
        write_json(copy / "data.json", {**data, "tested": told})
        assert rivals.same_test(first, read_run(str(copy))) == expected


def test_a_joint_run_beside_one_of_its_domains_is_not_told_to_be_beyond_comparison(runs, copy):
    first = read_run(str(runs[0] / "galm"))
    write_json(copy / "data.json", {"tested": {"images": "more", "labels": {}}})
    joint = read_run(str(copy))
    joint = dataclasses.replace(joint, result={**joint.result, "domains": [*joint.result["domains"], "more"]})
    elsewhere = dataclasses.replace(joint, result={**joint.result, "domains": ["other"]})
    resplit = dataclasses.replace(joint, config=dataclasses.replace(joint.config, split_seed=3))
    told = [compare_page([first, other]).content["warnings"][0] for other in (joint, elsewhere, resplit)]
    assert told[0].startswith(
        "2: run was tested on other domains than 1: galm: their figures compare where both tested an attribute on the same images"
    )
    assert all(text.endswith("as 1: galm: their figures do not compare.") for text in told[1:])


def test_every_run_of_a_comparison_has_bars_of_its_own():
    bars = figures.difference_bars({f"{n}: run": {"red": 0.1} for n in range(2, 12)}, "1: run", {"red": "red"})["data"]
    marks = {(bar["role"], bar["marker"]["pattern"].get("shape")) for bar in bars}
    assert len(marks) == len(bars) == 10 and not any(bar["marker"]["pattern"] for bar in bars[:4])


def test_runs_that_are_as_good_as_equal_look_so():
    for values, ends in (
        ((0.0, -2.5e-5), (-0.0105, 0.0105)),
        ((0.2, -0.005), (-0.0105, 0.21)),
        ((0.0,), (-0.0105, 0.0105)),
    ):
        differences = {"2: run": dict(zip(("red", "dark"), values))}
        drawn_bars = figures.difference_bars(differences, "1: run", {"red": "red", "dark": "dark"})
        assert drawn_bars["layout"]["xaxis"]["range"] == pytest.approx(ends)
    assert figures.difference_bars({"2: run": {"red": -2.5e-5}}, "1: run", {"red": "red"})["data"][0]["customdata"] == [
        "0.000"
    ]


def test_comparison_warns_when_tested_attributes_differ(runs, copy):
    edit_row(copy, "mine/red", test_auc=None)
    first = read_run(str(runs[0] / "galm"))
    page = compare_page([first, read_run(str(copy))])
    assert page.content["warnings"] == [
        "2: run does not have the same tested attributes as 1: galm: of the test means, only that on attributes that all tested compares."
    ]
    mean = f"{np.mean([auc for name, auc in rivals.tested(first).items() if name != 'mine/red']):.3f}"
    assert dict(page.content["headline"])["test mAUC on attributes that all tested (2)"] == [mean, mean]
    for name in first.rows:
        edit_row(copy, name, test_auc=None)
    nothing, again = read_run(str(copy)), read_run(str(runs[0] / "galm"))
    assert not [name for name, _ in compare_page([first, nothing]).content["headline"] if "that" in name]
    mean = f"{np.mean(list(rivals.tested(first).values())):.3f}"
    assert dict(compare_page([first, nothing, again]).content["headline"])[
        "test mAUC on attributes that those with a figure all tested (3)"
    ] == [mean, "–", mean]


def test_comparison_warns_when_test_images_differ(runs, copy):
    def warnings():
        return compare_page([read_run(str(runs[0] / "galm")), read_run(str(copy))]).content["warnings"]

    tested = json.loads((copy / "data.json").read_text())["tested"]
    edit(copy / "data.json", tested={**tested, "images": "others"})
    assert warnings() == [
        "2: run was not tested on the same images and labels as 1: galm: their figures do not compare."
    ]
    (copy / "data.json").unlink()  # as of an earlier version
    assert warnings()[0].startswith(
        "Whether 2: run was tested on the same labels as 1: galm, their folders do not tell of red, "
    )
    edit(copy / "config.json", split_seed=3)
    assert warnings() == [
        "2: run was not tested on the same images and labels as 1: galm, as far as their folders tell: their figures do not compare."
    ]


def test_comparison_tells_what_computed_the_runs(runs, copy):
    first = read_run(str(runs[0] / "galm"))
    versions = {**first.result["versions"], "tensorflow": "2.21.0", "numpy": "2.0"}
    edit(copy / "result.json", commit="fedcba9876543210", versions=versions, computed_on="NVIDIA H200")
    content = compare_page([first, read_run(str(copy))]).content
    assert content["headline"][-3:] == [
        ("commit", ["0123456789ab", "fedcba987654"]),
        ("tensorflow", ["not noted", "2.21.0"]),
        ("computed on", ["not noted", "NVIDIA H200"]),
    ]
    assert content["warnings"] == [
        "The runs were computed at several commits (0123456789ab, fedcba987654), which may differ in procedure: so may figures of the same "
        "settings."
    ]
    edit(copy / "result.json", commit=first.result["commit"], versions={"galm_tf": "0.2.0"})
    (told,) = compare_page([first, read_run(str(copy))]).content["warnings"]
    assert "computed by several versions of galm_tf (0.1.0, 0.2.0), which" in told
    assert "commit" not in dict(compare_page([first, first]).content["headline"])


def test_comparison_without_shared_attributes(runs, copy):
    result = json.loads((copy / "result.json").read_text())
    result["per_attribute"] = {f"other{n}": r for n, r in result["per_attribute"].items()}
    write_json(copy / "result.json", result)
    text = text_of(render(compare_page([read_run(str(runs[0] / "galm")), read_run(str(copy))])))
    assert "no attribute was tested alike in the first run and in another" in text


@pytest.mark.parametrize(
    "damage, parts",
    [
        (lambda run: shutil.rmtree(run), ["is no folder", "runs/"]),
        (lambda run: (run / "config.json").unlink(), ["config.json"]),
        (lambda run: (run / "config.json").write_text("[]"), ["config.json", "a file without a number as format"]),
        (
            lambda run: (run / "result.json").unlink(),
            ["Expected a finished run", "finish it by python -m galm_tf.main --resume --run_dir=/"],
        ),
        (
            lambda run: (run / "result.json").write_text('{"domains": ['),
            ["result.json", "cannot be read", "run it again"],
        ),
        (lambda run: (run / "result.json").write_text("[]"), ["list instead of an object"]),
        (lambda run: edit(run / "result.json", test_mauc="high"), ["test_mauc='high'"]),
        (lambda run: edit(run / "result.json", search=None), ["search='None'"]),
        (lambda run: edit_row(run, "mine/red", threshold="x"), ["threshold='x' of 'mine/red'"]),
        (lambda run: edit_row(run, "mine/red", architecture={"fc1_width": 64}), ["no architecture of 'mine/red'"]),
        (lambda run: without_architecture(run, "mine/red"), ["no architecture of 'mine/red' ('architecture')"]),
        (lambda run: (run / "result.json").write_text('{"test_mauc": NaN}'), ["it holds NaN"]),
    ],
)
def test_bad_input_is_one_sentence(copy, damage, parts):
    damage(copy)
    with pytest.raises(UserError) as caught:
        read_run(str(copy))
    message = str(caught.value)
    assert message.startswith("Expected ") and "Received: " in message and str(copy) in message and "\n" not in message
    assert all(part in message for part in parts), message


def test_written_whole_or_not_at_all(tmp_path, monkeypatch):
    page = Page("compare.html.j2", {}, {})
    (tmp_path / "report.html").write_text("old")
    with pytest.raises(Exception, match="undefined"):
        write_page(page, str(tmp_path / "report.html"))
    monkeypatch.setattr("galm_tf.report.page.render", lambda page: "new")
    write_page(page, str(tmp_path / "report.html"))
    assert (tmp_path / "report.html").read_text() == "new" and os.listdir(tmp_path) == ["report.html"]
    assert stat.S_IMODE(os.stat(tmp_path / "report.html").st_mode) & 0o444 == 0o444
    with pytest.raises(UserError, match="--out"):
        write_page(page, str(tmp_path / "absent" / "report.html"))


def test_a_page_that_cannot_be_written_is_told_before_the_data_are_read(copy):
    expect_page(str(copy / "report.html"))
    with pytest.raises(
        UserError, match="Expected to be able to write .*report.html. Received: .*; name another file by --out"
    ):
        expect_page(str(copy / "absent" / "report.html"))
    assert not any("tmp" in name for name in os.listdir(copy))


def test_command_writes_into_the_first_run_and_tells_mistakes(copy):
    def call(*arguments):
        command = [sys.executable, "-m", "galm_tf.report", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = call(copy, "--nopictures")
    assert done.returncode == 0, done.stderr
    assert str(copy / "report.html") in done.stdout and "mAUC" in (copy / "report.html").read_text(encoding="utf-8")
    assert {path.name for path in (copy / "analysis").iterdir()} == {
        "table4_choice_frequencies.csv",
        "table5_correlated_attributes.csv",
        "policy_confidence.csv",
        "attribute_clusters.csv",
    }
    assert "analysis/table5_correlated_attributes.csv" in (copy / "report.html").read_text(encoding="utf-8")
    shutil.copytree(copy, copy.parent / "B")
    compared = call(copy, copy.parent / "B")
    assert (
        compared.returncode == 0
        and str(copy / "comparison-B.html") in compared.stdout
        and (copy / "comparison-B.html").exists()
    )
    mine = copy.parent / "notes.html"
    mine.write_text("<p>Mine.</p>", encoding="utf-8")
    other = call(copy, f"--out={mine}")
    assert other.returncode == 2 and f"Received: {mine}, which is another file; name another." in other.stderr
    assert mine.read_text(encoding="utf-8") == "<p>Mine.</p>"
    folder = call(copy, f"--out={copy}")
    assert folder.returncode == 2 and f"Received: out={copy}; give {copy / 'report.html'}." in folder.stderr
    twice = call(copy, str(copy) + "/")
    assert twice.returncode == 2 and "named twice" in twice.stderr and "Traceback" not in twice.stderr


def test_core_does_not_import_the_report():
    root = pathlib.Path(report.__file__).parents[1]
    sources = [path for path in root.rglob("*.py") if path.parent.name != "report"]
    assert len(sources) > 40
    imports = r"(?m)^\s*(from|import) galm_tf\.report|galm_tf import .*\breport\b"  # its command may be named
    assert [path.name for path in sources if re.search(imports, path.read_text("utf-8"))] == []


def edit(path, **changes) -> None:
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **changes})


def edit_row(run, name, **changes) -> None:
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    result["per_attribute"][name].update(changes)
    write_json(run / "result.json", result)


def without_architecture(run, name) -> None:
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    del result["per_attribute"][name]["architecture"]
    write_json(run / "result.json", result)
