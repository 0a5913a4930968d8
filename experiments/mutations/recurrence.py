"""Faults of backpropagation through time.

The healthy rule of ``Recurrent``: from the last step to the first, a step of the cell turns the gradients at its carry
and output into ``δ_t``, that of its inputs' part ``z_t``, and the gradient at the carry before; then, for all steps at
once, ``dw_x = Σ_t x_tᵀ δ_t``, ``dw_h = Σ_t h_{t−1}ᵀ δ_t``, ``db = Σ_t δ_t``, ``dx_t = δ_t w_xᵀ``. The cells' rules are
broken by giving their healthy ones something else than they should have: inputs, outputs or gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

import fnnet
from experiments.mutations.layers import after, dx
from experiments.mutations.mutant import Broken, Fault, Mutant, Subject, normal
from fnnet import Bidirectional, Checkpointed, GRUCell, LSTMCell, Recurrent, RNNCell, Truncated
from fnnet.backprop import RULES, SCAN_RULES
from fnnet.types import Array, Params
