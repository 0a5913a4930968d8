"""The convolution as products of matrices: patches, Toeplitz matrices, singular values."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet.convolution import (
    circular_singular_values,
    col2im,
    convolve,
    im2col,
    input_gradient,
    kernel_gradient,
    singular_values,
    toeplitz,
)
from tests.compare import assert_close
from tests.convolution.configurations import Configuration, lax_convolution, random_configurations

pytestmark = pytest.mark.usefixtures("x64")
SOME = list(random_configurations(24, seed=1))


def matrix_products(configuration: Configuration, x: jax.Array, w: jax.Array, dy: jax.Array) -> list[tuple[Any, Any]]:
    """Return pairs of equal arrays: by the Toeplitz matrix, or by ``im2col`` for each group, and as they should be."""
    geometry, sizes = configuration.geometry, configuration.sizes
    y, dw, dx = lax_convolution(x, w, geometry), kernel_gradient(x, dy, geometry), input_gradient(dy, w, geometry)
    matrix = toeplitz(w, x.shape[1:], **sizes)
    pairs = [
        ((matrix @ x.reshape(len(x), -1).T).T.reshape(y.shape), y),
        ((matrix.T @ dy.reshape(len(dy), -1).T).T.reshape(dx.shape), dx),
    ]
    groups = sizes.pop("groups")
    each, filters = x.shape[-1] // groups, w.shape[-1] // groups
    for g in range(groups):
        c, o = slice(g * each, (g + 1) * each), slice(g * filters, (g + 1) * filters)
        cols = im2col(x[..., c], geometry.kernel, **sizes)
        kernel = w[..., o].reshape(-1, filters)
        own = jnp.einsum("...k,...o->ko", cols, dy[..., o]).reshape(*geometry.kernel, each, filters)
        back = col2im(dy[..., o] @ kernel.T, geometry.image, geometry.kernel, **sizes)
        pairs += [(cols @ kernel, y[..., o]), (own, dw[..., o]), (back, dx[..., c])]
    return pairs


@pytest.mark.parametrize("part", range(4))
def test_products_of_matrices_are_the_convolution_and_its_backward_pass(part: int) -> None:
    """Several configurations run in one program, because compiling takes nearly all the time."""
    some = SOME[part::4]

    @jax.jit
    def run(operands: Any) -> Any:
        return [matrix_products(c, *o) for c, o in zip(some, operands, strict=True)]

    for pairs in run([c.operands() for c in some]):
        for actual, expected in pairs:
            assert_close(actual, expected)


def test_im2col_known_answer() -> None:
    x = jnp.arange(5.0).reshape(1, 5, 1)
    np.testing.assert_array_equal(im2col(x, 3)[0], [[0, 1, 2], [1, 2, 3], [2, 3, 4]])
    np.testing.assert_array_equal(im2col(x, 2, stride=2, padding="SAME")[0], [[0, 1], [2, 3], [4, 0]])
    np.testing.assert_array_equal(im2col(x, 2, dilation=3)[0], [[0, 3], [1, 4]])


def test_col2im_adds_where_patches_overlap() -> None:
    np.testing.assert_array_equal(col2im(jnp.ones((1, 3, 3)), (5,), 3)[0, :, 0], [1, 2, 3, 2, 1])


def test_toeplitz_known_answer() -> None:
    """A Toeplitz matrix is constant along its diagonals."""
    matrix = toeplitz(jnp.array([1.0, 2, 3]).reshape(3, 1, 1), (5, 1))
    np.testing.assert_array_equal(matrix, [[1, 2, 3, 0, 0], [0, 1, 2, 3, 0], [0, 0, 1, 2, 3]])


def test_toeplitz_is_differentiable_and_compiles() -> None:
    w, x = jnp.ones((2, 2, 1, 2)), jnp.arange(9.0)
    gradient = jax.jit(jax.grad(lambda w: (toeplitz(w, (3, 3, 1)) @ x).sum()))(w)
    expected = jax.grad(lambda w: convolve(x.reshape(1, 3, 3, 1), w).sum())(w)
    assert_close(gradient, expected)


def test_singular_values_bound_the_convolution() -> None:
    x, w, _ = SOME[1].operands()
    values = singular_values(w, x.shape[1:], **SOME[1].sizes)
    y = convolve(x, w, **SOME[1].sizes)
    assert jnp.linalg.norm(y[0]) <= values[0] * jnp.linalg.norm(x[0]) * (1 + 1e-12)
    assert_close(jnp.sum(values**2), jnp.sum(toeplitz(w, x.shape[1:], **SOME[1].sizes) ** 2))


@pytest.mark.parametrize(("image", "kernel", "filters"), [((5,), (3,), 2), ((4, 5), (3, 2), 3), ((3, 3), (3, 3), 1)])
def test_circular_singular_values(image: tuple[int, ...], kernel: tuple[int, ...], filters: int) -> None:
    """They equal those of the matrix whose columns are the responses to every image with a single 1."""
    generator = np.random.default_rng(0)
    w = generator.standard_normal((*kernel, 2, filters))
    columns = []
    for index in np.ndindex(*image, 2):
        x = np.zeros((*image, 2))
        x[index] = 1
        y = np.zeros((*image, filters))
        for a in np.ndindex(*kernel):
            y += np.roll(x, [-n for n in a], axis=tuple(range(len(image)))) @ w[a]
        columns.append(y.ravel())
    expected = np.linalg.svd(np.stack(columns, 1), compute_uv=False)
    actual = circular_singular_values(jnp.asarray(w), (*image, 2))
    assert_close(actual, expected[: len(actual)])


def test_the_mean_over_neighbours_has_norm_1() -> None:
    """It keeps a constant image and shortens every other."""
    assert float(circular_singular_values(jnp.full((3, 3, 1, 1), 1 / 9), (6, 6, 1))[0]) == pytest.approx(1)


X = jnp.ones((2, 5, 5, 4))
REFUSED = [
    (lambda: im2col(jnp.ones((5, 5)), 2), ValueError, r"im2col: x has shape \(5, 5\); expected \(N, \*image, C\)"),
    (lambda: im2col(X, 6), ValueError, r"the kernel \(6, 6\) is larger than the padded image \(5, 5\)"),
    (lambda: im2col(X, (2, 2, 2)), ValueError, "kernel_size is .* with 3 entries, but there are 2 spatial axes"),
    (lambda: col2im(jnp.ones((1, 3, 3)), (6,), 3), ValueError, r"col2im: cols has shape \(1, 3, 3\); expected \(N, 4"),
    (lambda: toeplitz(jnp.ones((2, 2, 3, 1)), (5, 5, 4)), ValueError, "expected 3 channels on the last axis"),
    (lambda: toeplitz(jnp.ones((2, 2, 3, 1)), (5, 5)), ValueError, "the same number of spatial axes"),
    (lambda: toeplitz(jnp.ones((2, 1, 1)), (0, 1)), ValueError, "image_shape is 0"),
    (lambda: circular_singular_values(jnp.ones((4, 1, 1)), (3, 1)), ValueError, "larger than the padded image"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED, ids=[message[:40] for *_, message in REFUSED])
def test_refused(call: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
