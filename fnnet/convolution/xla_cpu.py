"""The three products of a convolution by XLA's own operation, in the one form for which it is quick on CPU.

XLA's CPU backend computes the convolution of images ``(N, *L, C)`` with kernels ``(*A, C, O)`` by a library, and any
other order of the axes, or a kernel read backwards, by plain loops. Outside of loops it brings the others into that
form by itself; in the body of ``jax.lax.scan`` it does not, and gradients took up to 500 times as long there. So the
axes are put in order here, and a barrier keeps the compiler from undoing it.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from fnnet.convolution import xla
from fnnet.convolution.geometry import Geometry
from fnnet.types import Array

convolution = xla.convolution


def input_gradient(dy: Array, w: Array, geometry: Geometry) -> Array:
    """``dx``, as in ``xla``."""
    return xla.full_convolution(dy, lax.optimization_barrier(xla.flipped(w, geometry)), geometry)


def kernel_gradient(x: Array, dy: Array, geometry: Geometry) -> Array:
    """``dw``, as in ``xla``: of images ``(C, *L, N)`` with kernels ``(*P, N, O)``."""
    images, kernels = lax.optimization_barrier((x.swapaxes(0, -1), jnp.moveaxis(dy, 0, -2)))
    dw = xla.correlation(images, kernels, geometry, xla.axes_last(geometry.rank))
    return jnp.moveaxis(lax.optimization_barrier(dw), 0, -2)
