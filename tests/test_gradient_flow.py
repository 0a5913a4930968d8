"""Eigenvalues, singular values and gradients through time are compared with NumPy, loops and complex steps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import GRUCell, LSTMCell, Recurrent, RNNCell, identity, inspect
from fnnet.layers.cells import Cell
from tests.cases import random_params
from tests.compare import assert_close
from tests.reference import recurrent as reference

RANDOM = np.random.default_rng(0).standard_normal((2, 12, 12))
MATRICES = {
    "random": RANDOM,
    "turning": np.array([[0.6, -0.8], [0.8, 0.6]]),
    "opposite eigenvalues": np.diag([2.0, -2.0, 1.0]),
    "defective": np.array([[0.9, 1.0], [0.0, 0.9]]),
    "far from normal": np.triu(np.full((8, 8), 3.0), 1) + np.diag(np.linspace(0.1, 0.9, 8)),
    "nilpotent": np.triu(np.ones((4, 4)), 1),
    "zero": np.zeros((3, 3)),
    "one number": np.array([[-0.3]]),
    "tiny": 1e-200 * RANDOM[0],
}


@pytest.mark.parametrize("matrix", MATRICES.values(), ids=list(MATRICES))
@pytest.mark.usefixtures("x64")
def test_spectral_radius(matrix: np.ndarray) -> None:
    expected = np.abs(np.linalg.eigvals(matrix)).max(-1)
    np.testing.assert_allclose(inspect.spectral_radius(jnp.asarray(matrix)), expected, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_the_derivative_of_the_spectral_radius() -> None:
    """It is ``dλ/dA = u vᵀ / (uᵀ v)`` with the left and right eigenvectors of a simple real eigenvalue."""
    matrix = np.abs(RANDOM[0])  # its largest eigenvalue is real and simple (Perron 1907)
    left, right = (np.linalg.eig(m) for m in (matrix.T, matrix))
    u, v = (vectors[:, np.abs(values).argmax()].real for values, vectors in (left, right))
    np.testing.assert_allclose(
        jax.grad(inspect.spectral_radius)(jnp.asarray(matrix)), np.outer(u, v) / (u @ v), rtol=1e-10
    )


@pytest.mark.usefixtures("x64")
def test_singular_values() -> None:
    wide = RANDOM[:, :5]
    expected = np.sqrt(np.linalg.eigvalsh(wide @ wide.swapaxes(1, 2))[:, ::-1])
    np.testing.assert_allclose(inspect.singular_values(jnp.asarray(wide)), expected, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_scaled_to_radius() -> None:
    scaled = inspect.scaled_to_radius(jnp.asarray(RANDOM), 1.5)
    np.testing.assert_allclose(np.abs(np.linalg.eigvals(scaled)).max(-1), [1.5, 1.5], rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dtypes_are_kept(dtype: str) -> None:
    matrix = jnp.asarray(RANDOM[0], dtype)
    for found in (
        inspect.spectral_radius(matrix),
        inspect.singular_values(matrix),
        inspect.scaled_to_radius(matrix, 2.0),
    ):
        assert found.dtype == dtype
    np.testing.assert_allclose(
        float(inspect.spectral_radius(matrix)), np.abs(np.linalg.eigvals(np.asarray(matrix, float))).max(), rtol=1e-2
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: inspect.spectral_radius(jnp.ones((2, 3))), r"spectral_radius: matrix has shape \(2, 3\)"),
        (lambda: inspect.singular_values(jnp.ones(3)), r"singular_values: matrix has shape \(3,\)"),
        (lambda: inspect.scaled_to_radius(jnp.eye(2), -1.0), "radius is -1.0"),
    ],
)
def test_other_shapes_are_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def complex_step_jacobian(cell: Cell, params: Any, carry: Any, xs: np.ndarray) -> np.ndarray:
    """Return ``∂c_T/∂c_0`` of one example after the steps ``xs``, column by column."""
    leaves = [np.asarray(c) for c in jax.tree.leaves(carry)]
    start = np.concatenate(leaves)
    columns = []
    for j in range(len(start)):
        moved = start.astype(complex)
        moved[j] += 1e-30j
        state: Any = tuple(np.split(moved, 2)) if len(leaves) == 2 else moved
        for x in xs:
            state, _ = reference.STEPS[type(cell).__name__](params, state, x)
        columns.append(np.imag(np.concatenate(state) if isinstance(state, tuple) else state) / 1e-30)
    return np.stack(columns, -1)


@pytest.mark.parametrize("cell", [RNNCell(3), GRUCell(3), LSTMCell(3)], ids=str)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.usefixtures("x64")
def test_flow_equals_complex_steps(cell: Cell, reverse: bool) -> None:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((2, 4, 2))
    mask = np.array([[1, 1, 1, 1], [1, 0, 1, 1]], bool)
    layer = Recurrent(cell, reverse=reverse)
    params = random_params(layer, jnp.asarray(x))
    carry = jax.tree.map(lambda c: jnp.asarray(generator.standard_normal(c.shape)), cell.initial_carry(2, jnp.float64))
    arguments = params, x, carry, jnp.asarray(mask)
    jacobians = np.asarray(inspect.carry_jacobians(layer, *arguments))
    norms, bounds = inspect.gradient_flow(layer, *arguments)
    numbers = jax.tree.map(np.asarray, params)
    for n in range(2):
        product = np.eye(jacobians.shape[-1])
        for jacobian in jacobians[:, n]:
            product = jacobian @ product
        steps = [t for t in (reversed(range(4)) if reverse else range(4)) if mask[n, t]]
        expected = complex_step_jacobian(cell, numbers, jax.tree.map(lambda c, n=n: c[n], carry), x[n, steps])
        assert_close(product, expected)
        each = [np.linalg.norm(jacobian, 2) for jacobian in jacobians[:, n]]
        np.testing.assert_allclose(norms[0, n], np.linalg.norm(expected, 2), rtol=1e-12)
        np.testing.assert_allclose(norms[-2:, n], [each[-1], 1], rtol=1e-12)
        np.testing.assert_allclose(bounds[:, n], [np.prod(each[t:]) for t in range(5)], rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_a_linear_recurrence_has_powers_of_its_matrix() -> None:
    layer = Recurrent(RNNCell(12, identity))
    params = {"w_x": jnp.ones((1, 12)), "w_h": jnp.asarray(RANDOM[0]), "b": jnp.zeros(12)}
    norms, bounds = inspect.gradient_flow(layer, params, jnp.ones((1, 6, 1)))
    powers = [np.linalg.matrix_power(RANDOM[0], 6 - t) for t in range(7)]
    np.testing.assert_allclose(norms[:, 0], [np.linalg.norm(power, 2) for power in powers], rtol=1e-12)
    np.testing.assert_allclose(bounds[:, 0], np.linalg.norm(RANDOM[0], 2) ** np.arange(6, -1, -1.0), rtol=1e-12)
