"""Positions: waves of known values, rotations that depend on distance, a table of limited length."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import LearnedPositions, SinusoidalPositions
from fnnet.layers.positions import rotate, waves
from tests.compare import assert_close
from tests.reference import attention as reference


@pytest.mark.usefixtures("x64")
def test_rotated_scores_depend_on_the_distance_alone() -> None:
    generator = np.random.default_rng(0)
    q, k = (jnp.broadcast_to(generator.standard_normal(6), (1, 9, 1, 6)) for _ in range(2))
    scores = np.asarray(jnp.einsum("qd,kd->qk", rotate(q)[0, :, 0], rotate(k)[0, :, 0]))
    for distance in range(-8, 9):
        along = np.diagonal(scores, distance)
        np.testing.assert_allclose(along, along[0], rtol=1e-13)
    assert np.ptp(scores[0]) > 0.1
    assert_close(rotate(rotate(q), back=True), q, 1e-15)
    assert_close(rotate(q)[0, :, 0], reference.rotated(np.asarray(q[0, :, 0])))


@pytest.mark.parametrize("features", [1, 5, 6])
@pytest.mark.usefixtures("x64")
def test_sinusoidal_positions(features: int) -> None:
    added = SinusoidalPositions().apply({}, jnp.zeros((2, 30, features)))
    assert_close(added, np.stack([reference.sinusoidal_positions(30, features)] * 2))


def test_late_positions_keep_their_digits() -> None:
    """In float32 the angle 99,999 would be wrong by up to 0.004."""
    added = SinusoidalPositions().apply({}, jnp.zeros((1, 100_000, 2)))
    np.testing.assert_allclose(added[0, -1], [math.sin(99_999), math.cos(99_999)], rtol=1e-6)


def test_few_waves_are_kept_and_none_can_be_changed() -> None:
    assert waves(3, 4)[0] is waves(3, 4)[0]
    with pytest.raises(ValueError, match="read-only"):
        waves(3, 4)[1][0] = 2
    assert waves.cache_info().maxsize == 8


@pytest.mark.usefixtures("x64")
def test_learned_positions_are_a_table() -> None:
    layer, x = LearnedPositions(4), jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 2)))
    params = layer.init(jax.random.key(0), x)
    assert params["table"].shape == (4, 2)
    y = layer.apply(params, x)
    for t in range(3):
        np.testing.assert_array_equal(y[:, t], x[:, t] + params["table"][t])
    wide = LearnedPositions(500).init(jax.random.key(0), jnp.zeros((1, 1, 100)))["table"]
    assert float(wide.std()) == pytest.approx(0.02, rel=0.02)


X = jnp.ones((2, 3, 4))
KEY = jax.random.key(0)
REFUSED = [
    (lambda: LearnedPositions(0), ValueError, "LearnedPositions: length is 0"),
    (lambda: LearnedPositions(2).init(KEY, X), ValueError, "3 time steps; expected at most 2"),
    (lambda: LearnedPositions(2).apply({"table": jnp.ones((2, 4))}, X), ValueError, "3 time steps; expected at most 2"),
    (lambda: LearnedPositions(3).apply({"table": jnp.ones((3, 1))}, X), ValueError, r"table has shape \(3, 1\)"),
    (lambda: SinusoidalPositions().init(KEY, X[0]), ValueError, r"expected \(N, T, D\)"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED, ids=[message[:40] for *_, message in REFUSED])
def test_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
