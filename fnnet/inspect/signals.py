"""What one forward and one backward pass say about every layer: how large the signals are, and whether they vary.

A *tap* is an array of zeros added to the output of a layer. The derivative of the cost with respect to it is the
gradient that arrives there, so one backward pass gives those of all layers, and no layer needs to know of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.backprop.custom_vjp import CustomVJP
from fnnet.cost import Cost
from fnnet.layers import Activation, children
from fnnet.paths import named_leaves
from fnnet.types import ActivationFunction, Array, Batch, Layer, Params, Shaped

NOTHING = 1e-3  # a largest derivative below this is that of a function that mixes units, up to rounding
FLAT = 0.05  # a derivative below this part of the largest one counts as that of a saturated unit
MOSTLY = 0.95  # the part of the examples on which a saturated unit is flat
GRID = 10.0  # the derivative of an activation function has its largest value between −GRID and GRID


class LayerSignals(NamedTuple):
    """What passes through one layer, as scalars. NaN where a number has no meaning, as ``dead`` of integers.

    ``h (N, ..., H)`` is the output of the layer for ``N`` examples, and a *unit* is an entry of its last axis.

    - ``rms``: ``√mean(h²)``.
    - ``gain``: ``rms`` over that of the layer's input.
    - ``vary``: ``√(mean Var_n h / mean h²)``, the part of the signal that depends on the example: 0 if all examples
      have the same output, 1 if the mean over them is 0.
    - ``cosine``: the mean of ``cos(h_n, h_m)`` over the pairs of examples.
    - ``dead``: the share of units that are 0 for all examples.
    - ``saturated``: the share of units of an ``Activation`` whose derivative is below 5 % of its largest value on at
      least 95 % of the examples. Functions that mix units, such as softmax, have none.
    - ``gradient``: ``√mean(δ²)`` of the gradient ``δ = ∂cost/∂h``.
    - ``reach``: ``(‖g‖ / ‖w‖) / max_k (‖g_k‖ / ‖w_k‖)``, where ``w`` are all parameters of the layer and ``g`` their
      gradient: the relative change that one step of gradient descent makes, compared with the layer where it is
      largest. It is NaN for a layer without parameters, or all of whose parameters are 0.
    """

    rms: Array
    gain: Array
    vary: Array
    cosine: Array
    dead: Array
    saturated: Array
    gradient: Array
    reach: Array


def signals(cost: Cost, params: Params, batch: Batch, *, key: Array | None = None) -> dict[str, LayerSignals]:
    """Return ``{path: LayerSignals}`` for every layer of a model, from one forward and one backward pass of a batch.

    Layers are those of ``leaf_layers``, in the order of the forward pass, and ``path`` is theirs. Parameters inside a
    layer that is not looked into (a model of flax, the directions of ``Bidirectional``) have entries of their own, with
    ``reach`` and the path of the tree that holds them. The network is the deterministic one (``train=False``) and the
    penalty is left out. The function is pure and works under ``jax.jit``; jit returns a dict in alphabetical order.
    """
    return signals_of(cost.model, params, pass_of(cost, params, batch, key=key))


class Pass(NamedTuple):
    """What a pass leaves: ``{path: (x, y)}`` and ``{path: ∂cost/∂y}`` of the layers, and the gradient ``∂cost/∂θ``."""

    seen: dict[str, tuple[Any, Any]]
    dys: dict[str, Any]
    grads: Params


def pass_of(cost: Cost, params: Params, batch: Batch, *, key: Array | None = None) -> Pass:
    """Return what one pass leaves at every layer, in the deterministic network and without the penalty."""
    x, target, weights = cost.counted_batch("inspect.signals", batch)

    def value(params: Params, zeros: Mapping[str, Array]) -> Any:
        taps = Taps(zeros)
        prediction = taps.put_on(cost.model).apply(params, x, key=key)
        return cost.mean_loss(prediction, target, weights), taps.seen

    shapes = jax.eval_shape(lambda params: value(params, {})[1], params)
    zeros = {path: jnp.zeros(y.shape, y.dtype) for path, (_, y) in shapes.items() if is_signal(y)}
    (grads, dys), seen = jax.grad(value, argnums=(0, 1), has_aux=True)(params, zeros)
    return Pass(seen, dys, grads)


def signals_of(model: Layer, params: Params, done: Pass, xp: Any = jnp) -> dict[str, LayerSignals]:
    """Return the signals of a pass. ``xp`` is ``jax.numpy``, or ``numpy`` for arrays in the memory of the host.

    With NumPy nothing is compiled, and ``saturated``, which needs derivatives, is NaN.
    """
    layers, nan = leaf_layers(model), xp.full((), xp.nan, "float32")
    reach = reach_of(params, done.grads, xp)
    nothing = LayerSignals(*[nan] * len(LayerSignals._fields))
    found = {
        path: of_layer(layers[path], *done.seen[path], done.dys.get(path), xp) for path in layers if path in done.seen
    }
    return {path: found.get(path, nothing)._replace(reach=reach.get(path, nan)) for path in found | reach}


@dataclass
class Taps:
    """Layers that note what goes through them in ``seen``, and add ``zeros`` to their outputs.

    ``seen`` is ``{path: (x, y)}``. It is filled while the model is traced: a new object is needed for each trace.
    """

    zeros: Mapping[str, Array] = field(default_factory=dict)
    seen: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    layers: dict[str, Layer] = field(default_factory=dict)

    def put_on(self, layer: Layer, path: str = "") -> Layer:
        """Return the layer with a tap on each of its leaves: the layers that are not made of others, as far as seen.

        The children of a dataclass are looked for among its fields. A layer that has them elsewhere, or that refuses
        other children, as ``Truncated`` does, is a leaf.
        """
        if isinstance(layer, CustomVJP):  # it runs the rule of its child, which a tapped layer does not have
            return self.put_on(layer.layer, path)
        left, before = list(children(layer)), dict(self.layers)

        def tapped(value: Any) -> Any:
            for i, (name, child) in enumerate(left):
                if child is value:
                    del left[: i + 1]
                    return self.put_on(child, ".".join(filter(None, (path, name))))
            return value

        try:
            changes = {name: tapped_in(value, tapped) for name, value in fields_of(layer).items()}
            if self.layers != before:
                return replace(layer, **changes)  # type: ignore[type-var]
        except (TypeError, ValueError):
            self.layers = before
        self.layers[path] = layer
        return Tapped(path, layer, self)


def fields_of(layer: Layer) -> dict[str, Any]:
    return {f.name: getattr(layer, f.name) for f in fields(layer) if f.init} if is_dataclass(layer) else {}


def tapped_in(value: Any, tapped: Any) -> Any:
    return tuple(map(tapped, value)) if type(value) is tuple else tapped(value)


@dataclass(frozen=True, eq=False, repr=False)
class Tapped:
    """A layer with a tap on its output."""

    path: str
    layer: Layer
    taps: Taps

    def init(self, key: Array, x: Shaped) -> Params:
        return self.layer.init(key, x)

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        y = self.layer.apply(params, x, key=key, train=train)
        if self.path in self.taps.zeros:
            y = y + self.taps.zeros[self.path]
        self.taps.seen[self.path] = x, y
        return y

    def __repr__(self) -> str:
        return repr(self.layer)


def leaf_layers(model: Layer) -> dict[str, Layer]:
    """Return ``{path: layer}`` of the layers that are not made of others, in the order of the forward pass.

    Paths are those of the parameters: the weights of the layer at ``"2.layer.0"`` are ``"2.layer.0.w"``. Recurrent
    layers and those around a single one of them are leaves, and so is a model whose layers cannot be seen.
    """
    taps = Taps()
    taps.put_on(model)
    return taps.layers


def is_signal(y: Any) -> bool:
    """Return whether this is an array of floating-point numbers with examples on its first axis."""
    return hasattr(y, "ndim") and y.ndim > 0 and checks.is_float(y)


def of_layer(layer: Layer, x: Any, y: Any, dy: Any, xp: Any) -> LayerSignals:
    """Return the signals of one layer, without ``reach``."""
    nan = xp.full((), xp.nan, "float32")
    if not is_signal(y):
        return LayerSignals(*[nan] * len(LayerSignals._fields))
    h = y.astype(checks.at_least_float32(y))
    slopes = nan
    if xp is jnp and isinstance(layer, Activation) and x.shape == y.shape:
        slopes = saturated(layer.function, x)
    return LayerSignals(
        rms=rms(h, xp),
        gain=rms(h, xp) / rms(x, xp).astype(h.dtype) if is_signal(x) else nan,
        vary=rms(h - h.mean(0), xp) / rms(h, xp),
        cosine=mean_cosine(h, xp),
        dead=(xp.abs(by_unit(h)).max(0) == 0).mean(dtype=h.dtype),
        saturated=slopes,
        gradient=nan if dy is None else rms(dy, xp),
        reach=nan,
    )


def rms(a: Any, xp: Any) -> Any:
    """Return ``√mean(a²)``, in at least float32. It compiles faster than ``norms.norm``, which never overflows."""
    return xp.sqrt(xp.square(a.astype(checks.at_least_float32(a))).mean())


def by_unit(h: Any) -> Any:
    """Return ``(N, ..., H)`` as ``(examples and positions, units)``."""
    return h.reshape(-1, h.shape[-1] if h.ndim > 1 else 1)


def mean_cosine(h: Any, xp: Any) -> Any:
    """Return the mean of ``cos(h_n, h_m)`` over all pairs ``n ≠ m``: ``(‖Σ_n e_n‖² − Σ_n ‖e_n‖²) / (N (N − 1))``.

    ``e_n = h_n / ‖h_n‖``, and 0 where ``h_n = 0``.
    """
    flat = h.reshape(h.shape[0], -1)
    lengths = xp.sqrt(xp.square(flat).sum(1, keepdims=True))
    e = flat / xp.where(lengths > 0, lengths, 1)
    examples = h.shape[0]
    pairs = xp.square(e.sum(0)).sum() - xp.square(e).sum()
    return pairs / (examples * (examples - 1)) if examples > 1 else xp.full((), xp.nan, h.dtype)


def saturated(function: ActivationFunction, z: Array) -> Array:
    """Return the share of units with ``|f'(z)| < 0.05 max|f'|`` on at least 95 % of the examples, NaN if f mixes units.

    A function of single numbers is known by this: the derivative on an array with one entry is not always 0, as that of
    softmax is, and it takes such an array, which ``glu`` does not.
    """

    def slope(z: Array) -> Array:
        return jax.jvp(function, (z,), (jnp.ones_like(z),))[1]

    grid = jnp.linspace(-GRID, GRID, 201, dtype=z.dtype).reshape(-1, *[1] * z.ndim)
    try:
        slopes = jax.vmap(slope)(grid)
    except (TypeError, ValueError):
        return jnp.full((), jnp.nan, jnp.float32)
    largest = jnp.abs(slopes).max()
    flat = jnp.abs(by_unit(slope(z))) < FLAT * largest
    share = (flat.mean(0, dtype=jnp.float32) >= MOSTLY).mean(dtype=jnp.float32)
    return jnp.where(largest > NOTHING, share, jnp.nan)


def reach_of(params: Params, grads: Params, xp: Any) -> dict[str, Any]:
    """Return ``reach`` of every layer with parameters, by its path."""

    def lengths(tree: Params) -> dict[str, Any]:
        grouped: dict[str, list[Any]] = {}
        for name, leaf in named_leaves(tree):
            if checks.is_float(leaf):
                square = xp.square(leaf.astype(checks.at_least_float32(leaf))).sum()
                grouped.setdefault(name.rpartition(".")[0], []).append(square.astype("float32"))
        return {path: xp.sqrt(sum(squares[1:], squares[0])) for path, squares in grouped.items()}

    w, g = lengths(params), lengths(grads)
    ratios = {path: xp.where(w[path] > 0, g[path] / xp.where(w[path] > 0, w[path], 1), xp.nan) for path in w}
    known = xp.stack([xp.where(w[path] > 0, ratio, 0) for path, ratio in ratios.items()] or [xp.zeros(())])
    return {path: ratio / xp.where(known.max() == 0, 1, known.max()) for path, ratio in ratios.items()}
