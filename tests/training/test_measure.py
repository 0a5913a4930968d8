"""Numbers of the caller's own in the metrics of a step, an epoch and a history."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import TrainState, apply_updates, fit, train_epoch, train_step
from fnnet.inspect import gradient_norms, update_norms, update_ratios
from fnnet.optimizers import adam, sgd
from fnnet.paths import named_leaves
from tests.training.problems import COST, DATA, PARAMS, X, key


def numpy_ratios(before: Any, after: Any) -> dict[str, float]:
    """‖θ_after − θ_before‖ / ‖θ_before‖ from the parameters themselves."""
    old, new = dict(named_leaves(before)), dict(named_leaves(after))
    norms = {name: np.linalg.norm(np.asarray(p, float)) for name, p in old.items()}
    moved = {name: np.linalg.norm(np.asarray(new[name], float) - np.asarray(p, float)) for name, p in old.items()}
    return {f"update_ratio {name}": moved[name] / norms[name] for name in old}


def some_params() -> Any:
    """No parameter is zero, as biases are at first."""
    return jax.tree.map(lambda p: p + 0.5, PARAMS)


def test_update_ratios_of_a_step() -> None:
    state = TrainState.create(some_params(), adam(0.01), key(0))
    after, metrics = jax.jit(train_step(COST, adam(0.01), measure=update_ratios))(state, DATA)
    cost = float(metrics.pop("cost"))
    assert float(metrics.pop("counted")) == len(X)
    assert cost == pytest.approx(float(COST(some_params(), DATA)), rel=1e-6)
    expected = numpy_ratios(state.params, after.params)
    assert metrics.keys() == expected.keys()
    for name, ratio in expected.items():
        assert float(metrics[name]) == pytest.approx(ratio, rel=1e-4)


def test_norms_of_gradients_and_updates() -> None:
    params, grads = some_params(), jax.grad(COST)(some_params(), DATA)
    state = TrainState.create(params, sgd(0.1), key(0))
    step = train_step(COST, sgd(0.1), measure=lambda *trees: gradient_norms(*trees) | update_norms(*trees))
    _, metrics = jax.jit(step)(state, DATA)
    for name, g in named_leaves(grads):
        expected = np.linalg.norm(np.asarray(g, float))
        assert float(metrics[f"gradient_norm {name}"]) == pytest.approx(expected, rel=1e-5)
        assert float(metrics[f"update_norm {name}"]) == pytest.approx(0.1 * expected, rel=1e-5)


def test_ratios_of_zeros() -> None:
    """A parameter of zeros that moves changes infinitely, one that stands still not at all."""
    zero, one = {"w": jnp.zeros(2)}, {"w": jnp.ones(2)}
    assert float(update_ratios(zero, one, one)["update_ratio w"]) == np.inf
    assert float(update_ratios(zero, one, zero)["update_ratio w"]) == 0


def test_an_epoch_gives_the_mean_over_its_updates() -> None:
    """The last, smaller batch is an update as the others are."""
    optimizer = sgd(0.1)
    batch_size, examples = 3, len(X)
    assert examples % batch_size
    state = TrainState.create(some_params(), optimizer, key(0))
    epoch = train_epoch(COST, optimizer, batch_size=batch_size, shuffle=False, measure=update_ratios)
    _, metrics = jax.jit(epoch)(state, DATA)

    params, ratios = state.params, []
    for start in range(0, examples, batch_size):
        grads = jax.grad(COST)(params, jax.tree.map(lambda a: a[start : start + batch_size], DATA))  # noqa: B023
        after = apply_updates(params, jax.tree.map(lambda g: -0.1 * g, grads))
        ratios.append(numpy_ratios(params, after))
        params = after
    for name in ratios[0]:
        assert float(metrics[name]) == pytest.approx(np.mean([each[name] for each in ratios]), rel=1e-3)


def test_a_history_of_what_is_measured() -> None:
    result = fit(COST, sgd(0.1), PARAMS, DATA, key=key(0), epochs=3, batch_size=4, measure=update_ratios)
    assert len(result.history["update_ratio w"]) == 3
    assert all(0 < ratio < 1 for ratio in result.history["update_ratio w"])


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (lambda params, grads, updates: {"cost": 0.0}, "train_step: measure gives a number called 'cost'"),
        (lambda params, grads, updates: {"seconds": 0.0}, "called 'seconds'; this name is taken"),
        (lambda params, grads, updates: {"norms": jnp.ones(3)}, r"measure gives 'norms' with shape \(3,\)"),
    ],
)
def test_what_cannot_be_measured(measure: Any, message: str) -> None:
    state = TrainState.create(PARAMS, sgd(0.1), key(0))
    with pytest.raises(ValueError, match=message):
        train_step(COST, sgd(0.1), measure=measure)(state, DATA)
