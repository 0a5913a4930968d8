"""Optimizers: fifty steps against a NumPy loop, first steps by hand, and what every one of them keeps."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Optimizer, apply_updates, chain, optimizers
from fnnet.optimizers import adam, momentum, sgd
from tests import reference_optimizers as reference
from tests.cases import SEED, network_params
from tests.compare import CountingTraces, assert_close
from tests.public import public_optimizers


@dataclass(frozen=True)
class OptimizerCase:
    """An optimizer as a function of its learning rate, and its reference."""

    name: str
    make: Callable[..., Optimizer]
    reference: Callable[..., reference.Steps]

    def __str__(self) -> str:
        return self.name


OPTIMIZERS = [
    OptimizerCase("sgd", sgd, reference.sgd),
    OptimizerCase("momentum", momentum, partial(reference.momentum, beta=0.9, averaged=True)),
    OptimizerCase(
        "momentum, heavy ball",
        lambda rate: momentum(rate, 0.7, averaged=False),
        partial(reference.momentum, beta=0.7, averaged=False),
    ),
    OptimizerCase("adam", adam, reference.adam),
    OptimizerCase(
        "adam, other options",
        lambda rate: adam(rate, 0.8, 0.95, 1e-3),
        partial(reference.adam, beta1=0.8, beta2=0.95, epsilon=1e-3),
    ),
    OptimizerCase("adam, beta 0", lambda rate: adam(rate, 0.0, 0.0), partial(reference.adam, beta1=0.0, beta2=0.0)),
    OptimizerCase(
        "adam without bias correction",
        lambda rate: adam(rate, bias_correction=False),
        partial(reference.adam, bias_correction=False),
    ),
]
every_optimizer = pytest.mark.parametrize("case", OPTIMIZERS, ids=str)

STEPS = 50


def decaying(step: Any) -> Any:
    """A schedule, for a traced step as for a Python number: 0.1 / (1 + step / 10)."""
    t = step.astype(jnp.result_type(float)) if isinstance(step, jax.Array) else step
    return 0.1 / (1 + t / 10)


def run(optimizer: Optimizer, params: Any, gradients: Any) -> Any:
    """The parameters after every step."""

    def step(carry: Any, g: Any) -> Any:
        params, state = carry
        updates, state = optimizer.update(g, state, params)
        params = apply_updates(params, updates)
        return (params, state), params

    return jax.lax.scan(step, (params, optimizer.init(params)), gradients)[1]


def random_gradients(params: Any, steps: int = STEPS) -> Any:
    generator = np.random.default_rng(SEED)
    return jax.tree.map(lambda p: jnp.asarray(generator.standard_normal((steps, *p.shape))).astype(p.dtype), params)


@every_optimizer
@pytest.mark.parametrize("rate", [0.05, decaying], ids=["rate", "schedule"])
@pytest.mark.usefixtures("x64")
def test_fifty_steps_equal_the_reference(case: OptimizerCase, rate: Any) -> None:
    params = network_params(jnp.float64)
    gradients = random_gradients(params)
    steps = jax.jit(partial(run, case.make(rate)))(params, gradients)

    def expected(p: jax.Array, g: jax.Array) -> np.ndarray:
        schedule = rate if callable(rate) else lambda step: rate
        return np.stack(list(case.reference(np.asarray(p), np.asarray(g), schedule)))

    assert_close(steps, jax.tree.map(expected, params, gradients))


@pytest.mark.parametrize(
    ("optimizer", "after"),
    [
        (sgd(0.1), 0.95),
        (momentum(0.1), 0.995),  # v = 0.1 · 0.5
        (momentum(0.1, averaged=False), 0.95),
        (adam(0.1), 0.9),  # m̂ / √v̂ = 1, whatever the gradient
        (adam(0.1, bias_correction=False), 1 - 0.1 * 0.05 / 0.00025**0.5),  # m = 0.05, v = 0.00025
        (adam(0.1, epsilon=0.5), 0.95),  # 0.5 / (0.5 + 0.5)
    ],
)
def test_the_first_step_by_hand(optimizer: Optimizer, after: float) -> None:
    """From θ = 1 with g = 0.5."""
    params = {"w": jnp.ones(1)}
    updates, _ = optimizer.update({"w": jnp.full(1, 0.5)}, optimizer.init(params), params)
    assert float(apply_updates(params, updates)["w"][0]) == pytest.approx(after, rel=1e-6)


def test_bias_correction_keeps_its_digits_in_float32() -> None:
    """1 − 0.999 rounded to float32 is wrong in the fifth digit; the first Adam step is then not quite α."""
    optimizer = adam(1.0, epsilon=0.0)
    updates, _ = optimizer.update({"w": jnp.ones(1)}, optimizer.init({"w": jnp.ones(1)}))
    assert float(updates["w"][0]) == pytest.approx(-1, abs=3e-7)


@every_optimizer
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_dtypes(case: OptimizerCase, dtype: str) -> None:
    """Updates have the gradients' dtype, moments at least float32; with a number or a schedule as the rate."""
    with jax.enable_x64(dtype == "float64"):
        params = network_params(dtype)
        for optimizer in (case.make(0.1), case.make(decaying)):
            state = optimizer.init(params)
            updates, after = jax.eval_shape(optimizer.update, params, state, params)
            assert {u.dtype for u in jax.tree.leaves(updates)} == {jnp.dtype(dtype)}
            moment = "float32" if dtype == "bfloat16" else dtype
            assert {s.dtype for s in jax.tree.leaves(state)} <= {jnp.dtype(moment), jnp.dtype("int32")}
            assert [s.dtype for s in jax.tree.leaves(after)] == [s.dtype for s in jax.tree.leaves(state)]
            assert jax.eval_shape(apply_updates, params, updates)[0]["w"].dtype == jnp.dtype(dtype)


@every_optimizer
@pytest.mark.parametrize("rate", [np.float64(0.1), np.float32(0.1), jnp.float32(0.1)], ids=["f64", "f32", "jax"])
def test_a_numpy_or_jax_rate_does_not_change_the_dtype(case: OptimizerCase, rate: Any) -> None:
    """Rates often come out of ``np.logspace``."""
    params = network_params("bfloat16")
    optimizer = case.make(rate)
    updates, _ = jax.eval_shape(optimizer.update, params, optimizer.init(params), params)
    assert {u.dtype for u in jax.tree.leaves(updates)} == {jnp.dtype("bfloat16")}


@every_optimizer
def test_one_trace_and_donated_buffers(case: OptimizerCase) -> None:
    """Every call but the first is compiled already; parameters and state are given up and nothing is shared."""
    optimizer = case.make(0.1)
    params = network_params("float32")
    state = optimizer.init(params)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves((params, state))]
    assert len(set(pointers)) == len(pointers)

    @CountingTraces
    def step(params: Any, state: Any) -> Any:
        updates, state = optimizer.update(params, state, params)
        return apply_updates(params, updates), state

    compiled = jax.jit(step, donate_argnums=(0, 1))
    given = jax.tree.leaves((params, state))
    for _ in range(3):
        params, state = compiled(params, state)
    assert step.count == 1
    assert all(leaf.is_deleted() for leaf in given)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(params))


@every_optimizer
@pytest.mark.usefixtures("x64")
def test_learning_rates_under_vmap(case: OptimizerCase) -> None:
    """Traced rates: of several runs at once each is the one with its rate as a number."""
    params = network_params(jnp.float64)
    gradients = random_gradients(params, 5)
    together = jax.jit(jax.vmap(lambda rate: run(case.make(rate), params, gradients)))(jnp.array([0.01, 0.1]))
    first, second = (jax.tree.map(lambda leaf: leaf[i], together) for i in range(2))  # noqa: B023
    assert_close(second, jax.jit(partial(run, case.make(0.1)))(params, gradients), 1e-14)
    assert not np.allclose(first[0]["w"], second[0]["w"])


@pytest.mark.usefixtures("x64")
def test_traced_betas() -> None:
    params = network_params(jnp.float64)
    gradients = random_gradients(params, 5)
    traced = jax.jit(lambda b1, b2, e: run(adam(0.1, b1, b2, e), params, gradients))(0.8, 0.95, 1e-3)
    assert_close(traced, jax.jit(partial(run, adam(0.1, 0.8, 0.95, 1e-3)))(params, gradients), 1e-13)
    heavy = jax.jit(lambda beta: run(momentum(0.1, beta), params, gradients))(0.7)
    assert_close(heavy, jax.jit(partial(run, momentum(0.1, 0.7)))(params, gradients), 1e-14)


def test_the_schedule_counts_from_zero() -> None:
    optimizer = sgd(lambda step: jnp.where(step == 0, 1.0, 10.0))
    state = optimizer.init({"w": jnp.ones(1)})
    updates = []
    for _ in range(3):
        update, state = optimizer.update({"w": jnp.ones(1)}, state)
        updates.append(float(update["w"][0]))
    assert updates == [-1, -10, -10]
    assert int(state.step) == 3


@pytest.mark.usefixtures("x64")
def test_heavy_ball_is_the_average_with_another_rate() -> None:
    params = network_params(jnp.float64)
    gradients = random_gradients(params, 10)
    heavy = run(momentum(0.1 * (1 - 0.9), averaged=False), params, gradients)
    assert_close(heavy, run(momentum(0.1), params, gradients), 1e-13)


def clipped(limit: float) -> Optimizer:
    def update(grads: Any, state: Any, params: Any = None) -> Any:
        return jax.tree.map(lambda g: jnp.clip(g, -limit, limit), grads), state

    return Optimizer(lambda params: (), update)


def test_chain_passes_updates_on_in_order() -> None:
    params, grads = {"w": jnp.zeros(2)}, {"w": jnp.array([0.5, -20.0])}
    before, after = chain(clipped(1.0), sgd(3.0)), chain(sgd(3.0), clipped(1.0))
    state = before.init(params)
    updates, state = before.update(grads, state, params)
    np.testing.assert_array_equal(updates["w"], [-1.5, 3.0])
    assert (state[0], int(state[1].step)) == ((), 1)
    np.testing.assert_array_equal(after.update(grads, after.init(params), params)[0]["w"], [-1.0, 1.0])
    with pytest.raises(ValueError, match="nothing to chain"):
        chain()


def test_chain_refuses_a_state_of_another_chain() -> None:
    with pytest.raises(ValueError, match="shorter"):
        chain(sgd(1.0), sgd(1.0)).update({"w": jnp.ones(1)}, (sgd(1.0).init({}),))


def test_apply_updates_keeps_the_dtype_of_the_parameters() -> None:
    params = apply_updates({"w": jnp.ones(1, "bfloat16")}, {"w": jnp.ones(1, "float32")})
    assert params["w"].dtype == jnp.bfloat16
    assert float(params["w"][0]) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sgd(-0.1), r"optimizers.sgd: learning_rate is -0.1; expected a number in \[0, inf\)"),
        (lambda: sgd(float("nan")), "learning_rate is nan"),
        (lambda: sgd(float("inf")), "learning_rate is inf"),
        (lambda: sgd(np.array([0.1, -0.1])), "learning_rate is"),
        (lambda: momentum(-1), "optimizers.momentum: learning_rate is -1"),
        (lambda: momentum(0.1, 1.0), r"optimizers.momentum: beta is 1.0; expected a number in \[0, 1\)"),
        (lambda: momentum(0.1, -0.1), "beta is -0.1"),
        (lambda: adam(-1), "optimizers.adam: learning_rate is -1"),
        (lambda: adam(beta1=1), "optimizers.adam: beta1 is 1"),
        (lambda: adam(beta2=1.5), "optimizers.adam: beta2 is 1.5"),
        (lambda: adam(epsilon=-1e-8), "optimizers.adam: epsilon is -1e-08"),
    ],
)
def test_bad_hyperparameters_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_every_public_optimizer_has_a_case() -> None:
    covered = {case.name.split(",")[0].split(" ")[0] for case in OPTIMIZERS}
    assert {function.__name__ for function in public_optimizers()} == covered
    assert all(getattr(optimizers, name) in public_optimizers() for name in covered)
