"""What a layer costs, in closed form: one table of operations for every layer of the library.

An operation is one result of ``+``, ``−``, ``·``, ``/``, of a comparison or of a choice between two numbers. A product
of matrices ``(m, k) (k, n)`` takes ``2 m k n``, and a sum of ``n`` numbers ``n − 1``. The values of ``exp``, ``log``,
``tanh``, ``√`` and the like are counted apart, as *transcendental*; so ``σ(z) = 1 / (1 + exp(−z))`` takes three
operations and one such value. Not counted are moving, converting and drawing numbers, operations on constants and
indices, and products with the zeros of a padding.

This is how XLA counts, and what it counts for the layers of fnnet: ``Dense(4)`` of ``x (16, 9)`` takes
``2 · 16 · 9 · 4 + 16 · 4 = 1,216`` operations forward, and ``Conv(16, 5, use_bias=False)`` of ``x (1, 12, 12, 3)``
takes ``2 · 8² · 5² · 3 · 16 = 153,600``, both as in ``jax.jit(layer.apply).lower(params, x).cost_analysis()``. There
is one difference: XLA counts the body of a loop once, however often it runs, and here every step counts. A recurrent
layer or attention equals XLA's count where its loops are unrolled.

Backward is what the hand-written rule in ``fnnet.backprop`` computes, together with what it computes again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from fnnet import activations as f
from fnnet.backprop.custom_vjp import CustomVJP
from fnnet.binding import unbind
from fnnet.convolution.geometry import Geometry
from fnnet.layers import (
    Activation,
    Affine,
    AvgPool,
    BatchNorm,
    Bidirectional,
    Conv,
    ConvTranspose,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GaussianNoise,
    GlobalAvgPool,
    GlobalMaxPool,
    GroupNorm,
    LayerNorm,
    LearnedPositions,
    LowPrecision,
    MaxPool,
    MultiHeadAttention,
    Recurrent,
    Rematerialized,
    Residual,
    Sequential,
    SinusoidalPositions,
    Truncated,
    Upsample,
)
from fnnet.layers.attention import AttentionBlocks
from fnnet.layers.cells import GRUCell, LSTMCell, RNNCell
from fnnet.layers.convolution import kernel_shape
from fnnet.types import ActivationFunction, Layer, Shape, Shaped


class Operations(NamedTuple):
    """The operations of a layer for one batch.

    ``forward`` computes ``y``. ``to_params`` computes the gradient of the parameters and what both gradients need,
    ``to_inputs`` the rest of that of the input, which the first layer of a network does not need. ``transcendental`` is
    the number of values of ``exp``, ``tanh`` and the like in the forward pass. ``growth`` is the leading term of
    ``forward`` in the index letters of the layer's docstring.
    """

    forward: int
    to_params: int = 0
    to_inputs: int = 0
    transcendental: int = 0
    growth: str = ""


Entry: TypeAlias = Callable[[Any, Shape, Shape], Operations | None]

AXES = {0: "", 1: "N", 2: "N D", 3: "N T D", 4: "N H W C"}  # of an array with this many axes
PLACES = {1: "L", 2: "H W"}  # the spatial axes
POWERS = {1: "", 2: "²", 3: "³"}


def operations(layer: Layer, x: Shaped, y: Shaped) -> Operations | None:
    """Return the operations of a layer with the input ``x`` and the output ``y``, in training, or None if unknown.

    They are those of the layer alone, without those of its ``children``. A layer of your own tells them by a method
    ``operations(x, y) -> Operations``, or by an entry ``OPERATIONS[TheLayer] = entry`` with
    ``entry(layer, x_shape, y_shape) -> Operations``. As with rules, a subclass does not inherit an entry.
    """
    entry = OPERATIONS.get(type(layer))
    if entry is not None:
        return entry(layer, tuple(x.shape), tuple(y.shape))
    method = getattr(layer, "operations", None)
    return None if method is None else method(x, y)


def dense(layer: Dense, x: Shape, y: Shape) -> Operations:
    """Return ``2 D`` for each entry of ``x w``, as many for ``dw`` and for ``dx``, and the additions for ``b``."""
    product, bias = 2 * math.prod(y) * x[-1], layer.use_bias
    axes = AXES.get(len(x), "N D").removesuffix("D") + "D H"
    return Operations(
        product + bias * math.prod(y), product + bias * (math.prod(y) - y[-1]), product, growth=axes.lstrip()
    )


def conv(layer: Conv | ConvTranspose, x: Shape, y: Shape) -> Operations:
    """Return ``2 C / groups`` for each entry of ``y`` and tap that reads the image, as many for ``dw`` and ``dx``.

    A transposed convolution multiplies the same numbers as the convolution from its output to its input.
    """
    geometry = layer.geometry(x, kernel_shape(layer, shaped(x)))
    product = 2 * x[0] * math.prod(taps_inside(geometry)) * x[-1] * y[-1] // layer.groups
    kernel = f"k{POWERS.get(geometry.rank, '')}" if geometry.taps > 1 else ""
    growth = " ".join(filter(None, ["N", PLACES.get(geometry.rank, "L"), kernel, "C O"]))
    growth += " / groups" if layer.groups > 1 else ""
    bias = layer.use_bias
    return Operations(product + bias * math.prod(y), product + bias * (math.prod(y) - y[-1]), product, growth=growth)


def taps_inside(geometry: Geometry) -> list[int]:
    """Return, for each axis, the number of pairs of an output and a tap that reads the image and not its padding."""
    counts = []
    for axis in range(geometry.rank):
        starts = np.arange(geometry.output[axis]) * geometry.stride[axis] - geometry.padding[axis][0]
        read = starts[:, None] + np.arange(geometry.kernel[axis]) * geometry.dilation[axis]
        counts.append(int(((read >= 0) & (read < geometry.image[axis])).sum()))
    return counts


# Operations for each entry of z: forward, transcendental, backward.
ELEMENTWISE: dict[Any, tuple[int, int, int]] = {
    f.identity: (0, 0, 0),
    f.relu: (5, 0, 4),
    f.leaky_relu: (6, 0, 5),
    f.sigmoid: (3, 1, 3),
    f.tanh: (0, 1, 3),
    f.elu: (4, 1, 4),
    f.selu: (6, 1, 6),
    f.celu: (5, 1, 3),
    f.softplus: (6, 2, 4),
    f.log_sigmoid: (8, 2, 5),
    f.softsign: (8, 0, 4),
    f.silu: (11, 1, 13),
    f.gelu: (73, 1, 77),  # of which 62 for erfc, a quotient of polynomials as jax 0.10 lowers it
    f.mish: (14, 3, 20),
    f.hard_sigmoid: (9, 0, 5),
    f.hard_tanh: (7, 0, 4),
    f.hard_silu: (9, 0, 10),
}


def activation_operations(function: ActivationFunction, z: Shape) -> Operations | None:
    """Return the operations of an activation function of an array of this shape, None if it is not fnnet's."""
    bare, options = unbind(function)
    entries, growth = math.prod(z), AXES.get(len(z), "N D")
    if bare is f.gelu and options.get("approximate"):
        return Operations(18 * entries, 0, 20 * entries, entries, growth)
    if bare in ELEMENTWISE:
        forward, transcendental, backward = ELEMENTWISE[bare]
        scaled = options.get("alpha", 1) != 1  # a factor of 1 is not multiplied
        forward, backward = forward + scaled, backward + (scaled and bare is f.elu)
        return Operations(forward * entries, 0, backward * entries, transcendental * entries, growth)
    if bare in (f.softmax, f.log_softmax):
        lines = entries // z[options.get("axis", -1)]
        logs, backward = (0, 4 * entries - lines) if bare is f.softmax else (lines, 3 * entries - lines)
        return Operations(6 * entries - 2 * lines, 0, backward, entries + logs, growth)
    if bare is f.glu:
        return Operations(9 * entries // 2, 0, 8 * entries, entries // 2, growth)
    if bare is f.maxout:
        chosen = entries // options.get("pieces", 2)
        return Operations(10 * (entries - chosen) + 7 * entries, 0, 4 * entries, growth=growth)
    return None


def activation(layer: Activation, x: Shape, y: Shape) -> Operations | None:
    return activation_operations(layer.function, x)


def affine(layer: Affine, x: Shape, y: Shape) -> Operations:
    """Return two for each entry of ``y``, three for ``dscale = Σ x ⊙ dy`` and ``dshift = Σ dy``, one for ``dx``."""
    entries = math.prod(x)
    return Operations(2 * entries, 3 * entries - x[-1], entries, growth=AXES.get(len(x), "N D"))


def normalization(layer: Any, x: Shape, y: Shape) -> Operations:
    """Return 11 for each entry: the mean, its correction and the variance take 6, ``x̂`` 3, scale and shift 2."""
    entries = math.prod(x)
    lines = entries // layer.groups_of(x).size
    to_params = 6 * entries + lines - x[-1]
    return Operations(11 * entries + lines, to_params, 8 * entries + lines, lines, AXES.get(len(x), "N D"))


def max_pool(layer: MaxPool, x: Shape, y: Shape) -> Operations:
    """Return five for each entry that is compared with the largest so far, of which three are for NaN."""
    shape, forward, windows = list(x), 0, layer.windows(shaped(x))
    for along in reversed(windows):
        shape[along.axis] = along.outputs
        begun = len({*along.first.tolist()} - {0})  # offsets at which a window leaves the padding
        forward += (5 * (along.size - 1) + begun) * math.prod(shape)
    grid = x[0] * x[-1] * math.prod(along.steps * along.stride for along in windows)
    backward = grid * (3 * math.prod(along.reach for along in windows) - 1)
    return Operations(forward, 0, backward, growth=pooling_growth(x))


def avg_pool(layer: AvgPool, x: Shape, y: Shape) -> Operations:
    """Return the additions along each axis and one division; ``dx`` is a sum over the windows that see a position."""
    shape, forward, windows = list(x), math.prod(y), layer.windows(shaped(x))
    for along in reversed(windows):
        shape[along.axis] = along.outputs
        forward += (along.size - 1) * math.prod(shape)
    shape, backward = list(y), math.prod(y)
    for along in windows:
        shape[along.axis] = along.steps * along.stride
        backward += (2 * along.reach - 1) * math.prod(shape)
        shape[along.axis] = along.length
    return Operations(forward, 0, backward, growth=pooling_growth(x))


def pooling_growth(x: Shape) -> str:
    return f"N {PLACES.get(len(x) - 2, 'L')} k C"


def global_avg_pool(layer: GlobalAvgPool, x: Shape, y: Shape) -> Operations:
    return Operations(math.prod(x), 0, math.prod(y), growth=AXES.get(len(x), "N L C"))


def global_max_pool(layer: GlobalMaxPool, x: Shape, y: Shape) -> Operations:
    """Return the operations for the maximum, the places that hold it, the first of them, and the entry there."""
    return Operations(6 * math.prod(x) + 5 * math.prod(y), 0, 2 * math.prod(x), growth=AXES.get(len(x), "N L C"))


def upsample(layer: Upsample, x: Shape, y: Shape) -> Operations:
    if layer.method == "nearest":
        return Operations(0, 0, math.prod(y) - math.prod(x), growth=AXES.get(len(x), "N L C"))
    forward, backward, up, down = 0, 0, list(x), list(y)
    for axis in range(1, len(x) - 1):
        length = up[axis]
        up[axis] = y[axis]
        forward += 2 * length * math.prod(up)
        backward += 2 * length * math.prod(down)
        down[axis] = length
    return Operations(forward, 0, backward, growth=f"N {PLACES.get(len(x) - 2, 'L')} L C")


def dropout(layer: Dropout, x: Shape, y: Shape) -> Operations:
    return Operations(2 * math.prod(x), 0, 2 * math.prod(x), growth=AXES.get(len(x), "N D"))


def gaussian_noise(layer: GaussianNoise, x: Shape, y: Shape) -> Operations:
    return Operations(2 * math.prod(x), growth=AXES.get(len(x), "N D"))


def embedding(layer: Embedding, x: Shape, y: Shape) -> Operations:
    """Return three for each token, whose range is compared, and one choice and one addition for each entry."""
    return Operations(math.prod(y) + 3 * math.prod(x), math.prod(y), growth=AXES.get(len(y), "N D"))


def sinusoidal_positions(layer: SinusoidalPositions, x: Shape, y: Shape) -> Operations:
    return Operations(math.prod(x), growth="N T D")


def learned_positions(layer: LearnedPositions, x: Shape, y: Shape) -> Operations:
    return Operations(math.prod(x), math.prod(x) - x[1] * x[2], growth="N T D")


def recurrent(layer: Recurrent, x: Shape, y: Shape) -> Operations | None:
    """Return the operations of a cell of ``G`` gates over ``R = N T`` steps.

    Forward ``x w_x`` and ``h w_h`` take ``2 R (D + H) G H``. Backward ``dw_x``, ``dw_h``, ``δ w_hᵀ`` and ``dx`` take
    twice that. What else a gate needs is ``O(R H)``, counted along the formulas in ``fnnet.cpu.in_place``.
    """
    entry = CELLS.get(type(layer.cell))
    return None if entry is None else entry(layer.cell, x[0] * x[1], x[2])


def rnn(cell: RNNCell, rows: int, d: int) -> Operations | None:
    """Return the operations of ``f(z + h w_h)``; ``δ`` needs the derivative of f and a sum of two gradients."""
    h = cell.features
    function = activation_operations(cell.activation, (rows, h))
    if function is None:
        return None
    again = KEPT.get(unbind(cell.activation)[0], 0) * rows * h
    return gated(rows, d, h, 1, 2, function.transcendental, 1, function.forward, function.to_inputs + again)


KEPT = {
    f.sigmoid: 3,
    f.relu: 4,
    f.leaky_relu: 4,
    f.hard_sigmoid: 6,
    f.hard_tanh: 6,
}  # to get what the rule keeps from z


def gru(cell: GRUCell, rows: int, d: int) -> Operations:
    """Return 17 H forward: b 3, r and u 2 + 6, n 3 with b_h, h' 3; with the reset before the product 16 H."""
    h = cell.features
    forward, backward = (17, 20) if cell.reset_after else (16, 21)
    of_gates = gated(rows, d, h, 3, forward, 3 * rows * h, backward, 0, 0)
    if not cell.reset_after:
        return of_gates
    more = 2 * rows * h * h + (rows - 1) * h  # dw_hn = hᵀ dq apart from hᵀ δ, and db_h
    return of_gates._replace(to_params=of_gates.to_params + more)


def lstm(cell: LSTMCell, rows: int, d: int) -> Operations:
    """Return 21 H forward: b 4, h w_h 4, σ 9, c' 3, h' 1. Backward there are 29 H, with tanh(c') computed again."""
    return gated(rows, d, cell.features, 4, 21, 5 * rows * cell.features, 29, 0, 0)


def gated(
    rows: int, d: int, h: int, gates: int, forward: int, transcendental: int, backward: int, more: int, more_back: int
) -> Operations:
    """Return the products of ``gates`` gates, and ``forward`` and ``backward`` operations for each feature."""
    of_x, of_h = 2 * rows * d * gates * h, 2 * rows * h * gates * h
    bias = (rows - 1) * gates * h
    return Operations(
        of_x + of_h + forward * rows * h + more,
        of_x + 2 * of_h + bias + backward * rows * h + more_back,
        of_x,
        transcendental,
        "N T (D + H) H",
    )


CELLS: dict[type, Callable[[Any, int, int], Operations | None]] = {RNNCell: rnn, GRUCell: gru, LSTMCell: lstm}


def bidirectional(layer: Bidirectional, x: Shape, y: Shape) -> Operations:
    """Return the additions of ``dx``, a sum over both directions, which are its children."""
    return Operations(0, 0, math.prod(x))


def rematerialized(layer: Rematerialized, x: Shape, y: Shape) -> Operations | None:
    """Return those of the recurrence, and once more forward, which the backward pass runs again."""
    once = recurrent(layer.layer, x, y)
    return once and once._replace(to_params=once.to_params + once.forward)


def truncated(layer: Truncated, x: Shape, y: Shape) -> Operations | None:
    """Return those of the recurrence, and backward those of all windows of ``k2`` steps, forward and back.

    If some windows have steps that do not exist, there is a choice for each entry of ``x`` and ``dy`` and three for
    each of the carry. The gradients of ``x`` in windows that overlap are added.
    """
    once, windows = recurrent(layer.layer, x, y), layer.windows(shaped(x))
    again = recurrent(layer.layer, (windows.passes * x[0], windows.k2, x[2]), y)
    if once is None or again is None:
        return None
    features, overlaps = layer.layer.cell.features, len(windows.pieces) - 1
    chosen = x[2] + features + 3 * features * (2 if isinstance(layer.layer.cell, LSTMCell) else 1)
    missing = windows.k1 < windows.k2 or windows.steps < windows.passes * windows.k1
    to_params = again.forward + again.to_params + missing * windows.passes * x[0] * windows.k2 * chosen
    added = overlaps * x[0] * (windows.passes + overlaps) * windows.k1 * x[2]
    return once._replace(to_params=to_params, to_inputs=again.to_inputs + added)


def attention(layer: MultiHeadAttention, x: Shape, y: Shape) -> Operations:
    """Return the operations of the four projections and of attention in blocks.

    For each score forward ``4 d + 4``: ``q · k / √d`` takes ``2 d + 1``, its part of the maximum, of the sum and the
    subtraction 3, and ``p v`` ``2 d``. For each query and block of keys ``2 d + 2`` to rescale the sums, at the end
    ``d + 2``. Backward there are five products of ``2 d`` for each score, as the scores are computed again.
    """
    n, t, d_model = x
    heads, d = layer.heads, layer.features_of_head(d_model)
    width, bias = heads * d, layer.use_bias
    blocks = AttentionBlocks.of((n, t, heads, d), layer.block, layer.causal)
    pairs = blocks.count * (blocks.count + 1) // 2 if layer.causal else blocks.count**2
    rows = blocks.groups * blocks.rows
    queries, scores = rows * blocks.size * pairs, rows * blocks.size**2 * pairs
    chosen = layer.causal + (blocks.count * blocks.size != t)  # scores that a query does not see
    projection, rotation = 2 * n * t * d_model * width, 6 * n * t * width * layer.rotary
    forward = 4 * projection + bias * n * t * (2 * width + d_model) + rotation
    forward += scores * (4 * d + 4 + chosen) + queries * (2 * d + 2) + rows * blocks.count * blocks.size * (d + 2)
    to_params = 5 * projection + bias * (n * t - 1) * (2 * width + d_model) + rotation
    to_params += scores * (10 * d + 5 + chosen) + queries * 3 * d + n * t * heads * (2 * d - 1)
    growth = "N T D² + N T² D"
    return Operations(forward, to_params, 3 * projection + 2 * n * t * d_model, scores + queries, growth)


def residual(layer: Residual, x: Shape, y: Shape) -> Operations:
    """Return one addition for each entry of ``y``, and of ``dx``."""
    return Operations(math.prod(y), 0, math.prod(x))


def nothing(layer: Layer, x: Shape, y: Shape) -> Operations:
    return Operations(0)


def shaped(x: Shape) -> Shaped:
    """Return something of this shape, for the methods of layers that ask an array for it."""
    return jax.ShapeDtypeStruct(x, np.float32)


OPERATIONS: dict[type, Entry] = {
    Activation: activation,
    Affine: affine,
    AvgPool: avg_pool,
    BatchNorm: normalization,
    Bidirectional: bidirectional,
    Conv: conv,
    ConvTranspose: conv,
    CustomVJP: nothing,
    Dense: dense,
    Dropout: dropout,
    Embedding: embedding,
    Flatten: nothing,
    GaussianNoise: gaussian_noise,
    GlobalAvgPool: global_avg_pool,
    GlobalMaxPool: global_max_pool,
    GroupNorm: normalization,
    LayerNorm: normalization,
    LearnedPositions: learned_positions,
    LowPrecision: nothing,
    MaxPool: max_pool,
    MultiHeadAttention: attention,
    Recurrent: recurrent,
    Rematerialized: rematerialized,
    Residual: residual,
    Sequential: nothing,
    SinusoidalPositions: sinusoidal_positions,
    Truncated: truncated,
    Upsample: upsample,
}
