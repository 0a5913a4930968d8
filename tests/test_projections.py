"""Projections are compared with slow references; descents with them stay in the set and reach its minimum."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Optimizer, apply_updates, bind, chain
from fnnet.optimizers import adam, project, sgd
from fnnet.projections import box, max_norm, non_negative, simplex, unit_norm
from tests.cases import SEED, network_params
from tests.compare import assert_close
from tests.public import public_projections

Vector = np.ndarray


def length(v: Vector) -> float:
    return math.sqrt(sum(float(x) ** 2 for x in v))


def on_ball(v: Vector, limit: float) -> Vector:
    return v if length(v) <= limit else np.array([x * limit / length(v) for x in v])


def on_simplex(v: Vector, total: float) -> Vector:
    """Return ``max(v − τ, 0)`` with τ from bisection, because the sum falls as τ grows."""
    low, high = min(v) - total, max(v)
    for _ in range(200):
        middle = (low + high) / 2
        if sum(max(x - middle, 0) for x in v) > total:
            low = middle
        else:
            high = middle
    return np.array([max(x - (low + high) / 2, 0) for x in v])


@dataclass(frozen=True)
class ProjectionCase:
    """A projection along an axis, its reference for one vector, and a function that tells if a vector is in its set."""

    name: str
    projection: Callable[..., jax.Array]
    reference: Callable[[Vector], Vector]
    inside: Callable[[Vector], bool]
    axis: int = -1

    def __str__(self) -> str:
        return self.name


def near(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-12 * b


def on_small_simplex(v: Vector) -> bool:
    return near(sum(v), 0.3) and min(v) >= 0


CASES = [
    ProjectionCase("non_negative", non_negative, lambda v: np.array([max(x, 0.0) for x in v]), lambda v: min(v) >= 0),
    ProjectionCase(
        "box",
        bind(box, low=-0.5, high=0.2),
        lambda v: np.array([min(max(x, -0.5), 0.2) for x in v]),
        lambda v: min(v) >= -0.5 and max(v) <= 0.2,
    ),
    ProjectionCase(
        "max_norm", bind(max_norm, limit=1.3), lambda v: on_ball(v, 1.3), lambda v: length(v) < 1.3 * (1 + 1e-15), 0
    ),
    ProjectionCase(
        "max_norm of axis 1",
        bind(max_norm, limit=1.0, axis=1),
        lambda v: on_ball(v, 1.0),
        lambda v: length(v) < 1 + 1e-15,
        1,
    ),
    ProjectionCase("unit_norm", unit_norm, lambda v: v / length(v), lambda v: near(length(v), 1), 0),
    ProjectionCase(
        "unit_norm of axis -1", bind(unit_norm, axis=-1), lambda v: v / length(v), lambda v: near(length(v), 1)
    ),
    ProjectionCase("simplex", simplex, lambda v: on_simplex(v, 1.0), lambda v: near(sum(v), 1) and min(v) >= 0),
    ProjectionCase(
        "simplex of axis 0", bind(simplex, total=0.3, axis=0), lambda v: on_simplex(v, 0.3), on_small_simplex, 0
    ),
]
every_projection = pytest.mark.parametrize("case", CASES, ids=str)


def points(dtype: str = "float64") -> jax.Array:
    return jnp.asarray(np.random.default_rng(SEED).standard_normal((4, 5)), dtype)


@every_projection
@pytest.mark.usefixtures("x64")
def test_equals_the_reference_and_is_in_the_set(case: ProjectionCase) -> None:
    result = case.projection(points())
    np.testing.assert_allclose(
        result, np.apply_along_axis(case.reference, case.axis, np.asarray(points())), rtol=0, atol=1e-14
    )
    assert np.apply_along_axis(case.inside, case.axis, np.asarray(result)).all()
    assert not np.apply_along_axis(case.inside, case.axis, np.asarray(points())).all()


@every_projection
@pytest.mark.usefixtures("x64")
def test_points_of_the_set_stay(case: ProjectionCase) -> None:
    once = case.projection(points())
    np.testing.assert_allclose(case.projection(once), once, rtol=0, atol=1e-15)
    shrunk = max_norm(points() * 1e-3, limit=1.0)
    np.testing.assert_array_equal(shrunk, points() * 1e-3)  # bit for bit


@every_projection
@pytest.mark.usefixtures("x64")
def test_no_point_of_the_set_is_nearer(case: ProjectionCase) -> None:
    """All other points of the set, which are projections of random points, are at least as far away."""
    generator = np.random.default_rng(SEED + 1)
    others = jnp.asarray(generator.standard_normal((50, 4, 5)) * generator.uniform(0.1, 2, (50, 1, 1)))
    inside, nearest = np.asarray(jax.vmap(case.projection)(others)), np.asarray(case.projection(points()))
    distances = np.square(inside - np.asarray(points())).sum((1, 2))
    assert distances.min() >= np.square(nearest - np.asarray(points())).sum()


@every_projection
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dtype_is_kept(case: ProjectionCase, dtype: str) -> None:
    result = jax.eval_shape(case.projection, points(dtype))
    assert (result.dtype, result.shape) == (jnp.dtype(dtype), (4, 5))


KNOWN = [
    (max_norm, {"limit": 5.0}, [3.0, 4.0], [3, 4]),
    (max_norm, {"limit": 1.0}, [3.0, 4.0], [0.6, 0.8]),
    (max_norm, {"limit": 1.0}, [0.0, 0.0], [0, 0]),
    (max_norm, {"limit": 1.0}, [3e30, 4e30], [0.6, 0.8]),
    (unit_norm, {}, [3e-30, 4e-30], [0.6, 0.8]),
    (unit_norm, {}, [0.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.5, 0.5]),
    (simplex, {}, [0.5, 0.5], [0.5, 0.5]),
    (simplex, {}, [2.0, 0.0], [1, 0]),
    (simplex, {}, [0.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]),
    (simplex, {}, [1.0, 0.5, -1.0], [0.75, 0.25, 0]),
    (simplex, {"total": 2.0}, [1.0, 0.5, -1.0], [1.25, 0.75, 0]),
    (simplex, {}, [1e8, 1e8], [0.5, 0.5]),
    (simplex, {}, [7.0], [1]),
    (box, {"low": 1.0, "high": 1.0}, [-3.0, 4.0], [1, 1]),
]


@pytest.mark.parametrize(("projection", "options", "x", "expected"), KNOWN)
def test_known_answers(
    projection: Callable[..., Any], options: dict[str, float], x: list[float], expected: list[float]
) -> None:
    np.testing.assert_allclose(projection(jnp.array(x), **options), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: box(x, low=1.0, high=0.0), "projections.box: low is 1.0 and high is 0.0; expected low ≤ high"),
        (lambda x: box(x, low=float("nan"), high=0.0), "low is nan"),
        (lambda x: max_norm(x, limit=0.0), "projections.max_norm: limit is 0.0; expected a number above 0"),
        (lambda x: max_norm(x, limit=float("nan")), "limit is nan"),
        (lambda x: simplex(x, total=0.0), "projections.simplex: total is 0.0; expected a number above 0"),
        (lambda x: simplex(x, total=-1.0), "total is -1.0"),
    ],
)
def test_refused(call: Callable[[jax.Array], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(jnp.ones(3))


def test_every_public_projection_has_a_case() -> None:
    assert {function.__name__ for function in public_projections()} == {case.name.split(" ")[0] for case in CASES}


# Descent on ½ Σ_i a_i (w_i − c_i)², whose minimum over these sets is known.
CURVATURE, CENTRE = jnp.array([1.0, 2.0, 4.0]), jnp.array([2.0, -1.0, 0.1])


def descend(optimizer: Optimizer, w: jax.Array, curvature: jax.Array, steps: int = 200) -> jax.Array:
    """Return the weights, and a bias with the same gradient, after every step."""

    def step(carry: Any, _: Any) -> Any:
        params, state = carry
        grads = jax.tree.map(lambda p: curvature * (p - CENTRE.astype(p.dtype)), params)
        updates, state = optimizer.update(grads, state, params)
        params = apply_updates(params, updates)
        return (params, state), params

    params = {"w": w, "b": w}
    return jax.lax.scan(step, (params, optimizer.init(params)), length=steps)[1]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("algorithm", [sgd(0.2), adam(0.05)], ids=["sgd", "adam"])
def test_descent_in_a_box(algorithm: Optimizer) -> None:
    """The weights stay in the box and reach its point nearest to the centre; the bias reaches the centre."""
    optimizer = chain(algorithm, project(bind(box, low=-0.5, high=0.75), "w".__eq__))
    path = descend(optimizer, jnp.zeros(3), CURVATURE.astype("float64"), 1000)
    assert float(path["w"].min()) >= -0.5
    assert float(path["w"].max()) <= 0.75
    np.testing.assert_allclose(path["w"][-1], [0.75, -0.5, 0.1], atol=1e-6)
    np.testing.assert_allclose(path["b"][-1], CENTRE, atol=1e-6)


@pytest.mark.usefixtures("x64")
def test_descent_on_the_simplex() -> None:
    """With equal curvatures, the minimum is the projection of the centre."""
    optimizer = chain(sgd(0.2), project(simplex, "w".__eq__))
    path = descend(optimizer, jnp.full(3, 1 / 3), jnp.ones(3))["w"]
    np.testing.assert_allclose(path.sum(-1), 1, rtol=1e-15)
    np.testing.assert_allclose(path[-1], on_simplex(np.asarray(CENTRE, np.float64), 1.0), atol=1e-8)


def test_project_chooses_by_name_and_keeps_the_dtype() -> None:
    params = network_params("bfloat16")
    grads = jax.tree.map(jnp.ones_like, params)
    optimizer = chain(sgd(10.0), project(non_negative, where=lambda name: name == "1.b"))
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    after = apply_updates(params, updates)
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype("bfloat16")}
    assert float(after[1]["b"][0]) == 0
    assert_close(after[0], apply_updates(params, jax.tree.map(lambda g: -10 * g, grads))[0])


def test_project_refuses_wrong_arguments() -> None:
    with pytest.raises(ValueError, match=r"optimizers.project: where= chooses none of the parameters \['b'\]"):
        project(non_negative).init({"b": jnp.ones(1)})
    with pytest.raises(ValueError, match=r"optimizers.project: params is None; pass update\("):
        project(non_negative).update({"w": jnp.ones(1)}, ())
