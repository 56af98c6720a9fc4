"""The one place that imports tensorflow-addons, and only when something of it is asked for.

Addons ends at 0.23: it has wheels for Python 3.9 to 3.11 (not for Windows, not for
aarch64 Linux) and cannot be imported beside Keras 3. Nothing in the paper's path needs it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import warnings
from typing import Any

from galm_tf.errors import UserError

# --controller_cell -> class in tensorflow_addons.rnn
_CELLS = {"nas": "NASCell", "layernorm_lstm": "LayerNormLSTMCell"}


def expect_cell(name: str) -> None:
    """Raises UserError where a cell of --controller_cell cannot be had; cells of our own always can."""
    if name in _CELLS:
        _import(f"controller_cell={name}")


def cell(name: str, units: int, **settings: Any):
    """A Keras recurrent cell of addons.

    Args:
      name: nas (Zoph & Le 2017) or layernorm_lstm (Ba et al. 2016).
      units: size of its state and of its output.
      **settings: further arguments of its class.

    Raises:
      UserError: addons is not there.
    """
    return getattr(_import(f"controller_cell={name}").rnn, _CELLS[name])(units, **settings)


def _import(asked: str):
    """The package; `asked` is the setting that needs it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its farewell
            return importlib.import_module("tensorflow_addons")
    except (ImportError, AttributeError) as error:  # AttributeError: installed beside a Keras it does not know
        raise UserError(
            f"Expected tensorflow-addons, which --{asked} needs. Received: {asked} beside TensorFlow "
            f"{_version('tensorflow')} and Keras {_version('keras')} ({error}); ask for lstm, the default, or install "
            "requirements.txt with Python 3.9 to 3.11 on Linux x86-64 or macOS."
        ) from None


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # tensorflow-cpu, say
        return "of unknown version"
