"""Backpropagation by hand: every gradient derived on paper, no autodiff inside.

``value_and_grad`` and ``grad`` mirror ``jax.value_and_grad`` and ``jax.grad`` of a ``fnnet.Cost``; ``vjp`` takes one
layer; ``as_custom_vjp`` gives a layer whose ``jax.grad`` runs the hand-written rule. The rules stand in tables that
you can read and extend (see ``Table``): ``RULES`` for layers, ``SCAN_RULES`` and ``CELL_RULES`` for recurrence,
``ACTIVATION_RULES``, ``LOSS_GRADIENTS`` and ``PENALTY_GRADIENTS``.
"""

from fnnet.backprop.activations import ACTIVATION_RULES, ActivationRule
from fnnet.backprop.cost import grad, value_and_grad
from fnnet.backprop.custom_vjp import as_custom_vjp
from fnnet.backprop.layers.attention import attend_vjp
from fnnet.backprop.layers.cells import CELL_RULES, CellRule
from fnnet.backprop.layers.scans import SCAN_RULES, ScanRule, scan_vjp
from fnnet.backprop.losses import FUSED_GRADIENTS, LOSS_GRADIENTS
from fnnet.backprop.penalties import PENALTY_GRADIENTS
from fnnet.backprop.rule import RULES, Rule, Table, vjp

__all__ = [
    "ACTIVATION_RULES",
    "CELL_RULES",
    "FUSED_GRADIENTS",
    "LOSS_GRADIENTS",
    "PENALTY_GRADIENTS",
    "RULES",
    "SCAN_RULES",
    "ActivationRule",
    "CellRule",
    "Rule",
    "ScanRule",
    "Table",
    "as_custom_vjp",
    "attend_vjp",
    "grad",
    "scan_vjp",
    "value_and_grad",
    "vjp",
]
