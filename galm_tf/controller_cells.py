"""The recurrent cells that the controller may be made of (--controller_cell).

A cell is a stack of layers as one object: its variables by stable names, its
initial state, and one step. It reads [ê_i ; embedding of the last action]; the
two halves are handed over apart, so that a cell can compute what it makes of
either once for all ten steps (`attribute_share`, `action_share`).

Paper: an LSTM (§4.1), our own here. The others are of tensorflow-addons.
"""

from __future__ import annotations

import abc
from typing import Any

import numpy as np
import tensorflow as tf

from galm_tf import addons

_INITIAL = 0.1  # weights are uniform in ±0.1: a nearly uniform policy


class Cell(abc.ABC, tf.Module):
    """What the controller asks of a cell; `hidden` is the size of its output."""

    hidden: int

    @property
    @abc.abstractmethod
    def named_variables(self) -> dict[str, tf.Variable]:
        """Every weight by a stable name."""

    @abc.abstractmethod
    def initial_state(self, count: tf.Tensor) -> Any:
        """Zero state of `count` rows."""

    @abc.abstractmethod
    def attribute_share(self, vectors: tf.Tensor) -> tf.Tensor:
        """What all steps need of the attributes' ê, float32 [M, E]: float32 [M, any]."""

    @abc.abstractmethod
    def action_share(self, embedding: tf.Tensor) -> tf.Tensor:
        """What a step needs of each last action's embedding, float32 [23, E]: float32 [23, any]."""

    @abc.abstractmethod
    def step(self, attribute: tf.Tensor, action: tf.Tensor, state: Any, children: int) -> tuple[tf.Tensor, Any]:
        """One step.

        Args:
          attribute, action: rows [M, any] of the two shares.
          state: of M / children rows, each followed by `children` consecutive rows of the shares.
          children: 1, or how many rows continue each state.

        Returns:
          output float32 [M, hidden], and the next state, of M rows.
        """


class LstmCell(Cell):
    """LSTM (Hochreiter & Schmidhuber 1997), the paper's.

    The shares are of the first layer's pre-activations, so a step multiplies
    nothing that an earlier step has multiplied.

    Args:
      rng: initial weights are drawn from it.
      input_size: E, of ê and of an action's embedding each.
      hidden, layers: size.
    """

    def __init__(self, rng: np.random.Generator, input_size: int, hidden: int, layers: int) -> None:
        super().__init__(name="lstm")
        self.hidden, self._input_size = hidden, input_size
        sizes = [2 * input_size] + [hidden] * (layers - 1)
        self.kernels = [uniform(rng, (size, 4 * hidden), f"lstm{i}_kernel") for i, size in enumerate(sizes)]
        self.recurrent = [uniform(rng, (hidden, 4 * hidden), f"lstm{i}_recurrent") for i in range(layers)]
        self.biases = [tf.Variable(np.zeros(4 * hidden, np.float32), name=f"lstm{i}_bias") for i in range(layers)]

    @property
    def named_variables(self) -> dict[str, tf.Variable]:
        named = {f"lstm{i}_kernel": v for i, v in enumerate(self.kernels)}
        named.update({f"lstm{i}_recurrent": v for i, v in enumerate(self.recurrent)})
        named.update({f"lstm{i}_bias": v for i, v in enumerate(self.biases)})
        return named

    def initial_state(self, count):
        zeros = tf.zeros([count, self.hidden])
        return [(zeros, zeros) for _ in self.kernels]

    def attribute_share(self, vectors):
        return tf.matmul(vectors, self.kernels[0][: self._input_size]) + self.biases[0]  # [M, 4 * hidden]

    def action_share(self, embedding):
        return tf.matmul(embedding, self.kernels[0][self._input_size :])  # [23, 4 * hidden]

    def step(self, attribute, action, state, children):
        gates, new_state = action + attribute, []
        for i, (h, c) in enumerate(state):
            h, c = _lstm(gates + repeat(tf.matmul(h, self.recurrent[i]), children), repeat(c, children))
            new_state.append((h, c))
            if i + 1 < len(state):
                gates = tf.matmul(h, self.kernels[i + 1]) + self.biases[i + 1]
        return new_state[-1][0], new_state


class AddonsCell(Cell):
    """Layers of one of tensorflow-addons' cells: nas or layernorm_lstm.

    Initial values come from `rng`, not from TensorFlow's seeds: weights as the
    LSTM's, gains of layer normalisation 1, shifts and biases 0 (a forget gate's
    1; Jozefowicz et al. 2015).

    Args:
      name: nas (tfa.rnn.NASCell) or layernorm_lstm (tfa.rnn.LayerNormLSTMCell).
      rng, input_size, hidden, layers: as `LstmCell`'s.

    Raises:
      UserError: addons is not there.
    """

    def __init__(self, name: str, rng: np.random.Generator, input_size: int, hidden: int, layers: int) -> None:
        super().__init__(name=name)
        self.hidden = hidden
        self._layers = [addons.cell(name, hidden) for _ in range(layers)]
        self._named: dict[str, tf.Variable] = {}
        for i, layer in enumerate(self._layers):
            layer.build((None, 2 * input_size if i == 0 else hidden))
            named = {f"{name}{i}_{key}": variable for key, variable in _weights(layer).items()}
            for key, variable in sorted(named.items()):
                variable.assign(_initial_value(key, variable.shape, rng))
            self._named.update(named)

    @property
    def named_variables(self) -> dict[str, tf.Variable]:
        return dict(self._named)

    def initial_state(self, count):
        zeros = tf.zeros([count, self.hidden])
        return [[zeros, zeros] for _ in self._layers]

    def attribute_share(self, vectors):
        return vectors

    def action_share(self, embedding):
        return tf.convert_to_tensor(embedding)

    def step(self, attribute, action, state, children):
        x, new_state = tf.concat([attribute, action], axis=1), []
        for layer, old in zip(self._layers, state):
            x, new = layer(x, [repeat(part, children) for part in old])
            new_state.append(new)
        return x, new_state


def make_cell(name: str, rng: np.random.Generator, input_size: int, hidden: int, layers: int) -> Cell:
    """The cell of --controller_cell; raises UserError where it cannot be had. Arguments as `LstmCell`'s."""
    if name == "lstm":
        return LstmCell(rng, input_size, hidden, layers)
    return AddonsCell(name, rng, input_size, hidden, layers)


def repeat(x: tf.Tensor, times: int) -> tf.Tensor:
    """Every row `times` times, one after another."""
    if times == 1:
        return x
    return tf.reshape(tf.tile(x[:, None], [1, times, 1]), [-1, int(x.shape[-1])])  # fewer operations than tf.repeat


def uniform(rng: np.random.Generator, shape: tuple[int, ...], name: str) -> tf.Variable:
    """A variable of the controller with its initial values."""
    return tf.Variable(_draw(rng, shape), name=name)


def _draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.uniform(-_INITIAL, _INITIAL, shape).astype(np.float32)


def _lstm(gates: tf.Tensor, c: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """One layer on pre-activations [M, 4 * hidden] and memory c: (h, c).

    The forget gate's bias is 1 more than its weight, so that early decisions
    are remembered from the start (Jozefowicz et al. 2015).
    """
    i, f, g, o = tf.split(gates, 4, axis=1)
    c = tf.sigmoid(f + 1.0) * c + tf.sigmoid(i) * tf.tanh(g)
    return tf.sigmoid(o) * tf.tanh(c), c


def _weights(layer) -> dict[str, tf.Variable]:
    """All weights of an addons cell by names of ours: Keras' own depend on what was built before."""
    named = {"kernel": layer.kernel, "recurrent": layer.recurrent_kernel}
    if getattr(layer, "use_bias", False):
        named["bias"] = layer.bias
    for norm in ("kernel_norm", "recurrent_norm", "state_norm"):
        if hasattr(layer, norm):
            named.update({f"{norm}_gain": getattr(layer, norm).gamma, f"{norm}_shift": getattr(layer, norm).beta})
    assert {id(v) for v in named.values()} == {id(v) for v in layer.weights}
    return named


def _initial_value(name: str, shape: tf.TensorShape, rng: np.random.Generator) -> np.ndarray:
    shape = tuple(shape)
    if name.endswith(("_kernel", "_recurrent")):
        return _draw(rng, shape)
    value = np.full(shape, 1.0 if name.endswith("_gain") else 0.0, np.float32)
    if name.endswith("_bias"):  # input, forget, candidate, output
        value[shape[0] // 4 : shape[0] // 2] = 1.0
    return value
