"""The convolution as a plain function."""

from __future__ import annotations

from typing import Any, get_args

import jax.numpy as jnp

from fnnet import checks
from fnnet.convolution.geometry import Padding, Sizes, check_operands, geometry_of
from fnnet.convolution.operators import Method, convolution
from fnnet.types import Array


def convolve(
    x: Any,
    w: Any,
    *,
    stride: Sizes = 1,
    padding: Padding = "VALID",
    dilation: Sizes = 1,
    groups: int = 1,
    method: Method = "auto",
    place: str = "convolve",
) -> Array:
    """Compute ``y[n, p, o] = Σ_ac x[n, p · stride + a · dilation − low, c] w[a, c, o]``, a sliding dot product.

    As usual for neural networks, the kernel is not flipped, so this is what signal processing calls a correlation.

    Shapes: ``x (N, *L, C)``, ``w (*A, C / groups, O)``, ``y (N, *P, O)``, for any number of spatial axes. With
    ``groups``, channels and filters are split into groups, and each group of filters reads its own group of channels.
    If every channel is a group, this is the depthwise convolution.

    ``method`` chooses how this function and its derivatives of every order are computed. ``"patches"`` uses products of
    matrices over the patches of a few examples at a time, and ``"xla"`` uses XLA's own convolution. ``"auto"`` uses the
    one that is faster for these shapes on a CPU, a sum over the taps for a depthwise convolution there, and ``"xla"``
    on a GPU or TPU.
    """
    x, w = jnp.asarray(x), jnp.asarray(w)
    check_operands(place, x, w, groups)
    check_method(place, method)
    with checks.sizes_decided(place, x.shape):
        geometry = geometry_of(
            place, x.shape[1:-1], w.shape[:-2], stride=stride, padding=padding, dilation=dilation, groups=groups
        )
    return convolution(x, w, geometry, method)


def check_method(place: str, method: str) -> None:
    """Raise unless ``method`` is one of those that ``convolve`` knows."""
    known = get_args(Method)
    checks.require(method in known, f"{place}: method is {method!r}; expected one of {', '.join(map(repr, known))}")
