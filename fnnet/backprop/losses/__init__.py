"""Hand-written gradients of the losses with respect to the prediction, one file for each file of ``fnnet.losses``.

Each function takes the arguments of its loss and returns ``∂ℓ_n/∂prediction_n`` for every example, in the shape of the
prediction: the gradient of an example's loss, before the mean over the examples.
"""

from __future__ import annotations

from collections.abc import Callable

from fnnet import activations, losses
from fnnet.backprop.losses import binary, classes, likelihood, regression
from fnnet.backprop.rule import Table, bare_function
from fnnet.binding import unbind
from fnnet.types import Array, Loss

LOSS_GRADIENTS: Table[Callable[..., Array]] = Table(
    "loss", "LOSS_GRADIENTS", "gradient(prediction, target)", bare_function
)
LOSS_GRADIENTS |= {
    losses.squared_error: regression.squared_error,
    losses.half_squared_error: regression.half_squared_error,
    losses.absolute_error: regression.absolute_error,
    losses.huber: regression.huber,
    losses.log_cosh: regression.log_cosh,
    losses.cosine: regression.cosine,
    losses.binary_cross_entropy: binary.binary_cross_entropy,
    losses.sigmoid_cross_entropy: binary.sigmoid_cross_entropy,
    losses.hinge: binary.hinge,
    losses.squared_hinge: binary.squared_hinge,
    losses.cross_entropy: classes.cross_entropy,
    losses.softmax_cross_entropy: classes.softmax_cross_entropy,
    losses.focal: classes.focal,
    losses.kl_divergence: classes.kl_divergence,
    losses.poisson_negative_log_likelihood: likelihood.poisson_negative_log_likelihood,
    losses.gaussian_negative_log_likelihood: likelihood.gaussian_negative_log_likelihood,
}

# (activation of the last layer, loss) -> gradient with respect to that activation's input, given its output
FUSED_GRADIENTS: dict[tuple[Callable[..., Array], Callable[..., Array]], Callable[..., Array]] = {
    (activations.softmax, losses.cross_entropy): classes.softmax_then_cross_entropy,
    (activations.sigmoid, losses.binary_cross_entropy): binary.sigmoid_then_binary_cross_entropy,
}


def loss_gradient(loss: Loss, prediction: Array, target: Array) -> Array:
    """Return ``∂ℓ_n/∂prediction_n`` by the hand-written rule of ``loss``."""
    return LOSS_GRADIENTS.look_up(loss)(prediction, target, **unbind(loss)[1])
