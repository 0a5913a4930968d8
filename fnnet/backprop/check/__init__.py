"""The gradient checker: gradients by hand against autodiff and against central differences, tensor by tensor.

No other module of ``fnnet.backprop`` calls autodiff; here the comparison needs it.
"""

from fnnet.backprop.check.check import check_gradients
from fnnet.backprop.check.compare import compare_trees
from fnnet.backprop.check.report import GradientReport, GradientRow

__all__ = ["GradientReport", "GradientRow", "check_gradients", "compare_trees"]
