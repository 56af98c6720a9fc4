"""What the page about one run says: every figure comes from the run folder."""

from __future__ import annotations

import collections
import dataclasses
import math
import os
import shlex
from typing import Any, Optional, Sequence

import numpy as np

from galm_tf import evaluate
from galm_tf.config import Config
from galm_tf.matches import is_close
from galm_tf.report import analysis, figures, notices, rivals
from galm_tf.report.diagram import architecture_svg
from galm_tf.report.page import Page
from galm_tf.report.pictures import PictureSource
from galm_tf.report.relations import EMBEDDINGS, SCORES, Relations
from galm_tf.report.run_data import Evidence
from galm_tf.report.run_reading import FinishedRun
from galm_tf.run_folder import FREE_SETTINGS
from galm_tf.search_space import DECISIONS, Architecture
from galm_tf.selection import SKILL_CAVEAT
from galm_tf.telemetry import clustered_order

_SHOWN = 4  # best and worst attributes
_CORRELATED_ROWS = 4  # of Table 5, per domain
_OPEN_LEAVES = 40  # a larger tree of attributes is folded
_WITH_POLICY = ("galm", "enas")
_OPEN_NETWORKS = 8  # drawings before the fold
_FIGURES = ("skill", "specialisation", "regret", "entropy")
_JUDGES = {"classes": "held-out classes", "images": "all validation images", "none": "nobody"}
_JUDGES_SHORT = {"classes": "classes", "images": "all", "none": "nobody"}  # in a column
_FOUND = {  # what --match did for an attribute
    "predictor": "found a source attribute whose predictor separates their labels",
    "cosine": "took the source attribute whose embedding points most nearly where theirs does",
    "random": "drew a source attribute by chance",
}
_TAKEN = {"policy": "embedding", "towers": "weights"}  # part of --transfer: what an attribute has from its match
_PHASES = {  # in the order of time
    "load": "loading the data and the source run",
    "features": "what the source's trunk says of the images",
    "match": "finding the source attributes that are alike",
    "warmup": "warm-up of the shared weights",
    "supernet": "shared weights, policy's architectures",
    "controller": "training the controller",
    "derive": "choosing, and measuring how well",
    "adapt": "adapting the chosen networks",
    "finetune": "fine-tuning them",
    "test": "test",
}
_REST, _OTHERS, _SHORT = "loading, test and export", "others", 0.02  # of the whole time: shorter phases are told together
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


def single_page(run: FinishedRun, evidence: Evidence, related: Sequence[Relations], others: Sequence[rivals.Rival] = ()) -> Page:
    """The page about one run.

    Args:
      run: the run.
      evidence: its data and what its model says of them, where they are at hand.
      related: how its attributes relate, of `find_relations`; the page shows the first.
      others: runs that its figures stand against, besides ridge regression and chance.
    """
    shown = shown_names(run)
    networks = _networks(run, shown)
    extremes = _extremes(run)
    relations, drawn = _relations(run, shown, related, evidence)
    curves = figures.learning_curves(run)
    scatter = figures.validation_against_test(run, shown)
    plain = rivals.ridge(run, evidence.data) if evidence.data else None
    content = {
        "title": _title(run),
        "run": run,
        "headline": headline(run),
        "nothing_judged": notices.nothing_judged(run),
        "untested": notices.untested(run, shown),
        "meanings": meanings(run),
        "without_figures": _without_figures(run),
        "phases": _phases(run),
        "rivals": rivals.table(run, [*others, plain, rivals.chance(run)]),
        "transfer": _transfer(run),
        "pictures": _pictures(run, extremes, evidence),
        "attributes": _attribute_rows(run, shown, networks, plain, relations),
        "excluded": {shorten(run, name): reason for name, reason in run.excluded.items()},
        "least_tested": evaluate.MIN_TOLD,
        "extremes": [(title, [_card(run, name, shown) for name in names]) for title, names in extremes.items()],
        "has_scatter": scatter is not None,
        "networks": networks,
        "open_networks": _OPEN_NETWORKS,
        "frequencies": choice_table(run),
        "confidence": _confidence(run),
        "relations": relations,
        "curves": list(curves),
        "flagfile": shlex.quote(os.path.join(run.path, "flags.txt")),
        "changed_settings": _changed_settings(run),
    }
    drawn.update({f"curve-{name}": curve for name, curve in curves.items()})
    if scatter:
        drawn["scatter"] = scatter
    return Page("single.html.j2", content, drawn)


def _title(run: FinishedRun) -> str:
    """What was searched and how; of an addition, what was added to which run."""
    result, added = run.result, run.result.get("added")
    how, where = f"{result['method']}, seed {result['seed']}", ", ".join(result["domains"])
    if not added:
        return f"{where}: {how}"
    names = notices.listed([shorten(run, name) for name in added["attributes"]])
    return f"{where}: {names} added to {_folder_name(added['source_run'])} ({how})"


def _folder_name(path: str) -> str:
    return os.path.basename(os.path.normpath(path))


def shorten(run: FinishedRun, name: str) -> str:
    """An attribute for a person: without the domain's name where there is only one."""
    return name if len(run.result["domains"]) > 1 else name.split("/", 1)[-1]


def shown_names(run: FinishedRun) -> dict[str, str]:
    """Attribute name -> what the page calls it."""
    return {name: shorten(run, name) for name in run.rows}


def headline(run: FinishedRun) -> dict[str, Any]:
    """The figures at the top."""
    result, added = run.result, run.result.get("added")
    return {
        "notice": result.get("notice"),
        "notes": [n for n in result.get("notes", []) if not result.get("notice") or result["notice"] not in n],
        "test_mauc": result["test_mauc"],
        "val_mauc": result["val_mauc"],
        "tested": result["num_attributes_tested"],
        "searched": result["num_attributes"],
        "size": run.size,
        "readout": result.get("readout"),
        "rewarded": result.get("num_attributes_rewarded"),
        "images": result["num_images"],
        "unseen": result.get("class_disjoint", True),
        "scored": result["search"].get("architectures_scored"),
        "seconds": result["seconds_total"],
        "added_to": added and {"source": _folder_name(added["source_run"]), "seconds": added.get("source_seconds")},
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
        f"rewards would, 0 no better than chance. {SKILL_CAVEAT}",
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
    listed = notices.listed(names, len(names))
    if names == ["skill"] and not run.config.measure_skill:
        reason = "did not measure it (--nomeasure_skill)"
    elif "entropy" in names:
        reason = "has no table of rewards, or no policy"
    elif names == ["skill"] and run.config.reward_data == "full":
        reason = "has no attribute that both halves of validation can judge, or what is best on one half gains nothing on the other"
    else:
        reason = "has no table of the rewards of all architectures"
    return f"{listed.capitalize()} {'are' if len(names) > 1 else 'is'} left out: this run {reason}."


def _phases(run: FinishedRun) -> list[tuple[str, float, float]]:
    """(phase, seconds, share of the whole run) in the order of time, then what no phase counts, then short ones together."""
    counted, order = run.result["search"].get("phase_seconds", {}), list(_PHASES)
    phases = sorted(counted, key=lambda phase: order.index(phase) if phase in order else len(order))
    seconds = {_PHASES.get(phase, phase.replace("_", " ")): counted[phase] for phase in phases}
    rest = run.result["seconds_total"] - sum(seconds.values())
    if rest > 0:  # an addition counts loading and the test by themselves
        seconds[_OTHERS if run.result.get("added") else _REST] = rest
    whole = max(sum(seconds.values()), 1e-9)
    short = [name for name, value in seconds.items() if name != _OTHERS and value < _SHORT * whole]
    if len(short) > 1 or short and _OTHERS in seconds:
        seconds[_OTHERS] = seconds.pop(_OTHERS, 0.0) + sum(seconds.pop(name) for name in short)
    return [(name, value, value / whole) for name, value in seconds.items()]


def _pictures(run: FinishedRun, extremes: dict[str, list[str]], evidence: Evidence) -> dict[str, Any]:
    """Contact sheet and examples by attribute, or the sentence that stands in their place."""
    found: dict[str, Any] = {"sheet": {}, "examples": {}, "missing": evidence.missing, "examples_missing": evidence.scores_missing}
    if evidence.data is None:
        return found
    source = PictureSource(run, evidence.data)
    found["sheet"] = source.contact_sheet()
    if evidence.scores is not None:
        found["examples"] = source.scored_examples([name for names in extremes.values() for name in names], evidence.scores)
    return found


def _extremes(run: FinishedRun) -> dict[str, list[str]]:
    """Title -> names of the attributes with the highest and the lowest test AUC (`evaluate.best_to_worst`); none is in both."""
    tested = evaluate.best_to_worst(run.rows, 2 * _SHOWN)
    count = min(_SHOWN, math.ceil(len(tested) / 2))
    worst = tested[count:][-_SHOWN:][::-1]
    return {title: names for title, names in (("Best", tested[:count]), ("Worst", worst)) if names}


def _card(run: FinishedRun, name: str, shown: dict[str, str]) -> dict[str, Any]:
    row = run.rows[name]
    return {"key": name, "name": shown[name], "row": row, "judge": _judge(row, _JUDGES), "svg": architecture_svg(run.architectures[name])}


def _judge(row: dict[str, Any], words: dict[str, str]) -> str:
    return words.get(row.get("judged_by"), row.get("judged_by") or "–")


def _attribute_rows(
    run: FinishedRun, shown: dict[str, str], networks: list[dict[str, Any]], plain: Optional[rivals.Rival], relations: dict[str, Any]
) -> list[dict[str, Any]]:
    places = {network["text"]: i for i, network in enumerate(networks)}
    starts, words = _starts(run), {} if relations["missing"] else relations["correlated"]["words"]
    rows = []
    for name, row in run.rows.items():
        text = run.architectures[name].describe()
        size = run.tower_size(name)
        figures_of = {k: row.get(k) for k in ("test_auc", "val_auc", "prevalence", "threshold", "reason")}
        more = {k: row.get(f"test_{k}") for k in ("average_precision", "f1", "balanced_accuracy")}
        rows.append({
            "name": shown[name], "judge": _judge(row, _JUDGES), "judge_short": _judge(row, _JUDGES_SHORT), "network": places[text],
            "text": text, **figures_of, **more, "size": size,
            "ridge": plain.aucs.get(name) if plain else None, "start": starts.get(name, ""), "correlated": words.get(name, ""),
        })
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
    domains, of = analysis.domains_of(run), list(run.attribute_domains)
    table = analysis.choice_frequencies(run).set_index(["domain", "decision", "choice"])["share"]
    rows = [
        {"decision": _DECISION_NAMES[d.name], "choices": [
            {"choice": _choice(c), "shares": [float(table[domain, d.name, str(c)]) for domain in domains]} for c in d.choices
        ]}
        for d in DECISIONS
    ]
    return {"domains": [(d, of.count(d)) for d in domains], "rows": rows}


def _choice(choice: Any) -> str:
    if isinstance(choice, bool):
        return "on" if choice else "off"
    return {"fc1": "Fc-1", "fc2": "Fc-2", 3: "3×3", 5: "5×5"}.get(choice, str(choice))


def _relations(
    run: FinishedRun, shown: dict[str, str], related: Sequence[Relations], evidence: Evidence
) -> tuple[dict[str, Any], dict[str, Any]]:
    """How attributes relate, and its plots; or the sentence that stands in their place."""
    without_scores = evidence.missing or evidence.scores_missing
    if not related:
        missing = (
            "The heat map, the correlation of domains (Fig. 5), the most correlated attributes (Table 5) and the clusters are left "
            f"out: this run has {_too_few(run, without_scores)}."
        )
        return {"missing": missing}, {}
    shown_first, matrix = related[0], related[0].matrix
    names, of = list(shown.values()), run.attribute_domains
    grouped = analysis.clusters(matrix)
    order = clustered_order(matrix) if grouped is None else grouped.order
    drawn = {"correlation": figures.heat_map(matrix, names, order)}
    found = {
        "missing": "",
        "basis": shown_first.basis,
        "agreement": {relations.basis: relations.agreement for relations in related},
        "without_scores": without_scores if shown_first.basis == EMBEDDINGS else "",
        "spread": float(matrix[np.triu_indices(len(names), 1)].std()),
        "size": run.vectors.shape[1] if shown_first.basis == EMBEDDINGS else None,
        "images": len(evidence.data.split.test) if shown_first.basis == SCORES else None,
        "domain_tables": _domain_tables(run, matrix),
        "correlated": _most_correlated(run, shown, matrix),
        "clusters": None,
    }
    if grouped is not None:
        numbers = range(1, grouped.labels.max() + 1)
        if len(set(of)) > 1:
            colours, groups = of, analysis.domains_of(run)
        else:
            colours, groups = [f"cluster {label}" for label in grouped.labels], [f"cluster {c}" for c in numbers]
        drawn["map"] = figures.attribute_map(grouped, names, colours, groups)
        drawn["tree"] = figures.dendrogram(grouped, names, colours, groups)
        members = [[names[i] for i in grouped.order if grouped.labels[i] == c] for c in numbers]
        found["clusters"] = {"members": members, "silhouette": grouped.silhouette, "shown_share": grouped.shown_share,
                             "cut": grouped.cut, "folded": len(names) > _OPEN_LEAVES}
    return found, drawn


def _too_few(run: FinishedRun, without_scores: str) -> str:
    """What a run without relations lacks, in words."""
    if len(run.rows) < 2:
        return "a single attribute"
    return f"no attribute embeddings (method {run.result['method']}; galm learns them) and its test images were not scored ({without_scores.rstrip('.')})"


def _domain_tables(run: FinishedRun, matrix: np.ndarray) -> list[dict[str, Any]]:
    """Fig. 5 a and b as tables of targets by sources; none where a run has one domain."""
    domains = analysis.domains_of(run)
    if len(domains) < 2:
        return []
    cells = {(r.figure, r.target, r.source): r for r in analysis.domain_correlation(run, matrix).itertuples()}
    titles = (("5a", "Own domain left out (Fig. 5 a)"), ("5b", "Own domain left in (Fig. 5 b)"))
    return [
        {"title": title, "domains": domains,
         "rows": [(target, [cells.get((figure, target, source)) for source in domains]) for target in domains]}
        for figure, title in titles
    ]


def _most_correlated(run: FinishedRun, shown: dict[str, str], matrix: np.ndarray) -> dict[str, Any]:
    """Table 5 for the attributes that are most like some of the other domains, and for each attribute in words."""
    table = analysis.correlated_attributes(run, matrix)
    sources = [domain for domain in analysis.domains_of(run) if domain in set(table["source"])]
    cells = {
        key: [(r.correlated.split("/", 1)[1], r.correlation) for r in rows.itertuples()]  # its column names the domain
        for key, rows in table.groupby(["attribute", "source"])
    }
    strength = table[table["rank"] == 1].groupby("attribute")["correlation"].mean()
    groups = []
    for domain in analysis.domains_of(run):
        names = sorted((n for n in run.rows if n.split("/", 1)[0] == domain), key=lambda n: (-strength.get(n, -1), n))
        rows = [(shown[n], [cells.get((n, source), []) for source in sources]) for n in names[:_CORRELATED_ROWS]]
        groups.append((domain, rows))
    first = table[table["rank"] == 1]
    words = first.groupby("attribute").apply(lambda rows: ", ".join(f"{shown[r.correlated]} ({r.correlation:.2f})" for r in rows.itertuples()))
    return {"sources": sources, "groups": groups, "words": dict(words)}


def _confidence(run: FinishedRun) -> dict[str, Any]:
    """How sure the policy is of each decision, by domain; or the sentence that stands in its place."""
    if run.policy is None:
        why = (
            "is from before runs left a policy.npz" if run.result["method"] in _WITH_POLICY
            else f"has no policy (method {run.result['method']})"
        )
        return {"missing": f"The policy's confidence is left out: this run {why}.", "rows": []}
    table, domains = analysis.policy_confidence(run), analysis.domains_of(run)
    means = table.groupby(["decision", "domain"])[["highest_probability", "taken_probability"]].mean()
    uniform = table.groupby("decision")["uniform"].first()
    rows = [
        {"decision": _DECISION_NAMES[d.name], "uniform": uniform[d.name],
         "cells": [means.loc[(d.name, domain)] if (d.name, domain) in means.index else None for domain in domains]}
        for d in DECISIONS if d.name in uniform.index
    ]
    return {"missing": "", "rows": rows}


def _starts(run: FinishedRun) -> dict[str, str]:
    """Attribute -> the source attribute that it started from, in words; empty for a run from nothing."""
    transfer = _transfer(run)
    if not transfer or not transfer["used"]:
        return {}
    return {name: _start(match, transfer["parts"]) for name, match in run.result["transfer"]["matches"].items()}


def _start(match: Optional[dict[str, Any]], parts: Sequence[str]) -> str:
    if not is_close(match):
        return f"no match; tower of {match['attribute']}" if match and "towers" in parts else "nothing"
    auc = "" if match["auc"] is None else f" ({max(match['auc'], 1 - match['auc']):.2f})"
    return ("not " if match["sign"] < 0 else "") + match["attribute"] + auc


def _transfer(run: FinishedRun) -> Optional[dict[str, Any]]:
    """What a transfer run started from; `used` is False where its trial from the sources was no better than one from nothing."""
    transfer = run.result.get("transfer")
    if not transfer:
        return None
    matches, gate = list(transfer["matches"].values()), transfer.get("gate")
    matched = sum(map(is_close, matches))
    parts = [part for part in transfer["parts"] if part != "policy" or run.config.hands_over_policy]
    return {
        "sources": list(map(_folder_name, transfer["sources"])), "parts": parts,
        "match": transfer["match"], "found": _FOUND[transfer["match"]], "matched": matched, "all": len(matches),
        "nearest": sum(m is not None for m in matches) - matched,
        "taken": " and ".join(_TAKEN[part] for part in parts if part in _TAKEN), "gate": gate, "used": gate is None or gate["passed"],
    }


def _changed_settings(run: FinishedRun) -> list[tuple[str, str, str]]:
    """(setting, value, default) of the settings that are not at their default."""
    ours, default = run.config.to_json(), Config().to_json()
    return [
        (f.name, setting_text(ours[f.name]), setting_text(default[f.name]))
        for f in dataclasses.fields(Config)
        if f.name not in FREE_SETTINGS and ours[f.name] != default[f.name]
    ]


def setting_text(value: Any) -> str:
    """A setting as on the command line; a dash for an empty one."""
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text or "–"
