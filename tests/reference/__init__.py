"""Slow references in NumPy float64, with loops, straight from the formulas; nothing here comes from fnnet's code.

Each is a pair: the value, and the derivative already applied to what comes from above.
"""

from tests.reference.activations import ACTIVATIONS
from tests.reference.convolution import CONV, CONV_TRANSPOSE
from tests.reference.layers import DENSE, FLATTEN
from tests.reference.losses import LOSSES, loss_reference, over_examples
from tests.reference.normalization import NORMALIZATION, batch_groups, group_groups, layer_groups
from tests.reference.pair import Reference
from tests.reference.penalties import PENALTIES
from tests.reference.pooling import AVG_POOL, MAX_POOL, UPSAMPLE

__all__ = [
    "ACTIVATIONS",
    "AVG_POOL",
    "CONV",
    "CONV_TRANSPOSE",
    "DENSE",
    "FLATTEN",
    "LOSSES",
    "MAX_POOL",
    "NORMALIZATION",
    "PENALTIES",
    "UPSAMPLE",
    "Reference",
    "batch_groups",
    "group_groups",
    "layer_groups",
    "loss_reference",
    "over_examples",
]
