"""Small problems to train on."""

import jax
import jax.numpy as jnp
import numpy as np

from fnnet import Cost, Dense, Dropout, losses, sequential, tanh

X = jnp.asarray(np.random.default_rng(3).standard_normal((10, 3)), "float32")
LABELS = jnp.asarray((np.asarray(X)[:, 0] > 0).astype(int) + (np.asarray(X)[:, 1] > 1))
DATA = (X, LABELS)
HOST = (np.asarray(X), np.asarray(LABELS))
COST = Cost(Dense(3), losses.softmax_cross_entropy)
PARAMS = {"w": jnp.asarray(np.random.default_rng(4).standard_normal((3, 3)), "float32"), "b": jnp.zeros(3)}
NETWORK = Cost(sequential(Dense(4), tanh, Dropout(0.3), Dense(3)), losses.softmax_cross_entropy)


def key(seed: int = 0) -> jax.Array:
    return jax.random.key(seed)


def as_it_is(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """A loss whose derivative is 1 at every example: what a gradient then shows is who was in the batch."""
    return prediction[:, 0]
