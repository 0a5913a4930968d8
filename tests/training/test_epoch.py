"""The pure core: one step and one epoch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Cost, Dense, TrainState, backprop, fit, train_epoch, train_step
from fnnet.data import from_arrays
from fnnet.optimizers import adam, momentum, sgd
from tests.cases import random_params
from tests.compare import CountingTraces, assert_close, assert_identical
from tests.training.problems import COST, DATA, LABELS, NETWORK, PARAMS, X, as_it_is, key

RECORDING = Cost(Dense(1, use_bias=False), as_it_is)


def state_of(cost: Cost = COST, optimizer: Any = None, params: Any = PARAMS, seed: int = 0) -> TrainState:
    return TrainState.create(params, optimizer or sgd(0.1), key(seed))


def epoch_of_record(examples: int, batch_size: int, **options: Any) -> np.ndarray:
    """By example, how far the epoch moved the weight that only this example touches.

    The inputs are the identity matrix and the derivative of the loss is 1: an update moves the weights of the examples
    in its batch by 1 / (their number), and no other.
    """
    x, y = jnp.eye(examples), jnp.zeros(examples)
    params = {"w": jnp.zeros((examples, 1))}
    epoch = jax.jit(train_epoch(RECORDING, sgd(1.0), batch_size=batch_size, **options))
    state, _ = epoch(state_of(params=params), (x, y))
    return -np.asarray(state.params["w"][:, 0])


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("examples", "batch_size"), [(8, 4), (10, 4), (3, 1)])
def test_every_example_is_used_exactly_once(examples: int, batch_size: int, shuffle: bool) -> None:
    moved = epoch_of_record(examples, batch_size, shuffle=shuffle)
    full, left = divmod(examples, batch_size)
    expected = [1 / batch_size] * (full * batch_size) + [1 / left for _ in range(left)]
    np.testing.assert_allclose(moved if not shuffle else np.sort(moved), expected, rtol=1e-6)


@pytest.mark.parametrize("shuffle", [True, False])
def test_drop_last_leaves_out_what_is_left(shuffle: bool) -> None:
    moved = epoch_of_record(10, 4, drop_last=True, shuffle=shuffle)
    assert sorted(moved) == [0.0, 0.0] + [0.25] * 8
    assert shuffle or not moved[8:].any()


def orders(epochs: int, seed: int, **options: Any) -> list[list[int]]:
    """The examples in the order of their use: each costs its own number, one at a time, with a rate of 0."""
    x = jnp.arange(6.0)[:, None]
    epoch = jax.jit(train_epoch(RECORDING, sgd(0.0), batch_size=1, **options))
    state = state_of(params={"w": jnp.ones((1, 1))}, seed=seed)
    used = []
    for _ in range(epochs):
        state, metrics = epoch(state, (x, jnp.zeros(6)))
        used.append([int(cost) for cost in metrics["step_costs"]])
    return used


def test_the_order_changes_with_the_epoch_and_with_the_key_alone() -> None:
    first, second = orders(2, seed=0)
    assert sorted(first) == sorted(second) == list(range(6))
    assert first != second
    assert orders(1, seed=1)[0] != first
    assert orders(2, seed=0) == [first, second]
    assert orders(2, seed=0, shuffle=False) == [list(range(6))] * 2


def test_costs_are_those_before_each_update_and_their_mean_is_over_the_examples() -> None:
    x = jnp.arange(5.0)[:, None]
    epoch = train_epoch(RECORDING, sgd(0.0), batch_size=2, shuffle=False)
    _, metrics = epoch(state_of(params={"w": jnp.ones((1, 1))}), (x, jnp.zeros(5)))
    np.testing.assert_allclose(metrics["step_costs"], [0.5, 2.5, 4])
    assert float(metrics["cost"]) == pytest.approx(2)  # not the mean of the three, 7/3
    dropping = train_epoch(RECORDING, sgd(0.0), batch_size=2, shuffle=False, drop_last=True)
    _, metrics = dropping(state_of(params={"w": jnp.ones((1, 1))}), (x, jnp.zeros(5)))
    assert float(metrics["cost"]) == pytest.approx(1.5)


def test_a_step_is_gradient_and_update() -> None:
    """θ − α ∂cost/∂θ, with the cost before it; the state counts the step and keeps its key."""
    state, metrics = train_step(COST, sgd(0.1))(state_of(), DATA)
    value, grads = jax.value_and_grad(COST)(PARAMS, DATA)
    assert_close(state.params, jax.tree.map(lambda p, g: p - 0.1 * g, PARAMS, grads), 1e-6)
    assert float(metrics["cost"]) == float(value)
    assert int(state.step) == 1
    assert_identical(state.key, key())


def test_an_epoch_is_its_steps() -> None:
    """The scan gives what the steps give one by one, a network with dropout and Adam's state included."""
    optimizer = adam(0.01)
    params = random_params(NETWORK.model, X)
    step = jax.jit(train_step(NETWORK, optimizer))
    state = start = state_of(NETWORK, optimizer, params)
    for rows in (slice(0, 4), slice(4, 8), slice(8, 10)):
        state, _ = step(state, (X[rows], LABELS[rows]))
    epoch = train_epoch(NETWORK, optimizer, batch_size=4, shuffle=False)
    assert_close(jax.jit(epoch)(start, DATA)[0]._replace(key=0), state._replace(key=0), 1e-5)


def test_random_numbers_differ_between_steps_and_not_between_runs() -> None:
    optimizer = sgd(0.0)  # nothing moves, so that costs differ by the dropped entries alone
    step = jax.jit(train_step(NETWORK, optimizer))
    state = state_of(NETWORK, optimizer, random_params(NETWORK.model, X))
    state, first = step(state, DATA)
    again = state._replace(step=jnp.zeros((), jnp.int32))
    _, second = step(state, DATA)
    assert float(first["cost"]) != float(second["cost"])
    assert float(step(again, DATA)[1]["cost"]) == float(first["cost"])


def test_engines_agree() -> None:
    optimizer = momentum(0.1)
    params = random_params(NETWORK.model, X)
    states = [
        jax.jit(train_epoch(NETWORK, optimizer, batch_size=4, value_and_grad=engine))(
            state_of(NETWORK, optimizer, params), DATA
        )[0]
        for engine in (jax.value_and_grad, backprop.value_and_grad)
    ]
    assert_close(states[0].params, states[1].params, 1e-5)
    assert not np.allclose(states[0].params[0]["w"], params[0]["w"])


@pytest.mark.usefixtures("x64")
def test_many_networks_at_once() -> None:
    """``jit(vmap(...))`` over keys and learning rates: each run is the one that it would be alone."""
    x = X.astype("float64")

    def run(seed: jax.Array, rate: jax.Array) -> Any:
        optimizer = momentum(rate)
        params = NETWORK.model.init(jax.random.fold_in(jax.random.key(1), seed), x)
        state = TrainState.create(params, optimizer, jax.random.fold_in(jax.random.key(2), seed))
        state, metrics = train_epoch(NETWORK, optimizer, batch_size=4)(state, (x, LABELS))
        return state.params, metrics

    seeds, rates = jnp.arange(2), jnp.array([0.1, 0.01])
    together = jax.jit(jax.vmap(run))(seeds, rates)
    for i in range(2):
        alone = jax.jit(run)(seeds[i], rates[i])
        assert_close(jax.tree.map(lambda leaf: leaf[i], together), alone, 1e-12)  # noqa: B023


def test_one_trace_and_donation() -> None:
    """The state that an epoch returns fits it again; given up, its buffers are all its own."""
    optimizer = adam(0.1)
    counting = CountingTraces(train_epoch(COST, optimizer, batch_size=4))
    epoch = jax.jit(counting, donate_argnums=0)
    state = given = TrainState.create(jax.tree.map(jnp.copy, PARAMS), optimizer, key())
    for _ in range(3):
        state, _ = epoch(state, DATA)
    assert counting.count == 1
    assert given.params["w"].is_deleted()
    assert int(state.step) == 9


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_dtype_is_kept(dtype: str) -> None:
    with jax.enable_x64(dtype == "float64"):
        params = jax.tree.map(lambda p: p.astype(dtype), PARAMS)
        optimizer = adam(0.1)
        epoch = train_epoch(COST, optimizer, batch_size=4)
        state, metrics = jax.eval_shape(epoch, state_of(COST, optimizer, params), (X.astype(dtype), LABELS))
        assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype(dtype)}
        assert metrics["step_costs"].dtype == jnp.dtype(dtype)
        assert metrics["cost"].dtype == (jnp.float64 if dtype == "float64" else jnp.float32)
        assert metrics["step_costs"].shape == (3,)


def test_the_mean_cost_of_half_precision_does_not_overflow() -> None:
    """A cost of 2000 times 64 or 65 examples is more than float16's 65504."""
    cost = Cost(Dense(1), as_it_is)
    params = {"w": jnp.full((3, 1), 0.0, "float16"), "b": jnp.full(1, 2000, "float16")}
    x, y = np.zeros((65, 3), np.float16), np.zeros(65, np.float16)
    for batch_size in (8, 65):
        epoch = jax.jit(train_epoch(cost, sgd(0.0), batch_size=batch_size))
        _, metrics = epoch(state_of(cost, sgd(0.0), params), (jnp.asarray(x), jnp.asarray(y)))
        assert float(metrics["cost"]) == 2000
    streamed = fit(cost, sgd(0.0), params, from_arrays(x, y, 16), key=key(), epochs=1).history["cost"]
    parts = fit(cost, sgd(0.0), params, from_arrays(x, y, 65), key=key(), epochs=1).history["cost"]
    assert streamed == parts == [2000]


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, True, None])
def test_bad_batch_sizes_are_refused(batch_size: Any) -> None:
    with pytest.raises(ValueError, match=f"train_epoch: batch_size is {batch_size}; expected an integer of at least 1"):
        train_epoch(COST, sgd(0.1), batch_size=batch_size)


def test_a_batch_larger_than_the_set_is_refused() -> None:
    with pytest.raises(ValueError, match="train_epoch: batch_size is 11 but there are only 10 examples; use a batch"):
        train_epoch(COST, sgd(0.1), batch_size=11)(state_of(), DATA)
