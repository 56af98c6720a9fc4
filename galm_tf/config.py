"""All settings of a run: one frozen, validated object, made once from the flags.

Each field is also an absl flag of the same name (`define_flags`). Flags are
read by entry modules only; everything below `main` receives a `Config`.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
from typing import Any, Mapping, Optional, Sequence

from absl import flags

from galm_tf import addons
from galm_tf.errors import UserError
from galm_tf.words import bounded, csv_line

TRANSFER_PARTS = ("policy", "trunk", "towers")
_REWARD_IMAGES = 10000  # of data that have more: rewards take time by their number
_LARGEST = 2**31 - 1  # whole number without another bound: TensorFlow counts in 32 bits
# what a pretrained trunk depends on
PRETRAINED_SETTINGS = ("trunk_model", "trunk_layers", "trunk_pixels", "trunk_steps", "trunk_learning_rate")
# Implemented in `strategies`.
METHODS = (
    "galm",
    "random",
    "single_best",
    "exhaustive",
    "evolution",
    "enas",
    "enas_each",
    "random_search",
    "bayesian",
    "progressive",
)
COUNTING = ("random_search", "bayesian", "progressive")  # of these, those that read --evaluations
BY_BATCHES = ("galm", "random")  # that can do with --reward_data=batch
READING = "reading"  # no search: `readings`


GROUPS = {  # of settings, as --help shows them: title -> the first of `Config`'s fields that belongs to it
    "Data": "domain",
    "Training images, and how much each counts": "augment_flip",
    "The run": "run_dir",
    "A finished run to start from, or to add to": "source_run",
    "A pretrained trunk": "trunk_model",
    "Training the supernet": "warmup_steps",
    "Training the controller, and its rewards": "controller_steps",
    "Choosing, fine-tuning, test": "derive_top",
}

_SAME = object()


def _setting(
    default: Any,
    text: str,
    choices: Optional[tuple[str, ...]] = None,
    low: Any = None,
    high: Any = None,
    before: Any = _SAME,
):
    """A field with what its flag and its check need; bounds are inclusive.

    before: what files mean that do not state it, since they were written before the setting was there; the default when
      left out.
    """
    meta = {
        "help": text,
        "choices": choices,
        "low": low,
        "high": high,
        "before": default if before is _SAME else before,
    }
    if isinstance(default, tuple):
        return dataclasses.field(default_factory=lambda: default, metadata=meta)
    return dataclasses.field(default=default, metadata=meta)


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run. The help texts are the documentation of each field."""

    # Data.
    domain: tuple[str, ...] = _setting(
        ("sun",),
        "Domains, comma-separated: awa, apay, sun, or a label of your own with --data_dir, whose folders' names they have when left out.",
    )
    data_dir: tuple[str, ...] = _setting(
        (),
        "Folder of each domain, comma-separated, in the order of --domain. Without it a small generated stand-in is drawn.",
    )
    layout: tuple[str, ...] = _setting(
        (), "Layout of each folder: awa, apay, sun or table. Found by what is in the folder when left out."
    )
    image_size: int = _setting(
        64, "Side of the square images that the networks see, in pixels; a multiple of 32.", low=32, high=256
    )
    cache_dir: str = _setting(
        os.path.join("~", ".cache", "galm_tf"),
        "Where decoded images are cached, and what a pretrained trunk makes of them.",
    )
    verify_cache: bool = _setting(
        False, "Hash the content of the source images before trusting the cache, not only their size and time."
    )
    on_bad_image: str = _setting("fail", "What to do with an image that cannot be read.", ("fail", "skip"))
    sun_votes: str = _setting(
        "majority",
        "How SUN's three votes become labels: majority (positive at sun_positive and above), or unanimous (between 0 and sun_unanimous unknown).",
        ("majority", "unanimous"),
    )
    sun_positive: float = _setting(
        0.5, "With --sun_votes=majority: share of votes from which an attribute is present.", low=0.0, high=1.0
    )
    sun_unanimous: float = _setting(
        2 / 3,
        "With --sun_votes=unanimous: share of votes from which an attribute is present; below it and above 0 it is unknown.",
        low=0.0,
        high=1.0,
    )
    splits_file: str = _setting("", "An xlsa17 att_splits.mat whose class or image lists replace the official split.")
    split_seed: int = _setting(
        -1,
        "A seed for a class-disjoint split of all images instead of the official one; -1 keeps the official split, or the one that is drawn where the data bring none.",
        low=-1,
        high=2**63 - 1,
    )
    test_split: str = _setting(
        "official",
        "Which images are tested: official (unseen classes), or apascal (aPascal's official test half, whose classes occur in training).",
        ("official", "apascal"),
    )
    validation_split: str = _setting(
        "classes",
        "What validation holds out: classes (whole training classes, and a tenth of the images of the others), or images.",
        ("classes", "images"),
    )
    validation_fraction: float = _setting(
        0.1, "Share of the images of every remaining training class that validation holds out.", low=0.01, high=0.5
    )
    validation_class_fraction: float = _setting(
        0.18, "Share of the training classes that validation holds out whole.", low=0.0, high=0.5
    )
    label_files: tuple[str, ...] = _setting(
        (),
        "Tables with further attributes of the images, comma-separated: a column image, and one per attribute with 0, 1, a share between or empty for unknown.",
    )
    leave_out: tuple[str, ...] = _setting(
        (),
        "Attributes of the data that the run shall not know, comma-separated, with or without the domain's name; a name with a comma in quotes that the shell leaves: '--leave_out=\"warm, sunny\"'. Those of --label_files stay.",
    )
    train_positives: int = _setting(
        0,
        "At most so many known positives of each attribute in training, which go by --split_seed, of a drawn split the same whatever --seed: the labels of all others are taken as unknown there, and fine-tuning leaves out validation images, whose labels stay known to the judge. 0 keeps all.",
        low=0,
    )
    soft_labels: bool = _setting(
        True,
        "Learn the share of annotators that said yes where the data tell it (SUN's votes, AwA's continuous matrix, shares in a table of your own) in place of yes or no; what is judged stays yes or no (paper: no).",
        before=False,
    )
    # Augmentation.
    augment_flip: bool = _setting(True, "Mirror training images at random.")
    augment_crop: float = _setting(
        0.15, "Largest shift of a training image, as a share of its side.", low=0.0, high=0.5
    )
    augment_color: float = _setting(
        0.2, "Strength of random brightness, contrast and saturation of training images.", low=0.0, high=1.0
    )
    imbalance: str = _setting(
        "none",
        "Rare attributes in the loss: none, or positive_weight (weights undone in the exported probability), or balanced (images sampled so that rare labels come more often).",
        ("none", "positive_weight", "balanced"),
    )
    class_balance: float = _setting(
        -1.0,
        "How far classes of few images count as much in training as those of many: records are drawn, and weigh in the linear reading, by the size of their class to the power of -class_balance. 0: every image alike (paper); 1: every class alike, but that no record counts more than ten times the mean; -1: 1 where the tested classes are unseen, else 0.",
        low=-1.0,
        high=1.0,
        before=0.0,
    )
    max_positive_weight: float = _setting(10.0, "Largest positive weight with --imbalance=positive_weight.", low=1.0)
    # The run.
    run_dir: str = _setting(
        "",
        "Folder of this run, which must not hold anything, unless --resume; when left out runs/<domain>-<method>-s<seed>, with -2, -3 and so on where that exists.",
    )
    resume: bool = _setting(False, "Continue the run in --run_dir from its last checkpoint.")
    # KerasTuner, which gets one more, and scikit-learn take 32 bits
    seed: int = _setting(
        0, "Seed of every random draw of the run; what is tested goes by --split_seed alone.", low=0, high=2**32 - 2
    )
    method: str = _setting(
        "galm",
        "How architectures are chosen: galm (conditioned controller, then re-ranked), enas (one controller without attributes), enas_each (such a controller per attribute, each trained as long as galm's), evolution (regularised, per attribute), exhaustive (best of the table), single_best (one for all), random (a uniform one per attribute), or with --evaluations rewards per attribute random_search (best of uniform ones), bayesian (Gaussian process) or progressive (surrogate-guided growth). reading searches nothing: on a --trunk_model every attribute's network is a linear reading of its channels.",
        (*METHODS, READING),
    )
    evaluations: int = _setting(
        64,
        "Networks whose reward random_search, bayesian and progressive read per attribute, in the whole search; at most as many as there are of --samples_per_step for it in all --controller_steps.",
        low=1,
        high=1536,
    )
    checkpoint_seconds: float = _setting(60.0, "Seconds between checkpoints within a phase.", low=0.0)
    # A finished run to start from, or to add to.
    source_run: tuple[str, ...] = _setting(
        (),
        "Folders of finished runs to start from, comma-separated; each attribute starts from the source attribute most like it. Of several runs all comes from the one that matches most, whose trunk the others' towers do not fit; where --transfer names towers without trunk, towers come from all of them.",
    )
    add_attribute: str = _setting(
        "",
        "A table with new attributes (as --label_files) to add to the finished run in --source_run: its networks stay as they are, each new attribute gets one beside them. Settings are the source's unless given, but steps (one round, as many as each attribute of the source had), what is transferred, --match and how architectures are sampled, the rate of a policy that was handed over, how another learns (as in the run that a chain of additions began with), --derive_top, and --measure_skill, which is off.",
    )
    transfer: tuple[str, ...] = _setting(
        TRANSFER_PARTS, "What --source_run hands over: any of policy, trunk and towers."
    )
    match: str = _setting(
        "predictor",
        "How attributes find their source: predictor (whose scores separate the new labels best), cosine (of embeddings, after the new ones alone were trained for --controller_steps on the rewards of a trial warm-up; the paper's rule), or random.",
        ("predictor", "cosine", "random"),
    )
    transfer_gate_steps: int = _setting(
        0,
        "Warm-up steps of a trial from the sources and of one from nothing; the sources are used only where their rewards are as high, but for a pretrained trunk, which is theirs in both. 0 tries nothing.",
        low=0,
    )
    freeze_trunk: bool = _setting(
        False,
        "Leave the weights of the trunk as the source run has them (only its batch norms take their statistics from the new images): where labels are few, it is a better one than they can teach. Needs --source_run, with trunk in --transfer.",
    )
    # A pretrained trunk.
    trunk_model: str = _setting(
        "",
        "A Keras model that was trained on other images (a .keras or .h5 file): maps of three of its layers stand in place of Conv-1 to Conv-3, and its weights stay as they are, but for --trunk_steps. A run from --source_run has the source's.",
    )
    trunk_layers: tuple[str, ...] = _setting(
        (),
        "The three layers of --trunk_model whose maps are taken, comma-separated, the largest map first; when left out the last layer of the smallest maps, and of those nearest to twice and to four times their side.",
    )
    trunk_pixels: str = _setting(
        "raw",
        "How --trunk_model expects pixels: raw (0 to 255, as EfficientNet, MobileNetV3 and ConvNeXt of Keras), tf (-1 to 1: MobileNet, MobileNetV2, ResNetV2, Inception, Xception), torch (ImageNet's mean and deviation: DenseNet), caffe (BGR less ImageNet's mean: VGG, ResNet).",
        ("raw", "tf", "torch", "caffe"),
    )
    trunk_steps: int = _setting(
        0,
        "Steps, of --batch_size images each, in which the layers of --trunk_model above the first of its three maps learn the attributes, before maps are made; 0 leaves them as they are. A run from --source_run has the source's, which learned the source's attributes.",
        low=0,
    )
    trunk_learning_rate: float = _setting(1e-4, "Peak learning rate of --trunk_steps (Adam, cosine decay).", low=0.0)
    # Supernet training (the first phase of Algorithm 1; parameters Omega).
    warmup_steps: int = _setting(
        300,
        "Supernet steps before the first controller phase, with uniformly sampled architectures, or with those of a policy that was handed over.",
        low=0,
    )
    rounds: int = _setting(2, "Alternations of the two phases after the warm-up.", low=1)
    supernet_steps: int = _setting(60, "Supernet steps per round, with architectures sampled by the policy.", low=0)
    batch_size: int = _setting(64, "Images per supernet step.", low=2)
    attributes_per_step: int = _setting(
        24, "Attributes whose towers are trained in one supernet step; 0 means all.", low=0
    )
    precision: str = _setting(
        "float32",
        "Number format in which the convolutions of a training step multiply: float32, or bfloat16 (mixed precision, for GPUs; on a processor float32 is faster, whose convolutions go in tiles). Rewards, scores and the export are always float32.",
        ("float32", "bfloat16"),
    )
    learning_rate: float = _setting(2e-3, "Peak learning rate of the supernet (Adam, cosine decay).", low=0.0)
    weight_decay: float = _setting(0.1, "Decoupled weight decay of the supernet and of fine-tuning.", low=0.0)
    dropout: float = _setting(0.3, "Dropout on the input of Fc-1 while training.", low=0.0, high=0.9)
    uniform_fraction: float = _setting(
        0.5,
        "Share of sampled architectures drawn uniformly beside those of the policy, so that all stay trained.",
        low=0.0,
        high=1.0,
    )
    # Controller training (the second phase; parameters theta and W).
    controller_steps: int = _setting(1000, "REINFORCE steps per round (paper: 2000).", low=1)
    samples_per_step: int = _setting(64, "(attribute, architecture) pairs per REINFORCE step (paper: 1).", low=1)
    controller_learning_rate: float = _setting(2e-3, "Learning rate of the controller (paper: 1e-4).", low=0.0)
    controller_optimizer: str = _setting(
        "adam", "Optimiser of the controller: adam, or sgd (the paper's plain ascent).", ("adam", "sgd")
    )
    controller_cell: str = _setting(
        "lstm",
        "Recurrent cell of the controller: lstm (paper), or of tensorflow-addons, on Python 3.9 to 3.11 only: nas (Zoph & Le 2017), layernorm_lstm (Ba et al. 2016).",
        ("lstm", "nas", "layernorm_lstm"),
    )
    conditioning: str = _setting(
        "film",
        "How an attribute conditions the controller: film (its embedding also scales and shifts what the output heads read), or concat (paper).",
        ("film", "concat"),
    )
    embedding_scale: float = _setting(
        1.0,
        "Half-width of the uniform initial attribute embeddings (ENAS-like 0.1 conditions too weakly).",
        low=0.0,
        high=1000.0,
    )
    entropy_weight: float = _setting(
        0.2, "Weight of the policy's entropy, decayed linearly to a tenth; beside normalised advantages.", low=0.0
    )
    baseline: str = _setting(
        "attribute",
        "Whose past rewards the baseline averages: attribute (one each), or global (paper).",
        ("attribute", "global"),
    )
    baseline_decay: float = _setting(
        0.95, "Decay of the exponential moving average of past rewards.", low=0.0, high=0.9999
    )
    normalize_advantage: bool = _setting(
        True,
        "Divide advantages by the peak of their running standard deviation (per attribute, or global as the baseline).",
    )
    reward: str = _setting(
        "auc",
        "Reward of an architecture: auc, accuracy or balanced_accuracy on validation images.",
        ("auc", "accuracy", "balanced_accuracy"),
    )
    size_penalty: float = _setting(
        0.02,
        "Reward that every doubling of a tower's multiply-adds costs, so that of networks that validation hardly tells apart the smaller is taken; 0 lets its size not count (paper).",
        low=0.0,
        high=1000.0,
        before=0.0,
    )
    reward_data: str = _setting(
        "full",
        "Images of one reward: full (the whole validation set, all architectures at once), or batch (the current validation mini-batch, one architecture at a time, as in the paper).",
        ("full", "batch"),
    )
    reward_images: int = _setting(
        _REWARD_IMAGES,
        "Validation images of each domain, at most, that the rewards of all architectures are computed from, drawn so that rare labels stay (more than so many, where these are too few for either label of every attribute); 0 takes all. The chosen architectures are judged on all.",
        low=0,
        before=0,
    )
    reward_bn: str = _setting(
        "recalibrated",
        "Batch-norm statistics of a reward: recalibrated (per variant, on training images), or batch (of the scored images).",
        ("recalibrated", "batch"),
    )
    calibration_images: int = _setting(
        512, "Training images from which batch-norm statistics are recalibrated.", low=16
    )
    reward_memory_mib: int = _setting(
        1024, "Memory that the reward engine may use for one block, in MiB; rewards do not depend on it.", low=64
    )
    measure_skill: bool = _setting(
        True,
        "Search twice more, on either half of validation, to measure how well the search picks; takes as long as two searches on the rewards.",
    )
    # Derive, fine-tune, test.
    derive_top: int = _setting(
        8,
        "The policy's most probable distinct architectures that are re-ranked by the last round's rewards; 1 takes the most probable.",
        low=1,
        high=1536,
    )
    adapt_steps: int = _setting(
        90,
        "Longest training of the derived network on training images before it is judged on validation; the best of its checkpoints counts.",
        low=0,
    )
    finetune_steps: int = _setting(480, "Steps on training and validation images before the one test.", low=0)
    adapt_learning_rate: float = _setting(5e-4, "Peak learning rate of the adaptation.", low=0.0)
    finetune_learning_rate: float = _setting(
        2e-3, "Peak learning rate of fine-tuning, which is most of the training on all classes.", low=0.0
    )
    readout_share: float = _setting(
        0.3,
        "Share, in every attribute's score, of a linear reading of Conv-3 (of a pretrained trunk: of all channels of its maps) beside its tower, fitted in closed form after training; 0 leaves it out (paper).",
        low=0.0,
        high=1.0,
        before=0.0,
    )
    temperature_scaling: bool = _setting(
        True,
        "Make networks as sure of classes that they have not seen as validation finds right (Guo et al. 2017); the order of images, and so every AUC, stays.",
        before=False,
    )
    threshold_metric: str = _setting(
        "balanced_accuracy",
        "What the exported yes/no threshold of each attribute maximises on validation.",
        ("balanced_accuracy", "f1"),
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            # KerasTuner proposes some; TensorFlow would compute in their precision. NumPy itself is not loaded for that
            if type(value).__module__ == "numpy" and not value.shape:
                value = value.item()
                object.__setattr__(self, field.name, value)
            _check_field(field, value)
        # contradictions between settings; each message names both values
        self._check_data()
        self._check_transfer()
        self._check_rewards()

    def _check_data(self) -> None:
        for name in self.domain:
            if not name or not set("/\\+").isdisjoint(name):
                raise UserError(
                    f"Expected names without /, \\ and + in --domain. Received: domain={name!r}; choose another."
                )
            if name != name.encode("utf-8", "replace").decode():  # a folder's bytes may be none
                raise UserError(
                    f"Expected names in UTF-8 in --domain, or else of the folders in --data_dir. Received: domain={name!r}; choose another by --domain."
                )
        if self.image_size % 32:
            raise UserError(
                f"Expected --image_size to be a multiple of 32. Received: image_size={self.image_size}; try {max(32, round(self.image_size / 32) * 32)}."
            )
        if not self.domain:
            raise UserError("Expected a name in --domain. Received: none; name a domain, or leave it out.")
        if len(set(self.domain)) != len(self.domain):
            raise UserError(f"Expected --domain to name each domain once. Received: domain={','.join(self.domain)}.")
        if self.data_dir and len(self.data_dir) != len(self.domain):
            raise UserError(
                f"Expected one --data_dir per --domain. Received: domain={','.join(self.domain)} ({len(self.domain)}) "
                f"and data_dir={','.join(self.data_dir)} ({len(self.data_dir)}); name as many folders as domains, one whose name holds a comma "
                "in quotes."
            )
        if self.layout and len(self.layout) != len(self.domain):
            raise UserError(
                f"Expected one --layout per --domain. Received: domain={','.join(self.domain)} and layout={','.join(self.layout)}."
            )
        if self.layout and not self.data_dir:
            raise UserError(
                f"Expected --data_dir beside --layout. Received: layout={','.join(self.layout)} and no data_dir."
            )
        if -1 < self.class_balance < 0:
            raise UserError(
                f"Expected --class_balance between 0 and 1, or -1 to go by the split. Received: class_balance={self.class_balance}; leave it out."
            )
        if self.splits_file and self.split_seed >= 0:
            raise UserError(
                f"Expected --splits_file or --split_seed, not both. Received: splits_file={self.splits_file} and split_seed={self.split_seed}."
            )

    def _check_transfer(self) -> None:
        wrong = [part for part in self.transfer if part not in TRANSFER_PARTS]
        if wrong or (self.source_run and not self.transfer):
            raise UserError(
                f"Expected --transfer to name some of {', '.join(TRANSFER_PARTS)}. Received: "
                f"transfer={','.join(self.transfer) or '(nothing)'}; leave it out for all."
            )
        if self.trunk_layers and len(self.trunk_layers) != 3:
            raise UserError(
                f"Expected three names in --trunk_layers. Received: trunk_layers={','.join(self.trunk_layers)}; leave it out for a choice by the sides "
                "of their maps."
            )
        if self.trunk_model and self.freeze_trunk:
            raise UserError(
                f"Expected --trunk_model or --freeze_trunk, not both. Received: trunk_model={self.trunk_model} and freeze_trunk, but a pretrained "
                "trunk does not learn in a search anyway; leave --freeze_trunk out."
            )
        if (
            self.trunk_model
            and self.source_run
            and not self.add_attribute
            and (len(self.source_run) > 1 or "trunk" not in self.transfer)
        ):
            raise UserError(
                "Expected one source that hands its trunk over, where that is a pretrained one: what its towers read depends on it. Received: "
                f"source_run={','.join(self.source_run)} and transfer={','.join(self.transfer)}; name one run (of several domains if need be), and "
                "leave --transfer out."
            )
        if self.method == READING and (self.source_run or self.imbalance != "none"):
            raise UserError(
                f"Expected neither --source_run nor --imbalance beside --method={READING}, whose readings are fitted in closed form. Received: "
                f"source_run={','.join(self.source_run) or '(nothing)'} and imbalance={self.imbalance}; leave them out."
            )
        if self.method == READING and not self.trunk_model:
            raise UserError(
                f"Expected --trunk_model beside --method={READING}, which reads a pretrained network. Received: none; name a Keras model file, or take "
                "another method."
            )
        if self.freeze_trunk and self.source_run and ("trunk" not in self.transfer or self.transfer_gate_steps):
            raise UserError(
                "Expected a trunk from the source, come what may, with --freeze_trunk. Received: "
                f"transfer={','.join(self.transfer)} and transfer_gate_steps={self.transfer_gate_steps}; hand the trunk over "
                "without a trial, or leave --freeze_trunk out."
            )

    def _check_rewards(self) -> None:
        if self.reward_data == "batch" and self.method not in BY_BATCHES:
            raise UserError(
                f"Expected --method=galm or random with --reward_data=batch. Received: method={self.method}, which "
                "reads the rewards of all architectures; leave --reward_data out."
            )
        if self.reward_data == "batch" and self.size_penalty:
            raise UserError(
                "Expected --size_penalty=0 with --reward_data=batch, since a penalty weighs the rewards of all architectures. "
                f"Received: reward_data={self.reward_data} and size_penalty={self.size_penalty}."
            )

    @property
    def replaces_split(self) -> bool:
        """Whether a split is asked for in place of that which the data bring."""
        return bool(self.splits_file) or self.split_seed >= 0

    @property
    def images_settled(self) -> bool:
        """Whether a run that was begun before says which images there are, so that none may be left out now."""
        return self.resume or bool(self.add_attribute)

    @property
    def trunk_learns(self) -> bool:
        """Whether training moves the trunk."""
        return not (self.freeze_trunk and self.source_run)

    @property
    def finetunes_on_validation(self) -> bool:
        """Whether the last training sees validation images: not where labels shall be few."""
        return (self.finetune_steps > 0 or self.method == READING) and not self.train_positives

    @property
    def hands_over_policy(self) -> bool:
        """Whether a search that starts from source runs takes the controller's weights from them."""
        return self.method == "galm" and "policy" in self.transfer

    @property
    def handed_over(self) -> tuple[str, ...]:
        """The parts of `transfer` that the method takes from source runs."""
        return tuple(part for part in self.transfer if part != "policy" or self.hands_over_policy)

    @property
    def takes_one_source(self) -> bool:
        """Whether all comes from one source run, however many there are: only towers fit beside those of another."""
        return "trunk" in self.transfer or "towers" not in self.transfer

    def to_json(self) -> dict[str, Any]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Config":
        """Reads what `to_json` gave; raises UserError on unknown settings."""
        names = [f.name for f in dataclasses.fields(cls)]
        for key in value:
            if key not in names:
                near = difflib.get_close_matches(key, names, 1)
                hint = f" Did you mean {near[0]}?" if near else ""
                raise UserError(f"Expected settings known to this version. Received: {key}={value[key]!r}.{hint}")
        stated = {**{name: unstated(name) for name in names}, **value}
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in stated.items()})


def as_flag(name: str, value: Any) -> str:
    """A setting as it is given on the command line."""
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no{name}"
    if isinstance(value, (list, tuple)):  # quoted where a part holds a comma or a line break, as absl reads it
        value = csv_line(value)
    return f"--{name}={value}"


def unstated(name: str) -> Any:
    """What a file of settings means that does not state one of them; None for what is no setting."""
    field = next((f for f in dataclasses.fields(Config) if f.name == name), None)
    value = None if field is None else field.metadata["before"]
    return list(value) if isinstance(value, tuple) else value


_KINDS = {  # of settings that are no tuples: what their values may be, how that is called, what defines their flags
    "bool": (bool, "True or False", flags.DEFINE_bool),
    "int": (int, "a whole number", flags.DEFINE_integer),
    "float": ((int, float), "a number", flags.DEFINE_float),
    "str": (str, "a text", flags.DEFINE_string),
}


def _check_field(field: dataclasses.Field, value: Any) -> None:
    choices, low, high = (field.metadata[k] for k in ("choices", "low", "high"))
    if str(field.type).startswith("tuple") and not isinstance(value, tuple):  # each letter of a name would pass for one
        written = f"({value!r},)" if isinstance(value, str) else f"tuple({value!r})"
        raise UserError(
            f"Expected a tuple in the setting {field.name}. Received: {value!r}; write {field.name}={written}."
        )
    if isinstance(value, tuple) and not all(isinstance(part, str) for part in value):
        raise UserError(f"Expected texts in the setting {field.name}. Received: {value!r}; write each in quotes.")
    types, kind, _ = _KINDS.get(str(field.type), (tuple, "", None))
    if not isinstance(value, types) or (isinstance(value, bool) and types is not bool):
        raise UserError(
            f"Expected {kind} in the setting {field.name}. Received: {value!r}; leave it out for {field.default!r}."
        )
    if choices and value not in choices:
        raise UserError(f"Expected --{field.name} to be one of {list(choices)}. Received: {field.name}={value!r}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"Expected --{field.name} to be a finite number. Received: {field.name}={value}.")
    if (low is not None and value < low) or (high is not None and value > high):
        raise UserError(f"Expected --{field.name} to be {_bounds(field)}. Received: {field.name}={value}.")
    if high is None and types is int and value > _LARGEST:
        raise UserError(f"Expected --{field.name} to be at most {_LARGEST}. Received: {field.name}={value}.")


def _bounds(field: dataclasses.Field) -> str:
    return bounded(field.metadata["low"], field.metadata["high"])


flags.disclaim_key_flags()  # they are the entry module's: its --help lists them


def define_flags(names: Sequence[str] = ()) -> None:
    """Defines one absl flag per setting, or of these alone; call once, in an entry module."""
    for field in (f for f in dataclasses.fields(Config) if not names or f.name in names):
        default = field.default if field.default is not dataclasses.MISSING else list(field.default_factory())
        text = field.metadata["help"]
        if _bounds(field):
            text = f"{text.rstrip('.')}; {_bounds(field)}."
        if field.metadata["choices"]:
            flags.DEFINE_enum(field.name, default, list(field.metadata["choices"]), text)
        elif str(field.type).startswith("tuple"):
            flags.DEFINE_list(field.name, default, text)
        else:
            _KINDS[str(field.type)][2](field.name, default, text)
        flags.FLAGS[field.name].bounds = _bounds(field)  # for `command_line`, which tells of a value that is no number


def is_setting(flag: flags.Flag) -> bool:
    """Whether a flag is one of `define_flags`; a command's own may be called like a setting."""
    return hasattr(flag, "bounds")


def grouped() -> dict[str, list[str]]:
    """Title of a group -> the settings in it, all in their order."""
    titles = {first: title for title, first in GROUPS.items()}
    result: dict[str, list[str]] = {}
    title = ""
    for field in dataclasses.fields(Config):
        title = titles.get(field.name, title)
        result.setdefault(title, []).append(field.name)
    return result


def folder_names(folders: Sequence[str]) -> tuple[str, ...]:
    """What domains are called that only their folders name."""
    return tuple(os.path.basename(os.path.abspath(os.path.expanduser(folder))) for folder in folders)


def from_flags(values: flags.FlagValues, base: Optional[Config] = None) -> Config:
    """The parsed flags as a Config; raises UserError on contradictions, and on what this stack does not have.

    base: settings in place of the defaults, for flags that were not given.
    """
    names = [f.name for f in dataclasses.fields(Config) if f.name in values]
    settings = {} if base is None else {f.name: getattr(base, f.name) for f in dataclasses.fields(Config)}
    settings.update({name: getattr(values, name) for name in names if base is None or values[name].present})
    settings["domain"] = asked_domains(values, base)
    config = Config(**{k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})
    addons.expect_cell(config.controller_cell)  # here and not in Config: a run's settings can be read on any stack
    return config


def asked_domains(values: flags.FlagValues, base: Optional[Config] = None) -> tuple[str, ...]:
    """The domains by the parsed flags: named, or else those of `base`, or else called like the folders of data."""
    if values["domain"].present:
        return tuple(values.domain)
    if base is not None:
        return base.domain
    return folder_names(values.data_dir) if values.data_dir else tuple(values.domain)


SOURCE_SETTINGS = ("transfer", "match", "transfer_gate_steps", "freeze_trunk")  # which no run without a source reads
# (what must be there, or be so, what that is, settings that are read beside it alone, why)
_READ_BESIDE = (
    ("source_run", "a finished run", ("freeze_trunk",), "whose trunk stays as it is"),
    ("trunk_model", "a Keras model file", ("trunk_layers", "trunk_pixels"), "which says how it is taken"),
    ("trunk_model", "a Keras model file", ("trunk_steps",), "in which its layers learn"),
    ("trunk_steps", "a number of steps", ("trunk_learning_rate",), "which is the rate of these"),
    ("source_run", "a finished run", ("transfer_gate_steps",), "which tries it"),
    ("source_run", "a finished run", ("match", "transfer"), "which says what is taken from it"),
    ("imbalance=positive_weight", "", ("max_positive_weight",), "which bounds these weights"),
    ("sun_votes=majority", "", ("sun_positive",), "which says what a majority is"),
    ("sun_votes=unanimous", "", ("sun_unanimous",), "which says what unanimous is"),
    ("validation_split=classes", "", ("validation_class_fraction",), "which says how many it holds out"),
)


def expect_read(config: Config, base: Optional[Config] = None) -> None:
    """Raises UserError for settings that a run would pass over; base: those that nobody gave, the defaults when left
    out.
    """
    _expect_beside(config, _READ_BESIDE, base)
    places = [os.path.realpath(path) for path in config.source_run]
    twice = [path for i, path in enumerate(config.source_run) if places[i] in places[:i]]
    if twice:
        raise UserError(f"Expected each --source_run once. Received: {twice[0]}, named twice; name different runs.")
    if config.source_run:
        expect_handed_over(config)
    if config.reward_data == "batch" and config.reward_images not in (0, _REWARD_IMAGES):
        raise UserError(
            "Expected --reward_images=0 with --reward_data=batch, whose rewards are of mini-batches of all validation images. "
            f"Received: reward_images={config.reward_images}; leave one out."
        )


def expect_handed_over(config: Config) -> None:
    """Raises UserError where sources would hand nothing over."""
    if not config.handed_over:
        raise UserError(
            f"Expected --transfer to name a part that --method={config.method} takes over. Received: transfer={','.join(config.transfer)}, "
            "of which it takes nothing; name trunk or towers too, or leave --transfer out."
        )


def expect_read_without_source(config: Config) -> None:
    """Raises UserError for settings that a run would pass over, whether it has a source or not."""
    _expect_beside(config, [entry for entry in _READ_BESIDE if entry[0] != "source_run"])


def _expect_beside(
    config: Config, entries: Sequence[tuple[str, str, tuple[str, ...], str]], base: Optional[Config] = None
) -> None:
    """Raises UserError for settings, other than in `base`, without those that they need."""
    base = base or Config()
    for needed, kind, names, why in entries:
        unread = [name for name in names if getattr(config, name) != getattr(base, name)]
        setting, _, value = needed.partition("=")
        held = getattr(config, setting)
        if unread and not (held == value if value else held):
            wanted, received, repair = (
                (f"--{needed}", f"{setting}={held}", "give it") if value else (f"a --{needed}", "none", f"name {kind}")
            )
            raise UserError(
                f"Expected {wanted} beside --{unread[0]}, {why}. Received: {received}; {repair}, or leave --{unread[0]} out."
            )
