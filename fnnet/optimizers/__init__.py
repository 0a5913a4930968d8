"""Optimizers: pure functions ``init(params) -> state`` and ``update(grads, state, params) -> (updates, state)``.

Each algorithm is one function with the whole of it visible. ``apply_updates`` adds the updates to the parameters. The
pair is optax's protocol: either library's optimizers work in the other's loop.

In the formulas ``θ`` are the parameters, ``g`` the gradient, ``α`` the learning rate, ``t`` the number of the update
from 1. Every hyper-parameter is a number, a traced array or a schedule, a function of the step, which counts from 0,
unless its annotation says ``float``. ``where`` and ``label`` are functions of a parameter's name, such as ``"0.w"``.
"""

from fnnet.optimizers.adagrad import adadelta, adagrad
from fnnet.optimizers.adam import adam, adamw, amsgrad
from fnnet.optimizers.adam_variants import adamax, nadam, nadam_momentum, radam
from fnnet.optimizers.base import Optimizer, apply_updates, chain
from fnnet.optimizers.clipping import adaptive_clip, clip_by_global_norm, clip_by_layer_norm, clip_by_value
from fnnet.optimizers.conjugate_gradient import conjugate_gradient
from fnnet.optimizers.groups import depth_decay, freeze, frozen, groups, layerwise, masked, scale, unchanged
from fnnet.optimizers.lbfgs import lbfgs
from fnnet.optimizers.leaves import global_norm
from fnnet.optimizers.lion import lion
from fnnet.optimizers.loss_scale import dynamic_loss_scale
from fnnet.optimizers.momentum import momentum, nesterov
from fnnet.optimizers.muon import muon, orthogonalized
from fnnet.optimizers.newton import gauss_newton, newton
from fnnet.optimizers.proximal import proximal_l1, soft_threshold
from fnnet.optimizers.rmsprop import rmsprop
from fnnet.optimizers.sgd import sgd
from fnnet.optimizers.transforms import add_noise, centralize, decay_weights, project
from fnnet.optimizers.trust import lamb, lars
from fnnet.optimizers.wrappers import accumulate, average_parameters, lookahead, skip_non_finite

__all__ = [
    "Optimizer",
    "accumulate",
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "adaptive_clip",
    "add_noise",
    "amsgrad",
    "apply_updates",
    "average_parameters",
    "centralize",
    "chain",
    "clip_by_global_norm",
    "clip_by_layer_norm",
    "clip_by_value",
    "conjugate_gradient",
    "decay_weights",
    "depth_decay",
    "dynamic_loss_scale",
    "freeze",
    "frozen",
    "gauss_newton",
    "global_norm",
    "groups",
    "lamb",
    "lars",
    "layerwise",
    "lbfgs",
    "lion",
    "lookahead",
    "masked",
    "momentum",
    "muon",
    "nadam",
    "nadam_momentum",
    "nesterov",
    "newton",
    "orthogonalized",
    "project",
    "proximal_l1",
    "radam",
    "rmsprop",
    "scale",
    "sgd",
    "skip_non_finite",
    "soft_threshold",
    "unchanged",
]
