"""The cost over a plane: known planes, principal components, projections and filter normalization."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Cost, Dense, losses, sequential, tanh
from fnnet.inspect import cost_plane, filter_normalized, path_directions, plane_point, project_on
from tests.cases import SEED, network_params
from tests.compare import CountingTraces, assert_close, assert_identical

SHAPES = {"w": (3, 4), "b": (4,), "v": (2, 2, 3)}
SIZE = 12 + 4 + 12


def random_tree(seed: int, *first: int, dtype: str = "float64") -> Any:
    generator = np.random.default_rng(SEED + seed)
    return {name: jnp.asarray(generator.standard_normal((*first, *shape)), dtype) for name, shape in SHAPES.items()}


def flat(tree: Any) -> np.ndarray:
    """Return a row of all numbers of a tree for each entry of the first axis of its leaves."""
    return np.concatenate([np.asarray(leaf, np.float64).reshape(len(leaf), -1) for leaf in jax.tree.leaves(tree)], 1)


def one(tree: Any) -> np.ndarray:
    return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)])


def random_directions(key: jax.Array, params: Any, count: int) -> Any:
    return jax.jit(jax.vmap(filter_normalized, (0, None)))(jax.random.split(key, count), params)


def seen_from_the_end(path: Any) -> tuple[jax.Array, Any]:
    """Return the coordinates of a path in its own plane through its last point, and the points of the plane there."""
    directions = path_directions(path).directions
    last = jax.tree.map(lambda leaf: leaf[-1], path)
    coordinates = jax.vmap(project_on, (0, None, None))(path, last, directions)
    return coordinates, jax.vmap(plane_point, (None, None, 0))(last, directions, coordinates)


def quadratic() -> tuple[Callable[[Any], jax.Array], np.ndarray, np.ndarray]:
    """Return ``½ zᵀ A z + bᵀ z``, where ``z`` holds all numbers of a tree, and ``A`` and ``b``."""
    generator = np.random.default_rng(SEED)
    factor, b = generator.standard_normal((SIZE, SIZE)), generator.standard_normal(SIZE)
    a = factor @ factor.T

    def objective(params: Any) -> jax.Array:
        z = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(params)])
        return 0.5 * z @ jnp.asarray(a) @ z + jnp.asarray(b) @ z

    return objective, a, b


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("batch_size", [1, 4, 35, 100])
def test_plane_of_a_quadratic_is_known(batch_size: int) -> None:
    """``f(θ + c₁d₁ + c₂d₂)`` is a quadratic in c with ``DADᵀ`` and ``D(Aθ + b)``; rows are y, columns are x."""
    objective, a, b = quadratic()
    origin, directions = random_tree(1), random_tree(2, 2)
    x, y = np.linspace(-1, 2, 7), np.linspace(-3, 1, 5)
    plane = cost_plane(objective, origin, directions, jnp.asarray(x), jnp.asarray(y), batch_size=batch_size)

    theta, d = one(origin), flat(directions)
    hessian, slope = d @ a @ d.T, d @ (a @ theta + b)
    expected = np.empty((5, 7))
    for j in range(5):
        for i in range(7):
            c = np.array([x[i], y[j]])
            expected[j, i] = 0.5 * theta @ a @ theta + b @ theta + slope @ c + 0.5 * c @ hessian @ c
    np.testing.assert_allclose(plane, expected, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_centre_of_the_plane_is_the_cost_itself() -> None:
    x = jnp.asarray(np.random.default_rng(SEED).standard_normal((6, 3)))
    model = sequential(Dense(5), tanh, Dense(2))
    cost, y = Cost(model, losses.softmax_cross_entropy), jnp.array([0, 1, 0, 1, 1, 0])
    params = model.init(jax.random.key(SEED), x)
    directions, along = random_directions(jax.random.key(1), params, 2), jnp.linspace(-1, 1, 5)
    plane = jax.jit(lambda: cost_plane(lambda p: cost(p, (x, y)), params, directions, along, along))()
    np.testing.assert_allclose(plane[2, 2], cost(params, (x, y)), rtol=1e-14)
    assert len(np.unique(plane)) == 25


def test_plane_is_one_program_under_jit() -> None:
    objective = CountingTraces(lambda params: sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(params)))
    plane = jax.jit(lambda origin, directions, x: cost_plane(objective, origin, directions, x, x, batch_size=4))
    for seed in range(3):
        plane(random_tree(seed, dtype="float32"), random_tree(9, 2, dtype="float32"), jnp.linspace(-1, 1, 6))
    assert objective.count == 1


def test_point_at_zero_is_the_origin() -> None:
    origin = network_params("bfloat16")
    directions = random_directions(jax.random.key(0), origin, 3)
    assert_identical(jax.jit(plane_point)(origin, directions, jnp.zeros(3)), origin)


@pytest.mark.usefixtures("x64")
def test_projection_finds_the_coordinates_of_points_of_the_plane() -> None:
    """The directions are oblique and have very different lengths."""
    origin, directions = random_tree(1), random_tree(2, 3)
    directions = jax.tree.map(lambda d: d * jnp.array([1.0, 1e-6, 1e5]).reshape(3, *[1] * (d.ndim - 1)), directions)
    coordinates = jnp.array([0.3, -2e6, 1e-5])
    found = project_on(plane_point(origin, directions, coordinates), origin, directions)
    np.testing.assert_allclose(found, coordinates, rtol=1e-8)


@pytest.mark.usefixtures("x64")
def test_projection_is_the_nearest_point() -> None:
    params, origin, directions = random_tree(0), random_tree(1), random_tree(2, 2)
    expected = np.linalg.lstsq(flat(directions).T, one(params) - one(origin), rcond=None)[0]
    np.testing.assert_allclose(project_on(params, origin, directions), expected, rtol=1e-12)
    np.testing.assert_array_equal(project_on(origin, origin, directions), [0, 0])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("times", [4, 60])
def test_path_directions_are_the_principal_components(times: int) -> None:
    path = jax.tree.map(lambda steps: jnp.cumsum(steps, 0), random_tree(3, times))
    directions, explained = path_directions(path, 3)
    matrix = flat(path)
    _, s, v = np.linalg.svd(matrix - matrix.mean(0), full_matrices=False)
    np.testing.assert_allclose(explained, s[:3] ** 2 / (s**2).sum(), rtol=1e-12)
    np.testing.assert_allclose(np.abs(flat(directions) @ v[:3].T), np.eye(3), atol=1e-10)
    np.testing.assert_allclose(flat(directions) @ flat(directions).T, np.eye(3), atol=1e-13)
    assert {name: leaf.shape for name, leaf in directions.items()} == {n: (3, *s) for n, s in SHAPES.items()}


@pytest.mark.usefixtures("x64")
def test_a_path_ends_at_the_origin_and_starts_at_positive_coordinates() -> None:
    seen = jax.jit(seen_from_the_end)
    for seed in range(4):
        coordinates, _ = seen(jax.tree.map(lambda steps: jnp.cumsum(steps, 0), random_tree(seed, 20)))
        np.testing.assert_array_equal(coordinates[-1], [0, 0])
        assert (coordinates[0] > 0).all()


@pytest.mark.usefixtures("x64")
def test_a_path_in_a_plane_is_explained_completely_and_recovered() -> None:
    origin, directions = random_tree(1), random_tree(2, 2)
    coordinates = jnp.asarray(np.random.default_rng(SEED).standard_normal((9, 2)))
    path = jax.vmap(plane_point, (None, None, 0))(origin, directions, coordinates)
    np.testing.assert_allclose(jax.jit(path_directions)(path).explained.sum(), 1, rtol=1e-12)
    assert_close(jax.jit(seen_from_the_end)(path)[1], path, 1e-12)


def test_a_path_that_stands_still_explains_nothing() -> None:
    directions, explained = path_directions({"w": jnp.ones((5, 3))})
    np.testing.assert_array_equal(explained, [0, 0])
    np.testing.assert_allclose(directions["w"] @ directions["w"].T, np.eye(2), atol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_fractions_of_very_short_and_very_long_paths(scale: float) -> None:
    path = random_tree(3, 12, dtype="float32")
    found, expected = (jax.jit(path_directions)({n: p * s for n, p in path.items()}).explained for s in (scale, 1.0))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.usefixtures("x64")
def test_every_neuron_of_a_filter_normalized_direction_is_as_long_as_its_weights() -> None:
    params = random_tree(1)
    direction = filter_normalized(jax.random.key(0), params)
    for j in range(4):
        np.testing.assert_allclose(np.linalg.norm(direction["w"][:, j]), np.linalg.norm(params["w"][:, j]), rtol=1e-14)
    for j in range(3):
        np.testing.assert_allclose(
            np.linalg.norm(direction["v"][..., j].ravel()), np.linalg.norm(params["v"][..., j].ravel()), rtol=1e-14
        )
    np.testing.assert_array_equal(direction["b"], 0)
    assert not np.allclose(direction["w"], filter_normalized(jax.random.key(1), params)["w"])


@pytest.mark.usefixtures("x64")
def test_filter_normalized_follows_the_scale_of_a_neuron_and_not_its_direction() -> None:
    """A ReLU network that is scaled up in one layer and down in the next has the same picture."""
    params = random_tree(1)
    scaled = params | {"w": params["w"] * jnp.array([1.0, 10.0, 0.1, 0.0])}
    before, after = (filter_normalized(jax.random.key(0), tree)["w"] for tree in (params, scaled))
    np.testing.assert_allclose(after, before * np.array([1.0, 10.0, 0.1, 0.0]), rtol=1e-13)


@pytest.mark.usefixtures("x64")
def test_filter_normalized_directions_are_isotropic() -> None:
    """The mean of ``d dᵀ`` of a neuron with 3 weights is ``‖w‖² / 3 · I``, within 4 standard errors."""
    w = {"w": jnp.array([[3.0], [0.0], [4.0]])}
    d = jax.vmap(filter_normalized, (0, None))(jax.random.split(jax.random.key(0), 20_000), w)["w"][..., 0]
    np.testing.assert_allclose(d.T @ d / 20_000, np.eye(3) * 25 / 3, atol=4 * 25 / 20_000**0.5 * 0.3)


def test_filter_normalized_keeps_dtypes_and_takes_vectors_and_scalars() -> None:
    params = {"w": jnp.array([3.0, 4.0]), "gain": jnp.array(-2.0), "low": jnp.ones((2, 2), "bfloat16")}
    direction = filter_normalized(jax.random.key(0), params, bool)
    assert jax.tree.map(lambda p: (p.shape, p.dtype), direction) == jax.tree.map(lambda p: (p.shape, p.dtype), params)
    np.testing.assert_allclose(np.linalg.norm(direction["w"]), 5, rtol=1e-6)
    np.testing.assert_allclose(np.abs(direction["gain"]), 2, rtol=1e-6)
    some = filter_normalized(jax.random.key(0), params, where=lambda name: name == "w")
    assert float(some["gain"]) == 0


def test_mixed_dtypes() -> None:
    path = random_tree(3, 12, dtype="float32")
    mixed = path | {"b": path["b"].astype("bfloat16")}
    directions, explained = jax.jit(path_directions)(mixed)
    assert directions["b"].dtype == jnp.bfloat16
    assert explained.dtype == jnp.float32
    coordinates, points = jax.jit(seen_from_the_end)(mixed)
    assert (coordinates.dtype, points["b"].dtype) == (jnp.float32, jnp.bfloat16)
    np.testing.assert_array_equal(coordinates[-1], 0)


W, TWO = {"w": jnp.ones(3)}, {"w": jnp.ones((2, 3))}
ALONG = jnp.linspace(-1, 1, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: path_directions({}), "path has no leaves"),
        (lambda: path_directions({"w": jnp.ones(())}), r"first axes \[\(\)\]; expected one length"),
        (lambda: path_directions({"w": jnp.ones((3, 2)), "b": jnp.ones((4, 2))}), r"first axes \[\(3,\), \(4,\)\]"),
        (
            lambda: path_directions({"w": jnp.ones((2, 5))}),
            "path has 2 points with 5 parameters; .* record the path more",
        ),
        (lambda: path_directions({"w": jnp.ones((5, 1))}), "path has 5 points with 1 parameters"),
        (lambda: path_directions(TWO, 0), "count is 0; expected an integer of at least 1"),
        (
            lambda: plane_point(W, {"v": jnp.ones((2, 3))}, jnp.ones(2)),
            r"inspect.plane_point: directions have the shapes",
        ),
        (lambda: plane_point(W, W, jnp.ones(3)), r"inspect.plane_point: directions have the shapes \{'w': \(3,\)\}"),
        (lambda: plane_point(W, TWO, jnp.ones(3)), "there are 2 directions; expected 3; stack"),
        (lambda: project_on({"w": jnp.ones(4)}, W, TWO), r"params have the shapes \{'w': \(4,\)\}"),
        (lambda: cost_plane(jnp.sum, W, TWO, ALONG, ALONG[None]), r"y has \(1, 3\); expected the coordinates"),
        (lambda: cost_plane(jnp.sum, W, TWO, ALONG, ALONG, batch_size=0), "batch_size is 0"),
        (lambda: cost_plane(lambda p: p["w"], W, TWO, ALONG, ALONG), r"objective gave shape \(3,\); expected a scalar"),
    ],
)
def test_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
