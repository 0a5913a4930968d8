"""What happens inside a network, as pure functions of the model, its parameters and inputs."""

from fnnet.inspect.activations import layer_outputs
from fnnet.inspect.landscape import (
    PathDirections,
    cost_plane,
    filter_normalized,
    path_directions,
    plane_point,
    project_on,
)
from fnnet.inspect.updates import gradient_norms, update_norms, update_ratios

__all__ = [
    "PathDirections",
    "cost_plane",
    "filter_normalized",
    "gradient_norms",
    "layer_outputs",
    "path_directions",
    "plane_point",
    "project_on",
    "update_norms",
    "update_ratios",
]
