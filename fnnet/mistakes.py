"""Warnings of pairs of a model and a loss that are probably not meant."""

from __future__ import annotations

import warnings

from fnnet import activations, losses
from fnnet.binding import name_of, unbind
from fnnet.layers import Activation, Conv, ConvTranspose, Dense, Sequential
from fnnet.layers.nesting import children
from fnnet.types import Layer, Loss

LOGITS = (losses.softmax_cross_entropy, losses.focal, losses.sigmoid_cross_entropy)
PROBABILITIES = {
    losses.cross_entropy: "softmax_cross_entropy",
    losses.kl_divergence: "softmax_cross_entropy",
    losses.binary_cross_entropy: "sigmoid_cross_entropy",
}


def warn_of_mistakes(model: Layer, loss: Loss) -> None:
    """Warn of a loss of logits after softmax or sigmoid, and of a loss of probabilities after an affine layer."""
    last, function = last_layer(model), unbind(loss)[0]
    end = unbind(last.function)[0] if isinstance(last, Activation) else None
    if function in LOGITS and end in (activations.softmax, activations.sigmoid):
        hint = f"takes logits, but the model ends with {name_of(end)}: leave {name_of(end)} out, the loss contains it"
    elif function in PROBABILITIES and isinstance(last, (Dense, Conv, ConvTranspose)):
        hint = (
            f"takes probabilities, but the model ends with {type(last).__name__}: take "
            f"losses.{PROBABILITIES[function]}, or end the model with softmax or sigmoid"
        )
    else:
        return
    silence = 'if it is meant, silence this with warnings.filterwarnings("ignore", "Cost: ")'
    warnings.warn(f"Cost: {name_of(function)} {hint}; {silence}", stacklevel=4)


def last_layer(model: Layer) -> Layer:
    """Return the layer whose output is the model's: the last of a ``Sequential``, or the one that is only wrapped."""
    inner = children(model)
    return last_layer(inner[-1][1]) if inner and (isinstance(model, Sequential) or inner[0][0] == "") else model
