"""Recurrent cells: one step of a recurrence, ``step(params, carry, x) -> (carry, y)``, for a scan over time.

Letters: ``x (N, D)`` inputs and ``y (N, H)`` outputs of one step, ``h (N, H)`` the state, ``w_x (D, G H)`` and
``w_h (H, G H)`` the weights of ``G`` gates next to each other, in the order that each cell states, ``b (G H,)``.

A step has two halves. ``project(params, x)`` depends on the inputs only, ``x w_x + b``: it is one product of matrices
for all steps at once, outside of the scan. ``advance(params, carry, z)`` is the rest, step by step. It checks nothing;
``step`` raises if its arguments do not fit.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.activations import sigmoid, tanh
from fnnet.configuration import configuration
from fnnet.initializers import glorot_uniform, orthogonal
from fnnet.types import ActivationFunction, Array, DType, Initializer, Params, Scalar, Shaped

Carry = Any  # a pytree of arrays (N, H)


@runtime_checkable
class Cell(Protocol):
    """A frozen, hashable description of one step."""

    @property
    def features(self) -> int: ...

    def init(self, key: Array, x: Shaped) -> Params: ...

    def initial_carry(self, examples: int, dtype: DType) -> Carry: ...

    def project(self, params: Params, x: Array) -> Array: ...

    def advance(self, params: Params, carry: Carry, z: Array) -> tuple[Carry, Array]: ...

    def step(self, params: Params, carry: Carry, x: Array) -> tuple[Carry, Array]: ...


@configuration
class RNNCell:
    """``h ← f(x w_x + h w_h + b)``,  ``y = h`` (Elman 1990). The carry is ``h``.

    ``w_x`` starts Glorot-uniform (Glorot and Bengio 2010, eq. 16), ``w_h`` orthogonal, so that it keeps
    the length of the state at first (Saxe et al. 2014), ``b`` and the carry at zero.
    """

    gates: ClassVar[int] = 1
    features: int
    activation: ActivationFunction = tanh
    w_x_init: Initializer = glorot_uniform
    w_h_init: Initializer = orthogonal

    def __post_init__(self) -> None:
        checks.positive_integer("RNNCell", "features", self.features)

    def init(self, key: Array, x: Shaped) -> Params:
        return gate_params(self, key, x)

    def initial_carry(self, examples: int, dtype: DType) -> Array:
        return jnp.zeros((examples, self.features), dtype)

    def project(self, params: Params, x: Array) -> Array:
        return projected(self, params, x)

    def advance(self, params: Params, carry: Array, z: Array) -> tuple[Array, Array]:
        h = self.activation(z + carry @ params["w_h"])
        return h, h

    def step(self, params: Params, carry: Array, x: Array) -> tuple[Array, Array]:
        return self.advance(params, *checked_step(self, params, carry, x))


@configuration
class GRUCell:
    """Gated recurrent unit (Cho et al. 2014, eq. 5-8), gates in the order reset ``r``, update ``u``, candidate ``n``.

    ``r = σ(x w_xr + h w_hr + b_r)``,  ``u = σ(x w_xu + h w_hu + b_u)``,  ``h ← u ⊙ h + (1 − u) ⊙ n``,  ``y = h``.

    There are two conventions for the reset gate. With ``reset_after`` (the default, as in PyTorch and cuDNN),
    ``n = tanh(x w_xn + b_n + r ⊙ (h w_hn + b_h))``; without it (Cho et al.) ``n = tanh(x w_xn + b_n + (r ⊙ h) w_hn)``,
    and there is no ``b_h``. The carry is ``h``. Initial values are those of ``RNNCell``; each gate is orthogonal by
    itself.
    """

    gates: ClassVar[int] = 3
    features: int
    reset_after: bool = True
    w_x_init: Initializer = glorot_uniform
    w_h_init: Initializer = orthogonal

    def __post_init__(self) -> None:
        checks.positive_integer("GRUCell", "features", self.features)

    def init(self, key: Array, x: Shaped) -> Params:
        params = gate_params(self, key, x)
        if self.reset_after:
            params["b_h"] = jnp.zeros(self.features, checks.dtype_of(x))
        return params

    def initial_carry(self, examples: int, dtype: DType) -> Array:
        return jnp.zeros((examples, self.features), dtype)

    def project(self, params: Params, x: Array) -> Array:
        return projected(self, params, x)

    def advance(self, params: Params, carry: Array, z: Array) -> tuple[Array, Array]:
        h, w_h, width = carry, params["w_h"], self.features
        if self.reset_after:
            a = h @ w_h
            r, u = jnp.split(sigmoid(z[:, : 2 * width] + a[:, : 2 * width]), 2, -1)
            n = tanh(z[:, 2 * width :] + r * (a[:, 2 * width :] + params["b_h"]))
        else:
            r, u = jnp.split(sigmoid(z[:, : 2 * width] + h @ w_h[:, : 2 * width]), 2, -1)
            n = tanh(z[:, 2 * width :] + (r * h) @ w_h[:, 2 * width :])
        h = n + u * (h - n)
        return h, h

    def step(self, params: Params, carry: Array, x: Array) -> tuple[Array, Array]:
        return self.advance(params, *checked_step(self, params, carry, x))


@configuration
class LSTMCell:
    """Long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    Gates in the order input ``i``, forget ``f``, candidate ``g``, output ``o``, as in PyTorch:
    ``[i, f, g, o] = [σ, σ, tanh, σ](x w_x + h w_h + b)``,  ``c ← f ⊙ c + i ⊙ g``,  ``h ← o ⊙ tanh(c)``,  ``y = h``.

    The carry is ``(h, c)``. ``b`` starts at 0 and that of the forget gate at ``forget_bias``: with 1 the cell
    remembers until it has learned to forget (Jozefowicz et al. 2015, section 3.1). The other initial values are those
    of ``RNNCell``; each gate is orthogonal by itself.
    """

    gates: ClassVar[int] = 4
    features: int
    forget_bias: Scalar = 1.0
    w_x_init: Initializer = glorot_uniform
    w_h_init: Initializer = orthogonal

    def __post_init__(self) -> None:
        checks.positive_integer("LSTMCell", "features", self.features)

    def init(self, key: Array, x: Shaped) -> Params:
        params = gate_params(self, key, x)
        forget = slice(self.features, 2 * self.features)
        return params | {"b": params["b"].at[forget].set(checks.in_dtype(self.forget_bias, checks.dtype_of(x)))}

    def initial_carry(self, examples: int, dtype: DType) -> tuple[Array, Array]:
        shape = (examples, self.features)
        return jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)

    def project(self, params: Params, x: Array) -> Array:
        return projected(self, params, x)

    def advance(self, params: Params, carry: tuple[Array, Array], z: Array) -> tuple[tuple[Array, Array], Array]:
        h, c = carry
        i, f, g, o = jnp.split(z + h @ params["w_h"], 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        return (h, c), h

    def step(self, params: Params, carry: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], Array]:
        return self.advance(params, *checked_step(self, params, carry, x))


def gate_params(cell: Any, key: Array, x: Shaped) -> Params:
    """Return ``{w_x, w_h, b}`` of the gates next to each other, each drawn by itself."""
    checks.init_arguments(repr(cell), key, x)
    features, dtype, width = checks.features_of(repr(cell), x), checks.dtype_of(x), cell.features

    def side_by_side(draw: Initializer, key: Array, rows: int) -> Array:
        return jnp.concatenate([draw(k, (rows, width), dtype) for k in jax.random.split(key, cell.gates)], -1)

    x_key, h_key = jax.random.split(key)
    return {
        "w_x": side_by_side(cell.w_x_init, x_key, features),
        "w_h": side_by_side(cell.w_h_init, h_key, width),
        "b": jnp.zeros(cell.gates * width, dtype),
    }


def projected(cell: Any, params: Params, x: Array) -> Array:
    """Compute ``x w_x + b`` for the inputs of one step or of all steps."""
    check_params(cell, params, x)
    return x @ params["w_x"] + params["b"]


def check_params(cell: Any, params: Params, x: Array) -> None:
    """Raise unless the parameters fit the cell and its inputs ``x``."""
    features, rows = checks.features_of(repr(cell), x), cell.gates * cell.features
    b_h = {"b_h": (cell.features,)} if getattr(cell, "reset_after", False) else {}
    checks.parameters(repr(cell), params, x, w_x=(features, rows), w_h=(cell.features, rows), b=(rows,), **b_h)


def checked_step(cell: Any, params: Params, carry: Carry, x: Any) -> tuple[Carry, Array]:
    """Return the carry and ``x w_x + b`` for one step; raise if they do not fit."""
    x = checks.array(repr(cell), "x", x)
    checks.require(x.ndim == 2, f"{cell!r}: x has shape {x.shape}; expected (N, D), the inputs of one step")
    z = cell.project(params, x)
    return check_carry(repr(cell), cell, x.shape[0], z.dtype, carry), z


def check_carry(place: str, cell: Cell, examples: int, dtype: DType, carry: Any) -> Carry:
    """Return the carry with arrays as leaves; raise if it differs from ``cell.initial_carry`` in shape or dtype."""
    start = jax.eval_shape(lambda: cell.initial_carry(examples, dtype))
    structure: Any = jax.tree.structure(start)
    try:
        arrays = structure.unflatten(map(jnp.asarray, structure.flatten_up_to(carry)))
    except (TypeError, ValueError):
        arrays = carry  # of another structure
    expected, found = shapes_of(start), shapes_of(arrays)
    checks.require(
        expected == found,
        f"{place}: carry has (shape, dtype) {found}; expected {expected}, as cell.initial_carry makes it for "
        f"{examples} examples",
    )
    return arrays


def shapes_of(tree: Any) -> Any:
    return jax.tree.map(lambda a: (jnp.shape(a), str(checks.dtype_of(a))), tree)
