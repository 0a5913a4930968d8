"""Transforms of gradients and updates are compared with NumPy, in every dtype, under jit, vmap and scan."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Optimizer, chain, projections
from fnnet.optimizers import (
    accumulate,
    adam,
    adaptive_clip,
    add_noise,
    centralize,
    clip_by_global_norm,
    clip_by_layer_norm,
    clip_by_value,
    decay_weights,
    freeze,
    global_norm,
    lamb,
    lars,
    muon,
    project,
    restrict,
    scale,
    sgd,
)
from fnnet.paths import named_leaves
from tests.cases.optimizers import ALGORITHMS, decaying, gradients_for, tree
from tests.compare import assert_close

Tree = dict[str, np.ndarray]
Expected = Callable[[Tree, Tree, int], Tree]  # (gradients, parameters, step) -> updates; the trees are dicts by name


def every(f: Callable[[np.ndarray, np.ndarray, int], np.ndarray]) -> Expected:
    return lambda g, p, step: {name: f(g[name], p[name], step) for name in g}


def weights(f: Callable[[np.ndarray, np.ndarray, int], np.ndarray]) -> Expected:
    return lambda g, p, step: {name: f(g[name], p[name], step) if p[name].ndim >= 2 else g[name] for name in g}


def by_length(limit: float, group: Callable[[str], str]) -> Expected:
    def expected(g: Tree, p: Tree, step: int) -> Tree:
        lengths: dict[str, float] = {}
        for name, x in g.items():
            lengths[group(name)] = lengths.get(group(name), 0) + float(np.sum(x**2))
        return {name: x * min(1, limit / np.sqrt(lengths[group(name)])) for name, x in g.items()}

    return expected


def neuron_by_neuron(limit: float, epsilon: float) -> Callable[[np.ndarray, np.ndarray, int], np.ndarray]:
    def clipped(g: np.ndarray, p: np.ndarray, step: int) -> np.ndarray:
        g = g.copy()
        for j in range(g.shape[-1]):
            bound = limit * max(np.sqrt(np.sum(p[..., j] ** 2)), epsilon)
            g[..., j] *= min(1, bound / np.sqrt(np.sum(g[..., j] ** 2)))
        return g

    return clipped


TRANSFORMS: dict[str, tuple[Optimizer, Expected]] = {
    "clip_by_value": (clip_by_value(0.5), every(lambda g, p, t: np.minimum(np.maximum(g, -0.5), 0.5))),
    "clip_by_value, schedule": (clip_by_value(decaying), every(lambda g, p, t: np.clip(g, -decaying(t), decaying(t)))),
    "clip_by_global_norm": (clip_by_global_norm(1.5), by_length(1.5, lambda name: "")),
    "clip_by_global_norm, none": (clip_by_global_norm(1e3), by_length(1e3, lambda name: "")),
    "clip_by_layer_norm": (clip_by_layer_norm(2.5), by_length(2.5, lambda name: name[0])),
    "adaptive_clip": (adaptive_clip(0.5), weights(neuron_by_neuron(0.5, 1e-3))),
    "adaptive_clip, epsilon": (adaptive_clip(0.5, 2.0), weights(neuron_by_neuron(0.5, 2.0))),
    "decay_weights": (decay_weights(0.25), weights(lambda g, p, t: g - 0.25 * p)),
    "decay_weights, schedule": (decay_weights(decaying), weights(lambda g, p, t: g - decaying(t) * p)),
    "centralize": (centralize(), weights(lambda g, p, t: g - g.mean(tuple(range(g.ndim - 1)), keepdims=True))),
    "scale": (scale(0.3), every(lambda g, p, t: 0.3 * g)),
    "scale, schedule": (scale(decaying), every(lambda g, p, t: decaying(t) * g)),
    "project": (project(projections.non_negative), weights(lambda g, p, t: np.maximum(p + g, 0) - p)),
}
STEPS = 3


def run_all(params: Any, gradients: Any) -> Any:
    """Return the updates of every transform, from one scan over the gradients."""

    def step(states: Any, g: Any) -> Any:
        results = {name: transform.update(g, states[name], params) for name, (transform, _) in TRANSFORMS.items()}
        return {name: state for name, (_, state) in results.items()}, {name: u for name, (u, _) in results.items()}

    start = {name: transform.init(params) for name, (transform, _) in TRANSFORMS.items()}
    return jax.lax.scan(step, start, gradients)[1]


@pytest.fixture(scope="module", params=["float32", "bfloat16", "float64"])
def found(request: pytest.FixtureRequest) -> Any:
    """Return a few steps of every transform in a scan, for two trees under ``vmap``."""
    with jax.enable_x64(request.param == "float64"):
        params = tree(request.param)
        gradients = gradients_for(params, STEPS)
        pairs = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), (params, gradients))
        return request.param, pairs, jax.jit(jax.vmap(run_all))(*pairs)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_equal_numpy(name: str, found: Any) -> None:
    dtype, (params, gradients), results = found
    tolerance = {"float64": 1e-14, "float32": 3e-7, "bfloat16": 2.0**-8}[dtype]
    updates = results[name]
    for i in range(2):
        p = {n: np.asarray(x[i], np.float64) for n, x in named_leaves(params)}
        for step in range(STEPS):
            g = {n: np.asarray(x[i, step], np.float64) for n, x in named_leaves(gradients)}
            actual = {n: x[i, step] for n, x in named_leaves(updates)}
            assert {x.dtype for x in actual.values()} == {jnp.dtype(dtype)}
            expected = TRANSFORMS[name][1](g, p, step)
            if name == "project":  # the parameter is one of its terms
                actual, expected = ({n: x + p[n] for n, x in side.items()} for side in (upcast(actual), expected))
                assert_close(actual, expected, 4 * tolerance)
            else:
                assert_close(actual, expected, tolerance if name == "clip_by_value" else 2 * tolerance)


def upcast(side: Any) -> Tree:
    return {n: np.asarray(x, np.float64) for n, x in side.items()}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_keeps_the_form_of_its_state(name: str) -> None:
    transform = TRANSFORMS[name][0]
    params = jax.eval_shape(lambda: tree("bfloat16"))
    state = jax.eval_shape(transform.init, params)
    updates, after = jax.eval_shape(transform.update, params, state, params)
    assert (updates, after) == (params, state)
    for empty in ({}, ({}, ())):
        assert transform.update(empty, transform.init(empty), empty)[0] == empty


@pytest.mark.parametrize(
    ("transform", "bound"),
    [
        pytest.param(clip_by_global_norm(1.0), 0.5, id="global"),
        pytest.param(clip_by_layer_norm(1.0), 0.5, id="layer"),
        pytest.param(adaptive_clip(1.0), 1.0, id="adaptive"),
    ],
)
@pytest.mark.parametrize("size", [1e-30, 1e30, 3e38])
def test_norms_neither_vanish_nor_overflow(transform: Optimizer, bound: float, size: float) -> None:
    """In float32, the square of 1e30 is infinite and that of 1e-30 is 0; 2 · 3e38 is infinite and 1 / 3e38 is 0."""
    params = {"w": jnp.ones((2, 2))}
    updates, _ = transform.update({"w": jnp.full((2, 2), size)}, transform.init(params), params)
    found = float(updates["w"][0, 0])
    assert found == pytest.approx(size if size < 1 else bound, rel=1e-6)
    zero, _ = transform.update({"w": jnp.zeros((2, 2))}, transform.init(params), params)
    assert bool((zero["w"] == 0).all())


@pytest.mark.parametrize("size", [1e-37, 1e38, 3e38, np.inf])
def test_norms_of_the_smallest_and_the_largest_numbers(size: float) -> None:
    """The reciprocal of 1e38 is subnormal, and XLA takes it for 0."""
    for function in (global_norm, jax.jit(global_norm)):
        assert float(function({"a": jnp.array([size, 0.0])})) == pytest.approx(size, rel=1e-6)


def test_a_nan_is_not_clipped_away() -> None:
    grads = {"w": jnp.array([[1.0, jnp.nan]]), "b": jnp.ones(2)}
    for transform, poisoned in ((clip_by_global_norm(1.0), 4), (clip_by_layer_norm(1.0), 2), (clip_by_value(1.0), 1)):
        updates, _ = transform.update(grads, transform.init(grads))
        assert sum(int(jnp.isnan(u).sum()) for u in jax.tree.leaves(updates)) == poisoned


def test_global_norm() -> None:
    assert float(global_norm({"a": jnp.array([3.0]), "b": jnp.array([[4.0]])})) == 5
    assert float(global_norm({})) == 0
    assert global_norm({"a": jnp.ones(4, "bfloat16")}).dtype == jnp.float32


@pytest.fixture(scope="module")
def noise() -> Any:
    """Return the transform, zeros, and a program of four updates."""
    transform = add_noise(jax.random.key(3), variance=0.04, power=0.5)
    params = {"w": jnp.zeros((200, 300)), "b": jnp.zeros(60_000, "bfloat16")}

    def step(state: Any, _: None) -> Any:
        updates, state = transform.update(params, state)
        return state, updates

    return transform, params, jax.jit(lambda state: jax.lax.scan(step, state, None, length=4))


def test_noise_has_its_mean_and_variance(noise: Any) -> None:
    """The variance is 0.04 / √(1 + t), within five standard errors of 60,000 numbers."""
    transform, params, run = noise
    for leaf in jax.tree.leaves(run(transform.init(params))[1]):
        for t in range(4):
            x, variance = np.asarray(leaf[t], np.float64), 0.04 / np.sqrt(1 + t)
            assert abs(x.mean()) < 5 * np.sqrt(variance / x.size)
            assert abs(x.var() / variance - 1) < 5 * np.sqrt(2 / x.size) + 1e-4
            tails = np.mean(np.abs(x) > 2 * np.sqrt(variance))
            assert tails == pytest.approx(0.0455, abs=0.005)  # the tails of a normal distribution


def test_noise_is_that_of_the_key_and_the_step(noise: Any) -> None:
    transform, params, run = noise
    state, first = run(transform.init(params))
    _, again = run(transform.init(params))
    later, _ = run(state)
    other = run(add_noise(jax.random.key(4), 0.04, 0.5).init(params))[1]
    np.testing.assert_array_equal(first["w"], again["w"])
    assert int(state.step) == 4
    assert int(later.step) == 8
    steps = [np.asarray(x).ravel() for x in (*first["w"], other["w"][0], np.asarray(first["b"][0], np.float32))]
    correlations = np.corrcoef(steps) - np.eye(len(steps))
    assert np.abs(correlations).max() < 0.02


def test_the_order_of_a_chain() -> None:
    params, grads = {"w": jnp.zeros(2)}, {"w": jnp.array([0.5, -20.0])}
    before = chain(clip_by_value(1.0), sgd(3.0))
    with pytest.warns(UserWarning, match=r"optimizers.chain: a clip stands after the algorithm.* put it first"):
        after = chain(sgd(3.0), clip_by_value(1.0))
    updates, state = before.update(grads, before.init(params), params)
    np.testing.assert_array_equal(updates["w"], [-1.5, 3.0])
    assert [int(s.step) for s in state] == [1, 1]
    np.testing.assert_array_equal(after.update(grads, after.init(params), params)[0]["w"], [-1.0, 1.0])


BY_NORMS = {
    "clip_by_global_norm": clip_by_global_norm(1.0),
    "clip_by_layer_norm": clip_by_layer_norm(1.0),
    "adaptive_clip": adaptive_clip(1e-2),
    "lars": lars(0.1),
    "lamb": lamb(0.1),
    "muon": muon(0.1, sgd(0.1)),
}


@pytest.mark.parametrize("name", BY_NORMS)
@pytest.mark.parametrize("bad", [jnp.inf, -jnp.inf, jnp.nan])
def test_an_entry_that_is_not_finite_makes_all_of_its_norm_nan(name: str, bad: float) -> None:
    """No finite gradient turns silently into 0."""
    params = {"w": jnp.ones((2, 3))}
    updates, _ = BY_NORMS[name].update({"w": jnp.ones((2, 3)).at[0, 0].set(bad)}, BY_NORMS[name].init(params), params)
    w = np.asarray(updates["w"])
    assert np.isnan(w[:, 0] if name == "adaptive_clip" else w).all()  # the weights into one neuron, or all


def test_two_algorithms_in_a_chain_are_refused() -> None:
    for case in ALGORITHMS:
        with pytest.raises(ValueError, match=r"optimizers.chain: the optimizers at the places \[0, 2\]"):
            chain(case.make(0.1), scale(1.0), accumulate(chain(sgd(0.1)), 2))
    chain(restrict(sgd(0.1), lambda name: name == "w"), freeze(), decay_weights(0.1), sgd(0.1))  # no two algorithms
    for clip in (clip_by_value(1.0), clip_by_global_norm(1.0), clip_by_layer_norm(1.0), chain(adaptive_clip())):
        with pytest.warns(UserWarning, match="a clip stands after the algorithm"):
            chain(sgd(0.1), clip)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", "optimizers.chain: a clip")
            chain(sgd(0.1), clip)
            chain(clip, sgd(0.1))
    with pytest.raises(TypeError, match=r"optimizers.chain: .*adam.* has no init and update; expected an optimizer"):
        chain(adam)
