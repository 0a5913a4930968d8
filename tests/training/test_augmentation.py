"""Random changes of the batches in training, from arrays and from a stream."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Cost, Dense, fit, losses
from fnnet.data import augment, from_arrays
from fnnet.optimizers import sgd
from tests.compare import assert_close
from tests.training.problems import COST, DATA, HOST, LABELS, PARAMS, X, key


def doubled(key: jax.Array, batch: Any) -> Any:
    x, y = batch
    return x * jax.random.randint(key, (len(x), 1), 1, 3).astype(x.dtype), y


def test_augmentation_is_a_function_of_key_and_step() -> None:
    """The same from arrays and from a stream, anew in every step, and that of a loop written out."""
    options = {"key": key(), "epochs": 2, "augment": doubled}
    streamed = fit(COST, sgd(0.1), PARAMS, from_arrays(*HOST, 5, shuffle=False), **options).state
    arrays = fit(COST, sgd(0.1), PARAMS, DATA, batch_size=5, shuffle=False, **options).state
    params, base = PARAMS, key()
    for step in range(4):
        rows = slice(5 * (step % 2), 5 * (step % 2) + 5)
        batch = doubled(jax.random.fold_in(jax.random.fold_in(base, 2), step), (X[rows], LABELS[rows]))
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(COST)(params, batch))
    assert_close(arrays.params, params, 1e-5)
    assert_close(streamed.params, params, 1e-5)


def noisy(key: jax.Array, batch: Any) -> Any:
    return batch[0] + jax.random.normal(key, batch[0].shape), batch[1]


def test_what_is_not_finite_is_found_with_its_changes() -> None:
    """The batch that is kept is the one that the network saw: changed at random, in the second step."""
    cost = Cost(Dense(1), losses.squared_error)
    y = np.ones((10, 1), np.float32)
    params = {"w": jnp.ones((3, 1)), "b": jnp.zeros(1)}
    for data, options in (
        (from_arrays(HOST[0], y, 4, shuffle=False), {}),
        ((X, y), {"batch_size": 4, "shuffle": False}),
    ):
        with pytest.warns(RuntimeWarning, match="the cost of epoch 1 is"):
            result = fit(cost, sgd(1e20), params, data, key=key(), augment=noisy, **options)
        found = result.non_finite
        assert found is not None
        expected = noisy(jax.random.fold_in(jax.random.fold_in(key(), 2), found.step), (X[4 * found.step :][:4], y))[0]
        np.testing.assert_allclose(found.batch[0], expected, rtol=1e-6)


def test_augmentation_may_change_shape_and_dtype() -> None:
    """Bytes travel, numbers arrive: what is checked is what the model will see."""
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 5, 1), np.uint8)

    def change(key: jax.Array, batch: Any) -> Any:
        x = augment.random_crop(key, batch[0], height=1, width=3)
        return x.astype("float32").reshape(-1, 3) / 255, batch[1]

    stream = from_arrays(images, HOST[1], 4)
    for data, options in ((stream, {}), ((images, HOST[1]), {"batch_size": 4})):
        result = fit(COST, sgd(0.1), PARAMS, data, key=key(), epochs=1, augment=change, **options)
        assert np.isfinite(result.history["cost"]).all()
    with pytest.raises((TypeError, ValueError), match="fit: the first batch of the stream"):
        fit(COST, sgd(0.1), PARAMS, stream, key=key(), epochs=1)
