"""The faults of the benchmark: each changes what it says, in every run that it is put into."""

from dataclasses import fields
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnnet
from experiments.faults import BASES, FAULTS, VERDICTS, Fault, examples, outputs, starts, steps
from experiments.faults.bases import available
from experiments.faults.fault import held_out_kinds
from fnnet.diagnosis import Setup
from fnnet.layers.nesting import holds
from fnnet.paths import is_weight

CHANGED = {  # by each file of faults
    outputs: {"cost", "params", "data", "validation"},
    starts: {"cost", "params"},
    examples: {"data", "validation", "batch_size", "epochs", "augment", "shuffle"},
    steps: {"cost", "params", "data", "validation", "optimizer", "batch_size", "epochs"},
}


@cache
def base(name: str) -> Setup:
    return BASES[name].setup()


def prediction(setup: Setup, rows: int = 8) -> Any:
    return setup.cost.model.apply(setup.params, jnp.asarray(setup.data[0][:rows]))


def weights(setup: Setup) -> list[Any]:
    return [np.asarray(p) for p in jax.tree.leaves(setup.params) if is_weight(p)]


def inputs(setup: Setup) -> Any:
    return np.asarray(setup.data[0], np.float64)


def targets(setup: Setup) -> Any:
    return np.asarray(setup.data[1], np.float64)


def cost_of(setup: Setup) -> float:
    batch = tuple(jnp.asarray(part[: setup.batch_size]) for part in setup.data)
    return float(setup.cost(setup.params, batch))  # type: ignore[arg-type]


def updates(setup: Setup, count: int = 1) -> list[Any]:
    """Return the updates of the last of some steps with gradients of 1."""
    state, grads = setup.optimizer.init(setup.params), jax.tree.map(jnp.ones_like, setup.params)
    update = jax.jit(setup.optimizer.update)
    for _ in range(count):
        made, state = update(grads, state, setup.params)
    return [np.asarray(u) for u in jax.tree.leaves(made)]


def share_of_equal_rows(a: Any, b: Any) -> float:
    return float((a == b).reshape(len(a), -1).all(1).mean())


def affine(setup: Setup) -> bool:
    x = jnp.asarray(setup.data[0][:2])
    ends, middle = (setup.cost.model.apply(setup.params, each) for each in (x, x.mean(0, keepdims=True)))
    return bool(np.allclose(ends.mean(0), middle[0], atol=1e-5))


# What holds of a healthy setup ``a`` and of the faulty one ``b``, at the strong severity.
SAYS: dict[str, Any] = {
    "F1 softmax before": lambda a, b: np.allclose(prediction(b).sum(-1), 1, atol=1e-5),
    "F2 sigmoid": lambda a, b: prediction(b).min() > 0 and prediction(b).max() < 1,
    "F3 tanh": lambda a, b: np.allclose(prediction(b), np.tanh(prediction(a)), atol=1e-6),
    "F4 sigmoid": lambda a, b: prediction(b).min() > 0 and prediction(b).max() < 1,
    "F5 ReLU on logits": lambda a, b: prediction(b).min() == 0,
    "F6 softmax over one": lambda a, b: (np.asarray(prediction(b)) == 1).all(),
    "F7 bounded": lambda a, b: prediction(b).min() >= 0 > targets(b).min(),
    "F8 squared": lambda a, b: b.cost.loss is fnnet.losses.squared_error and np.allclose(prediction(b).sum(-1), 1),
    "F9 loss": lambda a, b: b.cost.loss is fnnet.losses.binary_cross_entropy,
    "F10 sum": lambda a, b: np.isclose(cost_of(b), a.batch_size * cost_of(a), rtol=1e-5),
    "F11 softmax": lambda a, b: np.allclose(prediction(b).sum(0), 1, atol=1e-5),
    "F12 sign": lambda a, b: np.isclose(cost_of(b), -cost_of(a)),
    "F13 activation": lambda a, b: affine(b) and not affine(a),
    "F14 softmax": lambda a, b: not holds(b.cost.model, fnnet.Dropout) and "softmax" in repr(b.cost.model),
    "F15 sigmoid": lambda a, b: len(weights(b)) == 8 and repr(b.cost.model).count("sigmoid") == 7,
    "F16 weights constant": lambda a, b: all((w == w.ravel()[0]).all() and w.any() for w in weights(b)),
    "F16 weights zero": lambda a, b: not any(w.any() for w in weights(b)),
    "F17 weights too large": lambda a, b: all(2 < w.std() < 4 for w in weights(b)),
    "F17 weights too small": lambda a, b: all(w.std() < 2e-6 for w in weights(b)),
    "F18 gain too high": lambda a, b: np.allclose([w.std() * (len(w) / 2) ** 0.5 for w in weights(b)], 4, rtol=0.4),
    "F18 gain too low": lambda a, b: np.allclose([w.std() * (len(w) / 2) ** 0.5 for w in weights(b)], 1 / 8, rtol=0.4),
    "F19 biases": lambda a, b: next(p for p in b.params if p)["b"].max() == -20,
    "F20 frozen": lambda a, b: [bool(u.any()) for u in updates(b)] == [True, True] + [False] * (len(updates(b)) - 2),
    "F21 parameter": lambda a, b: len(weights(b)) == len(weights(a)) + 1,
    "F22 stop_gradient": lambda a, b: "stop_gradient" in repr(b.cost.model),
    "F23 raw": lambda a, b: inputs(b).std(0).max() > 50 * inputs(a).std(0).max(),
    "F24 inputs": lambda a, b: np.allclose(255 * inputs(b), inputs(a)),
    "F25 targets not": lambda a, b: np.isclose(targets(b).std(), 300 * targets(a).std()),
    "F25 targets far": lambda a, b: np.isclose(targets(b).mean(), 1000 + targets(a).mean()),
    "F26 one": lambda a, b: ((inputs(b).std(0) > 5e3 * inputs(a).std(0)) & (inputs(a).std(0) > 0)).sum() == 1,
    "F27 constant": lambda a, b: (inputs(b).std(0) == 0).mean() > 0.9,
    "F28 inputs": lambda a, b: share_of_equal_rows(inputs(a), inputs(b)) < 0.1 and (targets(a) == targets(b)).all(),
    "F29 wrong": lambda a, b: 0.3 < share_of_equal_rows(targets(a), targets(b)) < 0.75,
    "F30 labels": lambda a, b: (targets(b)[:-1] == targets(a)[1:]).all() and (inputs(a) == inputs(b)).all(),
    "F31 rare": lambda a, b: (targets(b) > targets(b).max() / 2).mean() < 0.1,
    "F32 duplicates": lambda a, b: in_validation(b) > 0.25 > in_validation(a),
    "F33 label": lambda a, b: abs(np.corrcoef(inputs(b)[:, 0], targets(b).ravel())[0, 1]) > 0.999,
    "F34 sorted": lambda a, b: (np.diff(targets(b).ravel()) >= 0).all() and not b.shuffle,
    "F35 too few": lambda a, b: len(inputs(b)) < 0.03 * len(inputs(a)) and 0.8 < b.steps / a.steps < 1.25,
    "F36 other": lambda a, b: np.allclose(b.validation[0], 255 * np.asarray(a.validation[0]), rtol=1e-5),
    "F37 augmentation that destroys: noise": lambda a, b: abs((augmented(b) - inputs(a)[:64]).std() - 3) < 0.2,
    "F37 augmentation that destroys: shift": lambda a, b: (augmented(b) == 0).mean() > (inputs(a) == 0).mean() + 0.2,
    "F38 flip": lambda a, b: share_of_equal_rows(augmented(b), inputs(a)[:64]) < 0.5,
    "F39 rate": lambda a, b: np.allclose(updates(b)[0], 100 * updates(a)[0]),
    "F40 rate": lambda a, b: np.allclose(1000 * updates(b)[0], updates(a)[0]),
    "F41 epsilon": lambda a, b: np.allclose(11 * updates(b)[0], updates(a)[0], rtol=1e-4),
    "F42 clip": lambda a, b: np.isclose(sum(np.square(u).sum() for u in updates(b)) ** 0.5, 0.05e-4, rtol=1e-4),
    "F42 no clip": lambda a, b: np.allclose(updates(b)[0], -5),
    "F43 momentum": lambda a, b: np.abs(updates(b, 200)[0]).mean() > 8 * np.abs(updates(a, 200)[0]).mean(),
    "F44 schedule": lambda a, b: updates(b)[0].any() and not updates(b, round(0.03 * a.steps) + 2)[0].any(),
    "F45 too few": lambda a, b: b.epochs == 1,
    "F46 batch": lambda a, b: b.batch_size == 1,
    "F46 whole": lambda a, b: b.steps == 5,
    "F47 wide": lambda a, b: len(inputs(b)) == 200 and weights(b)[0].size == 10 * weights(a)[0].size,
    "F48 penalty": lambda a, b: b.cost.penalty == fnnet.penalties.l2(3.0),
    "F49 dropout": lambda a, b: repr(b.cost.model).count("Dropout(rate=0.9)") == len(weights(a)),
    "F50 too narrow": lambda a, b: weights(b)[0].shape[1] == 1,
    "F51 bottleneck": lambda a, b: weights(b)[0].shape[1] == 1,
    "F52 memory": lambda a, b: np.isclose(radius_of(b), 0.05, rtol=1e-3),
    "F52 state": lambda a, b: np.isclose(radius_of(b), 4.0, rtol=1e-3),
    "F53 few": lambda a, b: all(p.dtype == jnp.bfloat16 for p in jax.tree.leaves((b.params, b.data[0]))),
    "F54 reshape": lambda a, b: not np.allclose(prediction(b, 8)[0], prediction(b, 4)[0]),
    "F54 causal": lambda a, b: not np.allclose(changed_future(b), 0) and np.allclose(changed_future(a), 0),
}


def in_validation(setup: Setup) -> float:
    known = {row.tobytes() for row in np.asarray(setup.data[0])}
    return float(np.mean([row.tobytes() in known for row in np.asarray(setup.validation[0])]))  # type: ignore[index]


def augmented(setup: Setup) -> Any:
    assert setup.augment is not None
    batch = tuple(jnp.asarray(part[:64]) for part in setup.data)
    return np.asarray(setup.augment(jax.random.key(0), batch)[0])  # type: ignore[arg-type]


def radius_of(setup: Setup) -> float:
    return float(np.abs(np.linalg.eigvals(np.asarray(setup.params[0]["w_h"]))).max())


def changed_future(setup: Setup) -> Any:
    """Return how the output of the first step changes with the last input."""
    x = np.array(setup.data[0][:1])
    other = x.copy()
    other[0, -1] = (x[0, -1] + 1) % 20
    first, second = jax.jit(setup.cost.model.apply)(setup.params, jnp.concatenate([x, other]))[:, 0]
    return first - second


def test_every_fault_is_in_the_table() -> None:
    assert len(FAULTS) == len(SAYS)
    assert {fault.kind for fault in FAULTS} == {f"F{number}" for number in range(1, 55)}
    assert all(sum(fault.name.startswith(start) for fault in FAULTS) == 1 for start in SAYS)
    assert all(fault.accepted <= set(VERDICTS) and set(fault.bases) <= set(BASES) for fault in FAULTS)


@pytest.mark.parametrize("start", SAYS)
def test_a_fault_changes_what_it_says(start: str) -> None:
    fault = next(fault for fault in FAULTS if fault.name.startswith(start))
    name = next(name for name in fault.bases if available(BASES[name]))
    faulty = fault.applied(base(name), "strong")
    changed = {f.name for f in fields(Setup) if getattr(faulty, f.name) is not getattr(base(name), f.name)}
    own = next(module for module in CHANGED if fault in module.FAULTS)
    assert changed
    assert changed <= CHANGED[own]
    assert SAYS[start](base(name), faulty)


def test_ten_kinds_are_held_out_by_their_hash() -> None:
    assert held_out_kinds() == {"F31", "F4", "F20", "F33", "F6", "F36", "F13", "F24", "F53", "F23"}


def test_a_severity_between_is_the_geometric_mean() -> None:
    def fault(mild: Any, strong: Any) -> Fault:
        return Fault("F0", lambda setup, value: setup, mild, strong, frozenset(), ())

    assert fault(10.0, 1000.0).value("between") == pytest.approx(100)
    assert fault(2, 50).value("between") == 10
    assert fault("a", "b").value("between") == "b"
