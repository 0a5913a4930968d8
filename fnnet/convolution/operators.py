"""The convolution and its two transposes as operations of JAX, computed as the platform and the shapes require.

All three come from one form, linear in each of its three arguments,

    F(x, w, dy) = Σ_npaco dy[n, p, o] · w[a, c, o] · x[n, p · stride + a · dilation − low, c],

where ``c`` and ``o`` belong to the same group. The ``convolution`` is the derivative of ``F`` with respect to ``dy``,
the ``input_gradient`` is the derivative with respect to ``x``, and the ``kernel_gradient`` is the derivative with
respect to ``w``. So the derivative of each operation with respect to either argument is one of the other two.
Derivatives of every order, forward and reverse, are among the three operations, and each of them is computed in its own
fastest way.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from fnnet.checks import is_symbolic
from fnnet.convolution import xla
from fnnet.convolution.geometry import Geometry
from fnnet.cpu import axes, patches, taps
from fnnet.shards import varying_alike
from fnnet.types import Array

Method: TypeAlias = Literal["auto", "patches", "xla"]


def convolution(x: Array, w: Array, geometry: Geometry, method: Method = "auto") -> Array:
    """Compute ``y (N, *P, O)``, the derivative of ``F`` with respect to ``dy``."""
    return convolution_p.bind(*varying_alike(x, w), geometry=geometry, method=method)


def input_gradient(dy: Array, w: Array, geometry: Geometry, method: Method = "auto") -> Array:
    """Compute ``dx (N, *L, C)``, the derivative of ``F`` with respect to ``x``."""
    return input_gradient_p.bind(*varying_alike(dy, w), geometry=geometry, method=method)


def kernel_gradient(x: Array, dy: Array, geometry: Geometry, method: Method = "auto") -> Array:
    """Compute ``dw (*A, C/G, O)``, the derivative of ``F`` with respect to ``w``."""
    return kernel_gradient_p.bind(*varying_alike(x, dy), geometry=geometry, method=method)


# The letters of the first argument, the second argument and the result of each operation in the form F.
ROLES = {"convolution": "xwy", "input_gradient": "ywx", "kernel_gradient": "xyw"}


def operation(name: str) -> Primitive:
    """Return the operation that computes the function of this name by ``xla``, or on a CPU by ``fnnet.cpu``."""
    primitive = Primitive(name)
    by_xla, by_patches, by_taps = getattr(xla, name), getattr(patches, name), getattr(taps, name)
    by_xla_on_cpu = getattr(axes, name, by_xla)

    def abstract(a: Any, b: Any, *, geometry: Geometry, method: Method) -> Any:
        """Return the shape, the dtype and the sharding of XLA's result."""
        return jax.make_jaxpr(partial(by_xla, geometry=geometry))(a, b).out_avals[0]

    def lower(a: Array, b: Array, *, geometry: Geometry, method: Method) -> Array:
        return (by_patches if asks_for_patches(method, geometry) else by_xla)(a, b, geometry)

    def lower_on_cpu(a: Array, b: Array, *, geometry: Geometry, method: Method) -> Array:
        if method == "auto" and taps.is_faster(a.shape, b.shape, geometry):
            return by_taps(a, b, geometry)
        patched = method == "auto" and patches.is_faster(name, a.shape, b.shape, geometry)
        patched |= asks_for_patches(method, geometry)
        return (by_patches if patched else by_xla_on_cpu)(a, b, geometry)

    def run(a: Array, b: Array, *, geometry: Geometry, method: Method) -> Array:
        return primitive.bind(a, b, geometry=geometry, method=method)

    primitive.def_impl(jax.jit(run, static_argnames=("geometry", "method")))
    primitive.def_abstract_eval(abstract)
    batching.primitive_batchers[primitive] = partial(batched, primitive, ROLES[name])
    mlir.register_lowering(primitive, mlir.lower_fun(lower, multiple_results=False))
    mlir.register_lowering(primitive, mlir.lower_fun(lower_on_cpu, multiple_results=False), platform="cpu")
    return primitive


def asks_for_patches(method: Method, geometry: Geometry) -> bool:
    """Return whether patches are to be used. Of an image with symbolic axes they cannot be the rows of a matrix."""
    return method == "patches" and not any(map(is_symbolic, geometry.image))


def batched(primitive: Primitive, roles: str, operands: Any, axes: Any, *, geometry: Geometry, method: Method) -> Any:
    """Compute under ``vmap`` many convolutions as one.

    If ``w`` has no batch axis, the batch axis becomes more examples. If ``x`` has none, it becomes more filters. If
    ``y`` has none, it becomes more channels. If all three have one, it becomes more groups.
    """
    size = next(a.shape[axis] for a, axis in zip(operands, axes, strict=True) if axis is not None)
    lacking = next((role for role, axis in zip(roles, axes, strict=False) if axis is None), "")
    folded = [
        a if axis is None else fold(jnp.moveaxis(a, axis, 0), role, lacking, geometry.groups)
        for a, axis, role in zip(operands, axes, roles, strict=False)
    ]
    whole = geometry if lacking else replace(geometry, groups=size * geometry.groups)
    result = primitive.bind(*folded, geometry=whole, method=method)
    return unfold(result, roles[2], lacking, geometry.groups, size), 0


def fold(a: Array, role: str, lacking: str, groups: int) -> Array:
    """Join the leading axis of ``a`` to the examples, to the channels or filters of each group, or to the groups.

    The groups come before the channels and the filters on the last axis.
    """
    if lacking == "w":
        return a.reshape(-1, *a.shape[2:])
    if lacking == "y" and role == "w":
        return jnp.moveaxis(a, 0, -3).reshape(*a.shape[1:-2], -1, a.shape[-1])
    inner = a.shape[-1] // groups if lacking else a.shape[-1]
    split = jnp.moveaxis(a.reshape(*a.shape[:-1], a.shape[-1] // inner, inner), 0, -2)
    return split.reshape(*a.shape[1:-1], a.shape[0] * a.shape[-1])


def unfold(a: Array, role: str, lacking: str, groups: int, size: int) -> Array:
    """Return the inverse of ``fold``."""
    if lacking == "w":
        return a.reshape(size, -1, *a.shape[1:])
    if lacking == "y" and role == "w":
        return jnp.moveaxis(a.reshape(*a.shape[:-2], size, -1, a.shape[-1]), -3, 0)
    outer = groups if lacking else 1
    each = a.shape[-1] // size
    split = jnp.moveaxis(a.reshape(*a.shape[:-1], outer, size, each // outer), -2, 0)
    return split.reshape(size, *a.shape[:-1], each)


convolution_p, input_gradient_p, kernel_gradient_p = map(operation, ROLES)

ad.defbilinear(
    convolution_p,
    lambda dy, x, w, **options: input_gradient(dy, w, **options),
    lambda dy, x, w, **options: kernel_gradient(x, dy, **options),
)
ad.defbilinear(
    input_gradient_p,
    lambda x, dy, w, **options: convolution(x, w, **options),
    lambda x, dy, w, **options: kernel_gradient(x, dy, **options),
)
ad.defbilinear(
    kernel_gradient_p,
    lambda w, x, dy, **options: input_gradient(dy, w, **options),
    lambda w, x, dy, **options: convolution(x, w, **options),
)
