"""Optimizers: pure functions ``init(params) -> state`` and ``update(grads, state, params) -> (updates, state)``.

Each algorithm is one function in which the whole algorithm is visible. ``apply_updates`` adds the updates to the
parameters. This is the protocol of optax: the optimizers of either library work in the training loop of the other.

In the formulas ``θ`` are the parameters, ``g`` the gradient, ``α`` the learning rate and ``t`` the number of the
update, which counts from 1. Every hyper-parameter may be a number, a traced array or a schedule, which is a function of
the step counting from 0, unless its annotation is ``float``. ``where`` and ``label`` are functions of a parameter's
name, such as ``"0.w"``. Without ``where`` the weights are chosen, which are the arrays of at least two axes.
"""

from fnnet.norms import global_norm
from fnnet.optimizers.adadelta import adadelta
from fnnet.optimizers.adagrad import adagrad
from fnnet.optimizers.adam import adam, adamw
from fnnet.optimizers.adam_variants import adamax, amsgrad, nadam, nadam_momentum, radam
from fnnet.optimizers.base import Optimizer, apply_updates, chain
from fnnet.optimizers.clipping import adaptive_clip, clip_by_global_norm, clip_by_layer_norm, clip_by_value
from fnnet.optimizers.conjugate_gradient import conjugate_gradient
from fnnet.optimizers.groups import depth_decay, freeze, groups, identity, layerwise, restrict
from fnnet.optimizers.lbfgs import lbfgs
from fnnet.optimizers.lion import lion
from fnnet.optimizers.loss_scale import dynamic_loss_scale
from fnnet.optimizers.momentum import momentum, nesterov
from fnnet.optimizers.muon import muon, orthogonalized
from fnnet.optimizers.newton import gauss_newton, newton
from fnnet.optimizers.proximal import proximal_l1, soft_threshold
from fnnet.optimizers.rmsprop import rmsprop
from fnnet.optimizers.sgd import sgd
from fnnet.optimizers.transforms import add_noise, centralize, project, scale
from fnnet.optimizers.trust_ratio import lamb, lars
from fnnet.optimizers.weight_decay import decay_weights
from fnnet.optimizers.wrappers import accumulate, average_parameters, lookahead, skip_non_finite, weighed

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
    "gauss_newton",
    "global_norm",
    "groups",
    "identity",
    "lamb",
    "lars",
    "layerwise",
    "lbfgs",
    "lion",
    "lookahead",
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
    "restrict",
    "rmsprop",
    "scale",
    "sgd",
    "skip_non_finite",
    "soft_threshold",
    "weighed",
]
