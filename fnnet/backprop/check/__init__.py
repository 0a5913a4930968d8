"""The gradient checker: gradients by hand against autodiff and against central differences, tensor by tensor.

The only part of ``fnnet.backprop`` that calls autodiff: the comparison is its job.
"""

from fnnet.backprop.check.check import check_gradients
from fnnet.backprop.check.compare import compare_trees
from fnnet.backprop.check.report import GradientReport, GradientRow

__all__ = ["GradientReport", "GradientRow", "check_gradients", "compare_trees"]
