"""What the page about one run says: its figures come from the run folder, pictures, ridge regression and relations by
scores from its data and model.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import os
import re
import shlex
from typing import Any, Optional, Sequence

from galm_tf import evaluation
from galm_tf.attribute_names import domain_of, without_domain
from galm_tf.config import Config, as_flag
from galm_tf.domains.splits import few_positives
from galm_tf.report import analysis, figures, notices, rivals
from galm_tf.report.diagram import architecture_svg
from galm_tf.report.names import without_directions
from galm_tf.report.page import Page
from galm_tf.report.pictures import PictureSource
from galm_tf.report.relations import Relations
from galm_tf.report.relations_section import relations_section
from galm_tf.report.run_data import Evidence
from galm_tf.report.run_reading import FinishedRun, folder_name
from galm_tf.report.transfer_section import starts, transfer_section
from galm_tf.run_folder import FREE_SETTINGS
from galm_tf.search_space import DECISIONS, Architecture
from galm_tf.selection import SKILL_CAVEAT
from galm_tf.words import listed

_SHOWN = 4  # best and worst attributes
_NAMED = 4  # added attributes in the title
_WITH_POLICY = ("galm", "enas")
_OPEN_NETWORKS = 8  # drawings before the fold
MEANINGS = {  # of the search's own figures
    "skill": "How well the search picks, judged on validation images it did not see: 1 picks as well as the best of all "
    f"rewards would, 0 no better than chance. {SKILL_CAVEAT}",
    "specialisation": "What a network of its own gains each attribute over the best single network for all, in reward, "
    "judged on the other half of validation. Near 0: one network would do.",
    "regret": "How far the policy's most probable networks, before re-ranking, are below the best in the rewards that it saw: 0 is the best, 1 an "
    "average one. A check of the optimiser, no more.",
    "entropy": f"How undecided the policy still is (nats): {math.log(2304):.2f} knows nothing, 0 is sure.",
}
_JUDGES = {"classes": "held-out classes", "images": "all validation images", "none": "nobody"}
_JUDGES_SHORT = {"classes": "classes", "images": "all", "none": "nobody"}  # in a column
_PHASES = {  # in the order of time
    "load": "loading",
    "trunk": "the pretrained trunk and its maps of all images",
    "features": "what the source's trunk says of the images",
    "match": "finding the source attributes that are alike",
    "reading": "fitting the linear readings, choosing their penalty",
    "warmup": "warm-up of the shared weights",
    "supernet": "shared weights, policy's architectures",
    "rewards": "rewards of all architectures",
    "controller": "training the controller",
    "derive": "choosing the networks",
    "skill": "measuring how well the policy chooses",
    "adapt": "adapting the chosen networks",
    "finetune": "fine-tuning them",
    "test": "test",
}
_REST = "test and export"
# of earlier versions
_EARLIER_REST, _EARLIER_REST_WITH_TRUNK = f"loading, {_REST}", f"loading, the trunk and its maps of all images, {_REST}"
_OTHERS, _SHORT = "others", 0.02  # of the whole time: shorter phases are told together
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


def single_page(
    run: FinishedRun,
    evidence: Evidence,
    related: Sequence[Relations],
    others: Sequence[rivals.Rival] = (),
    tables: str = analysis.FOLDER,
) -> Page:
    """The page about one run.

    Args:
      run: the run.
      evidence: its data and what its model says of them, where they are at hand.
      related: how its attributes relate, of `find_relations`; the page shows the first.
      others: runs that its figures stand against, besides ridge regression and chance.
      tables: the folder of the tables beside the page.
    """
    shown = shown_names(run)
    networks = _networks(run, shown)
    extremes = _extremes(run)
    relations, drawn = relations_section(run, shown, related, evidence)
    curves = figures.learning_curves(run)
    scatter = figures.validation_against_test(run, shown)
    plain = rivals.ridge(run, evidence.data) if evidence.data else None
    against = rivals.table(run, [*others, plain, rivals.chance(run)])
    content = {
        "title": _title(run),
        "made_from": "the run folder and its data" if evidence.data else "the run folder alone",
        "run": run,
        "headline": headline(run),
        "nothing_judged": evaluation.nothing_judged(run.rows),
        "untested": notices.untested(run, shown),
        "unsure": notices.unsure(run, shown),
        "validated": _validated(run),
        "meanings": meanings(run),
        "without_figures": _without_figures(run),
        "phases": _phases(run),
        "rivals": against,
        "stronger": notices.stronger(against),
        "doubts": notices.doubts(others, shown),
        "transfer": transfer_section(run),
        "pictures": _pictures(run, extremes, evidence),
        "attributes": _attribute_rows(run, shown, networks, plain, relations),
        "excluded": {shorten(run, name): reason for name, reason in run.excluded.items()},
        "least_tested": evaluation.MIN_TOLD,
        "extremes": [(title, [_card(run, name, shown) for name in names]) for title, names in extremes.items()],
        "has_scatter": scatter is not None,
        "networks": networks,
        "trunk": run.result.get("trunk"),
        "open_networks": _OPEN_NETWORKS,
        "frequencies": choice_table(run) if run.searched else None,
        "confidence": _confidence(run) if run.searched else None,
        "relations": relations,
        "tables": tables,
        "few_labels": any(few_positives(run.rows, run.config).values()),
        "curves": list(curves),
        "again": _command_again(run),
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
    names = listed([shorten(run, name) for name in added["attributes"]], _NAMED)
    return f"{where}: {names} added to {folder_name(added['source_run'])} ({how})"


def shorten(run: FinishedRun, name: str) -> str:
    """An attribute for a person: without the domain's name where there is only one."""
    return without_directions(name if len(run.result["domains"]) > 1 else without_domain(name))


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
        "interval": result.get("test_mauc_interval"),
        "too_few": evaluation.too_few_in_words(result.get("test_mauc_interval")),
        "val_mauc": result["val_mauc"],
        "balanced_accuracy": evaluation.means(list(run.rows.values()), "test_balanced_accuracy"),
        "tested": result["num_attributes_tested"],
        "told": evaluation.mean_of_told(run.rows),
        "searched": result["num_attributes"],
        "size": run.size,
        "readout": result.get("readout"),
        "rewarded": result.get("num_attributes_rewarded"),
        "images": result["num_images"],
        "unseen": result.get("class_disjoint", True),
        "scored": result["search"].get("architectures_scored"),
        "seconds": result["seconds_total"],
        "added_to": added and _added_to(added),
        "old_and_added": _old_and_added(run) if added else [],
        "image_size": run.config.image_size,
        "held_out": [shorten(run, name) for name in result.get("held_out_classes", [])],
        "versions": result.get("versions", {}),
        "commit": result.get("commit"),
        "computed_on": result.get("computed_on"),
    }


def _added_to(added: dict[str, Any]) -> dict[str, Any]:
    """What an extended run took before its last addition, as far as its version tells: `searched`, the run that it began
    with, and `earlier`, the additions to it; else `source`, which may be one itself. Seconds that are not known are
    None.
    """
    searched = added.get("searched") or {}
    return {
        "searched": searched and folder_name(searched["run"]),
        "source": folder_name(added["source_run"]),
        "seconds": searched["seconds"] if searched else added.get("source_seconds"),
        "earlier": sum(one["seconds"] or 0.0 for one in added.get("earlier", [])),
    }


def _old_and_added(run: FinishedRun) -> list[tuple[int, Optional[float]]]:
    """(how many were tested, their mean test AUC) of the attributes of an extended run's source, and of the added
    ones.
    """
    aucs, new = rivals.tested(run), set(run.result["added"]["attributes"])
    parts = [[auc for name, auc in aucs.items() if (name in new) is added] for added in (False, True)]
    return [(len(part), sum(part) / len(part) if part else None) for part in parts]


def _validated(run: FinishedRun) -> str:
    """Which networks validation judged, in words; "" where those that were tested."""
    if run.searched:
        return "before fine-tuning" if run.config.finetune_steps else ""
    return "of readings fitted on training images alone" if run.config.finetunes_on_validation else ""


def meanings(run: FinishedRun) -> list[tuple[str, float, str]]:
    """(name, value, plain words) of the search's own figures that the run has."""
    search = run.result["search"]
    entropy = search.get("entropy")
    left = "" if entropy is None else f" Here as sure as an even choice among {math.exp(entropy):.0f} of 2304."
    texts = {**MEANINGS, "entropy": MEANINGS["entropy"] + left}
    return [(name, search[name], text) for name, text in texts.items() if search.get(name) is not None]


def _without_figures(run: FinishedRun) -> str:
    """The sentences about what `meanings` cannot tell, one a reason; "" when nothing is missing."""
    names = [name for name in MEANINGS if run.result["search"].get(name) is None]
    reasons: dict[str, list[str]] = {}
    for name in names:
        reasons.setdefault(_why_without(name, names, run), []).append(name)
    return " ".join(
        f"{listed(of, len(of)).capitalize()} {'are' if len(of) > 1 else 'is'} left out: this run {reason}."
        for reason, of in reasons.items()
    )


def _why_without(name: str, missing: Sequence[str], run: FinishedRun) -> str:
    """Why a run has not one of the figures that are missing."""
    if name == "skill" and not run.config.measure_skill:
        return "did not measure it (--nomeasure_skill)"
    if "entropy" in missing:
        return "has no table of rewards, or no policy"
    if run.config.reward_data != "full" or "regret" in missing:
        return "has no table of the rewards of all architectures"
    if "specialisation" in missing:  # which is told of two or more
        return "has too few attributes that both halves of validation can judge"
    return "has no attribute that both halves of validation can judge, or what is best on one half gains nothing on the other"


def _phases(run: FinishedRun) -> list[tuple[str, float, float]]:
    """(phase, seconds, share of the whole run) in the order of time, then what no phase counts, then short ones
    together.
    """
    counted, order = run.result["search"].get("phase_seconds", {}), list(_PHASES)
    phases = sorted(counted, key=lambda phase: order.index(phase) if phase in order else len(order))
    names = _PHASES if run.config.adapt_steps else {**_PHASES, "adapt": "judging the chosen networks"}
    seconds = {names.get(phase, phase.replace("_", " ")): counted[phase] for phase in phases}
    rest = run.result["seconds_total"] - sum(seconds.values())
    if rest > 0:  # an addition counts the test by itself
        earlier = _EARLIER_REST_WITH_TRUNK if run.result.get("trunk") else _EARLIER_REST
        seconds[_OTHERS if run.result.get("added") else _REST if "load" in counted else earlier] = rest
    whole = max(sum(seconds.values()), 1e-9)
    short = [name for name, value in seconds.items() if name != _OTHERS and value < _SHORT * whole]
    if len(short) > 1 or short and _OTHERS in seconds:
        seconds[_OTHERS] = seconds.pop(_OTHERS, 0.0) + sum(seconds.pop(name) for name in short)
    return [(name, value, value / whole) for name, value in seconds.items()]


def _pictures(run: FinishedRun, extremes: dict[str, list[str]], evidence: Evidence) -> dict[str, Any]:
    """Contact sheet and examples by attribute, or the sentence that stands in their place."""
    found: dict[str, Any] = {
        "sheet": {},
        "examples": {},
        "missing": evidence.missing,
        "examples_missing": evidence.scores_missing,
    }
    if evidence.data is None:
        return found
    source = PictureSource(run, evidence.data)
    found["sheet"] = source.contact_sheet()
    if evidence.scores is not None:
        found["examples"] = source.scored_examples(
            [name for names in extremes.values() for name in names], evidence.scores
        )
    return found


def _extremes(run: FinishedRun) -> dict[str, list[str]]:
    """Title -> names of the attributes with the highest and the lowest test AUC (`evaluation.best_to_worst`); none is
    in both.
    """
    tested = evaluation.best_to_worst(run.rows, 2 * _SHOWN)
    count = min(_SHOWN, math.ceil(len(tested) / 2))
    worst = tested[count:][-_SHOWN:][::-1]
    return {title: names for title, names in (("Best", tested[:count]), ("Worst", worst)) if names}


def _card(run: FinishedRun, name: str, shown: dict[str, str]) -> dict[str, Any]:
    row = run.rows[name]
    return {
        "key": name,
        "name": shown[name],
        "row": row,
        "judge": _judge(row, _JUDGES),
        "svg": _drawing(run, run.architectures.get(name)),
    }


def _judge(row: dict[str, Any], words: dict[str, str]) -> str:
    return words.get(row.get("judged_by"), row.get("judged_by") or "–")


def _attribute_rows(
    run: FinishedRun,
    shown: dict[str, str],
    networks: list[dict[str, Any]],
    plain: Optional[rivals.Rival],
    relations: dict[str, Any],
) -> list[dict[str, Any]]:
    places, chosen = {network["text"]: i for i, network in enumerate(networks)}, run.architectures
    began, words = starts(run), {} if relations["missing"] else relations["correlated"]["words"]
    rows = []
    for name, row in run.rows.items():
        text = chosen[name].describe() if name in chosen else row["description"]
        size = run.tower_size(name)
        figures_of = {k: row.get(k) for k in ("test_auc", "val_auc", "prevalence", "threshold", "reason")}
        more = {k: row.get(f"test_{k}") for k in ("average_precision", "f1", "balanced_accuracy")}
        more["log_loss"] = _log_loss(row)
        rows.append(
            {
                "name": shown[name],
                "judge": _judge(row, _JUDGES),
                "judge_short": _judge(row, _JUDGES_SHORT),
                "network": places.get(text),
                "text": text,
                **figures_of,
                **more,
                "size": size,
                "told_by": _told_by(row),
                "few_told": evaluation.told_by_few(row),
                "below_chance": evaluation.below_chance(row),
                "ridge": plain.aucs.get(name) if plain else None,
                "start": began.get(name, ""),
                "correlated": words.get(name, ""),
            }
        )
    return rows


def _log_loss(row: dict[str, Any]) -> str:
    """An attribute's log loss on test images beside that of its frequency in training, which a network should beat; ""
    where it is not known.

    Of an attribute whose known positives were to be few, the frequency among known labels is no bar.
    """
    if row.get("test_log_loss") is None or row.get("prevalence") is None or not _told_by(row):
        return ""
    if row.get("train_positives"):
        return f"{row['test_log_loss']:.3f}"
    counts, shares = (row["test_negatives"], row["test_positives"]), (1 - row["prevalence"], row["prevalence"])
    plain = -sum(count * math.log(max(share, 1e-6)) for count, share in zip(counts, shares)) / sum(counts)
    return f"{row['test_log_loss']:.3f}, of its frequency alone {plain:.3f}"


def _told_by(row: dict[str, Any]) -> str:
    """How many test images have an attribute and do not have it; "" of a run of an earlier version, which does not say."""
    return f"{row['test_positives']} / {row['test_negatives']}" if "test_positives" in row else ""


def _networks(run: FinishedRun, shown: dict[str, str]) -> list[dict[str, Any]]:
    """The distinct networks with who uses them, most used first; whose are arbitrary is said."""
    users: dict[Architecture, list[str]] = collections.defaultdict(list)
    chosen = analysis.reasoned(run)
    for name, architecture in run.architectures.items():
        users[architecture].append(shown[name] + " (arbitrary, since not judged)" * (name not in chosen))
    ordered = sorted(users.items(), key=lambda item: (-len(item[1]), item[0].describe()))
    return [{"text": a.describe(), "svg": _drawing(run, a), "names": sorted(names)} for a, names in ordered]


def _drawing(run: FinishedRun, architecture: Optional[Architecture]) -> str:
    return architecture_svg(architecture, pretrained=bool(run.result.get("trunk"))) if architecture else ""


def choice_table(run: FinishedRun) -> dict[str, Any]:
    """Table 4: per decision and choice, the share of each domain's attributes that take it."""
    domains, of = analysis.domains_of(run), [domain_of(name) for name in analysis.reasoned(run)]
    table = analysis.choice_frequencies(run).set_index(["domain", "decision", "choice"])["share"]
    rows = [
        {
            "decision": _DECISION_NAMES[d.name],
            "choices": [
                {"choice": _choice(c), "shares": [_known(table[domain, d.name, str(c)]) for domain in domains]}
                for c in d.choices
            ],
        }
        for d in DECISIONS
    ]
    return {"domains": [(d, of.count(d)) for d in domains], "rows": rows}


def _known(share: float) -> Optional[float]:
    return None if math.isnan(share) else float(share)


def _choice(choice: Any) -> str:
    if isinstance(choice, bool):
        return "on" if choice else "off"
    return {"fc1": "Fc-1", "fc2": "Fc-2", 3: "3×3", 5: "5×5"}.get(choice, str(choice))


def _confidence(run: FinishedRun) -> dict[str, Any]:
    """How sure the policy is of each decision, by domain; or the sentence that stands in its place."""
    if run.policy is None:
        why = (
            "is from before runs left a policy.npz"
            if run.result["method"] in _WITH_POLICY
            else f"has no policy (method {run.result['method']})"
        )
        return {"missing": f"The policy's confidence is left out: this run {why}.", "rows": []}
    table, domains = analysis.policy_confidence(run), analysis.domains_of(run)
    means = table.groupby(["decision", "domain"])[["highest_probability", "taken_probability"]].mean()
    uniform = table.groupby("decision")["uniform"].first()
    rows = [
        {
            "decision": _DECISION_NAMES[d.name],
            "uniform": uniform[d.name],
            "cells": [means.loc[(d.name, domain)] if (d.name, domain) in means.index else None for domain in domains],
        }
        for d in DECISIONS
        if d.name in uniform.index
    ]
    return {"missing": "", "rows": rows}


def _command_again(run: FinishedRun) -> str:
    """What repeats the run: its flagfile, and what was meant by settings that this does not name, since they were not
    there yet and have other defaults.
    """
    ours, default = run.config.to_json(), Config().to_json()
    meant = [
        as_flag(name, value)
        for name, value in ours.items()
        if name not in FREE_SETTINGS and value != default[name] and not re.search(f"(?m)^--(no)?{name}(=|$)", run.flags)
    ]
    flagfile = f"--flagfile={shlex.quote(os.path.join(run.path, 'flags.txt'))}"
    return " ".join(["python -m galm_tf.main", flagfile, *map(shlex.quote, meant), "--run_dir=NEW_FOLDER"])


def _changed_settings(run: FinishedRun) -> list[tuple[str, str, str]]:
    """(setting, value, default) of the settings that are not at their default."""
    ours, default = run.config.to_json(), Config().to_json()
    return [
        (f.name, setting_text(ours[f.name]), setting_text(default[f.name]))
        for f in dataclasses.fields(Config)
        if f.name not in FREE_SETTINGS and ours[f.name] != default[f.name]
    ]


def setting_text(value: Any) -> str:
    """A setting's value as on the command line; a dash for an empty one."""
    return (str(value).lower() if isinstance(value, bool) else as_flag("", value)[len("--=") :]) or "–"
