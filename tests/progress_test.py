"""The progress line: plain lines in a log, one redrawn line on a terminal."""

import io
import sys
import time
import types

import numpy as np
import pytest
import tensorflow as tf

from galm_tf import pipeline, progress
from galm_tf.preprocess import scale_images
from galm_tf.progress import Progress


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_has_plain_lines_only(capsys):
    with Progress(4, "controller 1") as shown:
        shown.update(3, reward=0.5)
        shown.update(1, reward=0.75, loss=1.25)
    text = capsys.readouterr().err
    assert not set(text) & {"\r", "\x1b"}
    assert text.splitlines()[0].startswith("controller 1:   0% 0/4")
    last = text.splitlines()[-1]
    assert last.startswith("controller 1: 100% 4/4") and "step/s, reward=0.7500, loss=1.2500]" in last


@pytest.mark.parametrize("count", [999, 1100])
def test_the_test_of_many_images_is_told(capsys, count):
    images = np.arange(2000, dtype=np.uint8).repeat(12).reshape(-1, 2, 2, 3)
    prepared = types.SimpleNamespace(images=images, split=types.SimpleNamespace(test=np.arange(count)[::-1]))
    network = lambda x: tf.reduce_mean(x, [1, 2])[:, :2]  # noqa: E731
    log_odds = pipeline.test(network, prepared)
    np.testing.assert_allclose(log_odds, scale_images(images[:count, 0, 0, :2]).numpy()[::-1], atol=1e-6)
    lines = capsys.readouterr().err.splitlines()
    assert [line[:20] for line in lines] == (["test:   0% 0/1100 [0", "test: 100% 1100/1100"] if count > 1000 else [])


def test_a_log_is_not_flooded(capsys):
    with Progress(5000, "warmup") as shown:
        for _ in range(5000):
            shown.update(1, loss=1.0)
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_log_grows_while_work_goes_on(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_PLAIN_SECONDS", 0.05)
    with Progress(4, "warmup") as shown:
        for _ in range(4):
            time.sleep(0.06)
            shown.update(1, loss=1.0)
    counts = [line.split()[2] for line in capsys.readouterr().err.splitlines()]
    assert list(dict.fromkeys(counts)) == ["0/4", "1/4", "2/4", "3/4", "4/4"]


def test_a_resumed_phase_starts_where_it_was(capsys):
    with Progress(10, "adapt", initial=7, unit="image"):
        pass
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("adapt:  70% 7/10") and "image/s" in line


def test_nothing_to_do_is_no_error(capsys):
    with Progress(0, "decoding"):
        pass
    assert capsys.readouterr().err.startswith("decoding:   0% 0/0")


def test_a_terminal_has_one_line(monkeypatch):
    stream = _Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress(3, "warmup") as shown:
        for _ in range(3):
            shown.update(1, loss=0.5)
    text = stream.getvalue()
    assert text.startswith("\rwarmup:   0%") and text.count("\n") == 1 and "3/3" in text.split("\r")[-1]
