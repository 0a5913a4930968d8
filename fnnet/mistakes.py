"""Warnings of a model and a loss, or of a prediction and a target, that probably do not belong together."""

from __future__ import annotations

import warnings

import jax
from jax.extend.core import Jaxpr, JaxprEqn, jaxprs_in_params

from fnnet import activations, losses
from fnnet.binding import name_of, unbind
from fnnet.layers import Activation, Conv, ConvTranspose, Dense, Flatten, GlobalAvgPool, Sequential
from fnnet.layers.nesting import children
from fnnet.types import Array, Layer, Loss

LOGITS = (losses.softmax_cross_entropy, losses.focal, losses.sigmoid_cross_entropy)
# The losses of probabilities, the losses of logits to take instead, and the activations that give probabilities.
PROBABILITIES = {
    losses.cross_entropy: ("softmax_cross_entropy", ("softmax",)),
    losses.kl_divergence: ("softmax_cross_entropy", ("softmax",)),
    losses.binary_cross_entropy: ("sigmoid_cross_entropy", ("sigmoid", "softmax", "hard_sigmoid")),
}
SILENCE = 'if it is meant, silence this with warnings.filterwarnings("ignore", "Cost: ")'
OTHER_EXAMPLES = 100  # more than there are, so that no other axis has this length


def warn_of_mistakes(model: Layer, loss: Loss) -> None:
    """Warn of a loss of logits after softmax or sigmoid, and of a loss of probabilities after what gives none."""
    function, end = unbind(loss)[0], end_of(model)
    instead, probabilities = PROBABILITIES.get(function, ("", (end,)))
    if function in LOGITS and end in ("softmax", "sigmoid"):
        hint = f"takes logits, but the model ends with {end}: leave {end} out, the loss contains it"
    elif end and end not in probabilities:
        hint = (
            f"takes probabilities, but the model ends with {end}: take losses.{instead}, or end the model with "
            f"{probabilities[0]}"
        )
    else:
        return
    warnings.warn(f"Cost: {name_of(function)} {hint}; {SILENCE}", stacklevel=4)


def end_of(model: Layer) -> str:
    """Return the name of the activation or of the affine layer that a model ends with, and "" for any other end.

    Activations are known by their names, because ``jax.nn.softmax`` is a softmax too.
    """
    last = last_layer(model)
    if isinstance(last, (Dense, Conv, ConvTranspose)):
        return type(last).__name__
    function = unbind(last.function)[0] if isinstance(last, Activation) else None
    name = name_of(getattr(function, "func", function))  # of a functools.partial
    return name if name in activations.__all__ else ""


def last_layer(model: Layer) -> Layer:
    """Return the last layer of a ``Sequential`` that makes new numbers, or the layer that is only wrapped.

    Flattening and means do not turn logits into probabilities, or back.
    """
    onward = (Flatten, GlobalAvgPool)
    inner = [
        child
        for child in children(model)
        if not isinstance(child[1], onward) and child[1] != Activation(activations.identity)
    ]
    return last_layer(inner[-1][1]) if inner and (isinstance(model, Sequential) or inner[0][0] == "") else model


def warn_of_pairs(loss: Loss, prediction: Array, target: Array) -> None:
    """Warn of a loss of one's own in which the predictions are broadcast against the targets of other examples.

    The loss is traced for two different numbers of examples, ``a`` predictions and ``b`` targets. Where it computes
    each example by itself, it uses the first of both together, which raises. Where it broadcasts, it makes an array
    with the axes ``a`` and ``b``. A product of matrices makes pairs too, but it is meant.
    """
    if getattr(unbind(loss)[0], "__module__", "").startswith("fnnet."):
        return  # these compare the shapes
    try:
        a = max(*prediction.shape, *target.shape) + OTHER_EXAMPLES
        shapes = ((a, *prediction.shape[1:]), prediction.dtype), ((a + 1, *target.shape[1:]), target.dtype)
        made = first_of_pairs(jax.make_jaxpr(loss)(*(jax.ShapeDtypeStruct(*each) for each in shapes)).jaxpr, a)
    except Exception:  # as it should
        return
    if made is not None and made.primitive.name != "dot_general":
        warnings.warn(
            f"Cost: {name_of(loss)} computes a number for every pair of examples, because a prediction of shape "
            f"{prediction.shape} is broadcast against a target of shape {target.shape}: reshape one of them; {SILENCE}",
            stacklevel=2,
        )


def first_of_pairs(jaxpr: Jaxpr, a: int) -> JaxprEqn | None:
    """Return the first operation whose result has both an axis of length ``a`` and one of ``a + 1``."""
    for eqn in jaxpr.eqns:
        inner = [first_of_pairs(each, a) for each in jaxprs_in_params(eqn.params)]
        found = inner or [eqn if any({a, a + 1} <= set(getattr(v.aval, "shape", ())) for v in eqn.outvars) else None]
        if any(found):
            return next(each for each in found if each is not None)
    return None
