"""How good a model is on labelled images: those of a data set that it was not made on, or of the files that were made
of it.

    python -m galm_tf.evaluate --model=runs/NAME --data_dir=new
    python -m galm_tf.evaluate --model=FILE.tflite --domain=sun --data_dir=DIR --format=csv > figures.csv

--data_dir is a folder as galm_tf.main takes it (README.md, "Your own images"). Its attributes are those of the model
that have the same name; where the domain is called otherwise, the rest of the name counts. Results go to standard
output, everything else to standard error. Exit status: 0; 2 on bad input, and at a file that is not there or cannot be
read; with --on_bad_image=skip such files are left out, and it is 1 where some could not be read; 130 when interrupted.
"""

from __future__ import annotations

from galm_tf import command_line  # first: it quiets TensorFlow's start

import dataclasses
import json
import logging
import os
import sys
from typing import Any, Optional, Sequence

import numpy as np
import pandas as pd
from absl import flags

from galm_tf import attribute_names, evaluation, run_result
from galm_tf import config as config_lib
from galm_tf.attribute_names import without_domain
from galm_tf.config import Config
from galm_tf.domains import load_domains
from galm_tf.domains.build import NO_SPLIT, tells_of_a_drawn_split, with_classes
from galm_tf.domains.domain import TEST, TRAIN, Domain
from galm_tf.errors import UserError
from galm_tf.image_cache import load_images
from galm_tf.leakage import SEEN, is_known, read_seen
from galm_tf.predict import QUIET_IMAGES, Predictor
from galm_tf.prediction_formats import begin_output
from galm_tf.progress import Progress
from galm_tf.source_runs import read_json
from galm_tf.words import abridged, counted, listed

FLAGS = flags.FLAGS
_SETTINGS = (  # of `Config`: what says which images are judged, by which labels
    "domain", "data_dir", "layout", "cache_dir", "verify_cache", "on_bad_image", "sun_votes", "sun_positive", "sun_unanimous", "splits_file",
    "split_seed", "test_split", "label_files",
)  # fmt: skip
_SUBSETS = ("test", "train", "all", "unseen")
_FORMATS = ("table", "csv", "json")
_NAMED = 3  # attributes in a note
_OF_PARTS = "the model was trained on parts of photographs, cut out by boxes, and these are whole ones"
_FIGURES = ("auc", *evaluation.BESIDE_AUC)
_COLUMNS = {  # of the table
    "attribute": "attribute", "auc": "AUC", "average_precision": "average precision", "f1": "F1", "balanced_accuracy": "balanced accuracy",
    "log_loss": "log loss", "positives": "yes", "negatives": "no",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a model reaches on labelled images.

    Attributes:
      rows: of each pair of an `attribute` of the data and the model's `network` for it, its figures by
        `evaluation.attribute_metrics`, `positives` and `negatives` (images with a known label), `threshold`.
      images, classes: how many were judged; no classes where the data have none.
      interval: of the mean AUC (`run_result.interval_over_classes`), or None.
      bad: how many images could not be read.
    """

    rows: list[dict[str, Any]]
    images: int
    classes: int
    interval: Optional[dict[str, Any]]
    bad: int

    def to_json(self) -> dict[str, Any]:
        """As --format=json prints it."""
        means = {f"m{key}" if key == "auc" else key: evaluation.means(self.rows, key) for key in _FIGURES}
        judged = sum(row["auc"] is not None for row in self.rows)
        return {
            "images": self.images, "classes": self.classes, "num_attributes": judged, **means, "mauc_interval": self.interval, "attributes": self.rows,
        }  # fmt: skip


def define_flags() -> None:
    config_lib.define_flags(_SETTINGS)
    flags.DEFINE_string("model", None, "A run's folder, its saved_model, or what galm_tf.deploy made of it.")
    flags.DEFINE_list("attributes", [], "Judge only these attributes of the model, comma-separated.")
    flags.DEFINE_enum(
        "subset",
        None,
        list(_SUBSETS),
        "Which images: test or train of the split, all, or unseen (those that the model's run, whose folder it lies in, was neither trained nor chosen on, whatever their files are called). When left out test, and all where the data bring no split.",
    )
    flags.DEFINE_enum(
        "format",
        "table",
        list(_FORMATS),
        "table: for people, attributes by falling AUC. csv: a line per attribute. json: all.",
    )
    flags.DEFINE_integer("batch_size", 64, "Images per call of the network.", lower_bound=1)


def main(arguments: list[str]) -> int:
    command_line.expect_no_arguments(arguments)
    begin_output(FLAGS.format)
    if not FLAGS.model:
        raise UserError("Expected a model to judge. Received: no --model; give --model=runs/NAME.")
    if not (FLAGS["data_dir"].present or FLAGS["domain"].present):
        raise UserError(
            "Expected labelled images. Received: neither --data_dir nor --domain; name a folder by --data_dir."
        )
    config = config_lib.from_flags(FLAGS)
    found = evaluate(config, FLAGS.model, FLAGS.subset, attribute_names.asked_for(FLAGS), FLAGS.batch_size)
    PRINTERS[FLAGS.format](found)
    return 1 if found.bad else 0


def evaluate(
    config: Config, model: str, subset: Optional[str] = None, attributes: Sequence[str] = (), batch_size: int = 64
) -> Evaluation:
    """Judges a model.

    Args:
      config: which images, by which labels.
      model: as `Predictor` takes it.
      subset: one of `_SUBSETS`, or None for test where the data bring a split, else all.
      attributes: of the model; all when empty.
      batch_size: images per call.

    Raises:
      UserError: no model, no data, no attribute that both have, no image in the subset.
    """
    predictor = Predictor(model)
    keep = attribute_names.columns(attributes, predictor.attributes)
    config = dataclasses.replace(config, image_size=predictor.image_size)
    domain = load_domains(
        config, untold=tells_of_a_drawn_split if subset in (None, "all", "unseen") else lambda note: False
    )
    subset = subset or _subset_of(domain)
    pairs = _pairs(predictor.attributes, keep, domain.attributes)
    domain, pictures, bad = load_images(domain, config)
    run = _run_of(model)
    seen = read_seen(run).get("contents") if run else None
    columns, names = map(list, zip(*pairs))
    index = _judged(domain, subset, seen, model, run)
    labelled = index[np.isfinite(domain.labels[np.ix_(index, names)]).any(axis=1)]
    index = labelled if len(labelled) else index
    if seen is None:
        logging.warning(
            "%s does not tell which images it has learned, so that figures flatter where these are among them%s.",
            model,
            "" if run else ": the folder of its run does",
        )
    given = subset == "test" and not any(note.startswith(NO_SPLIT) for note in domain.notes)
    own = np.flatnonzero(given & (domain.subsets == TRAIN))
    if seen is not None and subset != "unseen" and (known := is_known(domain, index, seen, own).sum()):
        logging.warning(
            "%d of %d images trained the model or chose its networks, so that figures flatter; --subset=unseen leaves them out.",
            known,
            len(index),
        )
    for note in filter(
        None, (predictor.trained_on, _OF_PARTS * (predictor.boxes and not (domain.boxes[index, 2] >= 0).any()))
    ):
        logging.warning("%s.", note)
    probability = _probabilities(predictor, pictures, index, batch_size)[:, columns]
    labels = domain.labels[np.ix_(index, names)]
    interval = run_result.interval_over_classes(domain, index, labels, probability, _learned(domain, index, run))
    return Evaluation(
        [_row(domain.attributes[name], predictor, column, labels[:, i], probability[:, i]) for i, (column, name) in enumerate(pairs)],
        len(labelled), len(domain.class_names(labelled[with_classes(domain)[labelled]])), interval, len(bad),
    )  # fmt: skip


def _pairs(ours: Sequence[str], keep: Sequence[int], theirs: Sequence[str]) -> list[tuple[int, int]]:
    """(column of the model, column of the data) of the same attribute: by the whole name, else by that without the
    domain; tells of the others.
    """
    pairs = []
    for j, name in enumerate(theirs):
        whole = [i for i in attribute_names.places(name, ours) if ours[i] == name]
        pairs += [(i, j) for i in whole or attribute_names.places(without_domain(name), ours) if i in keep]
    if not pairs:
        wanted = [ours[i] for i in keep]
        raise UserError(
            f"Expected labels of an attribute that the model knows. Received: {listed(theirs, _NAMED)}, where it has {listed(wanted, _NAMED)}; call "
            "the columns as it does."
        )
    unknown = sorted(set(range(len(theirs))) - {j for _, j in pairs})
    if unknown and len(keep) == len(ours):
        logging.warning(
            "%d of %d attributes of the data are none of the model's: %s.",
            len(unknown),
            len(theirs),
            listed([theirs[j] for j in unknown], _NAMED),
        )
    absent = [ours[i] for i in keep if i not in {i for i, _ in pairs}]
    called = {attribute_names.plain(name): without_domain(name) for name in absent}
    for other in (theirs[j] for j in unknown if attribute_names.plain(theirs[j]) in called):
        logging.warning(
            "%s is %s to the model: call it so, to have it judged.", other, called[attribute_names.plain(other)]
        )
    if absent:
        logging.warning(
            "%d of %d attributes of the model have no labels: %s.", len(absent), len(keep), listed(absent, _NAMED)
        )
    return pairs


def _run_of(model: str) -> Optional[str]:
    """The folder of the run in which a model lies; None where that is in none."""
    path = os.path.abspath(model)
    folders = (
        folder for folder in (path, os.path.dirname(path)) if os.path.exists(os.path.join(folder, "result.json"))
    )
    return next(folders, None)


def _learned(domain: Domain, index: np.ndarray, run: Optional[str]) -> np.ndarray:
    """Which of the records `index` are of classes that a run has seen: bool [m]; none without a run.

    Of a domain that the run has seen the whole name counts, as in its result.json; of another all but the domain's, as
    `attribute_names.plain` writes it.
    """
    seen = frozenset((read_json(run, "result.json", "model").get("classes_seen") if run else None) or ())
    domains, known = (set(map(part, seen)) for part in (attribute_names.domain_of, attribute_names.plain))
    learned = [
        name in seen if attribute_names.domain_of(name) in domains else attribute_names.plain(name) in known
        for name in domain.classes
    ]
    return np.array(learned)[domain.class_ids[index]]


def _subset_of(domain: Domain) -> str:
    """Which images are judged where nothing is asked for: those of the test, or, where the data bring no split, all;
    raises UserError where some do.
    """
    drawn = sum(note.startswith(NO_SPLIT) for note in domain.notes)
    if 0 < drawn < len(domain.domain_names):
        raise UserError(
            f"Expected --subset beside domains of which some bring a split and some do not. Received: none for {', '.join(domain.domain_names)}; give "
            "--subset=all, or test, which draws where none is brought."
        )
    return "all" if drawn else "test"


def _judged(domain: Domain, subset: str, seen: Optional[np.ndarray], model: str, run: Optional[str]) -> np.ndarray:
    """Which records are judged; run: the folder of the model's, where it lies in one."""
    every = np.arange(len(domain.paths))
    if subset == "unseen":
        if seen is None:
            found = (
                "whose run does not tell, as in earlier versions; make it anew, or name another subset"
                if run
                else "which is in none; name the run's folder, or another subset"
            )
            raise UserError(
                f"Expected a model in the folder of a run that tells what it has seen ({SEEN}) beside --subset=unseen. Received: --model={model}, {found}."
            )
        index = every[~is_known(domain, every, seen, every[:0])]
    else:
        index = every if subset == "all" else np.flatnonzero(domain.subsets == {"test": TEST, "train": TRAIN}[subset])
    if not len(index):
        raise UserError(
            f"Expected images to judge in {domain.name}. Received: none of {len(domain.paths)} in the subset {subset}; name another by --subset."
        )
    return index


def _probabilities(predictor: Predictor, pictures: np.ndarray, index: np.ndarray, batch_size: int) -> np.ndarray:
    """float32 [m, N] of the records `index`."""
    if len(index) <= QUIET_IMAGES:
        return predictor.of_records(pictures, index, batch_size)[0]
    with Progress(len(index), "evaluating", unit="image") as progress:
        return predictor.of_records(pictures, index, batch_size, progress.update)[0]


def _row(name: str, predictor: Predictor, column: int, labels: np.ndarray, probability: np.ndarray) -> dict[str, Any]:
    threshold = predictor.metadata["thresholds"][column]
    return {
        "attribute": name, "network": predictor.attributes[column],
        **evaluation.attribute_metrics(labels, probability, np.nan if threshold is None else np.float32(threshold)),
        "positives": int((labels > 0.5).sum()), "negatives": int((labels <= 0.5).sum()), "threshold": threshold,
    }  # fmt: skip


def _print_table(found: Evaluation) -> None:
    told = found.to_json()
    classes = f" of {counted(found.classes, 'class', 'classes')}" * bool(found.classes)
    print(
        f"{counted(found.images, 'image')}{classes}, {counted(told['num_attributes'], 'attribute')} with labels of both kinds"
    )
    if told["mauc"] is not None:
        interval = evaluation.interval_in_words(found.interval)
        rest = (
            f"{key.replace('_', ' ').replace('f1', 'F1')} {told[key]:.3f}"
            for key in evaluation.BESIDE_AUC
            if told[key] is not None
        )
        print(f"mAUC {told['mauc']:.3f}{interval}; in the mean {', '.join(rest)}{_of_decided(found)}")
    table = (
        pd.DataFrame(found.rows)
        .astype(dict.fromkeys(_FIGURES, float))
        .sort_values("auc", ascending=False, kind="stable")
    )
    names = [
        abridged(name if name == network else f"{name} ({network})")
        for name, network in zip(table["attribute"], table["network"])
    ]
    table["attribute"] = pd.Series(names, table.index).str.ljust(max(map(len, names)))
    heads = {**_COLUMNS, "attribute": _COLUMNS["attribute"].ljust(max(map(len, names)))}
    print(table[list(_COLUMNS)].rename(columns=heads).to_string(index=False, float_format="%.3f", na_rep="-"))


def _of_decided(found: Evaluation) -> str:
    """Over how many F1 and balanced accuracy are means, where that is not all that have an AUC."""
    told, decided = (sum(row[key] is not None for row in found.rows) for key in ("auc", "f1"))
    return f" (F1 and balanced accuracy over the {decided} with a threshold)" if 0 < decided < told else ""


def _print_csv(found: Evaluation) -> None:
    sys.stdout.write(pd.DataFrame(found.rows).to_csv(index=False, lineterminator="\n"))


def _print_json(found: Evaluation) -> None:
    print(json.dumps(found.to_json(), indent=1, ensure_ascii=False))


PRINTERS = dict(zip(_FORMATS, (_print_table, _print_csv, _print_json)))


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
