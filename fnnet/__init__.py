"""fnnet: functional neural networks on JAX, with nothing hidden.

Parameters are pytrees, a model is a pure function ``apply(params, x)``, an optimizer a pure function
``update(grads, state, params)``, and every derivative exists twice: from ``jax.grad`` and derived by hand.
"""

from fnnet import activations, backprop, initializers, inspect, losses, optimizers, paths, penalties, projections
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
from fnnet.layers import (
    Activation,
    Affine,
    AvgPool,
    BatchNorm,
    Dense,
    Dropout,
    Flatten,
    GaussianNoise,
    GlobalAvgPool,
    GlobalMaxPool,
    GroupNorm,
    LayerNorm,
    MaxPool,
    Residual,
    Sequential,
    Upsample,
    fold_batch_norm,
    sequential,
)
from fnnet.optimizers import Optimizer, apply_updates, chain
from fnnet.training import FitResult, TrainState, accuracy, evaluate, fit, train_epoch, train_step

__version__ = "0.1.0"

__all__ = [
    "Activation",
    "Affine",
    "AvgPool",
    "BatchNorm",
    "Cost",
    "Dense",
    "Dropout",
    "FitResult",
    "Flatten",
    "GaussianNoise",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "GradientReport",
    "GroupNorm",
    "LayerNorm",
    "MaxPool",
    "Optimizer",
    "Residual",
    "Sequential",
    "TrainState",
    "Upsample",
    "accuracy",
    "activations",
    "apply_updates",
    "backprop",
    "bind",
    "chain",
    "check_gradients",
    "elu",
    "evaluate",
    "fit",
    "fold_batch_norm",
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
    "sequential",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
    "train_epoch",
    "train_step",
]
