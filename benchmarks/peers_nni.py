"""NNI's ENAS on the same space, images and labels as suite `peers`: the same rows, for one attribute a file.

    make peers ARGS="--domain=sun"      # sets up .venv-peers, runs the suite, then this
    python benchmarks/peers_nni.py runs/peers/data/*.npz

Stands alone: PyTorch and NNI, no TensorFlow. Images are drawn evenly, whatever --class_balance says. The npz files are
those that `python -m galm_tf.benchmark --suite=peers` leaves in OUT/data; the suite's budget is in them. ENAS (Pham et
al. 2018) trains one supernet, as many epochs as the suite's children in all; a policy (PPO, NNI's choice) samples it,
rewarded by the AUC of one validation batch. The network that the policy ends with is trained from scratch: on training
images for the validation AUC, and for the test on validation images too, as a rule.
Augmentation, learning rate and batch size are as for the suite's children, but for colour.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
import warnings

try:
    import numpy as np
    import torch
    import torch.nn.functional as functional
    from sklearn.metrics import roc_auc_score
    from torch import nn

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import gym  # noqa: F401
        except ImportError:  # its maintained successor, which has all that NNI's policy asks for
            import gymnasium

            sys.modules["gym"] = gymnasium
        import nni
        from nni.nas.evaluator.pytorch import Lightning, LightningModule, Trainer
        from nni.nas.execution import SequentialExecutionEngine
        from nni.nas.nn.pytorch import LayerChoice, ModelSpace
        from nni.nas.space import RawFormatModelSpace
        from nni.nas.strategy import ENAS
except ImportError as error:
    sys.exit(
        f"error: Expected PyTorch, NNI 3.0 and tianshou 0.5 in this environment. Received: {error}; make peers sets one up."
    )

COLUMNS = ("case", "reference", "value", "unit", "ratio_median", "ratio_min", "ratio_max")
TRUNK = ((3, 16, 7), (16, 32, 3), (32, 64, 3))
CONV4, CONV5, WIDTHS = 32, 16, (64, 128, 256)
LEARNING_RATE = 1e-3
BATCHES_PER_UPDATE = 20  # NNI's default: validation batches between two updates of the policy, which are slow


class Nothing(nn.Module):
    """A skip that is off."""

    def forward(self, x):
        return torch.zeros((), device=x.device)


class Conv(nn.Module):
    """ReLU(kernel choice + skips), pooled and normalised: Conv-4 or Conv-5 of Table 1."""

    def __init__(
        self, name: str, channels: int, filters: int, sources: tuple[int, ...], factors: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.kernel = LayerChoice(
            [nn.Conv2d(channels, filters, k, padding=k // 2) for k in (3, 5)], label=f"{name}_kernel"
        )
        self.skips = nn.ModuleList(
            LayerChoice(
                [Nothing(), nn.Sequential(nn.AvgPool2d(f), nn.Conv2d(c, filters, 1, bias=False))],
                label=f"conv{i}_{name}",
            )
            for i, (c, f) in enumerate(zip(sources, factors), 1)
        )
        self.norm = nn.BatchNorm2d(filters)

    def forward(self, x, maps):
        y = self.kernel(x)
        for skip, source in zip(self.skips, maps):
            y = y + skip(source)
        return self.norm(functional.max_pool2d(functional.relu(y), 2))


class Head(nn.Module):
    """Fc-1, perhaps Fc-2, then Fc-3."""

    def __init__(self, inputs: int, width: int, second: int = 0) -> None:
        super().__init__()
        sizes = [inputs, width] + [second] * bool(second)
        layers = [m for a, b in zip(sizes, sizes[1:]) for m in (nn.Linear(a, b), nn.ReLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], 2))

    def forward(self, x):
        return self.layers(x)


class Table1(ModelSpace):
    """The paper's Table 1. Fc widths and Fc-3's input are one choice of 12 heads: NNI shares no nested widths here."""

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.trunk = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, k, padding=k // 2), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(b))
            for a, b, k in TRUNK
        )
        self.conv4 = Conv("conv4", 64, CONV4, (16, 32), (4, 2))
        self.conv5 = Conv("conv5", CONV4, CONV5, (16, 32, 64), (8, 4, 2))
        flat = (image_size // 32) ** 2 * CONV5
        heads = [Head(flat, a) for a in WIDTHS] + [Head(flat, a, b) for a in WIDTHS for b in WIDTHS]
        self.head = LayerChoice(heads, label="head")

    def forward(self, x):
        maps = []
        for stage in self.trunk:
            x = stage(x)
            maps.append(x)
        x = self.conv5(self.conv4(x, maps), maps)
        z = self.head(torch.flatten(x, 1))
        return z[:, 1] - z[:, 0]


@nni.trace
class AttributeModule(LightningModule):
    """Binary cross-entropy; the policy's reward is the AUC of a validation batch."""

    def forward(self, x):
        return self.model(x)

    def training_step(self, batch, batch_index):
        images, labels = batch
        return functional.binary_cross_entropy_with_logits(self(images), labels)

    def validation_step(self, batch, batch_index):
        images, labels = batch
        self.log("default", auc(labels.cpu().numpy(), self(images).detach().cpu().numpy()))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), LEARNING_RATE)


def auc(labels, scores) -> float:
    """Area under the ROC curve; one half where the labels are of one kind."""
    return float(roc_auc_score(labels > 0.5, scores)) if len(np.unique(labels)) == 2 else 0.5


class Pictures(torch.utils.data.Dataset):
    """uint8 [n, S, S, 3] and labels -> float [-1, 1] and labels; mirrored and shifted where asked."""

    def __init__(self, images, labels, augment: bool) -> None:
        self.images, self.labels, self.augment = images, labels, augment

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int):
        x = torch.from_numpy(self.images[i]).permute(2, 0, 1).float() / 127.5 - 1
        if self.augment:
            reach = int(0.15 * x.shape[-1])
            left, top = torch.randint(0, 2 * reach + 1, (2,)).tolist()
            x = functional.pad(x[None], (reach,) * 4, mode="reflect")[0][
                :, top : top + x.shape[1], left : left + x.shape[2]
            ]
            x = x.flip(2) if torch.rand(()) < 0.5 else x
        return x, torch.tensor(float(self.labels[i]))


def loader(stored, part: str, batch_size: int, train: bool):
    """Batches of a part of the npz."""
    pictures = Pictures(stored[f"{part}_images"], stored[f"{part}_labels"], train)
    return torch.utils.data.DataLoader(pictures, batch_size, shuffle=True)


def train_alone(space: Table1, choices: dict, batches, epochs: int) -> nn.Module:
    """The chosen network with fresh weights."""
    model = space.freeze(choices)
    model.apply(lambda layer: layer.reset_parameters() if hasattr(layer, "reset_parameters") else None)
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    model.train()
    for _ in range(epochs):
        for images, labels in batches:
            optimizer.zero_grad()
            functional.binary_cross_entropy_with_logits(model(images), labels).backward()
            optimizer.step()
    return model


def score(model: nn.Module, batches) -> float:
    """AUC over all batches."""
    model.eval()
    with torch.no_grad():
        pairs = [(labels.numpy(), model(images).numpy()) for images, labels in batches]
    return auc(*(np.concatenate(part) for part in zip(*pairs)))


def search(path: str) -> list[tuple]:
    """Rows of one attribute: architectures an hour, validation AUC, test AUC."""
    with np.load(path) as file:
        stored = {k: file[k] for k in file.files}
    settings = json.loads(str(stored.pop("settings")))
    torch.manual_seed(settings["seed"])
    size, batch, epochs = stored["train_images"].shape[1], settings["batch_size"], settings["epochs"]
    started, space = time.monotonic(), Table1(size)
    train, validation = (loader(stored, p, batch, p == "train") for p in ("train", "validation"))
    trainer = Trainer(
        max_epochs=settings["trials"] * epochs,
        enable_progress_bar=False,
        enable_checkpointing=False,
        logger=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    evaluator = Lightning(AttributeModule(), trainer, train_dataloaders=train, val_dataloaders=validation)
    # a sampled network a validation batch, seen on that batch only
    judged = settings["trials"] * epochs * len(validation)
    updates = min(BATCHES_PER_UPDATE, max(1, judged // 2))  # at least two, however small the budget
    strategy = ENAS(batches_per_update=updates, reward_metric_name="default")
    strategy(RawFormatModelSpace(space, evaluator), SequentialExecutionEngine())
    choices = next(iter(strategy.list_models(limit=1))).sample
    seconds = time.monotonic() - started
    val_auc = score(train_alone(Table1(size), choices, train, epochs), validation)
    final = train_alone(Table1(size), choices, loader(stored, "final", batch, True), epochs)
    name = f"nni_enas, {settings['attribute']}"
    values = (
        (3600 * judged / seconds, "architectures/h"),
        (val_auc, "validation AUC"),
        (score(final, loader(stored, "test", batch, False)), "test AUC"),
    )
    return [(name, name, value, unit, 1.0, 1.0, 1.0) for value, unit in values]


def main() -> None:
    """Prints the rows of all files as CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", help="npz files of suite peers")
    parser.add_argument("--out", default="", help="a CSV file to write as well")
    arguments = parser.parse_args()
    rows = [COLUMNS, *(row for path in arguments.files for row in search(path))]
    csv.writer(sys.stdout).writerows(rows)
    if arguments.out:
        with open(arguments.out, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
