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

    What the field calls a convolution is a correlation, as here: the kernel is not flipped.

    Shapes: ``x (N, *L, C)``, ``w (*A, C / groups, O)``, ``y (N, *P, O)``, for any number of spatial axes. With
    ``groups``, channels and filters are split into groups, and each group of filters sees its own group of channels;
    with as many groups as channels this is the depthwise convolution.

    ``method`` says how this and its derivatives of every order are computed: ``"patches"`` as products of matrices
    over the patches of a few examples at a time, ``"xla"`` by XLA's own convolution, and ``"auto"`` by the faster of
    both for the shapes on CPU and by ``"xla"`` on GPU and TPU.
    """
    x, w = jnp.asarray(x), jnp.asarray(w)
    check_operands(place, x, w, groups)
    check_method(place, method)
    geometry = geometry_of(
        place, x.shape[1:-1], w.shape[:-2], stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    return convolution(x, w, geometry, method)


def check_method(place: str, method: str) -> None:
    known = get_args(Method)
    checks.require(method in known, f"{place}: method is {method!r}; expected one of {', '.join(map(repr, known))}")
