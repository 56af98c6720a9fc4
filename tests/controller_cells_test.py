"""Every cell of the controller that this stack has keeps the policy's contracts; the others are refused clearly."""

import dataclasses
import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from galm_tf import addons, search_space
from galm_tf.config import Config
from galm_tf.controller import Controller
from galm_tf.errors import UserError
from galm_tf.reinforce import Reinforce
from planted_rewards import INDICES, planted, quality

N = 3
HAS_ADDONS = importlib.util.find_spec("tensorflow_addons") is not None
CELLS = ("lstm", "nas", "layernorm_lstm") if HAS_ADDONS else ("lstm",)
ADDONS_CELLS = CELLS[1:]
FAST = Config(controller_learning_rate=5e-3, samples_per_step=32)
PAIRS = [(cell, conditioning) for cell in CELLS for conditioning in ("film", "concat")]


def _controller(cell, conditioning="film", seed=1, num_attributes=N):
    return Controller(num_attributes, embedding_scale=1.0, conditioning=conditioning, seed=seed, cell=cell)


def _peak(controller):
    """Moves the policy far from uniform, and every shift, gain and bias from where it starts."""
    rng = np.random.default_rng(0)
    for name, variable in sorted(controller.named_variables.items()):
        moved = 0.2 * rng.normal(size=variable.shape) if name.endswith(("bias", "shift", "gain")) else 2.0 * variable
        variable.assign(moved + variable if name.endswith("gain") else moved)
    return controller


@pytest.fixture(scope="module", params=PAIRS, ids="-".join)
def peaked(request):
    return _peak(_controller(*request.param))


# ---- One policy, read in several ways ---------------------------------------------


def test_all_log_probs_sum_to_one_and_equal_log_prob(peaked):
    ids = tf.constant([2, 0, 2], tf.int32)
    table = peaked.all_log_probs(ids).numpy()
    np.testing.assert_allclose(np.exp(table.astype(np.float64)).sum(1), 1.0, atol=1e-5)
    assert table.std() > 0.3  # far from uniform
    numbers = np.random.default_rng(1).integers(0, 2304, (3, 40))
    for row, i in enumerate(ids.numpy()):
        one_by_one = peaked.log_prob(tf.fill([40], i), tf.constant(INDICES[numbers[row]]))[0].numpy().sum(1)
        np.testing.assert_allclose(table[row, numbers[row]], one_by_one, atol=5e-5)


def test_sampled_actions_have_the_log_prob_of_all_log_probs(peaked):
    ids = tf.constant(np.repeat(np.arange(N), 8), tf.int32)
    actions, log_prob, entropy = peaked.sample(ids, tf.constant([3, 4]))
    numbers = np.ravel_multi_index(tuple(actions.numpy().T), search_space.NUM_CHOICES)
    table = peaked.all_log_probs(tf.range(N)).numpy()
    np.testing.assert_allclose(log_prob.numpy().sum(1), table[ids.numpy(), numbers], atol=5e-5)
    again, entropy_again = peaked.log_prob(ids, actions)
    np.testing.assert_allclose(log_prob.numpy(), again.numpy(), atol=2e-6)
    np.testing.assert_allclose(entropy.numpy(), entropy_again.numpy(), atol=2e-6)


def test_attributes_differ_by_their_embedding_alone(peaked):
    own = peaked.arm.embedding.numpy()
    assert np.ptp(peaked.all_log_probs(tf.range(N)).numpy(), axis=0).max() > 0.1
    peaked.arm.embedding.assign(np.tile(own[:1], [N, 1]))
    assert np.ptp(peaked.all_log_probs(tf.range(N)).numpy(), axis=0).max() < 1e-4
    peaked.arm.embedding.assign(own)


@pytest.mark.parametrize("cell", CELLS)
def test_initial_policy_is_nearly_uniform(cell):
    entropy = _controller(cell).sample(tf.range(N), tf.constant([3, 4]))[2].numpy().sum(1)
    assert (entropy > 0.93 * np.log(2304)).all()


# ---- Straight from the formulas -----------------------------------------------------


def _sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def _relu(x):
    return np.maximum(x, 0.0)


def _nas(v, x, state):
    """Zoph & Le 2017, appendix: the cell found on the Penn Treebank, with its memory injected."""
    c, m = state
    x, m = np.split(x @ v["kernel"], 8), np.split(m @ v["recurrent"], 8)
    first = [
        _sigmoid(x[0] + m[0]), _relu(x[1] + m[1]), _sigmoid(x[2] + m[2]), _relu(x[3] * m[3]),
        np.tanh(x[4] + m[4]), _sigmoid(x[5] + m[5]), np.tanh(x[6] + m[6]), _sigmoid(x[7] + m[7]),
    ]  # fmt: skip
    c = np.tanh(np.tanh(first[0] * first[1]) + c) * np.tanh(first[2] + first[3])
    m = np.tanh(c * np.tanh(np.tanh(first[4] * first[5]) + _sigmoid(first[6] + first[7])))
    return m, [c, m]


def _layernorm_lstm(v, x, state):
    """Ba et al. 2016, equations 20 to 22."""

    def norm(name, y):
        return (y - y.mean()) / np.sqrt(y.var() + 1e-3) * v[f"{name}_norm_gain"] + v[f"{name}_norm_shift"]

    h, c = state
    gates = norm("kernel", x @ v["kernel"]) + norm("recurrent", h @ v["recurrent"]) + v["bias"]
    i, f, g, o = np.split(gates, 4)
    c = norm("state", _sigmoid(f) * c + _sigmoid(i) * np.tanh(g))
    h = _sigmoid(o) * np.tanh(c)
    return h, [h, c]


@pytest.mark.parametrize("cell", ADDONS_CELLS)
def test_log_prob_equals_numpy(cell):
    controller = _peak(_controller(cell, "concat"))
    formula = {"nas": _nas, "layernorm_lstm": _layernorm_lstm}[cell]
    v = {name: w.numpy().astype(np.float64) for name, w in controller.named_variables.items()}
    parts = [{re.sub(rf"^{cell}\d_", "", k): w for k, w in v.items() if k.startswith(f"{cell}{i}_")} for i in range(2)]
    actions = INDICES[[0, 1234, 2303]]
    for attribute, row in enumerate(actions):
        e, last, start, expected = v["arm_weight"] @ v["arm_embedding"][attribute], v["action_embedding"][-1], 0, []
        states = [[np.zeros(100), np.zeros(100)] for _ in range(2)]
        for action, count in zip(row, search_space.NUM_CHOICES):
            x = np.concatenate([e, last])
            for i in range(2):
                x, states[i] = formula(parts[i], x, states[i])
            logits = x @ v["heads"][:, start : start + count] + v["head_bias"][start : start + count]
            expected.append(logits[action] - np.log(np.exp(logits).sum()))
            last, start = v["action_embedding"][start + action], start + count
        got = controller.log_prob(tf.constant([attribute]), tf.constant(row[None]))[0].numpy()[0]
        np.testing.assert_allclose(got, expected, atol=2e-5)


# ---- Variables ----------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
def test_initial_values_depend_on_the_seed_alone(cell):
    first = {k: v.numpy() for k, v in _controller(cell).named_variables.items()}
    tf.random.set_seed(5)
    again, other = (_controller(cell, seed=s).named_variables for s in (1, 2))
    assert list(first) == list(again)
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name].numpy())
        if (
            name in ("heads", "action_embedding")
            or name.startswith(("arm", "film"))
            or name.endswith(("kernel", "recurrent"))
        ):
            assert (value != other[name].numpy()).any()
            assert name.startswith("arm") or 0.09 < np.abs(value).max() <= 0.1, name
        else:
            np.testing.assert_array_equal(value, _start(cell, name, len(value)))


def _start(cell, name, size):
    """Gains 1; shifts and biases 0, but for addons' forget gates."""
    if name.endswith("gain"):
        return np.ones(size)
    forget = cell == "layernorm_lstm" and re.search(r"lstm\d_bias", name)
    return np.repeat([0, float(bool(forget)), 0, 0], 100) if size == 400 else np.zeros(size)


@pytest.mark.parametrize("cell,conditioning", PAIRS, ids="-".join)
def test_named_variables_are_all_variables_and_each_gets_a_gradient(cell, conditioning):
    controller = _controller(cell, conditioning)
    named = controller.named_variables
    assert {id(v) for v in named.values()} == {id(v) for v in controller.variables} and len(named) == len(
        controller.variables
    )
    assert {f"{cell}{i}_{part}" for i in range(2) for part in ("kernel", "recurrent")} <= set(named)
    with tf.GradientTape() as tape:
        log_prob = controller.log_prob(tf.range(N), tf.constant(INDICES[::800][:N]))[0]
        target = tf.reduce_sum(log_prob * tf.range(1.0, 11.0))
    for name, gradient in tape.gradient(target, named).items():
        assert gradient is not None and np.abs(tf.convert_to_tensor(gradient).numpy()).max() > 0, name


# ---- Learning -----------------------------------------------------------------------


def _learn(trainer, table, first, steps):
    return trainer.train_on_table(table, np.ones(len(table), bool), first, steps)


@pytest.mark.parametrize("cell", CELLS)
def test_own_planted_optima_are_found_and_a_resume_takes_the_same_steps(cell):
    table = planted([0, 2303, 1357])
    controller = _controller(cell)
    trainer = Reinforce(controller, FAST, 120, seed=11)
    before = {k: v.numpy() for k, v in trainer.named_variables.items()}
    _learn(trainer, table, 0, 5)
    stored = {k: v.numpy() for k, v in trainer.named_variables.items()}
    assert all((stored[k] != before[k]).any() for k in before)  # every weight moves
    _learn(trainer, table, 5, 4)
    expected = {k: v.numpy() for k, v in trainer.named_variables.items()}
    _learn(trainer, table, 9, 100)
    assert quality(controller, table) > 0.9
    for name, variable in trainer.named_variables.items():  # back to the checkpoint
        variable.assign(stored[name])
    _learn(trainer, table, 5, 4)
    for name, variable in trainer.named_variables.items():
        np.testing.assert_allclose(variable.numpy(), expected[name], rtol=1e-3, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("cell", CELLS)
def test_nothing_is_learned_at_learning_rate_0(cell, eagerly):
    controller = _controller(cell)
    before = {k: v.numpy() for k, v in controller.named_variables.items()}
    trainer = Reinforce(controller, dataclasses.replace(FAST, controller_learning_rate=0.0), 100, seed=11)
    _learn(trainer, planted([1357] * N), 0, 3)
    for name, variable in controller.named_variables.items():
        np.testing.assert_array_equal(variable.numpy(), before[name])


# ---- Where addons is not there --------------------------------------------------------

MESSAGE = r"Expected tensorflow-addons, which --controller_cell=nas needs\. Received: controller_cell=nas beside .*; ask for lstm"


@pytest.fixture
def without_addons(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_addons", None)  # an import of it fails


def test_flags_refuse_a_cell_that_this_stack_has_not(parse, without_addons):
    with pytest.raises(UserError, match=MESSAGE):
        parse("--controller_cell=nas")
    with pytest.raises(UserError, match=MESSAGE):
        _controller("nas")
    assert parse("--controller_cell=lstm") == Config() and _controller("lstm").cell.hidden == 100
    # a run of the other stack
    assert Config.from_json(Config(controller_cell="nas").to_json()).controller_cell == "nas"


def test_addons_beside_a_keras_that_it_does_not_know(monkeypatch):
    def fail(name):
        raise AttributeError("module 'keras' has no attribute 'src'")

    monkeypatch.setattr(addons.importlib, "import_module", fail)
    with pytest.raises(UserError, match=r"\(module 'keras' has no attribute 'src'\); ask for lstm, the default"):
        addons.expect_cell("layernorm_lstm")
    addons.expect_cell("lstm")


@pytest.mark.skipif(HAS_ADDONS, reason="only where addons is not there")
def test_the_program_refuses_before_it_reads_data(tmp_path):
    run_dir = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "galm_tf.main",
        "--controller_cell=nas",
        f"--data_dir={tmp_path / 'none'}",
        f"--run_dir={run_dir}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=pathlib.Path(__file__).parents[1])
    assert done.returncode == 2 and re.match("error: " + MESSAGE, done.stderr.splitlines()[-1])
    assert not os.path.exists(run_dir)


def test_one_module_imports_addons():
    package = pathlib.Path(addons.__file__).parent
    naming = {p.name for p in package.rglob("*.py") if "tensorflow_addons" in p.read_text(encoding="utf-8")}
    assert naming == {"addons.py"}
