"""The outputs of the layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Dense, Dropout, sequential, tanh
from fnnet.inspect import layer_outputs
from tests.cases import random_params

X = jnp.linspace(-1, 1, 6).reshape(2, 3)
MODEL = sequential(Dense(4), tanh, Dropout(0.5), Dense(2))


def test_outputs_of_every_layer() -> None:
    params = random_params(MODEL, X)
    z, a, dropped, y = layer_outputs(MODEL, params, X)
    np.testing.assert_array_equal(z, Dense(4).apply(params[0], X))
    np.testing.assert_array_equal(a, jnp.tanh(z))
    np.testing.assert_array_equal(dropped, a)
    np.testing.assert_array_equal(y, MODEL.apply(params, X))


def test_the_keys_are_those_of_the_network() -> None:
    params = random_params(MODEL, X)
    outputs = layer_outputs(MODEL, params, X, key=jax.random.key(3), train=True)
    np.testing.assert_array_equal(outputs[-1], MODEL.apply(params, X, key=jax.random.key(3), train=True))
    assert not np.array_equal(outputs[2], outputs[1])


def test_params_of_another_network_are_refused() -> None:
    with pytest.raises(ValueError, match="params has 1 entries but there are 4 layers"):
        layer_outputs(MODEL, ({},), X)
