"""The table of cases: every public layer, activation, loss and penalty, each with inputs that suit it.

Every property runs over this table, so a new layer joins all of them with one line here. Numbers are drawn in NumPy
from a seed; ``dtype`` is chosen by the test.
"""

from tests.cases.layers import (
    ACTIVATIONS,
    AT_ONCE,
    ELEMENTWISE,
    LAYERS,
    NOT_ELEMENTWISE,
    OF_TOKENS,
    ONE_OF_EACH,
    LayerCase,
)
from tests.cases.losses import LOSSES, LossCase
from tests.cases.numbers import SEED, network_params, random_like, random_params
from tests.cases.penalties import PENALTIES, PenaltyCase
from tests.cases.recurrent import CELLS

__all__ = [
    "ACTIVATIONS",
    "AT_ONCE",
    "CELLS",
    "ELEMENTWISE",
    "LAYERS",
    "LOSSES",
    "NOT_ELEMENTWISE",
    "OF_TOKENS",
    "ONE_OF_EACH",
    "PENALTIES",
    "SEED",
    "LayerCase",
    "LossCase",
    "PenaltyCase",
    "network_params",
    "random_like",
    "random_params",
]
