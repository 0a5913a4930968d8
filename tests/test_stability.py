"""The curvature beyond which optimizers diverge, and the sharpness in the history of a run."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fnnet import Cost, Dense, apply_updates, chain, fit, losses, sequential, tanh
from fnnet.inspect.curvature import Sharpness, scaled_product, sharpness, stability_limit, stability_limits
from fnnet.optimizers import (
    adam,
    adamw,
    groups,
    layerwise,
    lion,
    momentum,
    muon,
    nesterov,
    rmsprop,
    sgd,
)
from fnnet.training import TrainState
from tests.compare import assert_close

RATE, BETA = 0.2, 0.8
FROZEN = 1 - 1e-12  # a decay rate of Adam's second moment with which it does not change in a test
ADAM = adam(RATE, BETA, FROZEN, bias_correction=False)
FORMULAS = {
    "sgd": (sgd(RATE), 2 / RATE),
    "heavy ball": (momentum(RATE, BETA, averaged=False), (2 + 2 * BETA) / RATE),
    "averaged momentum": (momentum(RATE, BETA), (2 + 2 * BETA) / (RATE * (1 - BETA))),
    "nesterov": (nesterov(RATE, BETA), (2 + 2 * BETA) / (RATE * (1 + 2 * BETA))),
    "adam": (ADAM, (2 + 2 * BETA) / (RATE * (1 - BETA))),
}
DIVISOR = np.array([2.0, 0.5, 3.0])  # Adam's √v of three parameters
TURN = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]


def limit_of(optimizer: Any, *step: Any) -> float:
    return float(jax.jit(lambda: stability_limit(optimizer, *step))())


def hessian(largest: float, preconditioned: bool) -> jax.Array:
    """Return a matrix that mixes the parameters, whose largest eigenvalue (of ``P⁻¹ H``) is known."""
    h = (TURN * np.array([0.1, 0.5, 1.0]) * largest) @ TURN.T
    root = np.sqrt(DIVISOR) if preconditioned else np.ones(3)
    return jnp.asarray(root[:, None] * h * root)


@pytest.mark.usefixtures("x64")
def test_quadratics_converge_just_below_the_limit_and_diverge_just_above() -> None:
    """The limits are those of the table; at 0.999 of one the parameters shrink, at 1.001 they grow."""

    def norms(name: str, largest: jax.Array) -> jax.Array:
        optimizer, with_divisor = FORMULAS[name][0], name == "adam"
        start = 1e-12 * jnp.asarray(TURN[:, 2] / (np.sqrt(DIVISOR) if with_divisor else 1))
        state = optimizer.init(start)
        if with_divisor:
            state = state._replace(v=jnp.square(DIVISOR).astype(start.dtype))
        h = hessian(1.0, with_divisor) * largest

        def step(carry: Any, _: None) -> Any:
            theta, state = carry
            updates, state = optimizer.update(h @ theta, state, theta)
            theta = apply_updates(theta, updates)
            return (theta, state), jnp.linalg.norm(theta)

        return jax.lax.scan(step, (start, state), length=1500)[1]

    def everything() -> dict[str, Any]:
        limits = {name: stability_limit(optimizer) for name, (optimizer, _) in FORMULAS.items()}
        factors = jnp.array([0.999, 1.001])
        return {name: (limit, jax.vmap(partial(norms, name))(limit * factors)) for name, limit in limits.items()}

    for name, (limit, (below, above)) in jax.device_get(jax.jit(everything)()).items():
        assert limit == pytest.approx(FORMULAS[name][1], rel=1e-9), name
        assert below[-1] < 0.2 * below[100:110].max(), name
        assert above[-1] > 5 * above[100:110].max(), name


@pytest.mark.usefixtures("x64")
def test_limits_of_every_entry_of_adam() -> None:
    """They are Adam's limit times its divisor: on ``L^(−1/2) H L^(−1/2)`` the limit is 1."""
    params = jnp.asarray(DIVISOR)
    state = ADAM.init(params)._replace(v=jnp.square(params).at[1].set(0.0))
    limits_at = jax.jit(partial(stability_limits, ADAM))
    limits = limits_at(params, state)
    np.testing.assert_allclose(limits[::2], FORMULAS["adam"][1] * (DIVISOR[::2] + 1e-8), rtol=1e-6)
    assert 0 < float(limits[1]) < 1e-5  # only ε is left
    limits = limits_at(params, state._replace(v=jnp.square(params)))
    h = hessian(7.0, True)
    scaled = jax.vmap(scaled_product(lambda v: h @ v, limits))(jnp.eye(3))
    assert np.linalg.eigvalsh(scaled)[-1] == pytest.approx(7.0 / FORMULAS["adam"][1], rel=1e-6)


def test_limits_of_other_optimizers() -> None:
    """Schedules, traced rates, decay, chains, groups, layer-wise rates, and what has no limit."""
    assert limit_of(sgd(lambda step: 1 / (1 + step.astype(float))), 3) == pytest.approx(8)
    rates = jnp.array([0.1, 0.2])
    np.testing.assert_allclose(
        jax.jit(jax.vmap(lambda rate: stability_limit(adam(rate))))(rates), 38 / rates, rtol=1e-5
    )
    # With θ' = (1 − α λ_d) θ − α u the eigenvalue −1 is reached earlier.
    assert limit_of(chain(sgd(0.1), layerwise(lambda name: 0.5))) == pytest.approx(40)
    assert limit_of(adamw(0.1, weight_decay=0.5)) == pytest.approx(38 / 0.1 * (2 - 0.05) / 2, rel=1e-3)
    assert limit_of(rmsprop(0.1)) == pytest.approx(20, rel=1e-5)
    assert limit_of(sgd(0.0)) == np.inf
    for without in (lion(0.1), muon(0.1, adam(0.1))):
        assert np.isnan(limit_of(without))

    params = {"a": jnp.ones((2, 3)), "b": jnp.ones(()), "c": jnp.ones(3, "bfloat16")}
    optimizer = groups(lambda name: name, {"a": sgd(0.1), "b": momentum(0.1, 0.9, averaged=False), "c": nesterov(0.1)})
    optimizer = chain(optimizer, layerwise(lambda name: 0.5 if name == "a" else 1.0))
    limits = jax.jit(lambda p: stability_limits(optimizer, p, optimizer.init(p)))(params)
    expected = {"a": jnp.full((2, 3), 40.0), "b": jnp.asarray(38.0), "c": jnp.full(3, 38 / 0.1 / 28)}
    assert_close(limits, expected, 1e-5)
    assert {leaf.dtype for leaf in jax.tree.leaves(limits)} == {jnp.dtype("float32")}


def test_optax_can_be_asked() -> None:
    with jax.numpy_dtype_promotion("standard"):
        assert limit_of(optax.adam(0.1)) == pytest.approx(380, rel=1e-5)
        assert limit_of(optax.sgd(0.1, momentum=0.9, nesterov=True)) == pytest.approx(38 / 2.8, rel=1e-5)


X = jnp.asarray(np.random.default_rng(3).standard_normal((12, 3)), "float32")
Y = (X[:, 0] * X[:, 1] > 0).astype(int)
COST = Cost(sequential(Dense(4), tanh, Dense(2)), losses.softmax_cross_entropy)
PARAMS = COST.model.init(jax.random.key(0), X)
VECTOR, BACK = jax.flatten_util.ravel_pytree(PARAMS)
HESSIAN = jax.jit(jax.hessian(lambda vector: COST(BACK(vector), (X, Y))))


def exact_sharpness(params: Any, limits: Any = None) -> float:
    """Return the largest eigenvalue of the Hessian, or of ``L^(−1/2) H L^(−1/2)``, from the whole matrix."""
    h = np.asarray(HESSIAN(jax.flatten_util.ravel_pytree(params)[0]), float)
    root = np.ones(len(h)) if limits is None else np.sqrt(np.asarray(jax.flatten_util.ravel_pytree(limits)[0], float))
    return float(np.linalg.eigvalsh(h / np.outer(root, root))[-1])


def test_sharpness_as_a_measure_is_in_the_history() -> None:
    """With the whole batch, an epoch is one update; the sharpness is that before it."""

    def measure(params: Any, grads: Any, updates: Any) -> dict[str, jax.Array]:
        return {"sharpness": sharpness(COST, params, (X, Y), key=jax.random.key(1), batch_size=5)}

    result = fit(COST, sgd(0.1), PARAMS, (X, Y), key=jax.random.key(0), epochs=2, batch_size=12, measure=measure)
    assert result.history["sharpness"][0] == pytest.approx(exact_sharpness(PARAMS), rel=1e-4)


def test_sharpness_as_a_callback() -> None:
    """Six epochs of 3 steps with a look after every 5: after steps 6, 12 and 15, and again at 18 with every=3."""
    optimizer, states = adam(0.01), list[TrainState]()
    look = Sharpness((X, Y), every=5)
    fit(
        COST, optimizer, PARAMS, (X, Y), key=jax.random.key(0), epochs=6, batch_size=4,
        callbacks=[look, lambda state, record: states.append(state)],
    )  # fmt: skip
    assert look.history["step"] == [6, 12, 15]
    state = states[1]
    limit = look.history["stability_limit"][0]
    limits = jax.jit(partial(stability_limits, optimizer))(state.params, state.opt_state)
    assert look.history["sharpness"][0] == pytest.approx(exact_sharpness(state.params, limits) * limit, rel=1e-3)
    assert limit == pytest.approx(limit_of(optimizer, 6), rel=1e-5)


def test_sharpness_without_a_limit_is_that_of_the_hessian() -> None:
    look, optimizer = Sharpness((X, Y)), lion(0.01)
    look.start(SimpleNamespace(cost=COST, optimizer=optimizer))  # type: ignore[arg-type]
    look(TrainState.create(PARAMS, optimizer, jax.random.key(0))._replace(step=jnp.asarray(1)), {})
    assert look.history["sharpness"] == [pytest.approx(exact_sharpness(PARAMS), rel=1e-3)]
    assert np.isnan(look.history["stability_limit"][0])


def test_a_run_that_goes_on_keeps_the_looks(tmp_path: Any) -> None:
    cost = Cost(Dense(2), losses.softmax_cross_entropy)
    params = {"b": jnp.zeros(2), "w": jnp.zeros((3, 2))}

    def train(epochs: int, folder: str) -> dict[str, list[float]]:
        look = Sharpness((X, Y), every=3, steps=4)
        options: Any = {"key": jax.random.key(0), "batch_size": 12, "checkpoint": tmp_path / folder}
        fit(cost, sgd(0.1), params, (X, Y), epochs=epochs, callbacks=[look], **options)
        return look.history

    train(4, "interrupted")
    whole = train(7, "whole")
    assert train(7, "interrupted") == whole
    assert (whole["step"], whole["stability_limit"]) == ([3, 6], [pytest.approx(20)] * 2)
