"""fnnet: functional neural networks on JAX, with nothing hidden.

Parameters are pytrees, a model is a pure function ``apply(params, x)``, an optimizer a pure function
``update(grads, state, params)``, and every derivative exists twice: from ``jax.grad`` and derived by hand.
"""

from fnnet import (
    activations,
    backprop,
    convolution,
    initializers,
    inspect,
    losses,
    optimizers,
    paths,
    penalties,
    projections,
    schedules,
)
from fnnet.activations import (
    elu,
    gelu,
    identity,
    leaky_relu,
    log_softmax,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from fnnet.backprop.check import GradientReport, check_gradients
from fnnet.binding import bind
from fnnet.cost import Cost
from fnnet.layers import Activation, Conv, ConvTranspose, Dense, Dropout, Flatten, GaussianNoise, Sequential, sequential
from fnnet.optimizers import Optimizer, apply_updates, chain
from fnnet.training import FitResult, TrainState, accuracy, evaluate, fit, train_epoch, train_step

__version__ = "0.1.0"

__all__ = [
    "Activation",
    "Conv",
    "ConvTranspose",
    "Cost",
    "Dense",
    "Dropout",
    "FitResult",
    "Flatten",
    "GaussianNoise",
    "GradientReport",
    "Optimizer",
    "Sequential",
    "TrainState",
    "accuracy",
    "activations",
    "apply_updates",
    "backprop",
    "bind",
    "chain",
    "check_gradients",
    "convolution",
    "elu",
    "evaluate",
    "fit",
    "gelu",
    "identity",
    "initializers",
    "inspect",
    "leaky_relu",
    "log_softmax",
    "losses",
    "optimizers",
    "paths",
    "penalties",
    "projections",
    "relu",
    "schedules",
    "sequential",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
    "train_epoch",
    "train_step",
]
