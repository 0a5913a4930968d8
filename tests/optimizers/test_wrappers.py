"""Optimizers around an optimizer: accumulation, skipped updates, averages of the parameters, look-ahead."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fnnet import Cost, Dense, Optimizer, TrainState, apply_updates, chain, losses, train_step
from fnnet.optimizers import (
    accumulate,
    adam,
    average_parameters,
    clip_by_global_norm,
    dynamic_loss_scale,
    groups,
    lookahead,
    scale,
    sgd,
    skip_non_finite,
)
from fnnet.optimizers.wrappers import weighed
from tests.cases.optimizers import decaying, gradients_for, run, tree
from tests.compare import assert_close, assert_identical

WRAPPERS: dict[str, Optimizer] = {
    "accumulate": accumulate(adam(decaying), 2),
    "skip_non_finite": skip_non_finite(adam(decaying)),
    "average_parameters, mean": average_parameters(adam(decaying)),
    "average_parameters, exponential": average_parameters(adam(decaying), 0.9),
    "lookahead": lookahead(adam(decaying), 2),
    "all": average_parameters(skip_non_finite(lookahead(accumulate(adam(decaying), 2), 2)), decaying),
}


def with_states(optimizer: Optimizer, params: Any, gradients: Any) -> Any:
    """Return parameters and states after every step."""

    def step(carry: Any, g: Any) -> Any:
        params, state = carry
        updates, state = optimizer.update(g, state, params)
        carry = apply_updates(params, updates), state
        return carry, carry

    return jax.lax.scan(step, (params, optimizer.init(params)), gradients)[1]


def path(optimizer: Optimizer, params: Any, gradients: Any) -> Any:
    return jax.jit(partial(run, optimizer))(params, gradients)


@pytest.fixture(scope="module")
def problem() -> Any:
    with jax.enable_x64(True):
        params = tree(jnp.float64)
        return params, gradients_for(params, 12)


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_dtypes_and_the_form_of_the_state_stay(name: str, dtype: str) -> None:
    with jax.enable_x64(dtype == "float64"):
        params = jax.eval_shape(lambda: tree(dtype))
        state = jax.eval_shape(WRAPPERS[name].init, params)
        assert jax.eval_shape(WRAPPERS[name].update, params, state, params) == (params, state)
        for empty in ({}, ({}, ())):
            assert WRAPPERS[name].update(empty, WRAPPERS[name].init(empty), empty)[0] == empty


def test_donation_and_vmap_of_every_wrapper() -> None:
    """No two leaves share a buffer, and a run under ``vmap`` equals the run alone."""
    params = tree(jnp.float32)
    gradients = gradients_for(params, 4)
    start = {name: (jax.tree.map(jnp.copy, params), wrapper.init(params)) for name, wrapper in WRAPPERS.items()}
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves((params, start))]
    assert len(set(pointers)) == len(pointers)

    def step(carry: Any, g: Any) -> Any:
        after = {}
        for name, (params, state) in carry.items():
            updates, state = WRAPPERS[name].update(g, state, params)
            after[name] = apply_updates(params, updates), state
        return after, None

    def steps(carry: Any, gradients: Any) -> Any:
        return jax.lax.scan(step, carry, gradients)[0]

    doubled = jax.tree.map(lambda x: jnp.stack([x, x]), start)
    both = jax.tree.map(lambda g: jnp.stack([g, -g], 1), gradients)
    together = jax.jit(jax.vmap(steps, in_axes=(0, 1)))(doubled, both)
    given = jax.tree.leaves(start)
    alone = jax.jit(steps, donate_argnums=0)(start, gradients)
    assert all(leaf.is_deleted() for leaf in given)
    assert_close(jax.tree.map(lambda x: x[0], together), alone, 3e-7)


@pytest.mark.usefixtures("x64")
def test_accumulated_gradients_are_those_of_the_large_batch(problem: Any) -> None:
    """Every third step is that of the mean; the parameters and the schedule wait in between."""
    params, gradients = problem
    inner = adam(decaying)
    found = path(accumulate(inner, 3), params, gradients)
    means = jax.tree.map(lambda g: g.reshape(4, 3, *g.shape[1:]).mean(1), gradients)
    assert_close(jax.tree.map(lambda p: p[2::3], found), path(inner, params, means))
    still = jax.tree.map(lambda p, start: jnp.concatenate([start[None], p[2:-1:3]]), found, params)
    for offset in (0, 1):
        assert_identical(jax.tree.map(lambda p: p[offset::3], found), still)  # noqa: B023


@pytest.mark.usefixtures("x64")
def test_accumulating_one_changes_nothing(problem: Any) -> None:
    assert_close(path(accumulate(adam(0.1), 1), *problem), path(adam(0.1), *problem))


def test_accumulated_means_of_bfloat16_gradients_are_float32() -> None:
    """In bfloat16, the small numbers would be lost in 1 + 1/256 + ..."""
    optimizer = accumulate(sgd(1.0), 8)
    params = {"w": jnp.zeros(1, "bfloat16")}
    state = optimizer.init(params)
    for g in (1.0, *[2.0**-8] * 7):
        updates, state = optimizer.update({"w": jnp.full(1, g, "bfloat16")}, state, params)
    assert float(updates["w"][0]) == float(jnp.bfloat16(-(1 + 7 * 2.0**-8) / 8))


@pytest.mark.usefixtures("x64")
def test_non_finite_gradients_are_skipped_and_counted(problem: Any) -> None:
    """The parameters, the moments and the step of the schedule do not change in these steps, bit for bit."""
    params, gradients = problem
    spoiled = [2, 3, 7]
    bad = jnp.array([np.nan, np.inf, -np.inf])
    poisoned = (gradients[0] | {"b": gradients[0]["b"].at[jnp.array(spoiled), 1].set(bad)}, gradients[1])
    found, states = jax.jit(partial(with_states, skip_non_finite(adam(decaying))))(params, poisoned)
    assert states.skipped.tolist() == [0, 0, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3]
    assert states.in_a_row.tolist() == [0, 0, 1, 2, 0, 0, 0, 1, 0, 0, 0, 0]
    for t in spoiled:
        before, after = (jax.tree.map(lambda x: x[i], (found, states.inner)) for i in (t - 1, t))  # noqa: B023
        assert_identical(after, before)
    good = [t for t in range(12) if t not in spoiled]
    wanted = path(adam(decaying), params, jax.tree.map(lambda g: g[jnp.array(good)], gradients))
    assert_close(jax.tree.map(lambda p: p[jnp.array(good)], found), wanted)


def test_skipping_protects_from_a_norm_of_nan() -> None:
    """``clip_by_global_norm`` alone would make every parameter NaN."""
    params = {"w": jnp.ones(2), "b": jnp.ones(2)}
    grads = {"w": jnp.array([1.0, jnp.nan]), "b": jnp.ones(2)}
    bare = chain(clip_by_global_norm(1.0), sgd(0.1))
    assert bool(jnp.isnan(bare.update(grads, bare.init(params))[0]["b"]).all())
    safe = skip_non_finite(bare)
    updates, state = safe.update(grads, safe.init(params), params)
    assert all(bool((u == 0).all()) for u in jax.tree.leaves(updates))
    assert int(state.skipped) == 1


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("decay", [None, 0.9, decaying], ids=["mean", "number", "schedule"])
def test_averages_of_the_parameters(decay: Any, problem: Any) -> None:
    params, gradients = problem
    found, states = jax.jit(partial(with_states, average_parameters(adam(0.1), decay)))(params, gradients)
    steps = path(adam(0.1), params, gradients)
    assert_close(found, steps)

    def expected(start: jax.Array, path: jax.Array) -> np.ndarray:
        theta, averages = np.asarray(start), []
        for t, p in enumerate(np.asarray(path)):
            if decay is None:
                theta = np.asarray(path)[: t + 1].mean(0)
            else:
                beta = decay(t) if callable(decay) else decay
                theta = beta * theta + (1 - beta) * p
            averages.append(theta)
        return np.stack(averages)

    assert_close(states.average, jax.tree.map(expected, params, steps))


def test_the_average_of_bfloat16_parameters_is_float32_and_of_the_rounded_parameters() -> None:
    optimizer = average_parameters(sgd(1.0), 0.999)
    params = {"w": jnp.ones(1, "bfloat16")}
    state = optimizer.init(params)
    updates, state = optimizer.update({"w": jnp.full(1, 2.0**-10, "bfloat16")}, state, params)
    assert float(apply_updates(params, updates)["w"][0]) == 1  # the step is lost in rounding
    assert state.average["w"].dtype == jnp.float32
    assert float(state.average["w"][0]) == 1


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("rate", [0.3, decaying], ids=["number", "schedule"])
def test_lookahead_equals_a_loop(rate: Any, problem: Any) -> None:
    """The inner optimizer is gradient descent; a schedule counts all steps."""
    params, gradients = problem
    found, states = jax.jit(partial(with_states, lookahead(sgd(0.1), 5, rate)))(params, gradients)

    def expected(start: jax.Array, gradients: jax.Array) -> tuple[np.ndarray, np.ndarray]:
        slow = fast = np.asarray(start)
        rows = []
        for t, g in enumerate(np.asarray(gradients)):
            fast = fast - 0.1 * g
            if (t + 1) % 5 == 0:
                fast = slow = slow + (rate(t) if callable(rate) else rate) * (fast - slow)
            rows.append((fast, slow))
        fasts, slows = zip(*rows, strict=True)
        return np.stack(fasts), np.stack(slows)

    pairs = jax.tree.map(expected, params, gradients)
    is_pair = lambda x: isinstance(x, tuple) and isinstance(x[0], np.ndarray)  # noqa: E731
    for actual, i in ((found, 0), (states.slow, 1)):
        assert_close(actual, jax.tree.map(lambda pair: pair[i], pairs, is_leaf=is_pair))  # noqa: B023


def descended(optimizer: Optimizer, gradients: list[float], weights: list[float] | None = None) -> tuple[float, Any]:
    """Return the parameter, which starts at 0, and the state after these gradients, weighed as by ``train_step``."""
    params = jnp.zeros(())
    state = optimizer.init(params)
    for i, g in enumerate(gradients):
        state = state if weights is None else weighed(state, jnp.float32(weights[i]))
        updates, state = optimizer.update(jnp.float32(g), state, params)
        params = params + updates
    return float(params), state


NOT_FINITE = [-1.0, float("nan")]  # a step and one that is skipped


@pytest.mark.parametrize(
    ("inner", "gradients"),
    [
        (accumulate(sgd(1.0), 2), [-1.0] * 8),
        (accumulate(chain(sgd(1.0)), 2), [-1.0] * 8),
        (chain(accumulate(sgd(1.0), 2), scale(1.0)), [-1.0] * 8),
        (groups(lambda name: "all", {"all": accumulate(sgd(1.0), 2)}), [-1.0] * 8),
        (skip_non_finite(sgd(1.0)), NOT_FINITE * 4),
        (dynamic_loss_scale(sgd(1.0)), NOT_FINITE * 4),
        (skip_non_finite(accumulate(sgd(1.0), 2)), [-1.0, float("nan"), -1.0] * 4),
    ],
    ids=lambda value: "" if isinstance(value, list) else None,
)
def test_averages_and_lookahead_count_whole_steps(inner: Optimizer, gradients: list[float]) -> None:
    """The parameters are 1, 2, 3, 4 after four steps, whatever lies between them."""
    half = gradients[: len(gradients) // 2]
    assert float(descended(average_parameters(inner), half)[1].average) == 1.5  # (1 + 2) / 2
    assert float(descended(average_parameters(inner, 0.5), gradients)[1].average) == 3.0625  # 4/2 + 3/4 + 2/8 + 1/16
    assert float(descended(average_parameters(inner), gradients)[1].averaged) == 4
    # Two steps to 2, and from there back to φ = (0 + 2) / 2 = 1; the third step goes to 2.
    assert descended(lookahead(inner, 2), gradients[: 3 * len(gradients) // 4])[0] == 2


def test_accumulated_gradients_weigh_what_they_are_means_over() -> None:
    """Batches of 3, 1 and 0 counted examples: the step is that of the mean over the 4 examples."""
    optimizer = accumulate(sgd(1.0), 3)
    params, state = descended(optimizer, [2.0, -6.0, 50.0], [3.0, 1.0, 0.0])
    assert params == -(3 * 2.0 - 6.0) / 4
    assert float(state.weight) == 0
    assert descended(accumulate(accumulate(sgd(1.0), 2), 2), [1.0, 1.0, 5.0, 5.0], [3.0, 3.0, 1.0, 1.0])[0] == -2.0


def test_train_step_weighs_accumulated_gradients() -> None:
    """Labels that are ignored count for nothing: two batches of unequal counts take the step of both together."""
    x, y = jnp.arange(8.0).reshape(4, 2), jnp.array([0, 1, -1, 1])
    cost = Cost(Dense(2), losses.softmax_cross_entropy, ignore_label=-1)
    params = Dense(2).init(jax.random.key(0), x)

    def trained(optimizer: Optimizer, batches: list[Any]) -> Any:
        state = TrainState.create(params, optimizer, jax.random.key(1))
        for batch in batches:
            state, _ = train_step(cost, optimizer)(state, batch)
        return state.params

    halves = [(x[:2], y[:2]), (x[2:], y[2:])]
    for wrap in (accumulate, lambda inner, every: average_parameters(accumulate(inner, every))):
        assert_close(trained(wrap(sgd(0.1), 2), halves), trained(sgd(0.1), [(x, y)]), 1e-6)


@pytest.fixture
def standard_promotion() -> Iterator[None]:
    """Let dtypes be promoted inside one test, as optax needs it."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.usefixtures("standard_promotion")
def test_an_optimizer_of_another_library_inside() -> None:
    """optax's Adam with float16 parameters and float32 gradients: its moments are float32, and so are its steps."""
    params = {"w": jnp.array([1.0, -2.0], "float16")}
    for wrap in (lambda inner: accumulate(inner, 2), skip_non_finite, dynamic_loss_scale):
        optimizer, twice = wrap(optax.adam(1e-3)), 2 if wrap(sgd(1.0)).init(params)._fields[1] == "mean" else 1
        state, wide = optimizer.init(params), jax.tree.map(lambda p: p.astype("float32"), params)
        alone = optax.adam(1e-3).init(wide)
        for g in (1e-5, 3e-5):
            grads = {"w": jnp.array([g, -g])}
            for _ in range(twice):
                updates, state = jax.jit(optimizer.update)(grads, state, params)
            expected, alone = optax.adam(1e-3).update(grads, alone, wide)
            assert_close(updates, expected, 1e-6)
