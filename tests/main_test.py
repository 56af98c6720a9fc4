"""What `main` tells: before a run, at its end, and about flags that would be passed over."""

import dataclasses
import os
import pathlib
import re
import shlex

import pytest

import main_flags
from galm_tf import config as config_lib
from galm_tf import main, pipeline, run_folder
from galm_tf.config import COUNTING, Config
from galm_tf.errors import UserError
from galm_tf.run_folder import RunFolder

ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_images_of_a_reward_that_nothing_would_read_are_refused():
    batch = ("--reward_data=batch", "--reward_bn=batch", "--size_penalty=0")
    with pytest.raises(
        UserError, match="Expected --reward_images=0 with --reward_data=batch.*Received: reward_images=9; leave one out"
    ):
        main_flags.settings(*batch, "--reward_images=9")
    assert main_flags.settings(*batch).reward_data == "batch"
    # runs of earlier versions can be read
    assert Config(reward_data="batch", reward_bn="batch", size_penalty=0.0, reward_images=9)


def test_a_size_penalty_that_nothing_would_read_is_refused(tmp_path):
    with pytest.raises(
        UserError,
        match="Expected a --method that reads rewards.*Received: method=random and size_penalty=0.1; give --size_penalty=0,",
    ):
        main_flags.settings("--method=random", "--size_penalty=0.1")
    assert main_flags.settings("--method=exhaustive", "--size_penalty=0.1").size_penalty == 0.1
    assert main_flags.settings("--method=random", "--size_penalty=0").method == "random"
    folder = RunFolder.create(str(tmp_path / "random"), Config(method="random"))
    again = main_flags.settings(f"--flagfile={folder.path}/flags.txt", "--run_dir=new")
    # the default that was written down hurts nobody
    assert (again.method, again.size_penalty) == ("random", Config().size_penalty)
    RunFolder.create(str(tmp_path / "old"), Config(method="random", size_penalty=0.1))  # an earlier version let it be
    assert main_flags.settings("--resume", f"--run_dir={tmp_path}/old", "--size_penalty=0.1").size_penalty == 0.1


def test_flags_of_a_source_without_one_and_a_source_of_which_nothing_is_taken_are_refused(tmp_path):
    for flag in ("--match=cosine", "--transfer=trunk"):
        with pytest.raises(
            UserError,
            match=f"a --source_run beside {flag.split('=')[0]}, which says what is taken from it. Received: none; name",
        ):
            main_flags.settings(flag)
    with pytest.raises(
        UserError, match="a --source_run beside --transfer_gate_steps, .* Received: none; name a finished run"
    ):
        main_flags.settings("--transfer_gate_steps=5")
    asked = ("--method=evolution", "--source_run=A")
    with pytest.raises(
        UserError,
        match="--transfer to name a part that --method=evolution takes over. Received: transfer=policy, of which it takes nothing",
    ):
        main_flags.settings(*asked, "--transfer=policy")
    assert main_flags.settings(*asked).handed_over == ("trunk", "towers")


def test_flags_of_a_transfer_without_its_source_are_refused(tmp_path):
    """They are the default ones, which a run from nothing does not read."""
    file, default = (f"--flagfile={ROOT}/flags/{name}.flags" for name in ("transfer", "default"))
    for wish in (file, "--transfer=policy,trunk,towers"):
        with pytest.raises(UserError, match="a --source_run beside --transfer, .* such as flags/transfer.flags.$"):
            main_flags.settings(wish)
        assert main_flags.settings(wish, "--source_run=A").source_run == ("A",)
    folder = RunFolder.create(str(tmp_path / "run"), Config())
    for own in (default, f"--flagfile={folder.path}/flags.txt"):
        assert main_flags.settings(own, "--run_dir=new") == Config(run_dir="new")
    assert main_flags.settings("--resume", f"--run_dir={folder.path}", file).uniform_fraction == 0


@pytest.mark.parametrize(
    "unread, needed",
    [
        (dict(max_positive_weight=5.0), dict(imbalance="positive_weight")),
        (dict(sun_positive=0.3), dict(sun_votes="majority")),
        (dict(sun_unanimous=0.9), dict(sun_votes="unanimous")),
        (dict(validation_class_fraction=0.3), dict(validation_split="classes")),
    ],
)
def test_settings_of_a_choice_that_was_not_taken_are_refused(unread, needed):
    ((name, value),), ((setting, choice),) = unread.items(), needed.items()
    others = {"sun_positive": {"sun_votes": "unanimous"}, "validation_class_fraction": {"validation_split": "images"}}
    other = others.get(name, {})
    held = other.get(setting, getattr(Config(), setting))
    asked = [f"--{name}={value}", *(f"--{key}={text}" for key, text in other.items())]
    message = f"--{setting}={choice} beside --{name}, .* Received: {setting}={held}; give it, or leave --{name} out.$"
    with pytest.raises(UserError, match=f"Expected {message}"):
        main_flags.settings(*asked)
    assert getattr(main_flags.settings(f"--{name}={value}", f"--{setting}={choice}"), name) == value
    of_a_run = Config(**unread, **other)
    config_lib.expect_read(of_a_run, of_a_run)  # to which attributes are added: nobody gave them now


def test_a_number_of_evaluations_is_for_methods_that_count_them():
    for asked in ("--evaluations=3",), ("--evaluations=3", "--method=evolution"):
        with pytest.raises(
            UserError,
            match="--method=random_search, bayesian or progressive beside --evaluations, .*Received: method=(galm|evolution) and evaluations=3;",
        ):
            main_flags.settings(*asked)
    for method in COUNTING:
        assert main_flags.settings(f"--method={method}", "--evaluations=3").evaluations == 3


def test_commands_that_are_told_can_be_pasted(tmp_path, monkeypatch, capsys):
    path = "runs/my photos-galm-s0"
    told = main.summary(_result({"sun/a": _row(0.75)}), path)
    lines = [
        shlex.split(line.split(":", 1)[1]) for line in told.splitlines() if line.startswith(("Look", "Try", "Watch"))
    ]
    assert lines[0][-1] == path and f"--model={path}/saved_model" in lines[1] and f"--logdir={path}" in lines[2]
    folder = str(tmp_path / "my run")
    RunFolder.create(folder, Config(leave_out=("warm, sunny",)))
    with pytest.raises(UserError) as error:
        RunFolder.resume(folder, Config())
    (given,) = re.findall("or give (.*)[.]$", str(error.value))
    assert main_flags.settings(*shlex.split(given)).leave_out == ("warm, sunny",)

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "run", stopped)
    with pytest.raises(KeyboardInterrupt, match="--run_dir='.*/my run'$"):
        main.run(Config(leave_out=("warm, sunny",), resume=True), folder)


def test_resume_without_a_folder_names_what_could_be_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError,
        match="^Expected --run_dir beside --resume. Received: none, and there is no run runs/sun-galm-s0; name the folder of the run.$",
    ):
        main_flags.call("--resume")
    for i, name in enumerate("dacbe"):
        RunFolder.create(f"runs/{name}", Config())
        os.utime(f"runs/{name}/config.json", (i, i))
    (tmp_path / "runs" / "b" / "result.json").write_text("{}", encoding="utf-8")
    assert run_folder.unfinished_runs() == ["runs/e", "runs/c", "runs/a", "runs/d"]
    with pytest.raises(
        UserError, match="runs/sun-galm-s0; unfinished: --run_dir=runs/e, --run_dir=runs/c, --run_dir=runs/a.$"
    ):
        main_flags.call("--resume")


def test_the_command_of_a_run_resumes_it_where_its_source_has_a_pretrained_trunk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    RunFolder.create("runs/source", Config(trunk_model="m.keras", trunk_steps=2))
    begun = main_flags.settings("--domain=awa", "--source_run=runs/source")
    assert (begun.trunk_model, begun.trunk_steps) == ("m.keras", 2)
    RunFolder.create("runs/awa-galm-s0", dataclasses.replace(begun, rounds=1, image_size=32))
    again = main_flags.settings("--domain=awa", "--resume")  # by its own settings, not by the defaults
    kept = dataclasses.replace(begun, rounds=1, image_size=32, resume=True, run_dir="runs/awa-galm-s0")
    assert again == kept
    RunFolder.resume("runs/awa-galm-s0", again)


def test_a_folder_that_is_no_run_is_told_with_its_flag(tmp_path):
    with pytest.raises(
        UserError, match=f"Received: --run_dir={tmp_path}/none .No such file or directory.; name the folder of the run"
    ):
        main_flags.settings("--resume", f"--run_dir={tmp_path}/none")
    with pytest.raises(UserError, match=f"Received: --source_run={tmp_path}/none .No such file or directory."):
        main_flags.settings("--add_attribute=x.csv", f"--source_run={tmp_path}/none")


def test_the_run_folder_is_told_when_a_run_begins(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "sun-galm-s0").mkdir(parents=True)
    monkeypatch.setattr(pipeline, "run", lambda *_, **__: _result({}))
    main_flags.call()
    output = capsys.readouterr()
    assert (
        output.err == "Run folder: runs/sun-galm-s0-2\n" and "python -m galm_tf.report runs/sun-galm-s0-2" in output.out
    )


@pytest.mark.parametrize("content", ["[]", "{}", ""])
def test_a_finished_run_whose_result_is_damaged_is_one_sentence(tmp_path, content):
    config = Config(run_dir=str(tmp_path / "run"))
    RunFolder.create(config.run_dir, config).write_text("result.json", content)
    with pytest.raises(UserError, match="result.json. Received: .*; restore it from a copy[.]$"):
        main.run(dataclasses.replace(config, resume=True), config.run_dir)


def _row(auc, **more):
    return {"test_auc": auc, "architecture": {"conv4_kernel": 3}, "description": "conv", "judged_by": "classes", **more}


def _result(rows, scored=1536):
    tested = sum(row.get("test_auc") is not None for row in rows.values())
    return {
        "domains": ["sun"], "method": "galm", "num_attributes": len(rows), "search": {"architectures_scored": scored}, "seconds_total": 60, "test_mauc": None,
        "num_images": {"train": 9, "validation_classes": 2, "validation_images": 1, "test": 4}, "class_disjoint": True, "num_attributes_tested": tested,
        "val_mauc": None, "notice": None, "per_attribute": {**rows, "sun/left": {"excluded": "no positive among the 9 training images"}},
    }  # fmt: skip


def test_the_end_of_a_run_says_where_to_look():
    told = main.summary(_result({"sun/a": _row(0.75)}), "runs/x").splitlines()
    assert "attributes: sun/a 0.750 (conv)" in told
    assert main._ranked({"sun/a": _row(0.75, test_positives=1, test_negatives=70)}) == [
        "attributes: sun/a 0.750 on 1 image of one label (conv)"
    ]
    assert told[-3:] == [
        "Look at it: python -m galm_tf.report runs/x",
        "Try it:     python -m galm_tf.predict --model=runs/x/saved_model IMAGE...",
        "Watch it:   tensorboard --logdir=runs/x",
    ]
    assert not any(line.startswith(("Not tested", "No attribute")) for line in told) and "95 %" not in " ".join(told)
    interval = {"low": 0.6, "high": 0.8, "over": "classes", "count": 6}
    told = main.summary({**_result({"sun/a": _row(0.7)}), "test_mauc": 0.7, "test_mauc_interval": interval}, "runs/x")
    assert "test mAUC 0.700 (95 %, over 6 classes: 0.600 to 0.800) on 4 images of unseen classes (1 attribute)" in told
    few = {"low": None, "high": None, "over": "classes", "count": 2}
    told = main.summary({**_result({"sun/a": _row(0.7)}), "test_mauc": 0.7, "test_mauc_interval": few}, "runs/x")
    assert "test mAUC 0.700 (2 classes: too few to say what others would give) on 4 images" in told


def test_figures_that_mean_little_are_told():
    rows = {
        f"sun/{i}": {**_row(0.8, test_positives=10 * i, test_negatives=70), "val_auc": value}
        for i, value in enumerate((None, 0.5, 0.3, 0.0))
    }
    told = main.summary(_result(rows), "runs/x")
    assert " (4 attributes; 0.800 over the 3 tested on 10 images of either label or more); validation" in told
    assert "\nBelow chance on validation, so that their yes and no mean little: sun/3 and sun/2\n" in told
    told = main.summary(_result({"sun/1": rows["sun/1"]}), "runs/x")
    assert " (1 attribute); validation" in told and "chance" not in told


def test_attributes_that_nothing_judged_are_not_told_to_be_searched():
    rows = {"sun/a": _row(0.7), "sun/b": _row(0.6), "sun/c": _row(0.5, judged_by="none")}
    assert "sun: 3 attributes searched, " in main.summary(_result(rows), "runs/x")
    result = {**_result(rows), "num_attributes_rewarded": 2}
    assert "sun: 3 attributes, 2 of them searched, 1536 architectures scored in" in main.summary(result, "runs/x")


@pytest.mark.parametrize("temperature, told", [(None, False), (1.3, False), (19.99, True)])
def test_probabilities_that_tell_nothing_are_told(temperature, told):
    result = {**_result({"sun/a": _row(0.7)}), **({} if temperature is None else {"temperature": temperature})}
    assert ("\nValidation divides log-odds by 20 (temperature): " in main.summary(result, "runs/x")) is told


def test_attributes_that_were_not_tested_are_named():
    rows = {f"sun/{i}": _row(None, reason=f"not judged: few; not tested: lacks {i}") for i in range(7)}
    told = main.summary(_result({"sun/a": _row(0.75), **rows}), "runs/x")
    assert "\nNot tested: " + "; ".join(f"sun/{i} (lacks {i})" for i in range(7)) + "\n" in told
    alike = {f"sun/{i}": _row(None, reason="not tested: lacks one") for i in range(7)}
    assert "\nNot tested: sun/0, sun/1, sun/2 and 4 more (lacks one)\n" in main.summary(_result(alike), "runs/x")
    few = dict(list(rows.items())[:1])
    assert "\nNot tested: sun/0 (lacks 0)\n" in main.summary(_result({"sun/a": _row(0.75), **few}), "runs/x")


def test_a_run_that_could_judge_nothing_says_what_it_is_worth():
    rows = {f"sun/{i}": _row(None, judged_by="none", reason="not judged: few") for i in range(2)}
    told = main.summary(_result(rows, scored=0), "runs/x")
    assert re.search(
        "\nNo attribute could be judged: too few .* the 3 validation images; the architectures are arbitrary, no yes or no can be given; hold out more by",
        told,
    )
    assert "; the penalty of the readings is arbitrary, no yes" in main.summary(
        {**_result(rows), "method": "reading"}, "runs/x"
    )
    assert "\nNot tested: sun/0 and sun/1 (no reason is known)\n" in told and "attributes: \n" not in told
    told = main.summary(_result({**rows, "sun/a": _row(0.75)}), "runs/x")
    assert (
        "\nNot judged, hence an architecture that is not of their own, no yes or no: sun/0 and sun/1\n" in told
        and "No attribute" not in told
    )
    assert "\nNot judged, hence no yes or no: sun/0 and sun/1\n" in main.summary(
        {**_result({**rows, "sun/a": _row(0.75)}), "method": "reading"}, "runs/x"
    )
    assert "Not judged" not in main.summary(_result({"sun/a": _row(0.75)}), "runs/x")


@pytest.mark.parametrize("phases, told", [(None, True), (["warmup", "finetune"], True), (["warmup"], False)])
def test_validation_was_before_fine_tuning_where_there_was_any(phases, told):
    result = _result({"sun/a": _row(0.75)})
    if phases:  # an earlier version does not tell
        result["search"]["phase_seconds"] = dict.fromkeys(phases, 1.0)
    assert ("validation mAUC, before fine-tuning, " in main.summary(result, "runs/x")) is told


def test_a_run_from_a_source_tells_what_was_matched():
    matches = {
        "mine/a": {"attribute": "sun/x", "sign": 1, "strength": 0.1, "close": True},
        "mine/b": {"attribute": "sun/y", "sign": -1, "strength": 0.2, "close": True},
        "mine/c": {"attribute": "sun/z", "sign": 1, "strength": -0.1, "close": False},
    }
    transfer = {
        "sources": ["runs/A"],
        "match": "predictor",
        "parts": ["policy", "trunk"],
        "gate": None,
        "matches": matches,
    }
    assert main._started({"transfer": transfer}) == [
        "started from runs/A (policy, trunk): 2 of 3 attributes matched by predictor (mine/b ← sun/y reversed, mine/a ← sun/x)"
    ]
    none = {"mine/c": matches["mine/c"]}
    assert main._started({"transfer": {**transfer, "parts": ["trunk", "towers"], "matches": none}}) == [
        "started from runs/A (trunk, towers): none of 1 attributes is like one there; towers begin as the nearest ones there"
    ]
    del transfer["gate"]  # as the first version wrote it
    assert "1 attributes" in main._started({"transfer": {**transfer, "matches": none}})[0]
    assert main._started({"transfer": {**transfer, "gate": {"passed": False}}}) == [
        "started from runs/A: no, a trial from nothing was better"
    ]
    assert main._started({"transfer": {**transfer, "gate": {"passed": False}}, "trunk": {"model": "lite0.keras"}}) == [
        "started from runs/A: only on its pretrained trunk, a trial from nothing else was better"
    ]
    assert main._started({"transfer": None}) == []


def test_a_run_of_several_sources_tells_which_gave_nothing():
    match = {"attribute": "b/x", "sign": 1, "strength": 0.1, "close": True}
    transfer = {
        "sources": ["runs/A", "runs/B", "runs/C"],
        "taken_from": "runs/B",
        "match": "predictor",
        "parts": ["trunk", "towers"],
        "gate": None,
        "matches": {"mine/a": match},
    }
    rest = "; nothing came from runs/A, runs/C"
    assert main._started({"transfer": transfer}) == [
        f"started from runs/B (trunk, towers): 1 of 1 attributes matched by predictor (mine/a ← b/x){rest}"
    ]
    far = {"mine/a": {**match, "close": False}}
    assert main._started({"transfer": {**transfer, "matches": far}}) == [
        f"started from runs/B (trunk, towers): none of 1 attributes is like one there; towers begin as the nearest ones there{rest}"
    ]
    assert main._started({"transfer": {**transfer, "gate": {"passed": False}}}) == [
        "started from runs/B: no, a trial from nothing was better"
    ]
    assert main._started({"transfer": {**transfer, "taken_from": None}})[0].startswith(
        "started from runs/A, runs/B, runs/C (trunk, towers): 1 of 1"
    )
    several = {**transfer, "taken_from": None, "policy_from": "runs/B", "parts": ["policy", "towers"]}
    for matches in (transfer["matches"], far):
        told = main._started({"transfer": {**several, "matches": matches}})[0]
        assert told.endswith("; the policy came from runs/B alone") and "nothing came" not in told


def test_a_source_run_named_twice_is_refused(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "A")
    for again in (f"{tmp_path}/A", f"{tmp_path}/A/", f"{tmp_path}/x/../A", f"{tmp_path}/link"):
        with pytest.raises(
            UserError, match=f"^Expected each --source_run once. Received: {again}, named twice; name different runs.$"
        ):
            main_flags.settings("--domain=sun", f"--source_run={tmp_path}/A,{again}")
    assert main_flags.settings("--domain=sun", f"--source_run={tmp_path}/A,{tmp_path}/B").source_run
