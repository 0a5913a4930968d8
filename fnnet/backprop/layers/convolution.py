"""The rules of the convolution and of its transpose.

Both come from one sum, linear in each of its three arrays (the letters are those of ``fnnet.convolution.geometry``),

    F(x, w, dy) = Σ_npaco dy[n, p, o] · w[a, c, o] · x[n, p · stride + a · dilation − low, c].

``∂F/∂dy`` is the convolution of ``x`` with ``w``; its backward pass is ``∂F/∂x``, the full convolution of ``dy`` with
the flipped kernel, and ``∂F/∂w``, the correlation of ``x`` and ``dy``. The transposed convolution is ``∂F/∂x``, and the
other two are its backward pass.
"""

from __future__ import annotations

import jax.numpy as jnp

from fnnet.backprop.rule import RULES, Rule
from fnnet.convolution.kernel import exchanged
from fnnet.convolution.operators import convolution, input_gradient, kernel_gradient
from fnnet.layers import Conv, ConvTranspose
from fnnet.types import Array, Params


def conv_forward(layer: Conv, params: Params, x: Array, *, key: Array | None, train: bool) -> tuple[Array, Array]:
    return layer.apply(params, x), x


def conv_backward(layer: Conv, params: Params, x: Array, dy: Array) -> tuple[Params, Array]:
    """With ``i(p, a) = p · stride + a · dilation − low``, ``y[n, p, o] = Σ_ac x[n, i(p, a), c] w[a, c, o] + b[o]``

    ⇒  ``dw[a, c, o] = Σ_np x[n, i(p, a), c] dy[n, p, o]``,  ``db[o] = Σ_np dy[n, p, o]``,
    ``dx[n, i, c] = Σ_ao dy[n, p, o] w[a, c, o]`` over ``i(p, a) = i``.
    """
    w, geometry = params["w"], layer.geometry(x.shape, params["w"].shape)
    dparams = {"w": kernel_gradient(x, dy, geometry, layer.method)}
    if layer.use_bias:
        dparams["b"] = jnp.einsum("...o->o", dy)
    return dparams, input_gradient(dy, w, geometry, layer.method)


def conv_transpose_forward(
    layer: ConvTranspose, params: Params, x: Array, *, key: Array | None, train: bool
) -> tuple[Array, Array]:
    return layer.apply(params, x), x


def conv_transpose_backward(layer: ConvTranspose, params: Params, x: Array, dy: Array) -> tuple[Params, Array]:
    """``y[n, i, o] = Σ_ac x[n, p, c] w[a, c, o] + b[o]`` over ``i(p, a) = i``

    ⇒  ``dw[a, c, o] = Σ_np x[n, p, c] dy[n, i(p, a), o]``,  ``db[o] = Σ_ni dy[n, i, o]``,
    ``dx[n, p, c] = Σ_ao dy[n, i(p, a), o] w[a, c, o]``: the convolution of ``dy``, in which ``x`` stands where above
    ``dy`` stood, and channels where filters did.
    """
    w, geometry = params["w"], layer.geometry(x.shape, params["w"].shape)
    dparams = {"w": exchanged(kernel_gradient(dy, x, geometry, layer.method), layer.groups)}
    if layer.use_bias:
        dparams["b"] = jnp.einsum("...o->o", dy)
    return dparams, convolution(dy, exchanged(w, layer.groups), geometry, layer.method)


RULES[Conv] = Rule(conv_forward, conv_backward)
RULES[ConvTranspose] = Rule(conv_transpose_forward, conv_transpose_backward)
