"""Tiny finished runs for the tests of the report, made without training."""

from __future__ import annotations

import csv
import dataclasses
import json
import pathlib

import numpy as np
import tensorflow as tf
from PIL import Image
from sklearn.metrics import roc_auc_score

from galm_tf import data_digests, export, selection
from galm_tf.config import READING, Config
from galm_tf.domains import load_domains
from galm_tf.domains.splits import keep_few_positives, make_split
from galm_tf.image_cache import load_images
from galm_tf.report.page import Page
from galm_tf.report.relations import find_relations
from galm_tf.report.run_data import gather
from galm_tf.report.run_reading import FinishedRun
from galm_tf.report.single import single_page
from galm_tf.run_folder import POLICY, flagfile
from galm_tf.search_space import DECISIONS, Architecture

NASTY = "<img src=x onerror=alert(1)> & 'q' \"d\" $x$ %{y}"
SURE = 0.75  # probability of the policy's favourite choice, which is the first of each decision
NAMES = ("red", NASTY, "dark", "unseen")
NUMBERS = (2303, 0, 977, 0)  # the second and the fourth are one network
VAL_AUCS = (0.9125, 0.625, 0.75, None)
TRUNK = {
    "model": "b0 <i>.keras",
    "layers": ["low", "middle", "top"],
    "pixels": "raw",
    "multiply_adds": 129000000,
    "parameters": 3520000,
    "means": 2192,
}
_SIZE, _CLASSES, _PER_CLASS = 32, 8, 6


class Reddish(tf.Module):
    """Margins [B, 4] by mean colours: good for `red`, of chance for others."""

    def __call__(self, images):
        red, green, blue = tf.unstack(tf.reduce_mean(images, [1, 2]), axis=-1)
        return tf.stack([red - green, blue, -red - green - blue, green], axis=1)


def page_of(run: FinishedRun, with_pictures: bool = True, others=()) -> Page:
    """What the command makes of a run."""
    evidence = gather(run, with_pictures)
    return single_page(run, evidence, find_relations(run, evidence), others)


def write_data(folder: pathlib.Path) -> pathlib.Path:
    """A table of one's own: 48 pictures of eight classes; the last two are tested, and never have `unseen`."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(_CLASSES * _PER_CLASS):
        kind, has = number // _PER_CLASS, rng.random(4) < 0.5
        color = rng.integers(40, 120, 3) + np.array([100, 0, 0]) * has[0]
        Image.new("RGB", (_SIZE, _SIZE), tuple(int(c) for c in color)).save(folder / "images" / f"{number}.png")
        tested = kind >= _CLASSES - 2
        labels = [int(has[0]), int(has[1]), int(color.sum() < 300), int(has[3]) * (not tested)]
        rows.append([f"{number}.png", f"<class {kind}>", "test" if tested else "train", *labels])
    with open(folder / "attributes.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["image", "class", "split", *NAMES], *rows])
    return folder


def write_run(
    path: pathlib.Path, data: pathlib.Path, cache: pathlib.Path, method: str = "galm", seed: int = 0, positives: int = 0
) -> dict:
    """A run folder like one that `pipeline.run` leaves; returns what its result.json holds."""
    path.mkdir(parents=True)
    settings = dict(image_size=_SIZE, cache_dir=str(cache), method=method, seed=seed, train_positives=positives)
    trunk = {"trunk_model": f"models/{TRUNK['model']}"} if method == READING else {}
    config = Config(domain=("mine",), data_dir=(str(data),), **settings, **trunk)
    domain, images, _ = load_images(load_domains(config), config)
    split = make_split(domain, config)
    if positives:
        domain = dataclasses.replace(
            domain,
            labels=keep_few_positives(
                domain.labels, domain.attributes, split.train, dict.fromkeys(domain.attributes, positives), 0
            ),
        )
    write_json(path / "split.json", split.to_json())
    write_json(path / "data.json", {data_digests.TESTED: data_digests.test_digests(domain, split.test)})
    write_json(path / "config.json", {"format": 1, **config.to_json()})
    (path / "flags.txt").write_text(flagfile(config), encoding="utf-8")
    export.export_saved_model(
        Reddish(),
        str(path / "saved_model"),
        attributes=domain.attributes,
        thresholds=np.array([0.5, 0.5, 0.1, np.nan]),
        image_size=_SIZE,
        metadata={},
    )
    margins = Reddish()(tf.constant(images[split.test] / np.float32(127.5) - 1)).numpy()
    result = _result(domain, split, margins, method, seed)
    if method == READING:
        result = _as_reading(result)
    else:
        _write_records(path, method)
    if method == "galm":
        np.savez(path / POLICY, **policy(len(NAMES)))
    write_json(path / "result.json", result)
    return result


def policy(count: int) -> dict[str, np.ndarray]:
    """Decision -> probabilities [count, choices], equally sure of the first choice of each."""
    rows = {d.name: [SURE] + [(1 - SURE) / (len(d.choices) - 1)] * (len(d.choices) - 1) for d in DECISIONS}
    return {name: np.tile(np.array(row, np.float32), (count, 1)) for name, row in rows.items()}


def write_json(path: pathlib.Path, value) -> None:
    path.write_text(json.dumps(value, allow_nan=False), encoding="utf-8")


def _result(domain, split, margins, method: str, seed: int) -> dict:
    per_attribute = {}
    for i, name in enumerate(domain.attributes):
        labels, architecture = domain.labels[split.test, i], Architecture.from_number(NUMBERS[i])
        auc = float(roc_auc_score(labels, margins[:, i])) if len(set(labels)) == 2 else None
        per_attribute[name] = {
            "val_auc": VAL_AUCS[i],
            "judged_by": "none" if VAL_AUCS[i] is None else "classes",
            "test_auc": auc,
            "test_average_precision": 0.5,
            "test_log_loss": 0.375,
            "test_f1": 0.25,
            "test_balanced_accuracy": 0.625,
            "threshold": 0.5,
            "architecture": architecture.to_json(),
            "description": architecture.describe(),
            "prevalence": float(np.nanmean(domain.labels[split.train, i])),
            "test_positives": int((labels > 0.5).sum()),
            "test_negatives": int((labels <= 0.5).sum()),
            **({"reason": "no test image has it"} if auc is None else {}),
        }
    tested = [r["test_auc"] for r in per_attribute.values() if r["test_auc"] is not None]
    per_attribute["mine/never"] = {"excluded": "no training image has it"}
    figures = {"entropy": 1.5, "regret": 0.03125, "skill": 0.875, "specialisation": -0.0625} if method == "galm" else {}
    return {
        "domains": ["mine"],
        "method": method,
        "seed": seed,
        "data_source": "own",
        "data_sources": {"mine": "own"},
        "notice": None,
        "notes": ["mine: a <b>note</b>."],
        "versions": {"galm_tf": "0.1.0"},
        "commit": "0123456789abcdef",
        "image_size": _SIZE,
        "num_attributes": 4,
        "num_attributes_rewarded": 3,
        "num_attributes_tested": len(tested),
        "num_images": {k: len(getattr(split, k)) for k in ("train", "validation_classes", "validation_images", "test")},
        "class_disjoint": True,
        "held_out_classes": list(split.held_out_classes),
        "val_mauc": 0.8125,
        "test_mauc": float(np.mean(tested)),
        "per_attribute": per_attribute,
        # what nothing judged has an arbitrary architecture
        "choice_frequencies": selection.choice_frequencies(
            np.array([number for number, auc in zip(NUMBERS, VAL_AUCS) if auc is not None])
        ),
        "search": {
            **figures,
            "phase_seconds": {"load": 12.0, "warmup": 90.0, "finetune": 30.0},
            "architectures_scored": 18432,
        },
        "seconds_total": 150.0,
    }


def _as_reading(result: dict) -> dict:
    """The same of networks that are linear readings of a trunk: it tells of no architectures, and of no search."""
    readings = {
        "architecture": None,
        "description": "linear reading of the trunk",
        "multiply_adds": 2192,
        "parameters": 2193,
    }
    rows = {name: row if "excluded" in row else {**row, **readings} for name, row in result["per_attribute"].items()}
    return {
        **result,
        "per_attribute": rows,
        "num_attributes_rewarded": 0,
        "choice_frequencies": {},
        "trunk": TRUNK,
        "temperature": 0.5,
        "readout": {"share": 1.0, "penalty": 10000.0},
        "network": {"multiply_adds": 129008768, "parameters": 3528772},
        "search": {
            "seconds": 45.0,
            "phase_seconds": {"load": 12.0, "trunk": 60.0, "reading": 45.0},
            "architectures_scored": 0,
        },
    }


def _write_records(path: pathlib.Path, method: str) -> None:
    records = [{"phase": "warmup", "step": s, "supernet/loss": 0.7 - s / 1000} for s in (24, 49)]
    if method == "galm":
        records += [
            {"phase": "controller", "step": s, "controller/reward": 0.75, "controller/entropy": 7 - s / 100}
            for s in (99, 199)
        ]
        (path / "tensorboard").mkdir()
        rows = [[1, 0, 0], [0.6, 0.8, 0], [0, 0, 2], [-1, 0, 0]]
        (path / "tensorboard" / "attributes.tsv").write_text("\n".join("\t".join(map(str, row)) for row in rows) + "\n")
    lines = [json.dumps(record) for record in records] + ['{"phase": "warm']  # torn, as a full disk leaves it
    (path / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")
