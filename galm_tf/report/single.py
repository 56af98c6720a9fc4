"""What the page about one run says: every figure comes from the run folder."""

from __future__ import annotations

import collections
import dataclasses
import logging
import math
import os
import shlex
from typing import Any

import numpy as np

from galm_tf import selection
from galm_tf.config import Config
from galm_tf.report import figures
from galm_tf.report.diagram import architecture_svg
from galm_tf.report.page import Page
from galm_tf.report.pictures import PictureSource, Unavailable
from galm_tf.report.run_reading import FinishedRun
from galm_tf.search_space import DECISIONS, Architecture

_SHOWN = 4  # best and worst attributes
_PAIRS = 8
_OPEN_NETWORKS = 8  # drawings before the fold
_FIGURES = ("skill", "specialisation", "regret", "entropy")
_JUDGES = {"classes": "held-out classes", "images": "held-out images", "none": "nobody"}
_PHASES = {
    "warmup": "warm-up of the shared weights",
    "supernet": "shared weights, policy's architectures",
    "controller": "controller",
    "adapt": "adapting the chosen networks",
    "finetune": "fine-tuning them",
}
_DECISION_NAMES = {
    "conv1_conv4": "Conv-1 → Conv-4 skip",
    "conv2_conv4": "Conv-2 → Conv-4 skip",
    "conv4_kernel": "Conv-4 kernel",
    "conv1_conv5": "Conv-1 → Conv-5 skip",
    "conv2_conv5": "Conv-2 → Conv-5 skip",
    "conv3_conv5": "Conv-3 → Conv-5 skip",
    "conv5_kernel": "Conv-5 kernel",
    "fc1_width": "Fc-1 width",
    "fc2_width": "Fc-2 width",
    "fc3_input": "Fc-3 reads",
}
# No figure depends on them.
MACHINE_SETTINGS = ("run_dir", "resume", "cache_dir", "checkpoint_seconds", "reward_memory_mib", "verify_cache")


def single_page(run: FinishedRun, with_pictures: bool = True) -> Page:
    """The page about one run; `with_pictures` loads its data and its model."""
    shown = shown_names(run)
    networks = _networks(run, shown)
    extremes = _extremes(run)
    relations, drawn = _relations(run, shown)
    curves = figures.learning_curves(run)
    scatter = figures.validation_against_test(run, shown)
    content = {
        "title": f"{', '.join(run.result['domains'])}: {run.result['method']}, seed {run.result['seed']}",
        "run": run,
        "headline": headline(run),
        "meanings": meanings(run),
        "without_figures": _without_figures(run),
        "phases": _phases(run),
        "pictures": _pictures(run, extremes, with_pictures),
        "attributes": _attribute_rows(run, shown, networks),
        "excluded": {shorten(run, name): reason for name, reason in run.excluded.items()},
        "extremes": [(title, [_card(run, name, shown) for name in names]) for title, names in extremes.items()],
        "has_scatter": scatter is not None,
        "networks": networks,
        "open_networks": _OPEN_NETWORKS,
        "frequencies": choice_table(run),
        "relations": relations,
        "curves": list(curves),
        "flagfile": shlex.quote(os.path.join(run.path, "flags.txt")),
        "changed_settings": _changed_settings(run),
    }
    drawn.update({f"curve-{name}": curve for name, curve in curves.items()})
    if scatter:
        drawn["scatter"] = scatter
    return Page("single.html.j2", content, drawn)


def shorten(run: FinishedRun, name: str) -> str:
    """An attribute for a person: without the domain's name where there is only one."""
    return name if len(run.result["domains"]) > 1 else name.split("/", 1)[-1]


def shown_names(run: FinishedRun) -> dict[str, str]:
    """Attribute name -> what the page calls it."""
    return {name: shorten(run, name) for name in run.rows}


def headline(run: FinishedRun) -> dict[str, Any]:
    """The figures at the top."""
    result = run.result
    return {
        "notice": result.get("notice"),
        "notes": [n for n in result.get("notes", []) if not result.get("notice") or result["notice"] not in n],
        "test_mauc": result["test_mauc"],
        "val_mauc": result["val_mauc"],
        "tested": result["num_attributes_tested"],
        "searched": result["num_attributes"],
        "rewarded": result.get("num_attributes_rewarded"),
        "images": result["num_images"],
        "unseen": result.get("class_disjoint", True),
        "scored": result["search"].get("architectures_scored"),
        "seconds": result["seconds_total"],
        "image_size": run.config.image_size,
        "held_out": [c.split("/", 1)[-1] if len(result["domains"]) == 1 else c for c in result.get("held_out_classes", [])],
        "versions": result.get("versions", {}),
        "commit": result.get("commit"),
    }


def meanings(run: FinishedRun) -> list[tuple[str, float, str]]:
    """(name, value, plain words) of the search's own figures that the run has."""
    search = run.result["search"]
    entropy = search.get("entropy")
    left = "" if entropy is None else f" Here as sure as an even choice among {math.exp(entropy):.0f} of 2304."
    texts = {
        "skill": "How well the search picks, judged on validation images it did not see: 1 picks as well as the best of all "
        "rewards, 0 no better than chance.",
        "specialisation": "What a network of its own gains each attribute over the best single network for all, in reward, "
        "judged on the other half of validation. Near 0: one network would do.",
        "regret": "How far the picked networks are below the best in the rewards that the search saw: 0 is the best, 1 an "
        "average one. A check of the optimiser, no more.",
        "entropy": f"How undecided the policy still is (nats): {math.log(2304):.2f} knows nothing, 0 is sure.{left}",
    }
    return [(name, search[name], texts[name]) for name in _FIGURES if search.get(name) is not None]


def _without_figures(run: FinishedRun) -> str:
    """The sentence about what `meanings` cannot tell; "" when nothing is missing."""
    names = [name for name in _FIGURES if run.result["search"].get(name) is None]
    if not names:
        return ""
    listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    reason = "no table of rewards, or no policy" if "entropy" in names else "no table of the rewards of all architectures"
    return f"{listed.capitalize()} {'are' if len(names) > 1 else 'is'} left out: this run has {reason}."


def _phases(run: FinishedRun) -> list[tuple[str, float, float]]:
    """(phase, seconds, share of the whole run), with what no phase counts at the end."""
    seconds, total = dict(run.result["search"].get("phase_seconds", {})), run.result["seconds_total"]
    rest = total - sum(seconds.values())
    named = [(_PHASES.get(phase, phase), value) for phase, value in seconds.items()]
    if rest > 0:
        named.append(("loading, test and export", rest))
    whole = max(sum(value for _, value in named), 1e-9)
    return [(name, value, value / whole) for name, value in named]


def _pictures(run: FinishedRun, extremes: dict[str, list[str]], wanted: bool) -> dict[str, Any]:
    """Contact sheet and examples by attribute, or the sentence that stands in their place."""
    found: dict[str, Any] = {"sheet": {}, "examples": {}, "missing": "", "examples_missing": ""}
    if not wanted:
        return {**found, "missing": "Pictures are left out: the report was made with --nopictures."}
    try:
        source = PictureSource(run)
    except Unavailable as reason:
        logging.warning("%s", reason)
        return {**found, "missing": str(reason)}
    found["sheet"] = source.contact_sheet()
    try:
        found["examples"] = source.scored_examples([name for names in extremes.values() for name in names])
    except Unavailable as reason:
        logging.warning("%s", reason)
        found["examples_missing"] = str(reason)
    return found


def _extremes(run: FinishedRun) -> dict[str, list[str]]:
    """Title -> names of the attributes with the highest and the lowest test AUC; none is in both."""
    tested = sorted((n for n, r in run.rows.items() if r["test_auc"] is not None), key=lambda n: -run.rows[n]["test_auc"])
    count = min(_SHOWN, math.ceil(len(tested) / 2))
    worst = tested[count:][-_SHOWN:][::-1]
    return {title: names for title, names in (("Best", tested[:count]), ("Worst", worst)) if names}


def _card(run: FinishedRun, name: str, shown: dict[str, str]) -> dict[str, Any]:
    row = run.rows[name]
    return {"key": name, "name": shown[name], "row": row, "judge": _judge(row), "svg": architecture_svg(run.architectures[name])}


def _judge(row: dict[str, Any]) -> str:
    return _JUDGES.get(row.get("judged_by"), row.get("judged_by") or "–")


def _attribute_rows(run: FinishedRun, shown: dict[str, str], networks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    places = {network["text"]: i for i, network in enumerate(networks)}
    rows = []
    for name, row in run.rows.items():
        text = run.architectures[name].describe()
        figures_of = {k: row.get(k) for k in ("test_auc", "val_auc", "prevalence", "threshold", "reason")}
        more = {k: row.get(f"test_{k}") for k in ("average_precision", "f1", "balanced_accuracy")}
        rows.append({"name": shown[name], "judge": _judge(row), "network": places[text], "text": text, **figures_of, **more})
    return rows


def _networks(run: FinishedRun, shown: dict[str, str]) -> list[dict[str, Any]]:
    """The distinct networks with who uses them, most used first."""
    users: dict[Architecture, list[str]] = collections.defaultdict(list)
    for name, architecture in run.architectures.items():
        users[architecture].append(shown[name])
    ordered = sorted(users.items(), key=lambda item: (-len(item[1]), item[0].describe()))
    return [{"text": a.describe(), "svg": architecture_svg(a), "names": sorted(names)} for a, names in ordered]


def choice_table(run: FinishedRun) -> dict[str, Any]:
    """Table 4: per decision and choice, the share of each domain's attributes that take it."""
    domains = {d: [a for n, a in run.architectures.items() if n.split("/", 1)[0] == d] for d in run.result["domains"]}
    domains = {d: architectures for d, architectures in domains.items() if architectures}
    shares = {d: selection.choice_frequencies(np.array([a.number for a in found])) for d, found in domains.items()}
    rows = [
        {"decision": _DECISION_NAMES[d.name], "choices": [
            {"choice": _choice(c), "shares": [shares[domain][d.name][str(c)] for domain in domains]} for c in d.choices
        ]}
        for d in DECISIONS
    ]
    return {"domains": [(d, len(found)) for d, found in domains.items()], "rows": rows}


def _choice(choice: Any) -> str:
    if isinstance(choice, bool):
        return "on" if choice else "off"
    return {"fc1": "Fc-1", "fc2": "Fc-2", 3: "3×3", 5: "5×5"}.get(choice, str(choice))


def _relations(run: FinishedRun, shown: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The most alike attributes and the heat map, or the sentence that stands in their place."""
    if run.vectors is None or len(run.vectors) < 2:
        missing = (
            f"The heat map is left out: this run has no attribute embeddings (method {run.result['method']}); "
            "galm learns them."
        )
        return {"missing": missing, "pairs": []}, {}
    matrix, names = figures.correlation(run.vectors), list(shown.values())
    return {"missing": "", "pairs": _pairs(run, matrix, names)}, {"correlation": figures.heat_map(matrix, names)}


def _pairs(run: FinishedRun, matrix: np.ndarray, names: list[str]) -> list[tuple[str, str, float]]:
    """The most alike pairs, of different domains where the run joins several (Table 5)."""
    domains = [name.split("/", 1)[0] for name in run.rows]
    first, second = np.triu_indices(len(names), 1)
    if len(set(domains)) > 1:
        across = np.array([domains[i] != domains[j] for i, j in zip(first, second)])
        first, second = first[across], second[across]
    best = np.argsort(-matrix[first, second], kind="stable")[:_PAIRS]
    return [(names[first[i]], names[second[i]], float(matrix[first[i], second[i]])) for i in best]


def _changed_settings(run: FinishedRun) -> list[tuple[str, str, str]]:
    """(setting, value, default) of the settings that are not at their default."""
    ours, default = run.config.to_json(), Config().to_json()
    return [
        (f.name, setting_text(ours[f.name]), setting_text(default[f.name]))
        for f in dataclasses.fields(Config)
        if f.name not in MACHINE_SETTINGS and ours[f.name] != default[f.name]
    ]


def setting_text(value: Any) -> str:
    """A setting as on the command line; a dash for an empty one."""
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text or "–"
