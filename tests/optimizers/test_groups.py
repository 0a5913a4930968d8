"""Parameters that are treated differently by their names: groups, frozen layers, layer-wise rates."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import chain
from fnnet.optimizers import (
    adam,
    adamw,
    clip_by_value,
    decay_weights,
    depth_decay,
    freeze,
    groups,
    identity,
    layerwise,
    momentum,
    muon,
    restrict,
    scale,
    sgd,
)
from tests.cases.optimizers import decaying, gradients_for, run, tree
from tests.compare import assert_close, assert_identical


def first_layer(name: str) -> bool:
    return name.startswith("0.")


def layer_of(name: str) -> str:
    return name.split(".")[0]


def kind_of(name: str) -> str:
    return "weights" if name.endswith(".w") else "others"


@pytest.fixture(scope="module")
def problem() -> Any:
    with jax.enable_x64(True):
        params = tree(jnp.float64)
        return params, gradients_for(params, 6)


def path(optimizer: Any, params: Any, gradients: Any) -> Any:
    return jax.jit(partial(run, optimizer))(params, gradients)


@pytest.mark.usefixtures("x64")
def test_each_group_has_its_own_optimizer(problem: Any) -> None:
    """Each tensor takes the steps of the optimizer of its group, as if it were alone."""
    params, gradients = problem
    weights, others = adamw(decaying, weight_decay=0.1), momentum(0.2)
    found = path(groups(kind_of, {"weights": weights, "others": others}), params, gradients)
    by_weights, by_others = path(weights, params, gradients), path(others, params, gradients)
    wanted = (
        {"w": by_weights[0]["w"], "b": by_others[0]["b"]},
        {"w": by_weights[1]["w"], "scale": by_others[1]["scale"]},
    )
    assert_close(found, wanted, 1e-15)


@pytest.mark.usefixtures("x64")
def test_a_group_has_a_state_of_its_own_parameters_alone(problem: Any) -> None:
    params, _ = problem
    state = groups(layer_of, {"0": adam(0.1), "1": freeze()}).init(params)
    assert [m.shape for m in jax.tree.leaves(state["0"].m)] == [(2,), (3, 2)]
    assert jax.tree.leaves(state["1"]) == []


@pytest.mark.usefixtures("x64")
def test_restrict(problem: Any) -> None:
    """A restricted transform sees only the parameters that are chosen."""
    params, gradients = problem
    found = path(chain(restrict(clip_by_value(0.1), first_layer), sgd(1.0)), params, gradients)
    clipped = path(chain(clip_by_value(0.1), sgd(1.0)), params, gradients)
    plain = path(sgd(1.0), params, gradients)
    assert_close(found, (clipped[0], plain[1]), 1e-15)


@pytest.mark.usefixtures("x64")
def test_frozen_layers_stay_bit_for_bit(problem: Any) -> None:
    params, gradients = problem
    for optimizer in (
        chain(adam(0.1), decay_weights(0.1), freeze(first_layer)),
        groups(layer_of, {"0": freeze(), "1": chain(adam(0.1), decay_weights(0.1))}),
    ):
        found = path(optimizer, params, gradients)
        assert_identical(jax.tree.map(lambda p: p[-1], found[0]), params[0])
        wanted = path(chain(adam(0.1), decay_weights(0.1)), params, gradients)
        assert_close(found[1], wanted[1], 1e-15)


@pytest.mark.usefixtures("x64")
def test_a_nan_gradient_of_a_frozen_layer_is_not_added() -> None:
    params = {"a": jnp.ones(2), "w": jnp.ones(2)}
    grads = {"a": jnp.full(2, jnp.nan), "w": jnp.ones(2)}
    for optimizer in (chain(sgd(1.0), freeze("a".__eq__)), groups(str, {"a": freeze(), "w": sgd(1.0)})):
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
        assert [u.tolist() for u in jax.tree.leaves(updates)] == [[0, 0], [-1, -1]]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("traced", [False, True])
def test_layerwise_rates_are_rates(problem: Any, traced: bool) -> None:
    """The step of momentum is proportional to its rate, also for traced multipliers."""
    params, gradients = problem

    def with_multipliers(low: Any, high: Any) -> Any:
        optimizer = chain(momentum(0.1), layerwise(lambda name: low if first_layer(name) else high))
        return run(optimizer, params, gradients)

    found = jax.jit(with_multipliers)(0.5, 2.0) if traced else jax.jit(partial(with_multipliers, 0.5, 2.0))()
    slow, fast = path(momentum(0.05), params, gradients), path(momentum(0.2), params, gradients)
    assert_close(found, (slow[0], fast[1]), 1e-14)


def test_depth_decay_counts_layers_with_parameters_from_the_last() -> None:
    params = ({"w": jnp.ones(1), "b": jnp.ones(1)}, {}, {"w": jnp.ones(1)}, (), {"w": jnp.ones(1)})
    multiplier = depth_decay(params, 0.5)
    assert [multiplier(name) for name in ("0.w", "0.b", "2.w", "4.w")] == [0.25, 0.25, 0.5, 1.0]
    state = (optimizer := layerwise(multiplier)).init(params)
    updates, _ = optimizer.update(params, state)
    assert [float(u[0]) for u in jax.tree.leaves(updates)] == [0.25, 0.25, 0.5, 1.0]
    with pytest.raises(ValueError, match=r"'7\.w' is in none of the layers \['0', '2', '4'\]"):
        multiplier("7.w")


def test_depth_decay_of_dicts_and_many_layers_in_the_order_of_the_tree() -> None:
    params = [{"w": jnp.ones(1)} for _ in range(12)]  # sorted by name, "10" would come before "2"
    multiplier = depth_decay(params, 0.5)
    assert [multiplier(f"{i}.w") for i in (0, 2, 10, 11)] == [0.5**11, 0.5**9, 0.5, 1.0]
    rates = jax.vmap(lambda decay: jnp.asarray(depth_decay(params, decay)("9.w")))(jnp.array([0.5, 0.8]))
    np.testing.assert_allclose(rates, [0.25, 0.64], rtol=1e-6)


def test_parameters_of_the_same_name_are_not_confused() -> None:
    """``{"a.b": ...}`` and ``{"a": {"b": ...}}`` have the same name."""
    params = {"a": {"b": jnp.zeros(2)}, "a.b": jnp.zeros(3), "c": jnp.zeros(1)}
    optimizer = groups(lambda name: "one" if name == "a.b" else "two", {"one": sgd(1.0), "two": freeze()})
    updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, params), optimizer.init(params), params)
    assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, params)
    assert [float(u.sum()) for u in jax.tree.leaves(updates)] == [-2, -3, 0]


@pytest.mark.usefixtures("x64")
def test_muon_is_a_group_of_matrices(problem: Any) -> None:
    params, gradients = problem
    optimizer = muon(0.1, adam(0.01), where="1.w".__eq__)
    state = optimizer.init(params)
    assert set(state) == {"matrices", "others"}
    assert len(jax.tree.leaves(state["others"].m)) == 3
    found = path(optimizer, params, gradients)
    assert_close(found[0], path(adam(0.01), params, gradients)[0], 1e-15)


def test_a_single_array_is_a_tree_of_the_empty_name() -> None:
    for optimizer in (freeze("".__eq__), restrict(scale(0.0), "".__eq__), groups(lambda name: "g", {"g": freeze()})):
        updates, _ = optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)), jnp.ones(2))
        assert updates.tolist() == [0, 0]
    assert identity().update(jnp.ones(2), (), None)[0].tolist() == [1, 1]
