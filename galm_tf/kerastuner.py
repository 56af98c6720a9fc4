"""KerasTuner around trials that are kept elsewhere too: its state is made anew from them where it is damaged, and what
goes wrong in one is told as it is.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
import warnings
from typing import Callable

import keras_tuner
import tensorflow as tf
from sklearn.exceptions import ConvergenceWarning

from galm_tf import refusals


def begin(begin_or_reload: Callable[[], keras_tuner.Tuner], path: str) -> keras_tuner.Tuner:
    """KerasTuner's search, from its state in the folder `path` where there is one; a damaged one is set aside."""
    with _clear_errors(path):
        try:
            return begin_or_reload()
        except Exception as error:  # it raises many kinds for a damaged state
            if not os.path.isdir(path):
                raise
            aside = f"{path}-damaged"
            shutil.rmtree(aside, ignore_errors=True)
            os.replace(path, aside)
            logging.warning(
                "%s is damaged (%s): it is kept as %s, and made anew from the trials beside it",
                path, str(error).partition("\n")[0], aside,
            )  # fmt: skip
            return begin_or_reload()


def search(tuner: keras_tuner.Tuner, path: str) -> None:
    """Runs what is left of the trials; path: of KerasTuner's state. Its own `search` would take any error for a trial
    that failed.
    """
    tuner.oracle.verbose = 0
    while True:
        tuner.pre_create_trial()
        with _clear_errors(path), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of its Gaussian process, whose bounds are its own
            proposed = tuner.oracle.create_trial(tuner.tuner_id)
        if proposed.status == "STOPPED":
            return
        figures = tuner.run_trial(proposed)
        with _clear_errors(path):
            tuner.oracle.update_trial(proposed.trial_id, figures)
            proposed.status = "COMPLETED"
            tuner.on_trial_end(proposed)


def _clear_errors(path: str) -> contextlib.AbstractContextManager[None]:
    """Turns a refusal to write KerasTuner's state into a sentence."""
    sentence = functools.partial(refusals.unwritable, way=refusals.AGAIN)
    return refusals.clear_errors(path, sentence, (OSError, tf.errors.OpError))
