"""Pure functions that measure what happens inside a network: outputs, gradients, updates, curvature, landscapes.

``outline`` measures nothing: it reads shapes, operations and memory from the layers.
"""

from fnnet.inspect import curvature
from fnnet.inspect.activations import layer_outputs
from fnnet.inspect.baselines import constant_baseline, floor, least_loss, normalized_loss
from fnnet.inspect.gradient_flow import GradientFlow, carry_jacobians, gradient_flow
from fnnet.inspect.landscape import (
    PathDirections,
    cost_plane,
    filter_normalized,
    path_directions,
    plane_point,
    project_on,
)
from fnnet.inspect.operations import OPERATIONS, Operations, operations
from fnnet.inspect.outline import Outline, Row, outline
from fnnet.inspect.signals import LayerSignals, leaf_layers, signals
from fnnet.inspect.updates import gradient_norms, update_norms, update_ratios
from fnnet.spectrum import scaled_to_radius, singular_values, spectral_radius

__all__ = [
    "OPERATIONS",
    "GradientFlow",
    "LayerSignals",
    "Operations",
    "Outline",
    "PathDirections",
    "Row",
    "carry_jacobians",
    "constant_baseline",
    "cost_plane",
    "curvature",
    "filter_normalized",
    "floor",
    "gradient_flow",
    "gradient_norms",
    "layer_outputs",
    "leaf_layers",
    "least_loss",
    "normalized_loss",
    "operations",
    "outline",
    "path_directions",
    "plane_point",
    "project_on",
    "scaled_to_radius",
    "signals",
    "singular_values",
    "spectral_radius",
    "update_norms",
    "update_ratios",
]
