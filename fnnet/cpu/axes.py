"""XLA's convolution for the gradient of the kernel, in the one order of axes that is fast on CPU inside a loop.

XLA's CPU backend computes the convolution of images ``(N, *L, C)`` with kernels ``(*A, C, O)`` by a library, and any
other order of the axes by plain loops. Outside of loops it changes the order by itself; in the body of
``jax.lax.scan``, where training takes place, it does not.

Measured inside a scan (float32, milliseconds with the axes as they come / in order, 2 cores, jax 0.10.2): Intel Xeon
at 2.5 GHz, Cascade Lake, AVX-512: 64 of 14², 16 → 32, 3²: 48 / 2.7; 64 of 256, 32 → 64, 5: 260 / 2.3; 8 of 28²,
32 → 64, 3²: 156 / 4.1. AMD EPYC with AVX-512: up to 500 times as long. Outside of a scan both take the same time.

Try without it from jax 0.11 on.
"""

from __future__ import annotations

import jax.numpy as jnp

from fnnet.convolution import xla
from fnnet.convolution.geometry import Geometry
from fnnet.types import Array


def kernel_gradient(x: Array, dy: Array, geometry: Geometry) -> Array:
    """Compute ``dw`` as the convolution of images ``(C, *L, N)`` with kernels ``(*P, N, O)``."""
    images, kernels = x.swapaxes(0, -1), jnp.moveaxis(dy, 0, -2)
    dw = xla.correlation(images, kernels, geometry, xla.axes_last(geometry.rank))
    return jnp.moveaxis(dw, 0, -2)
