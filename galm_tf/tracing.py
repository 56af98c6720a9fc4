"""Tracing without rewriting the source.

AutoGraph rewrites a Python function, and all that it calls, before TensorFlow
traces it, so that loops and conditions on tensors work. That takes longer than
the tracing itself, several seconds a run. Here nearly all such loops and
conditions are written out as operations, and nothing needs to be rewritten.
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Iterator

import tensorflow as tf

untouched: Callable[[Callable], Callable] = tf.autograph.experimental.do_not_convert


def traced(function: Callable, **settings: Any) -> Callable:
    """`tf.function` of a function whose Python loops and conditions are not on tensors; settings: of tf.function.

    autograph=False alone would not do: Keras 2 rewrites the `call` of every layer, unless it is called within
    `untouched`.
    """
    return tf.function(untouched(function), **{"reduce_retracing": True, **settings})


@contextlib.contextmanager
def untraced(when: bool = True) -> Iterator[None]:
    """Runs operations one by one, whatever is a `tf.function`: for what is called so seldom that tracing would cost
    more.
    """
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(when or before)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)
