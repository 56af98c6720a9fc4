"""What all tests share: quiet TensorFlow, real flags, and a line that says which stack was tested."""

import gc
import os
import sys
from importlib import metadata

import pytest

# Before any test imports TensorFlow.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
# several threads add up in an order that changes, within an operation and of operations; workers fill the cores
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

from galm_tf.quiet_start import import_tensorflow


def pytest_configure(config):
    """What but hands tests out to others (-n) needs no TensorFlow."""
    if not config.getoption("numprocesses", None):
        gc.disable()
        import_tensorflow()


def pytest_collection_finish():
    """Modules are no garbage: to look through them takes as long as many a test."""
    gc.freeze()
    gc.set_threshold(20_000)  # a traced function alone leaves thousands of objects
    gc.enable()


def pytest_terminal_summary(terminalreporter):
    other = os.environ.get("GALM_OTHER_PYTHON") or "none (GALM_OTHER_PYTHON)"
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("tensorflow", "keras", "numpy"))
    terminalreporter.write_line(f"stack: Python {sys.version.split()[0]}, {versions}; other stack: {other}")


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """A cache of decoded images for all tests that may share one: a generated domain is drawn once."""
    return str(tmp_path_factory.mktemp("drawn"))


@pytest.fixture
def eagerly():
    """Without tracing, which takes longer than a few steps do."""
    from galm_tf.tracing import untraced

    with untraced():
        yield


@pytest.fixture
def parse():
    """Command-line flags -> Config, by the real flags; whatever they set is undone."""
    from absl import flags
    from absl.testing import flagsaver

    from galm_tf import command_line, config

    if "image_size" not in flags.FLAGS:
        config.define_flags()

    def parse_flags(*arguments):
        with flagsaver.flagsaver():
            command_line.parse_flags(["galm_tf.main", *arguments])
            return config.from_flags(flags.FLAGS)

    return parse_flags
