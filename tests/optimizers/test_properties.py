"""The properties of every optimizer: dtypes, one trace, separate buffers, vmap, saved states."""

import inspect
import io
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import apply_updates, optimizers
from tests.cases.optimizers import ALGORITHMS, KINDS, OptimizerCase, decaying, gradients_for, run_all, tree
from tests.compare import CountingTraces, assert_close, assert_identical

every_algorithm = pytest.mark.parametrize("case", ALGORITHMS, ids=str)
NUMPY_RATES = (np.float64(0.1), np.float32(0.1), jnp.float32(0.1))  # rates often come from np.logspace


@pytest.mark.parametrize("case", KINDS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_dtypes(case: OptimizerCase, dtype: str) -> None:
    """Updates have the dtype of the gradients, moments at least float32, and the state keeps its dtypes."""
    with jax.enable_x64(dtype == "float64"):
        params = jax.eval_shape(lambda: tree(dtype))
        moment = dtype if dtype == "float64" else "float32"
        for rate in (0.1, decaying, *(NUMPY_RATES if dtype == "bfloat16" else ())):
            optimizer = case.make(rate)
            state = jax.eval_shape(optimizer.init, params)
            updates, after = jax.eval_shape(optimizer.update, params, state, params)
            assert {u.dtype for u in jax.tree.leaves(updates)} == {jnp.dtype(dtype)}
            assert {s.dtype for s in jax.tree.leaves(state)} <= {jnp.dtype(moment), jnp.dtype("int32")}
            assert after == state
            assert jax.eval_shape(apply_updates, params, updates) == params


@pytest.fixture(scope="module")
def in_two_precisions() -> Any:
    """Return three updates of every optimizer from the same numbers as bfloat16 and as float32 arrays."""
    params = tree(jnp.bfloat16)
    gradients = gradients_for(params, 3)
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), (params, gradients))
    made = {case.name: case.make(0.1) for case in ALGORITHMS}

    @jax.jit
    def three(params: Any, gradients: Any) -> Any:
        def step(states: Any, g: Any) -> Any:
            results = {name: optimizer.update(g, states[name], params) for name, optimizer in made.items()}
            return {name: state for name, (_, state) in results.items()}, {name: u for name, (u, _) in results.items()}

        return jax.lax.scan(step, {name: optimizer.init(params) for name, optimizer in made.items()}, gradients)

    return three(params, gradients), three(*wide)


@every_algorithm
def test_bfloat16_is_computed_in_float32_and_rounded_once(case: OptimizerCase, in_two_precisions: Any) -> None:
    """In bfloat16, a decay rate of 0.999 would be 1."""
    (state, updates), (wide_state, wide_updates) = ((s[case.name], u[case.name]) for s, u in in_two_precisions)
    assert_close(state, wide_state, 3e-7)
    rounded = jax.tree.map(lambda u: u.astype(jnp.bfloat16), wide_updates)
    for u, r in zip(jax.tree.leaves(updates), jax.tree.leaves(rounded), strict=True):
        apart = np.abs(np.asarray(u, np.float32) - np.asarray(r, np.float32))
        ulp = np.abs(np.asarray(r, np.float32)) * 2.0**-7
        assert (apart <= ulp).all()
        assert (apart == 0).mean() >= 0.8, "one rounding, except for ties that the rounding of float32 decides"


@pytest.fixture(scope="module")
def steps() -> Any:
    """Return one step of all optimizers as a function that counts its traces, and compiled with donated buffers."""

    def step(params: Any, states: Any, gradients: Any) -> Any:
        after_params, after_states = {}, {}
        for case in KINDS:
            name = case.name
            updates, after_states[name] = case.make(decaying).update(gradients, states[name], params[name])
            after_params[name] = apply_updates(params[name], updates)
        return after_params, after_states

    counting = CountingTraces(step)
    return counting, jax.jit(counting, donate_argnums=(0, 1))


def start() -> Any:
    params = {case.name: tree(jnp.float64) for case in KINDS}
    return params, {case.name: case.make(decaying).init(params[case.name]) for case in KINDS}


@pytest.mark.usefixtures("x64")
def test_one_trace_with_donated_buffers_in_a_loop(steps: Any) -> None:
    """Only the first call compiles; parameters and states are donated, and no buffer is shared."""
    counting, step = steps
    params, states = start()
    for name, state in states.items():
        pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves((params[name], state))]
        assert len(set(pointers)) == len(pointers), name
    gradients = gradients_for(tree(jnp.float64), 4)
    traces = counting.count
    for t in range(4):
        given = jax.tree.leaves((params, states))
        params, states = step(params, states, jax.tree.map(lambda g: g[t], gradients))  # noqa: B023
        assert all(leaf.is_deleted() for leaf in given)
    assert counting.count - traces <= 1
    for case in KINDS:
        expected = case.expected(tree(jnp.float64), gradients, decaying)
        assert_close(params[case.name], jax.tree.map(lambda p: p[-1], expected))


@pytest.mark.usefixtures("x64")
def test_saved_states_continue_bit_for_bit(steps: Any) -> None:
    _, step = steps
    gradients = gradients_for(tree(jnp.float64), 3)
    at = [jax.tree.map(lambda g: g[t], gradients) for t in range(3)]  # noqa: B023
    carry = step(*step(*start(), at[0]), at[1])
    leaves, structure = jax.tree.flatten(carry)
    file = io.BytesIO()
    np.savez(file, *leaves)
    file.seek(0)
    loaded = [jnp.asarray(array) for array in np.load(file).values()]
    assert_identical(step(*structure.unflatten(loaded), at[2]), step(*carry, at[2]))


@pytest.mark.usefixtures("x64")
def test_a_nan_stays_where_it_is(steps: Any) -> None:
    """NaN stays in its entry, or in its tensor if the step depends on the whole tensor."""
    _, step = steps
    first, *others = gradients_for(tree(jnp.float64), 1)
    w = first["w"].at[0, 1, 1].set(jnp.nan)
    gradients = jax.tree.map(lambda g: g[0], (first | {"w": w}, *others))
    params, _ = step(*start(), gradients)
    for name, (layer, *rest) in params.items():
        wanted = np.isnan(np.asarray(gradients[0]["w"]))
        if name.split(",")[0] in ("lars", "lamb", "muon"):
            wanted = np.ones_like(wanted)
        np.testing.assert_array_equal(np.isnan(layer["w"]), wanted, err_msg=name)
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves((layer["b"], rest))), name


NUMBERS = {
    "learning_rate": (0.01, 0.1),
    "beta1": (0.0, 0.8),
    "beta2": (0.999, 0.7),
    "decay": (0.7, 0.9),
    "momentum": (0.0, 0.8),
    "epsilon": (1e-3, 1e-2),
    "trust": (0.01, 0.1),
    "weight_decay": (0.1, 0.0),
}


def traceable(case: OptimizerCase) -> list[str]:
    """Return the hyper-parameters that may be traced, according to the annotations."""
    signature = inspect.signature(getattr(optimizers, case.name.split(",")[0]))
    return [name for name, parameter in signature.parameters.items() if parameter.annotation == "Hyperparameter"]


MAPPED = [case for case in KINDS if not any(map(callable, case.options.values()))]


@pytest.fixture(scope="module")
def mapped() -> Any:
    """Return ten steps with two values of every hyper-parameter, under ``vmap``."""
    with jax.enable_x64(True):
        params = tree(jnp.float64)
        gradients = gradients_for(params, 10)
        values = {name: jnp.array(pair) for name, pair in NUMBERS.items()}

        def run_with(values: Any) -> Any:
            made = {case.name: case.make(**{name: values[name] for name in traceable(case)}) for case in MAPPED}
            return run_all(made, params, gradients)

        return params, gradients, jax.vmap(run_with)(values)


@pytest.mark.parametrize("case", MAPPED, ids=str)
@pytest.mark.usefixtures("x64")
def test_every_hyperparameter_under_vmap(case: OptimizerCase, mapped: Any) -> None:
    params, gradients, found = mapped
    assert "learning_rate" in traceable(case)
    for i in range(2):
        options = {name: NUMBERS[name][i] for name in traceable(case)}
        rate = options.pop("learning_rate")
        expected = OptimizerCase(case.name, case.algorithm, case.reference, case.options | options)
        alone = jax.tree.map(lambda leaf: leaf[i], found[case.name])  # noqa: B023
        assert_close(alone, expected.expected(params, gradients, rate))


@pytest.mark.parametrize("case", KINDS, ids=str)
def test_an_empty_tree(case: OptimizerCase) -> None:
    """The parameters of a model of pooling layers are empty."""
    optimizer = case.make(0.1)
    for empty in ({}, (), ({}, {"inner": ()})):
        state = jax.eval_shape(optimizer.init, empty)
        assert jax.eval_shape(optimizer.update, empty, state, empty) == (empty, state)


@pytest.mark.parametrize("case", [case for case in KINDS if case.name != "sgd"], ids=str)
def test_a_tree_that_differs_from_the_state_is_refused(case: OptimizerCase) -> None:
    optimizer = case.make(0.1)
    params = jax.eval_shape(lambda: tree("float32"))
    state = jax.eval_shape(optimizer.init, params)
    missing = ({"b": params[0]["b"]}, *params[1:])
    with pytest.raises(ValueError, match=r"optimizers\.\w+: .*'0\.w'"):
        jax.eval_shape(optimizer.update, missing, state, params)
    other = jax.ShapeDtypeStruct((5, 2), "float32")
    reshaped = ({"w": other, "b": params[0]["b"]}, *params[1:])
    with pytest.raises(ValueError, match=r"'0\.w' has shape \(5, 2\).*\(3, 2\).*call init"):
        jax.eval_shape(optimizer.update, reshaped, state, params)
    listed = [*params]
    with pytest.raises(ValueError, match=r"list|tuple"):
        jax.eval_shape(optimizer.update, listed, state, params)


@pytest.mark.parametrize("case", [case for case in ALGORITHMS if case.name != "sgd"], ids=str)
def test_integer_parameters_are_refused(case: OptimizerCase) -> None:
    params = {"w": jnp.ones((2, 2)), "table": jnp.ones((2, 2), int)}
    with pytest.raises(TypeError, match=r"'table' has dtype int32.*\.astype"):
        case.make(0.1).init(params)


@every_algorithm
def test_numpy_arrays(case: OptimizerCase) -> None:
    """Parameters from a file are NumPy arrays; jax takes float64 for float32."""
    params = {"w": np.ones((2, 2)), "b": np.ones(2)}
    optimizer = case.make(0.1)
    updates, _ = jax.eval_shape(optimizer.update, params, jax.eval_shape(optimizer.init, params), params)
    assert {u.dtype for u in jax.tree.leaves(updates)} == {jnp.dtype("float32")}


def test_apply_updates_keeps_the_dtype_of_the_parameters() -> None:
    params = apply_updates({"w": jnp.ones(1, "bfloat16")}, {"w": jnp.ones(1, "float32")})
    assert params["w"].dtype == jnp.bfloat16
    assert float(params["w"][0]) == 2
