"""Initializers: plain functions ``(key, shape, dtype) -> Array`` that draw a parameter.

Fans of a weight of shape ``(..., D, H)``: ``fan_in`` is the product of all axes but the last (for a convolution
kernel HWIO, the inputs of one output), ``fan_out`` the product of all axes but the second last. Each docstring states
the variance; both distributions of a pair have the same one, a uniform on ``[−limit, limit]`` having ``limit² / 3``.

An option is fixed with ``fnnet.bind``: ``Dense(10, w_init=bind(initializers.normal, stddev=0.1))``.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from fnnet.checks import require
from fnnet.spectrum import scaled_to_radius
from fnnet.types import Array, DType, Initializer, Shape


def zeros(key: Array, shape: Shape, dtype: DType = jnp.float32) -> Array:
    """All zeros. The key is not used."""
    return jnp.zeros(shape, dtype)


def ones(key: Array, shape: Shape, dtype: DType = jnp.float32) -> Array:
    """All ones. The key is not used."""
    return jnp.ones(shape, dtype)


def identity(key: Array, shape: Shape, dtype: DType = jnp.float32, *, scale: float = 1.0) -> Array:
    """``scale`` times the identity, of a matrix that is not square its upper left part. The key is not used.

    As the recurrent matrix of an ``RNNCell`` of ReLU, it keeps what it carries: the IRNN of Le, Jaitly and Hinton 2015.
    """
    require(len(shape) == 2, f"initializers.identity: shape is {shape}; expected two axes")
    return scale * jnp.eye(shape[0], shape[1], dtype=dtype)


def normal(key: Array, shape: Shape, dtype: DType = jnp.float32, *, stddev: float = 0.01) -> Array:
    """Normal with mean 0 and variance ``stddev²``."""
    return jax.random.normal(key, shape, dtype) * stddev


def uniform(key: Array, shape: Shape, dtype: DType = jnp.float32, *, limit: float = 0.01) -> Array:
    """Uniform on ``[−limit, limit)``, variance ``limit² / 3``."""
    return jax.random.uniform(key, shape, dtype, minval=-limit, maxval=limit)


def glorot_normal(key: Array, shape: Shape, dtype: DType = jnp.float32) -> Array:
    """Normal with variance ``2 / (fan_in + fan_out)`` (Glorot and Bengio 2010, eq. 12)."""
    fan_in, fan_out = fans(shape)
    return normal(key, shape, dtype, stddev=math.sqrt(2 / (fan_in + fan_out)))


def glorot_uniform(key: Array, shape: Shape, dtype: DType = jnp.float32) -> Array:
    """Uniform with ``limit = √(6 / (fan_in + fan_out))`` (Glorot and Bengio 2010, eq. 16)."""
    fan_in, fan_out = fans(shape)
    return uniform(key, shape, dtype, limit=math.sqrt(6 / (fan_in + fan_out)))


def he_normal(key: Array, shape: Shape, dtype: DType = jnp.float32) -> Array:
    """Normal with variance ``2 / fan_in``, made for ReLU (He et al. 2015, eq. 10)."""
    return normal(key, shape, dtype, stddev=math.sqrt(2 / fans(shape)[0]))


def he_uniform(key: Array, shape: Shape, dtype: DType = jnp.float32) -> Array:
    """Uniform with ``limit = √(6 / fan_in)``, the variance of ``he_normal``."""
    return uniform(key, shape, dtype, limit=math.sqrt(6 / fans(shape)[0]))


def lecun_normal(key: Array, shape: Shape, dtype: DType = jnp.float32) -> Array:
    """Normal with variance ``1 / fan_in`` (LeCun et al. 1998, "Efficient BackProp", eq. 16)."""
    return normal(key, shape, dtype, stddev=math.sqrt(1 / fans(shape)[0]))


def lecun_uniform(key: Array, shape: Shape, dtype: DType = jnp.float32) -> Array:
    """Uniform with ``limit = √(3 / fan_in)``, the variance of ``lecun_normal``."""
    return uniform(key, shape, dtype, limit=math.sqrt(3 / fans(shape)[0]))


def orthogonal(key: Array, shape: Shape, dtype: DType = jnp.float32, *, gain: float = 1.0) -> Array:
    """``gain`` times a matrix with orthonormal columns or rows, whichever are fewer (Saxe et al. 2014).

    Axes before the last are taken together as rows. Drawn uniformly: QR of a normal matrix with the diagonal of R made
    positive (Mezzadri 2007). Low-precision dtypes are computed in float32.
    """
    require(len(shape) >= 2, f"initializers.orthogonal: shape is {shape}; expected at least two axes")
    rows, columns = math.prod(shape[:-1]), shape[-1]
    tall = (max(rows, columns), min(rows, columns))
    q, r = jnp.linalg.qr(jax.random.normal(key, tall, dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32))
    q = q * jnp.where(jnp.diagonal(r) < 0, -1, 1).astype(q.dtype)
    return (gain * (q if rows >= columns else q.T)).reshape(shape).astype(dtype)


def with_spectral_radius(
    key: Array, shape: Shape, dtype: DType = jnp.float32, *, radius: float = 1.0, draw: Initializer = lecun_normal
) -> Array:
    """What ``draw`` draws, a square matrix, scaled so that its eigenvalue of largest modulus has ``|λ| = radius``.

    For recurrent matrices: with an ``RNNCell``'s linearized at 0, signals die out below 1 and grow above. Source:
    Jaeger 2001, "The echo state approach to analysing and training recurrent neural networks". Low-precision dtypes
    are computed in float32.
    """
    require(
        len(shape) == 2 and shape[0] == shape[1],
        f"initializers.with_spectral_radius: shape is {shape}; expected a square matrix, which alone has eigenvalues",
    )
    wide = dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32
    return scaled_to_radius(draw(key, shape, wide), radius).astype(dtype)


def fans(shape: Shape) -> tuple[int, int]:
    """``(fan_in, fan_out)`` of a weight's shape."""
    require(
        len(shape) >= 2 and all(n > 0 for n in shape),
        f"initializers: fan-in and fan-out of shape {shape} are undefined; expected at least two axes, none of "
        f"them empty (normal, uniform, ones and zeros take any shape)",
    )
    return math.prod(shape[:-1]), math.prod(shape[:-2]) * shape[-1]
