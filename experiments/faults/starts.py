"""Faults of the parameters at the start."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp

import fnnet
from experiments.faults.bases import mlp
from experiments.faults.fault import Fault, changed, fault
from experiments.faults.outputs import outputs_of, with_new_model
from fnnet import RNNCell, initializers
from fnnet.diagnosis import Change, Setup
from fnnet.layers.nesting import nested
from fnnet.paths import is_weight, map_named
from fnnet.spectrum import scaled_to_radius


def constant(setup: Setup, value: float) -> Setup:
    """Return the setup with the same number in all weights, and biases of 0."""
    params = jax.tree.map(lambda p: jnp.full_like(p, value) if is_weight(p) else p, setup.params)
    return replace(setup, params=params)


def normal(setup: Setup, stddev: float) -> Setup:
    return changed(setup, Change("params", "draw", fnnet.bind(initializers.normal, stddev=stddev)))


def gain_of_a_deep_network(setup: Setup, gain: float) -> Setup:
    """Return the setup with six layers of ReLU whose weights are ``gain`` times as large as He's."""
    deep = with_new_model(setup, mlp(*[32] * 5, outputs_of(setup)))
    return changed(deep, Change("params", "scale", gain))


def small_gain(setup: Setup, divisor: float) -> Setup:
    return gain_of_a_deep_network(setup, 1 / divisor)


def negative_biases(setup: Setup, bias: float) -> Setup:
    """Return the setup with this negative bias in the first layer with parameters."""
    first = next(i for i, params in enumerate(setup.params) if params)
    params = list(setup.params)
    params[first] = params[first] | {"b": jnp.full_like(params[first]["b"], -bias)}
    return replace(setup, params=tuple(params))


def radius(setup: Setup, value: float) -> Setup:
    """Return the setup with a plain recurrent network whose recurrent matrix has this spectral radius."""
    layers = [
        replace(layer, cell=RNNCell(layer.cell.features)) if isinstance(layer, fnnet.Recurrent) else layer
        for path, layer in nested(setup.cost.model)
        if path
    ]
    plain = with_new_model(setup, fnnet.sequential(*layers))

    def scaled(name: str, p: jax.Array) -> jax.Array:
        return scaled_to_radius(p, value) if name.endswith("w_h") else p

    return replace(plain, params=map_named(scaled, plain.params))


FAULTS: tuple[Fault, ...] = (
    fault("F16 weights constant", constant, 0.1, 0.05, (12,), "moons; digits; friedman", certain=True),
    fault("F16 weights zero", constant, 0.0, 0.0, (12,), "moons; digits; friedman", certain=True),
    fault("F17 weights too large", normal, 1.0, 3.0, (3, 14, 15, 29, 25, 24, 23, 31), "digits deep; moons; images"),
    fault("F17 weights too small", normal, 1e-3, 1e-6, (14, 15, 12, 21, 36), "digits deep; moons; images"),
    fault("F18 gain too high", gain_of_a_deep_network, 3.0, 4.0, (3, 14, 31, 25, 24, 23),
          "digits deep; moons; friedman"),
    fault("F18 gain too low", small_gain, 5.0, 8.0, (14, 15, 21, 36), "digits deep; moons; friedman"),
    fault("F19 biases that kill a layer", negative_biases, 5.0, 20.0, (13,), "digits; moons; images", layer="1"),
    fault("F52 memory too short", radius, 0.3, 0.05, (32, 36), "adding; rows"),
    fault("F52 state explodes", radius, 1.8, 4.0, (33, 31, 25, 24, 23), "adding; rows"),
)  # fmt: skip
