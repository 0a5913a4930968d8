"""What happens inside a network, as pure functions of the model, its parameters and inputs."""

from fnnet.inspect.activations import layer_outputs

__all__ = ["layer_outputs"]
