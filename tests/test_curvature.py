"""Curvature against closed forms, against ``jax.hessian`` with ``eigh``, and against known matrices, in float64."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from fnnet import Cost, Dense, losses, penalties, sequential, softmax, tanh
from fnnet.inspect.curvature import (
    diagonal,
    eigenvalues,
    fisher_vp,
    ggn_vp,
    gradient_noise_scale,
    gradient_statistics,
    hvp,
    noise_scale,
    over_batches,
    spectral_density,
    trace,
)
from fnnet.inspect.curvature.lanczos import tridiagonal
from tests.cases import SEED, random_params
from tests.compare import CountingTraces, assert_close

RNG = np.random.default_rng(SEED)
N, D, C = 23, 4, 3
X = RNG.standard_normal((N, D))
LABELS = RNG.integers(0, C, N)
REAL = RNG.standard_normal((N, 1))


def key(seed: int = 0) -> jax.Array:
    return jax.random.key(SEED + seed)


def tree(seed: int, *shapes: tuple[int, ...]) -> Any:
    generator = np.random.default_rng(SEED + seed)
    return {f"p{i}": jnp.asarray(generator.standard_normal(shape)) for i, shape in enumerate(shapes)}


def flat(tree: Any) -> np.ndarray:
    return np.asarray(ravel_pytree(tree)[0])


def matrix_of(product: Callable[[Any], Any], params: Any) -> np.ndarray:
    """Return the matrix of an operator on trees, a column for every unit vector."""
    vector, back = ravel_pytree(params)
    return np.asarray(jax.jit(jax.vmap(lambda e: ravel_pytree(product(back(e)))[0]))(jnp.eye(vector.size))).T


def product_of(matrix: np.ndarray, params: Any) -> Callable[[Any], Any]:
    """Return the operator of a matrix on trees like ``params``."""
    back = ravel_pytree(params)[1]
    return lambda v: back(jnp.asarray(matrix) @ ravel_pytree(v)[0])


def affine(x: np.ndarray) -> np.ndarray:
    """Return the Jacobian of one affine output, with the bias first, as in the order of the tree."""
    return np.concatenate([np.ones((len(x), 1)), x], 1)


# Regressions: (cost, targets, Hessian at w and b). The leaves of a Dense are b (K,) and w (D, K), raveled by rows.


def linear(z: np.ndarray) -> np.ndarray:
    a = affine(X)
    return 2 * a.T @ a / N


def logistic(z: np.ndarray) -> np.ndarray:
    a, p = affine(X), 1 / (1 + np.exp(-z[:, 0]))
    return (a * (p * (1 - p))[:, None]).T @ a / N


def multinomial(z: np.ndarray) -> np.ndarray:
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    hessian = np.zeros(((D + 1) * C, (D + 1) * C))
    for row, q in zip(affine(X), p, strict=True):
        hessian += np.kron(np.outer(row, row), np.diag(q) - np.outer(q, q)) / N
    return hessian


REGRESSIONS = {
    "linear": (losses.squared_error, REAL, linear),
    "logistic": (losses.sigmoid_cross_entropy, (REAL > 0).astype(float), logistic),
    "softmax": (losses.softmax_cross_entropy, LABELS, multinomial),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", REGRESSIONS)
def test_regressions_in_closed_form(name: str) -> None:
    """``H = G = 2/N XᵀX``, ``1/N XᵀDX`` with ``D = p(1 − p)``, and ``1/N Σ x xᵀ ⊗ (diag p − p pᵀ)``, which is ``F``."""
    loss, target, expected = REGRESSIONS[name]
    cost, batch = Cost(Dense(C if name == "softmax" else 1), loss), (jnp.asarray(X), jnp.asarray(target))
    params = tree(1, (C if name == "softmax" else 1,), (D, C if name == "softmax" else 1))
    params = {"b": params["p0"], "w": params["p1"]}
    hessian = expected(X @ np.asarray(params["w"]) + np.asarray(params["b"]))
    for product in (hvp, ggn_vp, fisher_vp)[: 3 if name == "softmax" else 2]:
        assert_close(matrix_of(partial(product, cost, params, batch), params), hessian, 1e-12)


def small_network(
    loss: Any = losses.softmax_cross_entropy, penalty: Any = None, hidden: tuple[int, ...] = (6,)
) -> tuple[Cost, Any]:
    model = sequential(*(layer for width in hidden for layer in (Dense(width), tanh)), Dense(C))
    return Cost(model, loss, penalty), jax.tree.map(lambda p: p / 2, random_params(model, jnp.asarray(X)))


BATCH = (X, LABELS)


def dense_hessian(cost: Any, params: Any, batch: Any) -> np.ndarray:
    vector, back = ravel_pytree(params)
    return np.asarray(jax.jit(jax.hessian(lambda v: cost(back(v), batch)))(vector))


@pytest.mark.usefixtures("x64")
def test_a_network_against_the_whole_hessian() -> None:
    """323 parameters: the products, the eigenvalues at both ends, and the trace, from a basis of all parameters."""
    cost, params = small_network(penalty=penalties.l2(0.1), hidden=(16, 12))
    hessian = dense_hessian(cost, params, BATCH)
    matrix = matrix_of(partial(hvp, cost, params, BATCH), params)
    assert_close(matrix, hessian, 1e-12)
    np.testing.assert_allclose(matrix, matrix.T, rtol=1e-11, atol=1e-15)
    product = product_of(matrix, params)

    values, vectors = np.linalg.eigh(hessian)
    size = len(hessian)
    assert size == 323

    def everything(k: jax.Array) -> Any:
        keys = jax.random.split(k, 3)
        return (
            eigenvalues(product, params, key=keys[0], k=4, steps=size),
            eigenvalues(product, params, key=keys[1], k=2),
            trace(product, params, key=keys[2], rank=size, samples=2),
        )

    (top, bottom), few, total = jax.jit(everything)(key())
    assert np.trace(matrix) == pytest.approx(values.sum(), rel=1e-12)
    assert float(total.value) == pytest.approx(values.sum(), rel=1e-10)
    assert float(total.error) < 1e-10
    np.testing.assert_allclose(top.values, values[::-1][:4], rtol=1e-10)
    np.testing.assert_allclose(bottom.values, values[:4], rtol=1e-9, atol=1e-12)
    found = np.stack([flat(jax.tree.map(lambda leaf, i=i: leaf[i], top.vectors)) for i in range(4)])
    np.testing.assert_allclose(np.abs(found @ vectors[:, ::-1][:, :4]), np.eye(4), atol=1e-8)
    np.testing.assert_allclose(few.largest.values, values[::-1][:2], rtol=1e-6)
    assert (np.abs(few.largest.values - values[::-1][:2]) <= few.largest.residuals + 1e-12).all()


def random_like(params: Any, seed: int) -> Any:
    leaves, structure = jax.tree.flatten(params)
    return structure.unflatten(list(tree(seed, *(leaf.shape for leaf in leaves)).values()))


@pytest.mark.usefixtures("x64")
def test_gauss_newton_is_the_hessian_where_the_residuals_are_zero_and_never_negative() -> None:
    cost, params = small_network(losses.squared_error)
    x = jnp.asarray(X)
    fitted = (x, cost.model.apply(params, x))
    assert_close(matrix_of(partial(ggn_vp, cost, params, fitted), params), dense_hessian(cost, params, fitted), 1e-12)
    cost, params = small_network()
    assert np.linalg.eigvalsh(dense_hessian(cost, params, BATCH))[0] < -1e-3
    ggn = matrix_of(partial(ggn_vp, cost, params, BATCH), params)
    assert np.linalg.eigvalsh(ggn)[0] > -1e-14
    np.testing.assert_allclose(ggn, ggn.T, atol=1e-15)


@pytest.mark.usefixtures("x64")
def test_fisher_information_is_a_mean_over_the_models_own_classes() -> None:
    """It does not change if the softmax moves into the model; Gauss-Newton, which is the same before, does."""
    cost, params = small_network()
    own = matrix_of(partial(fisher_vp, cost, params, BATCH), params)
    assert_close(own, matrix_of(partial(ggn_vp, cost, params, BATCH), params), 1e-12)
    moved = Cost(sequential(*cost.model.layers, softmax), losses.cross_entropy)  # type: ignore[attr-defined]
    with_softmax = (*params, {})
    assert_close(matrix_of(partial(fisher_vp, moved, with_softmax, BATCH), with_softmax), own, 1e-9)
    gauss_newton = matrix_of(partial(ggn_vp, moved, with_softmax, BATCH), with_softmax)
    assert np.abs(gauss_newton - own).max() > 0.01 * np.abs(own).max()

    weights = np.array([0.0, 2.0, 1.0] * 8)[:N]
    empirical = np.zeros_like(own)
    gradient = jax.jit(jax.grad(cost))
    for n in range(N):
        g = flat(gradient(params, (X[n : n + 1], LABELS[n : n + 1])))
        empirical += weights[n] / weights.sum() * np.outer(g, g)
    product = partial(fisher_vp, cost, params, (*BATCH, weights), empirical=True)
    assert_close(matrix_of(product, params), empirical, 1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("kind", "count", "batch_size"), [("plain", 20, 5), ("plain", N, N), ("weights", N, 5), ("ignored", N, 5)]
)
def test_batches_give_the_product_of_the_whole_data_set(kind: str, count: int, batch_size: int) -> None:
    """The last batch is full, the only one, or has 3 examples; weights and ignored labels are spread unevenly."""
    cost, params = small_network(penalty=penalties.l2(0.3))
    data: Any = (X[:count], LABELS[:count])
    if kind == "weights":
        data = (*BATCH, np.arange(N) / N)
    if kind == "ignored":
        cost = Cost(cost.model, cost.loss, cost.penalty, ignore_label=9)
        data = (X, np.where(np.arange(N) < 9, 9, LABELS))
    products = (hvp,) if kind == "plain" else (ggn_vp, partial(fisher_vp, empirical=True))

    def both(v: Any) -> Any:
        return [p(cost, params, data, v) for p in products], [
            over_batches(p, batch_size)(cost, params, data, v) for p in products
        ]

    whole, by_batches = jax.jit(both)(random_like(params, 5))
    assert_close(by_batches, whole, 1e-12)


@pytest.mark.usefixtures("x64")
def test_batches_of_any_function() -> None:
    """The mean of a user's function over the examples, and the gradient."""
    found = over_batches(lambda cost, params, batch: cost(params, batch), 4)(
        lambda params, batch: (params * batch[0]).mean(), jnp.asarray(2.0), (jnp.arange(6.0), jnp.zeros(6))
    )
    assert float(found) == pytest.approx(5.0)


SHAPES = ((5, 8), (20,))
SIZE = 60


def symmetric(eigen: np.ndarray) -> np.ndarray:
    q = np.linalg.qr(np.random.default_rng(SEED).standard_normal((len(eigen), len(eigen))))[0]
    return (q * eigen) @ q.T


@pytest.mark.usefixtures("x64")
def test_the_quadrature_is_exact_to_its_degree() -> None:
    """``Σ τ θʲ = vᵀ Aʲ v`` for ``j ≤ 2 m − 1``, and no further."""
    eigen = np.linspace(-1, 1.2, SIZE)
    a, m = symmetric(eigen), 6
    v = np.random.default_rng(1).choice([-1.0, 1.0], SIZE) / SIZE**0.5
    t = jax.jit(lambda v: tridiagonal(lambda w: jnp.asarray(a) @ w, v, m, key()))(jnp.asarray(v))
    nodes, vectors = np.linalg.eigh(np.asarray(t.matrix))
    expected = [v @ np.linalg.matrix_power(a, j) @ v for j in range(2 * m + 1)]
    found = [(vectors[0] ** 2 * nodes**j).sum() for j in range(2 * m + 1)]
    np.testing.assert_allclose(found[:-1], expected[:-1], rtol=1e-8, atol=1e-10)
    assert abs(found[-1] - expected[-1]) > 1e-6
    np.testing.assert_allclose(t.basis @ t.basis.T, np.eye(m), atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_repeated_eigenvalues_and_a_small_rank() -> None:
    """After the invariant subspace of the start vector, the method goes on outside of it."""
    eigen = np.array([5.0, 5.0, 3.0] + [0.0] * (SIZE - 4) + [-2.0])
    params = tree(0, *SHAPES)
    product = product_of(symmetric(eigen), params)
    top, bottom = jax.jit(lambda k: eigenvalues(product, params, key=k, k=3, steps=20))(key())
    np.testing.assert_allclose(top.values, [5, 5, 3], rtol=1e-12)
    np.testing.assert_allclose(bottom.values, [-2, 0, 0], atol=1e-12)
    everything = jax.jit(lambda k: eigenvalues(product, params, key=k, k=SIZE, steps=500))(key())
    np.testing.assert_allclose(everything.smallest.values, np.sort(eigen), atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_where_chooses_a_block() -> None:
    """The spectrum, trace and diagonal are those of the rows and columns of the parameters that are chosen."""
    params = ({"b": jnp.ones(3), "w": jnp.ones((9, 3))}, {}, {"b": jnp.ones(6), "w": jnp.ones((4, 6))})
    hessian = symmetric(np.linspace(-1, 3, SIZE))
    rows = np.arange(30, SIZE)
    block, product = hessian[np.ix_(rows, rows)], product_of(hessian, params)
    last: Any = {"where": lambda name: name.startswith("2.")}

    def everything(k: jax.Array) -> Any:
        keys = jax.random.split(k, 3)
        return (
            eigenvalues(product, params, key=keys[0], k=len(rows), steps=99, **last),
            trace(product, params, key=keys[1], rank=len(rows), samples=2, **last),
            diagonal(product, params, key=keys[2], samples=400, **last),
        )

    spectrum, total, entries = jax.jit(everything)(key())
    np.testing.assert_allclose(spectrum.smallest.values, np.linalg.eigvalsh(block), rtol=1e-9, atol=1e-12)
    assert not np.any(spectrum.largest.vectors[0]["w"])
    assert float(total.value) == pytest.approx(np.trace(block), rel=1e-10)
    assert not np.any(entries.value[0]["w"])
    error = (flat(entries.value)[rows] - np.diag(block)) / flat(entries.error)[rows]
    assert np.abs(error).max() < 4.5
    assert 0.7 < np.sqrt(np.square(error).mean()) < 1.4


@pytest.mark.usefixtures("x64")
def test_a_diagonal_matrix_is_found_with_two_vectors_and_a_small_rank_exactly() -> None:
    params, eigen = tree(0, *SHAPES), np.linspace(-3, 8, SIZE)
    of_diagonal = product_of(np.diag(eigen), params)
    found = jax.jit(lambda k: trace(of_diagonal, params, key=k, samples=2))(key())
    assert float(found.value) == pytest.approx(eigen.sum(), rel=1e-13)
    assert float(found.error) == pytest.approx(0, abs=1e-12)
    entries = jax.jit(lambda k: diagonal(of_diagonal, params, key=k, samples=2))(key())
    np.testing.assert_allclose(flat(entries.value), eigen, rtol=1e-13)
    np.testing.assert_allclose(flat(entries.error), 0, atol=1e-13)
    low = np.zeros(SIZE)
    low[:6] = [9, -4, 3, 2, 1, 0.5]
    found = jax.jit(lambda k: trace(product_of(symmetric(low), params), params, key=k, samples=2, rank=6))(key())
    assert float(found.value) == pytest.approx(low.sum(), rel=1e-10)
    assert float(found.error) < 1e-10


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("rank", [0, 5])
def test_standard_errors_cover_the_trace(rank: int) -> None:
    """1,000 traces by 60 samples each: 1.96 errors cover the truth in 95 ± 3 %, and the mean is the truth."""
    params, eigen = tree(0, *SHAPES), np.exp(-np.arange(SIZE) / 8.0)
    product = product_of(symmetric(eigen), params)
    many = jax.jit(jax.vmap(lambda k: trace(product, params, key=k, samples=60, rank=rank)))
    found = many(jax.random.split(key(), 1000))
    error = np.asarray(found.value - eigen.sum())
    assert 0.92 < (np.abs(error) < 1.96 * np.asarray(found.error)).mean() < 0.98
    assert abs(error.mean()) < 4 * error.std() / 1000**0.5
    if rank == 0:
        a = symmetric(eigen)
        variance = 2 * ((a**2).sum() - (np.diag(a) ** 2).sum()) / 60
        assert error.var() == pytest.approx(variance, rel=0.15)


@pytest.mark.usefixtures("x64")
def test_the_density_has_the_moments_and_the_area_of_the_spectrum() -> None:
    params, eigen = tree(0, *SHAPES), np.concatenate([np.linspace(-0.5, 0.5, SIZE - 3), [4.0, 5.0, 7.0]])
    product = product_of(symmetric(eigen), params)
    density = jax.jit(lambda k: spectral_density(product, params, key=k, steps=12, samples=100))(key())
    np.testing.assert_allclose(density.weights.sum(1), 1, rtol=1e-12)
    for j in range(1, 4):
        each = np.asarray((density.weights * density.nodes**j).sum(1))
        assert abs(each.mean() - (eigen**j).mean()) < 4 * each.std() / 100**0.5
    at = np.linspace(-2, 9, 2000)
    smooth = np.asarray(density.smoothed(jnp.asarray(at), 0.1))
    assert np.trapezoid(smooth, at) == pytest.approx(1, abs=1e-6)
    assert np.trapezoid(smooth[at > 3], at[at > 3]) == pytest.approx(3 / SIZE, rel=0.1)


def gaussian_cost(params: Any, batch: Any) -> jax.Array:
    """A cost whose gradient at 0 is the mean of the examples."""
    return (batch[0] @ params["p"]).mean()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("batch_size", "chunk"), [(1, 64), (1, 7), (4, 16)])
def test_noise_scale_of_a_gaussian_model(batch_size: int, chunk: int) -> None:
    """With ``g_n = G + ε_n``, ``tr Σ = 14`` and ``|G|² = 0.7`` the noise scale is 20, to 5 % by 20,000 examples."""
    deviations, signal = np.sqrt([2.0, 4.0, 8.0]), np.array([0.3, -0.5, 0.6])
    g = signal + np.random.default_rng(2).standard_normal((20_003, 3)) * deviations
    data, params = (jnp.asarray(g), jnp.zeros(len(g))), {"p": jnp.zeros(3)}
    arguments: Any = (gaussian_cost, params, data)
    of = {"batch_size": batch_size, "chunk": chunk}
    found, statistics = jax.jit(
        lambda: (gradient_noise_scale(*arguments, **of), gradient_statistics(*arguments, **of))
    )()
    assert float(found.batch_size) == pytest.approx(14 / 0.7, rel=0.05)

    count = len(g) // batch_size
    means = g[: count * batch_size].reshape(count, batch_size, 3).mean(1)
    np.testing.assert_allclose(statistics.mean["p"], means.mean(0), rtol=1e-10)
    np.testing.assert_allclose(statistics.variance["p"], means.var(0, ddof=1), rtol=1e-10)
    np.testing.assert_allclose(statistics.signal_to_noise()["p"], means.mean(0) ** 2 / means.var(0, ddof=1), rtol=1e-9)
    small, large = (means**2).sum(1).mean(), (means.mean(0) ** 2).sum()
    by_norms = noise_scale(jnp.asarray(small), jnp.asarray(large), batch_size, batch_size * count)
    np.testing.assert_allclose(found, by_norms, rtol=1e-9)


@pytest.mark.usefixtures("x64")
def test_gradient_statistics_of_a_network() -> None:
    cost, params = small_network(penalty=penalties.l2(0.1))
    found = jax.jit(lambda p: gradient_statistics(cost, p, BATCH, chunk=5, where=lambda n: n.startswith("2.")))(params)
    gradient = jax.jit(jax.grad(cost))
    each = [gradient(params, (X[n : n + 1], LABELS[n : n + 1]))[2]["w"] for n in range(N)]
    np.testing.assert_allclose(found.mean[2]["w"], np.mean(each, 0), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(found.variance[2]["w"], np.var(each, 0, ddof=1), rtol=1e-10)
    assert not np.any(found.variance[0]["w"])


def logistic_regression(dtype: Any) -> tuple[Cost, Any, Any, list[float]]:
    """Return the cost, two sets of parameters, the batch, and the largest eigenvalues of both Hessians."""
    params = {"b": np.array([[0.5], [-1.0]]), "w": np.random.default_rng(4).standard_normal((2, D, 1))}
    stacked = jax.tree.map(lambda p: jnp.asarray(p, dtype), params)
    batch = jnp.asarray(X, dtype), jnp.asarray(REAL > 0, dtype)
    tops = [np.linalg.eigvalsh(logistic(X @ w + b))[-1] for b, w in zip(*params.values(), strict=True)]
    return Cost(Dense(1), losses.sigmoid_cross_entropy), stacked, batch, tops


def test_one_program_under_jit_and_vmap_in_float32() -> None:
    """Everything at once for two models: one trace, and float32 all through."""
    cost, stacked, batch, tops = logistic_regression("float32")

    def measure(params: Any, k: jax.Array) -> Any:
        product = jax.jit(partial(hvp, cost, params, batch))
        keys = jax.random.split(k, 4)
        return (
            eigenvalues(product, params, key=keys[0], steps=5).largest.values,
            trace(product, params, key=keys[1], samples=4, rank=2),
            diagonal(product, params, key=keys[2], samples=4),
            spectral_density(product, params, key=keys[3], steps=3, samples=2),
            gradient_noise_scale(cost, params, batch),
        )

    counting = CountingTraces(measure)
    program = jax.jit(jax.vmap(counting))
    for seed in range(2):
        found = program(stacked, jax.random.split(jax.random.key(seed)))
    assert counting.count == 1
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype("float32")}
    np.testing.assert_allclose(found[0][:, 0], tops, rtol=1e-4)


def test_low_precision_parameters() -> None:
    cost, stacked, batch, tops = logistic_regression("bfloat16")
    params = jax.tree.map(lambda p: p[0], stacked)
    found = jax.jit(lambda k: eigenvalues(partial(hvp, cost, params, batch), params, key=k))(key()).largest
    assert (found.values.dtype, found.vectors["w"].dtype) == (jnp.float32, jnp.bfloat16)
    assert float(found.values[0]) == pytest.approx(tops[0], rel=0.05)


W, SAME = {"w": jnp.ones(3)}, lambda v: v
COST, PARAMS = Cost(Dense(2), losses.squared_error), {"b": jnp.zeros(2), "w": jnp.zeros((2, 2))}
REALS = (jnp.ones((4, 2)), jnp.ones((4, 2)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: eigenvalues(SAME, W, key=key(), k=4), "k is 4 but there are 28 steps and 3 chosen parameters"),
        (lambda: eigenvalues(SAME, W, key=key(), k=0), "curvature.eigenvalues: k is 0; expected an integer"),
        (lambda: eigenvalues(SAME, W, key=key(), steps=0), "steps is 0; expected an integer of at least 1"),
        (lambda: eigenvalues(SAME, {}, key=key()), "curvature.eigenvalues: params has no leaves"),
        (
            lambda: trace(SAME, W, key=key(), where=lambda name: False),
            r"curvature.trace: where= chooses none .*\['w'\]",
        ),
        (lambda: trace(SAME, W, key=key(), samples=1), "samples is 1; expected at least 2, for the standard error"),
        (lambda: trace(SAME, W, key=key(), rank=4), "rank is 4; expected an integer from 0 to .* parameters, 3"),
        (lambda: spectral_density(SAME, W, key=key(), samples=0), "curvature.spectral_density: samples is 0"),
        (lambda: over_batches(hvp, 0), "curvature.over_batches: batch_size is 0"),
        (lambda: over_batches(hvp)(COST, PARAMS, (REALS[0], REALS[1][:3]), PARAMS), r"data have \[4, 3\] examples"),
        (lambda: fisher_vp(COST, PARAMS, REALS, PARAMS), "target has dtype float32; expected integer labels"),
        (lambda: gradient_statistics(COST, PARAMS, REALS, batch_size=3), "at least two batches of 3"),
        (lambda: gradient_statistics(COST, PARAMS, (*REALS, jnp.ones(4))), "data has 3 arrays"),
        (lambda: noise_scale(jnp.ones(()), jnp.ones(()), 8, 8), "small_size is 8 and large_size 8"),
    ],
)
def test_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
