"""Initializers: plain functions ``(key, shape, dtype) -> Array`` that draw a parameter.

For a weight of shape ``(..., D, H)``, ``fan_in`` is the product of all axes but the last, which is the number of inputs
of one output of a convolution HWIO; ``fan_out`` is the product of all axes but the second last. A convolution in groups
draws the kernel of each group by itself, so these are the fans within a group. Both distributions of a pair, normal and
uniform, have the same variance. The variance of a uniform distribution on ``[−limit, limit]`` is ``limit² / 3``.

Fix an option with ``fnnet.bind``: ``Dense(10, w_init=bind(initializers.normal, stddev=0.1))``.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from fnnet.checks import at_least_float32, in_dtype, require
from fnnet.spectrum import scaled_to_radius
from fnnet.types import Array, DType, Initializer, Scalar, Shape


def zeros(key: Array, shape: Shape, dtype: DType = jnp.float32) -> Array:
    """Return zeros. The key is not used."""
    return jnp.zeros(shape, dtype)


def ones(key: Array, shape: Shape, dtype: DType = jnp.float32) -> Array:
    """Return ones. The key is not used."""
    return jnp.ones(shape, dtype)


def identity(key: Array, shape: Shape, dtype: DType = jnp.float32, *, scale: Scalar = 1.0) -> Array:
    """Return ``scale`` times the identity; a matrix that is not square has ones on its diagonal. The key is not used.

    As the recurrent matrix of an ``RNNCell`` with ReLU, it keeps the state from step to step: this is the IRNN.

    Source: Le, Jaitly and Hinton 2015.
    """
    require(len(shape) == 2, f"initializers.identity: shape is {shape}; expected two axes")
    return in_dtype(scale, dtype) * jnp.eye(shape[0], shape[1], dtype=dtype)


def normal(key: Array, shape: Shape, dtype: DType = jnp.float32, *, stddev: Scalar = 0.01) -> Array:
    """Draw from a normal distribution with mean 0 and variance ``stddev²``."""
    return jax.random.normal(key, shape, dtype) * in_dtype(stddev, dtype)


def uniform(key: Array, shape: Shape, dtype: DType = jnp.float32, *, limit: Scalar = 0.01) -> Array:
    """Draw from a uniform distribution on ``[−limit, limit)``, whose variance is ``limit² / 3``."""
    limit = in_dtype(limit, dtype)
    return jax.random.uniform(key, shape, dtype, minval=-limit, maxval=limit)


def glorot_normal(key: Array, shape: Shape, dtype: DType = jnp.float32) -> Array:
    """Draw from a normal distribution with variance ``2 / (fan_in + fan_out)`` (Glorot and Bengio 2010, eq. 12)."""
    fan_in, fan_out = fans(shape)
    return normal(key, shape, dtype, stddev=math.sqrt(2 / (fan_in + fan_out)))


def glorot_uniform(key: Array, shape: Shape, dtype: DType = jnp.float32) -> Array:
    """Draw from a uniform distribution with ``limit = √(6 / (fan_in + fan_out))`` (Glorot and Bengio 2010, eq. 16)."""
    fan_in, fan_out = fans(shape)
    return uniform(key, shape, dtype, limit=math.sqrt(6 / (fan_in + fan_out)))


def he_normal(key: Array, shape: Shape, dtype: DType = jnp.float32) -> Array:
    """Draw from a normal distribution with variance ``2 / fan_in``, for ReLU (He et al. 2015, eq. 10)."""
    return normal(key, shape, dtype, stddev=math.sqrt(2 / fans(shape)[0]))


def he_uniform(key: Array, shape: Shape, dtype: DType = jnp.float32) -> Array:
    """Draw from a uniform distribution with ``limit = √(6 / fan_in)``, the variance of ``he_normal``."""
    return uniform(key, shape, dtype, limit=math.sqrt(6 / fans(shape)[0]))


def lecun_normal(key: Array, shape: Shape, dtype: DType = jnp.float32) -> Array:
    """Draw from a normal distribution with variance ``1 / fan_in`` (LeCun et al. 1998, Efficient BackProp, eq. 16)."""
    return normal(key, shape, dtype, stddev=math.sqrt(1 / fans(shape)[0]))


def lecun_uniform(key: Array, shape: Shape, dtype: DType = jnp.float32) -> Array:
    """Draw from a uniform distribution with ``limit = √(3 / fan_in)``, the variance of ``lecun_normal``."""
    return uniform(key, shape, dtype, limit=math.sqrt(3 / fans(shape)[0]))


def orthogonal(key: Array, shape: Shape, dtype: DType = jnp.float32, *, gain: Scalar = 1.0) -> Array:
    """Draw ``gain`` times a matrix with orthonormal columns or rows, whichever are fewer.

    All axes but the last form the rows. The matrix is uniformly distributed: it is ``Q`` of the QR decomposition of a
    normal matrix, with the signs that make the diagonal of ``R`` positive (Mezzadri 2007). Low-precision dtypes are
    computed in float32.

    Source: Saxe et al. 2014.
    """
    require(len(shape) >= 2, f"initializers.orthogonal: shape is {shape}; expected at least two axes")
    rows, columns = math.prod(shape[:-1]), shape[-1]
    tall = (max(rows, columns), min(rows, columns))
    q, r = jnp.linalg.qr(jax.random.normal(key, tall, at_least_float32(jnp.dtype(dtype))))
    q = q * jnp.where(jnp.diagonal(r) < 0, -1, 1).astype(q.dtype)
    return (in_dtype(gain, q.dtype) * (q if rows >= columns else q.T)).reshape(shape).astype(dtype)


def with_spectral_radius(
    key: Array, shape: Shape, dtype: DType = jnp.float32, *, radius: Scalar = 1.0, draw: Initializer = lecun_normal
) -> Array:
    """Draw a square matrix by ``draw`` and scale it so that its spectral radius, ``max |λ|``, is ``radius``.

    It is meant for recurrent matrices: in an ``RNNCell`` that is linearized at 0, signals die out if the radius is
    below 1, and grow if it is above. Low-precision dtypes are computed in float32.

    Source: Jaeger 2001, "The echo state approach to analysing and training recurrent neural networks".
    """
    require(
        len(shape) == 2 and shape[0] == shape[1],
        f"initializers.with_spectral_radius: shape is {shape}; expected a square matrix: only those have eigenvalues",
    )
    wide = at_least_float32(jnp.dtype(dtype))
    return scaled_to_radius(draw(key, shape, wide), radius).astype(dtype)


def fans(shape: Shape) -> tuple[int, int]:
    """Return ``(fan_in, fan_out)`` of a weight with the given shape."""
    require(
        len(shape) >= 2 and all(n > 0 for n in shape),
        f"initializers: fan-in and fan-out of shape {shape} are undefined; expected at least two axes and "
        f"no empty one: normal, uniform, ones and zeros take any shape",
    )
    return math.prod(shape[:-1]), math.prod(shape[:-2]) * shape[-1]
