"""What happens inside a network, as pure functions of the model, its parameters and inputs."""

from fnnet.inspect.activations import layer_outputs
from fnnet.inspect.updates import update_ratios

__all__ = ["layer_outputs", "update_ratios"]
