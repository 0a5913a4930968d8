"""Dropout."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.configuration import configuration
from fnnet.types import Array, Params, Scalar, Shaped


@configuration
class Dropout:
    """Inverted dropout: in training ``y = m ⊙ x / (1 − rate)`` with ``m ~ Bernoulli(1 − rate)``, else ``y = x``.

    ``rate`` is the probability that an entry is *dropped*, in [0, 1). The division keeps the mean, ``E[y] = x``, so
    that the same network serves for inference, with ``train=False``. There are no parameters. Training needs a key.

    Source: Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting", section 10.
    """

    rate: Scalar

    def __post_init__(self) -> None:
        checks.in_range("Dropout", "rate", self.rate, 0, 1, open_high=True)
        object.__setattr__(self, "rate", checks.python_number(self.rate))

    def init(self, key: Array, x: Shaped) -> Params:
        checks.init_arguments(repr(self), key, x)
        return {}

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        if not train:
            return checks.array(repr(self), "x", x)
        return self.dropped(self.mask(key, x), x)

    def dropped(self, mask: Array, x: Array) -> Array:
        """Return ``m ⊙ x / (1 − rate)``."""
        return jnp.where(mask, x / checks.in_dtype(1 - self.rate, checks.dtype_of(x)), 0)

    def mask(self, key: Array | None, x: Any) -> Array:
        """Draw the mask ``m``: True at the entries that are kept, in the shape of ``x``."""
        checks.floating(repr(self), "x", x)
        return jax.random.bernoulli(checks.key_given(repr(self), key), 1 - self.rate, x.shape)
