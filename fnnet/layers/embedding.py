"""Embeddings: a vector for each token."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from fnnet import checks
from fnnet.binding import bind
from fnnet.configuration import configuration
from fnnet.initializers import normal
from fnnet.types import Array, DType, Initializer, Params, Shaped

FLOAT32 = np.dtype(np.float32)
STANDARD_NORMAL = bind(normal, stddev=1.0)


@configuration
class Embedding:
    """A table with a row for each token, ``y = table[x]``.

    Shapes: integers ``x (...)`` from 0 to ``entries − 1``, ``table (entries, features)``, ``y (..., features)``. The
    table starts standard normal, in ``dtype``, because the input is of no floating-point dtype.

    Tokens out of range, negative ones included, raise where their values are known: in ``fit`` and outside ``jit``.
    Inside ``jit`` their rows are NaN, and no gradient flows from them.
    """

    entries: int
    features: int
    dtype: DType = FLOAT32
    table_init: Initializer = STANDARD_NORMAL

    def __post_init__(self) -> None:
        checks.positive_integer("Embedding", "entries", self.entries)
        checks.positive_integer("Embedding", "features", self.features)
        checks.require(
            bool(jnp.issubdtype(self.dtype, jnp.floating)),
            f"Embedding: dtype is {self.dtype}; expected floating point, such as 'float32'",
        )
        object.__setattr__(self, "dtype", jnp.dtype(self.dtype))  # "float32" and jnp.float32 give equal layers

    def init(self, key: Array, x: Shaped) -> Params:
        checks.init_arguments(repr(self), key, x)
        self.check_kind(x)
        return {"table": self.table_init(key, (self.entries, self.features), self.dtype)}

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        x = self.tokens(x)
        checks.parameters(repr(self), params, x, table=(self.entries, self.features))
        return params["table"].at[x].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)

    def tokens(self, x: Any) -> Array:
        """Return ``x`` in a dtype that holds every entry. Raise if a token is known to be out of range."""
        self.check_kind(x)
        if checks.is_concrete(x) and np.size(x) > 0:
            values = np.asarray(x)  # NumPy, because inside a trace jax's own functions would trace even known values
            low, high = int(values.min()), int(values.max())
            bad = low if low < 0 else high
            checks.require(
                low >= 0 and high < self.entries,
                f"{self!r}: x has the token {bad}; expected 0 .. {self.entries - 1}: remap the tokens, or give more "
                f"entries",
            )
        x = jnp.asarray(x)
        return x if jnp.iinfo(x.dtype).bits >= 32 else x.astype(jnp.int32)

    def check_kind(self, x: Any) -> None:
        checks.an_array(repr(self), "x", x)
        if not checks.is_integer(x):
            raise TypeError(f"{self!r}: x has dtype {checks.dtype_of(x)}; expected integer tokens")
