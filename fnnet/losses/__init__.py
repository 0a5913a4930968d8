"""Loss functions: ``loss(prediction, target) -> (N,)``, one number per example and never a hidden mean.

The last axis of the prediction holds the outputs (``K``) or classes (``C``) of an example. The result has the shape of
the other axes, so sequences ``(N, T, C)`` give ``(N, T)``. ``fnnet.Cost`` takes the mean over the examples and leaves
out the labels that it is to ignore. Shapes, dtypes and the kind of the labels are checked while tracing, and nothing
is broadcast. A target is converted to the dtype of the prediction. Options are fixed with ``fnnet.bind``, as in
``bind(huber, delta=2.0)``, and may be traced numbers: a sweep may vary them.

``jax.grad`` also gives the gradients with respect to real targets, such as those of a teacher or of a mixture of
examples. The rules by hand are those with respect to the prediction.

Labels that are out of range raise an error where their values are known. Inside ``jit`` they are not known: there the
loss and the gradient of such an example are NaN.

In the formulas ``ŷ`` is a prediction, ``y`` its target, ``p`` a predicted probability and ``z`` a logit.
"""

from fnnet.losses.binary import binary_cross_entropy, hinge, sigmoid_cross_entropy, squared_hinge
from fnnet.losses.classes import cross_entropy, focal, kl_divergence, softmax_cross_entropy
from fnnet.losses.likelihood import gaussian_negative_log_likelihood, poisson_negative_log_likelihood
from fnnet.losses.regression import absolute_error, cosine, half_squared_error, huber, log_cosh, squared_error

__all__ = [
    "absolute_error",
    "binary_cross_entropy",
    "cosine",
    "cross_entropy",
    "focal",
    "gaussian_negative_log_likelihood",
    "half_squared_error",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "poisson_negative_log_likelihood",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "squared_error",
    "squared_hinge",
]
