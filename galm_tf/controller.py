"""The controller: ARM + MNAS, one policy for all attributes (paper §3.3, §3.4, §4.1).

An LSTM of two layers (or another cell, `controller_cells`) takes the ten
decisions in turn. Each step reads [ê_i ; embedding of the last action] and
gives the logits of one decision. The module is vectorised over M (attribute,
sample) pairs and made of tf.Variables alone, so that a checkpoint by name is
the same on every stack.

Paper: ê_i is concatenated to the input, nothing more. Here: with
`conditioning=film` ê_i, brought to unit scale, also shifts and scales what the
cell gives to the output heads, so that attributes part in fewer steps;
`concat` is the paper's letter. That all attributes end with one architecture
is, first of all, a policy that collapses too early (see `reinforce`).
"""

from __future__ import annotations

from typing import NamedTuple, Optional

import numpy as np
import tensorflow as tf

from galm_tf import search_space
from galm_tf.attribute_embedding import AttributeRepresentation
from galm_tf.config import Config
from galm_tf.controller_cells import make_cell, repeat, uniform

EMBEDDING_SIZE = 50
_HIDDEN, _LAYERS = 100, 2  # of the cell, as in the paper


class _Context(NamedTuple):
    """What the ten steps of one pair have in common, one row per pair; scale and shift are None without FiLM."""

    share: tf.Tensor  # [M, any]: what the cell has made of the attribute
    scale: Optional[tf.Tensor]  # [M, hidden]
    shift: Optional[tf.Tensor]  # [M, hidden]

    def repeat(self, times: int) -> _Context:
        return _Context(*(None if v is None else repeat(v, times) for v in self))


class Controller(tf.Module):
    """The policy P(a_1:T | attribute; theta).

    Args:
      num_attributes: N.
      embedding_scale: half-width of the initial attribute embeddings.
      conditioning: film or concat.
      seed: initial values depend on it alone.
      cell: lstm (paper), or one of tensorflow-addons': nas, layernorm_lstm.

    Raises:
      UserError: the cell is addons' and addons is not there.
    """

    def __init__(
        self,
        num_attributes: int,
        *,
        embedding_scale: float,
        conditioning: str,
        seed: int,
        cell: str = "lstm",
    ) -> None:
        super().__init__(name="controller")
        rng = np.random.Generator(np.random.Philox(key=[seed, 0xA11]))
        self.num_attributes, self.film = num_attributes, conditioning == "film"
        self.arm = AttributeRepresentation(num_attributes, EMBEDDING_SIZE, embedding_scale, rng)
        counts = search_space.NUM_CHOICES
        self._starts = np.cumsum((0,) + counts)[:-1]  # row of each decision's first action
        total = sum(counts)
        self.action_embedding = uniform(rng, (total + 1, EMBEDDING_SIZE), "action_embedding")  # last row: start
        self.cell = make_cell(cell, rng, EMBEDDING_SIZE, _HIDDEN, _LAYERS)
        self.heads = uniform(rng, (_HIDDEN, total), "heads")
        self.head_bias = tf.Variable(np.zeros(total, np.float32), name="head_bias")
        if self.film:
            self.film_scale = uniform(rng, (EMBEDDING_SIZE, _HIDDEN), "film_scale")
            self.film_shift = uniform(rng, (EMBEDDING_SIZE, _HIDDEN), "film_shift")

    @classmethod
    def of(cls, config: Config, num_attributes: int, seed: int) -> Controller:
        """The controller of a run by these settings."""
        scale, cell = config.embedding_scale, config.controller_cell
        return cls(num_attributes, embedding_scale=scale, conditioning=config.conditioning, seed=seed, cell=cell)

    @property
    def named_variables(self) -> dict[str, tf.Variable]:
        """Every weight by a stable name."""
        named = {"arm_embedding": self.arm.embedding, "arm_weight": self.arm.weight, "heads": self.heads}
        named.update(action_embedding=self.action_embedding, head_bias=self.head_bias)
        named.update(self.cell.named_variables)
        if self.film:
            named.update(film_scale=self.film_scale, film_shift=self.film_shift)
        return named

    def sample(self, attribute_ids: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Draws one architecture per pair.

        Args:
          attribute_ids: int32 [M].
          seed: int32 [2]; the draw is a function of it.

        Returns:
          actions int32 [M, 10], log_prob and entropy float32 [M, 10], per decision.
        """
        noise = tf.random.stateless_uniform([tf.shape(attribute_ids)[0], len(search_space.DECISIONS)], seed)
        return self._unroll(attribute_ids, noise, None)

    def log_prob(self, attribute_ids: tf.Tensor, actions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """log P of given actions int32 [M, 10]: (log_prob [M, 10], entropy [M, 10])."""
        return self._unroll(attribute_ids, None, actions)[1:]

    def all_log_probs(self, attribute_ids: tf.Tensor) -> tf.Tensor:
        """log P of every architecture, [M, 2304] in `search_space.all_indices` order.

        Decisions are expanded one after another, so common prefixes run once.
        """
        count = tf.shape(attribute_ids)[0]
        context, state = self._context(attribute_ids), self.cell.initial_state(count)
        actions, total, children = self.cell.action_share(self.action_embedding), tf.zeros([count]), 1
        last = tf.fill([count], self._start_row)
        for decision, choices in enumerate(search_space.NUM_CHOICES):
            context = context.repeat(children)
            logits, state = self._step(context, tf.gather(actions, last), state, decision, children)
            total = tf.reshape(total[:, None] + tf.nn.log_softmax(logits), [-1])
            last = tf.tile(tf.range(choices) + int(self._starts[decision]), [tf.shape(logits)[0]])
            children = choices
        return tf.reshape(total, [-1, search_space.NUM_ARCHITECTURES])

    def _unroll(self, ids, noise: Optional[tf.Tensor], actions: Optional[tf.Tensor]):
        """Ten steps with sampled or given actions: (actions, log_prob, entropy), each [M, 10]."""
        context, state = self._context(ids), self.cell.initial_state(tf.shape(ids)[0])
        actions_in = self.cell.action_share(self.action_embedding)
        last = tf.fill([tf.shape(ids)[0]], self._start_row)
        taken, log_probs, entropies = [], [], []
        for decision, count in enumerate(search_space.NUM_CHOICES):
            logits, state = self._step(context, tf.gather(actions_in, last), state, decision)
            log_p = tf.nn.log_softmax(logits)
            p = tf.exp(log_p)
            if actions is None:
                cumulative = tf.cumsum(p, axis=1)[:, :-1]
                action = tf.reduce_sum(tf.cast(noise[:, decision, None] > cumulative, tf.int32), axis=1)
            else:
                action = actions[:, decision]
            taken.append(action)
            log_probs.append(tf.reduce_sum(log_p * tf.one_hot(action, count), axis=1))
            entropies.append(-tf.reduce_sum(p * log_p, axis=1))
            last = action + int(self._starts[decision])
        return tf.stack(taken, 1), tf.stack(log_probs, 1), tf.stack(entropies, 1)

    @property
    def _start_row(self) -> int:
        return int(self.action_embedding.shape[0]) - 1

    def _context(self, ids: tf.Tensor) -> _Context:
        """The share of every step that depends on the attribute alone; computed once for all ten."""
        vectors = self.arm(ids)  # [M, 50]
        if self.film:
            vectors *= tf.math.rsqrt(tf.reduce_mean(tf.square(vectors), axis=1, keepdims=True) + 1e-6)
        share = self.cell.attribute_share(vectors)
        if not self.film:
            return _Context(share, None, None)
        return _Context(share, 1.0 + tf.matmul(vectors, self.film_scale), tf.matmul(vectors, self.film_shift))

    def _step(self, context: _Context, action, state, decision: int, children: int = 1):
        """One decision: logits [M, choices] and the next state.

        Each row of `state` is followed by `children` consecutive rows of `context` and of `action`.
        """
        x, state = self.cell.step(context.share, action, state, children)
        if self.film:
            x = x * context.scale + context.shift
        start, count = int(self._starts[decision]), search_space.NUM_CHOICES[decision]
        logits = tf.matmul(x, self.heads[:, start : start + count]) + self.head_bias[start : start + count]
        return logits, state
