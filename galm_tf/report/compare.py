"""What the page about several runs says: the first run is what the others are compared with."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Collection, Sequence

import numpy as np

from galm_tf import evaluation
from galm_tf.attribute_names import domain_of, without_domain
from galm_tf.config import Config
from galm_tf.report import figures, notices, rivals
from galm_tf.report.names import without_directions
from galm_tf.report.page import Page, duration, figure
from galm_tf.report.run_reading import FinishedRun
from galm_tf.report.single import MEANINGS, setting_text
from galm_tf.run_folder import FREE_SETTINGS
from galm_tf.words import listed, millions

_MAUC = "test mAUC"
_NOT_NOTED = "not noted"
_COMMIT, _SHOWN, _NAMED = "commit", 12, 4  # of a commit's digits; names of attributes in a sentence
_PROGRAM: tuple[tuple[str, Callable[[FinishedRun], str]], ...] = (  # told where runs differ
    (_COMMIT, lambda r: (r.result.get("commit") or _NOT_NOTED)[:_SHOWN]),
    *(
        (name, lambda r, name=name: (r.result.get("versions") or {}).get(name, _NOT_NOTED))
        for name in ("galm_tf", "tensorflow")
    ),
    ("computed on", lambda r: r.result.get("computed_on", _NOT_NOTED)),
)
_LOG_LOSS = (
    "How far probabilities are from the labels, most of all where they are sure and wrong: the lower, the better."
)
_HEADLINE: tuple[tuple[str, Callable[[FinishedRun], str]], ...] = (
    ("method", lambda r: r.result["method"]),
    ("seed", lambda r: str(r.result["seed"])),
    (
        "data",
        lambda r: (
            ", ".join(f"{d} ({s})" for d, s in r.result.get("data_sources", {}).items())
            or ", ".join(r.result["domains"])
        ),
    ),
    (_MAUC, lambda r: figure(r.result["test_mauc"])),
    ("validation mAUC", lambda r: figure(r.result["val_mauc"])),
    ("attributes tested", lambda r: f"{r.result['num_attributes_tested']} of {r.result['num_attributes']}"),
    ("test images", lambda r: str(r.result["num_images"].get("test", "–"))),
    ("test average precision", lambda r: figure(r.result.get("test_average_precision"))),
    ("test log loss", lambda r: figure(r.result.get("test_log_loss"))),
    ("test balanced accuracy", lambda r: figure(r.result.get("test_balanced_accuracy"))),
    ("skill", lambda r: _of_search(r, "skill", 2)),
    ("specialisation", lambda r: _of_search(r, "specialisation", 3)),
    ("regret", lambda r: _of_search(r, "regret", 3)),
    ("entropy (nats)", lambda r: _of_search(r, "entropy", 2)),
    (
        "architectures scored",
        lambda r: f"{r.result['search'].get('architectures_scored', 0):,}{_of_addition(r)}" if r.searched else "–",
    ),
    ("multiply-adds an image", lambda r: millions(r.size.multiply_adds)),
    ("parameters", lambda r: millions(r.size.parameters)),
    (
        "time",
        lambda r: duration(r.result["seconds_total"]) + _of_addition(r),
    ),
)


def _of_search(run: FinishedRun, name: str, digits: int) -> str:
    """A figure of the search."""
    value = run.result["search"].get(name)
    return figure(value, digits) + (_of_addition(run) if value is not None else "")


def _of_addition(run: FinishedRun) -> str:
    """That a figure is not of the whole of an extended run."""
    return " (the addition alone)" if run.result.get("added") else ""


def compare_page(runs: Sequence[FinishedRun]) -> Page:
    """The page about several runs, side by side."""
    labels = [f"{i}: {run.name}" for i, run in enumerate(runs, 1)]
    tests = [rivals.same_test(runs[0], run) for run in runs[1:]]
    otherwise = [(), *(test.otherwise for test in tests)]
    aucs = [rivals.tested(run) for run in runs]
    few = {name for run in runs for name, row in run.rows.items() if evaluation.told_by_few(row)}
    compared = [rivals.without(auc, names) for auc, names in zip(aucs, otherwise)]
    told = [rivals.without(auc, few) for auc in compared]
    differences = {
        label: {n: auc[n] - told[0][n] for n in told[0] if n in auc} for label, auc in zip(labels[1:], told[1:])
    }
    differences = {label: of for label, of in differences.items() if of}
    pairs = zip(labels[1:], compared[1:], told[1:])
    paired = [(label, rivals.paired(every, aucs[0]), rivals.paired(sure, told[0])) for label, every, sure in pairs]
    names = _shown_names(aucs)
    content = {
        "title": f"{len(runs)} runs side by side",
        "made_from": "the run folders alone",
        "runs": list(zip(labels, runs)),
        "notices": _notices(runs, labels),
        "headline": _headline(runs, aucs, set().union(*otherwise)),
        "meanings": _meanings(runs),
        "settings": _different_settings(runs),
        "warnings": _warnings(runs, labels, tests, names),
        "paired": paired,
        "rows": [{"name": shown, "few": name in few, **_row(name, aucs, compared)} for name, shown in names.items()],
        "least_tested": evaluation.MIN_TOLD,
        "methods_differ": len({run.searched for run in runs}) > 1,
        "shared": any(pair["count"] for _, pair, _ in paired),
        "drawn": any(differences.values()),
    }
    drawn = {"differences": figures.difference_bars(differences, labels[0], names)} if content["drawn"] else {}
    return Page("compare.html.j2", content, drawn)


def _notices(runs: Sequence[FinishedRun], labels: Sequence[str]) -> list[tuple[str, str]]:
    """(whose, notice) of data of which there is one; whose: the labels of their runs, "" where these are all."""
    told: dict[str, list[str]] = {}
    for label, run in zip(labels, runs):
        if run.result.get("notice"):
            told.setdefault(run.result["notice"], []).append(label)
    return [(listed(of, len(of)) if len(of) < len(runs) else "", notice) for notice, of in told.items()]


def _shown_names(aucs: Sequence[dict[str, float]]) -> dict[str, str]:
    """Tested attribute -> what the page calls it: without the domain's name where there is only one."""
    names = list(dict.fromkeys(n for auc in aucs for n in auc))
    joined = len(set(map(domain_of, names))) > 1
    return {n: without_directions(n if joined else without_domain(n)) for n in names}


def _headline(
    runs: Sequence[FinishedRun], aucs: Sequence[dict[str, float]], otherwise: Collection[str]
) -> list[tuple[str, list[str]]]:
    """(name, its value in every run); the mean over what all tested alike stands beside that over what each did, where
    these differ.

    Args:
      runs: [R].
      aucs: of each, attribute -> test AUC.
      otherwise: attributes that some run tested on other labels than the first.
    """
    rows = [(name, [text(run) for run in runs]) for name, text in _HEADLINE] + _program(runs)
    if otherwise or any(auc.keys() != aucs[0].keys() for auc in aucs):
        # a run that shares nothing with the first leaves the others comparable
        alike = [auc for auc in aucs if not auc.keys().isdisjoint(aucs[0])]
        common = [name for name in aucs[0] if name not in otherwise and all(name in auc for auc in alike)]
        who = "all" if len(alike) == len(runs) else "those with a figure all"
        means = [figure(float(np.mean([auc[n] for n in common])) if common and auc in alike else None) for auc in aucs]
        if len(alike) > 1:
            rows.insert(
                1 + [name for name, _ in rows].index(_MAUC),
                (f"{_MAUC} on attributes that {who} tested{' alike' * bool(otherwise)} ({len(common)})", means),
            )
    return rows


def _program(runs: Sequence[FinishedRun]) -> list[tuple[str, list[str]]]:
    """(name, its value in every run) of what of the program and the machine is not the same for all."""
    rows = [(name, [text(run) for run in runs]) for name, text in _PROGRAM]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def _meanings(runs: Sequence[FinishedRun]) -> list[tuple[str, str]]:
    """(name, plain words) of figures of the headline that some run has."""
    had = [name for name in MEANINGS if any(run.result["search"].get(name) is not None for run in runs)]
    losses = any(run.result.get("test_log_loss") is not None for run in runs)
    return [*([("log loss", _LOG_LOSS)] if losses else []), *((name, MEANINGS[name]) for name in had)]


def _row(name: str, aucs: Sequence[dict[str, float]], compared: Sequence[dict[str, float]]) -> dict[str, Any]:
    """An attribute's AUC in every run, and what each of which it compares has more than the first."""
    first, *others = (auc.get(name) for auc in compared)
    more = [None if v is None or first is None else v - first for v in others]
    return {"aucs": [auc.get(name) for auc in aucs], "differences": more}


def _different_settings(runs: Sequence[FinishedRun]) -> list[tuple[str, list[str]]]:
    """(setting, its value in every run) of those that differ and may change a figure."""
    stored = [run.config.to_json() for run in runs]
    names = [f.name for f in dataclasses.fields(Config) if f.name not in FREE_SETTINGS]
    return [(n, [setting_text(s[n]) for s in stored]) for n in names if any(s[n] != stored[0][n] for s in stored)]


def _warnings(
    runs: Sequence[FinishedRun], labels: Sequence[str], tests: Sequence[rivals.SameTest], names: dict[str, str]
) -> list[str]:
    """Sentences that a reader of the differences must know.

    Args:
      runs: [R].
      labels: what the page calls them.
      tests: whether those of all but the first are that of the first.
      names: attribute -> what the page calls it.
    """
    found, first = [], runs[0]
    for label, run, test in zip(labels[1:], runs[1:], tests):
        if not test.same:
            as_told = ", as far as their folders tell" if test.untold else ""
            found.append(
                f"{label} was tested on other domains than {labels[0]}: their figures compare where both tested an attribute on the same images, which "
                "their folders do not tell." if rivals.may_share_images(first, run)
                else f"{label} was not tested on the same images and labels as {labels[0]}{as_told}: their figures do not compare."
            )  # fmt: skip
            continue
        if test.otherwise:
            found.append(
                f"{notices.other_labels(test.otherwise, names)} in {label} than in {labels[0]}, and left out of the differences: of the test means, "
                "only that on attributes that all tested alike compares."
            )
        elif rivals.tested(first).keys() != rivals.tested(run).keys():
            found.append(
                f"{label} does not have the same tested attributes as {labels[0]}: of the test means, only that on attributes that all tested compares."
            )
        if test.untold:
            told = listed([names[name] for name in test.untold], _NAMED)
            found.append(
                f"Whether {label} was tested on the same labels as {labels[0]}, their folders do not tell of {told}."
            )
    found += _program_warnings(runs)
    return found + _reward_warnings([(label, run) for label, run in zip(labels, runs) if run.searched])


def _program_warnings(runs: Sequence[FinishedRun]) -> list[str]:
    """The same of runs that several versions of the program computed."""
    rows = dict(_program(runs))
    for name, words in ((_COMMIT, "at several commits"), ("galm_tf", "by several versions of galm_tf")):
        if name in rows:
            told = ", ".join(dict.fromkeys(rows[name]))
            return [
                f"The runs were computed {words} ({told}), which may differ in procedure: so may figures of the same settings."
            ]
    return []


def _reward_warnings(searched: Sequence[tuple[str, FinishedRun]]) -> list[str]:
    """The same of what a search's own figures are made of: (label, run) of those that searched."""
    found = []
    for label, run in searched[1:]:
        first_label, first = searched[0]
        rewards, penalties = ([getattr(r.config, name) for r in (first, run)] for name in ("reward", "size_penalty"))
        if rewards[0] != rewards[1]:
            found.append(
                f"{label} has another reward than {first_label}: skill, specialisation and regret do not compare."
            )
        elif penalties[0] != penalties[1]:
            found.append(f"{label} has another size penalty than {first_label}: skill and regret do not compare.")
    return found
