"""The convolution and the transposed convolution as layers."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.configuration import configuration
from fnnet.convolution import operators
from fnnet.convolution.convolve import check_method
from fnnet.convolution.geometry import (
    Geometry,
    Padding,
    Sizes,
    as_tuple,
    check_channels,
    geometry_of,
    per_axis,
    set_sizes,
    transposed_geometry,
)
from fnnet.convolution.kernel import exchanged
from fnnet.convolution.operators import Method
from fnnet.initializers import he_normal, zeros
from fnnet.types import Array, DType, Initializer, Params, Shape, Shaped


@configuration
class Conv:
    """Convolution, ``y[n, p, o] = b[o] + Σ_ac x[n, p · stride + a · dilation − low, c] w[a, c, o]``.

    It is a sliding dot product: at every output position ``p`` the same ``w`` is multiplied with the patch of the image
    there. The kernel is not flipped, as everywhere in the field.

    Shapes: ``x (N, *L, C)``, ``w (*A, C / groups, features)``, ``b (features,)``, ``y (N, *P, features)`` with
    ``P = ⌊(low + L + high − (A − 1) dilation − 1) / stride⌋ + 1`` along every spatial axis. There are as many spatial
    axes as ``x`` has, ``(N, H, W, C)`` for images; ``kernel_size``, ``stride`` and ``dilation`` are one integer for all
    of them or a tuple with one for each.

    ``padding`` is the zeros around the image: ``"VALID"`` (none), ``"SAME"`` (``P = ⌈L / stride⌉``), a number for all
    sides, or for each axis a number or a pair ``(low, high)``. ``groups`` splits channels and filters into groups that
    see only each other; ``groups = C`` is the depthwise convolution. ``method`` says how the layer and its derivatives
    are computed: ``"patches"``, ``"xla"``, or the faster of both, ``"auto"`` (see ``fnnet.convolution.convolve``).

    ``w`` starts He-normal with variance ``2 / (A C / groups)``, ``A`` the kernel's taps (He et al. 2015, eq. 10), ``b``
    at zero; ``use_bias=False`` leaves ``b`` out. ``w_init`` draws the kernel of each group by itself. Cost:
    ``2 N P A C features / groups`` operations forward, twice that backward.
    """

    features: int
    kernel_size: Sizes
    stride: Sizes = 1
    padding: Padding = "VALID"
    dilation: Sizes = 1
    groups: int = 1
    use_bias: bool = True
    method: Method = "auto"
    w_init: Initializer = he_normal
    b_init: Initializer = zeros

    def __post_init__(self) -> None:
        check_configuration(self)

    def init(self, key: Array, x: Shaped) -> Params:
        checks.init_arguments(self.place, key, x)
        shape = kernel_shape(self, x)
        warn_of_channels(self, x)
        self.geometry(x.shape, shape)
        return kernel_and_bias(self, key, shape, checks.dtype_of(x))

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        w = checked_kernel(self, params, x)
        y = operators.convolution(x, w, self.geometry(x.shape, w.shape), self.method)
        return y + params["b"] if self.use_bias else y

    def geometry(self, x: Shape, w: Shape) -> Geometry:
        """Return the geometry for the shapes of ``x`` and ``w``."""
        with checks.sizes_decided(self.place, x):
            return geometry_of(
                self.place,
                x[1:-1],
                w[:-2],
                stride=self.stride,
                padding=self.padding,
                dilation=self.dilation,
                groups=self.groups,
            )

    @property
    def place(self) -> str:
        return f"Conv(features={self.features}, kernel_size={self.kernel_size})"


@configuration
class ConvTranspose:
    """Transposed convolution: every entry of ``x`` adds its multiple of the kernel to the output.

    ``y[n, i, o] = b[o] + Σ_ac x[n, p, c] w[a, c, o]``, summed over ``p · stride = i + low − a · dilation``.

    As a matrix it is the transpose of the convolution with the same sizes from the output to the input, so it computes
    what the backward pass of that convolution does to ``dy``. Its stride enlarges the image.

    Shapes: ``x (N, *P, C)``, ``w (*A, C / groups, features)``, ``y (N, *L, features)`` with
    ``L = (P − 1) stride + (A − 1) dilation + 1 − low − high + output_padding``, and ``L = P · stride`` for ``"SAME"``.
    ``output_padding``, less than ``stride``, chooses among the ``L`` from which a convolution makes the same ``P``.
    Everything else is as in ``Conv``.
    """

    features: int
    kernel_size: Sizes
    stride: Sizes = 1
    padding: Padding = "VALID"
    dilation: Sizes = 1
    groups: int = 1
    output_padding: int | tuple[int, ...] = 0
    use_bias: bool = True
    method: Method = "auto"
    w_init: Initializer = he_normal
    b_init: Initializer = zeros

    def __post_init__(self) -> None:
        check_configuration(self)

    def init(self, key: Array, x: Shaped) -> Params:
        checks.init_arguments(self.place, key, x)
        shape = kernel_shape(self, x)
        warn_of_channels(self, x)
        self.geometry(x.shape, shape)
        return kernel_and_bias(self, key, shape, checks.dtype_of(x))

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        w = checked_kernel(self, params, x)
        geometry = self.geometry(x.shape, w.shape)
        y = operators.input_gradient(x, exchanged(w, self.groups), geometry, self.method)
        return y + params["b"] if self.use_bias else y

    def geometry(self, x: Shape, w: Shape) -> Geometry:
        """Return the geometry of the convolution from the output of this layer to its input."""
        with checks.sizes_decided(self.place, x):
            return transposed_geometry(
                self.place,
                x[1:-1],
                w[:-2],
                stride=self.stride,
                padding=self.padding,
                dilation=self.dilation,
                groups=self.groups,
                output_padding=self.output_padding,
            )

    @property
    def place(self) -> str:
        return f"ConvTranspose(features={self.features}, kernel_size={self.kernel_size})"


def check_configuration(layer: Conv | ConvTranspose) -> None:
    """Check what does not depend on an input, and turn lists into tuples, so that the layer is hashable."""
    place = type(layer).__name__
    for name in ("features", "groups"):
        checks.positive_integer(place, name, getattr(layer, name))
    set_sizes(layer, "kernel_size", "stride", "dilation", "padding")
    if isinstance(layer, ConvTranspose):
        object.__setattr__(layer, "output_padding", as_tuple(layer.output_padding))
    checks.require(
        layer.features % layer.groups == 0,
        f"{place}: groups is {layer.groups}, which must divide the {layer.features} features",
    )
    check_method(place, layer.method)


def kernel_shape(layer: Conv | ConvTranspose, x: Shaped) -> Shape:
    """Return ``(*A, C / groups, features)`` for inputs like ``x``."""
    checks.floating(layer.place, "x", x)
    sizes = layer.kernel_size
    axes = f"{1 if isinstance(sizes, int) else len(sizes)}{' or more' if isinstance(sizes, int) else ''}"
    checks.require(
        len(x.shape) >= 3 and (isinstance(sizes, int) or len(x.shape) == len(sizes) + 2),
        f"{layer.place}: x has shape {x.shape}; expected {axes} spatial axes between the batch axis and the channels",
    )
    check_channels(layer.place, x.shape[-1], layer.groups)
    kernel = per_axis(layer.place, "kernel_size", sizes, len(x.shape) - 2)
    return (*kernel, x.shape[-1] // layer.groups, layer.features)


def warn_of_channels(layer: Conv | ConvTranspose, x: Shaped) -> None:
    if isinstance(layer.kernel_size, int) and len(x.shape) == 3 and x.shape[1] == x.shape[2] > 1:
        warnings.warn(
            f"{layer.place}: x has shape {x.shape}, which is taken as sequences of {x.shape[2]} channels. Give images "
            f"an axis for their channel, x[..., None]; for sequences write kernel_size=({layer.kernel_size},)",
            stacklevel=3,
        )


def checked_kernel(layer: Conv | ConvTranspose, params: Params, x: Shaped) -> Array:
    """Return the kernel of a layer whose parameters fit ``x``."""
    b = {"b": (layer.features,)} if layer.use_bias else {}
    checks.parameters(layer.place, params, x, w=kernel_shape(layer, x), **b)
    return params["w"]


def kernel_and_bias(layer: Conv | ConvTranspose, key: Array, shape: Shape, dtype: DType) -> Params:
    """Draw the kernel, each group by itself, because an initializer knows the fans of a group only; and the bias."""
    w_key, b_key = jax.random.split(key) if layer.use_bias else (key, key)
    if layer.groups == 1:
        w = layer.w_init(w_key, shape, dtype)
    else:
        of_group, keys = (*shape[:-1], layer.features // layer.groups), jax.random.split(w_key, layer.groups)
        w = jnp.moveaxis(jax.vmap(lambda k: layer.w_init(k, of_group, dtype))(keys), 0, -2).reshape(shape)
    return {"w": w, "b": layer.b_init(b_key, (layer.features,), dtype)} if layer.use_bias else {"w": w}
