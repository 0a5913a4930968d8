"""The table of all optimizers, the parameter trees that they are tested with, and their runs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnnet import Optimizer, apply_updates, optimizers
from fnnet.optimizers import nadam_momentum
from tests.cases.numbers import SEED
from tests.reference import layerwise_optimizers
from tests.reference import optimizers as reference

STEPS = 50


def real(step: Any) -> Any:
    """Return a step, traced or in Python, as a floating-point number."""
    return step.astype(jnp.result_type(float)) if isinstance(step, jax.Array) else float(step)


def decaying(step: Any) -> Any:
    """Return a rate, 0.1 / (1 + step / 10)."""
    return 0.1 / (1 + real(step) / 10)


def growing(step: Any) -> Any:
    """Return a decay rate that grows from 0.5 towards 0.9."""
    return 0.9 - 0.4 / (1 + real(step))


def growing_slowly(step: Any) -> Any:
    """Return a decay rate that grows from 0.9 towards 0.999."""
    return 0.999 - 0.099 / (1 + real(step) / 3)


def dozat(step: Any) -> Any:
    """Return μ_t of the paper, with t = step + 1."""
    return 0.9 * (1 - 0.5 * 0.96 ** ((step + 1) / 250))


@dataclass(frozen=True)
class OptimizerCase:
    """An algorithm, its reference, and the options of both."""

    name: str
    algorithm: Callable[..., Optimizer]
    reference: Callable[..., reference.Steps]
    options: dict[str, Any] = field(default_factory=dict)
    expected_options: dict[str, Any] = field(default_factory=dict)
    """The options that the reference takes in another form."""

    def __str__(self) -> str:
        return self.name

    def make(self, learning_rate: Any, **changes: Any) -> Optimizer:
        return self.algorithm(learning_rate, **self.options | changes)

    def expected(self, params: Any, gradients: Any, learning_rate: Any) -> Any:
        """Return the parameters after every step of the reference."""
        options = self.options | self.expected_options

        def steps(p: jax.Array, g: jax.Array) -> np.ndarray:
            run = self.reference(np.asarray(p), np.asarray(g), learning_rate, weight=p.ndim >= 2, **options)
            return np.stack(list(run))

        return jax.tree.map(steps, params, gradients)


def muon_with_adam(learning_rate: Any, **options: Any) -> Optimizer:
    return optimizers.muon(learning_rate, optimizers.adam(learning_rate), **options)


def case(name: str, **options: Any) -> OptimizerCase:
    """Return a case; the first word of its name is the algorithm."""
    algorithm = name.split(",")[0]
    module = layerwise_optimizers if hasattr(layerwise_optimizers, algorithm) else reference
    function = muon_with_adam if algorithm == "muon" else getattr(optimizers, algorithm)
    return OptimizerCase(name, function, getattr(module, algorithm), options)


OPTIMIZERS = [
    case("sgd"),
    case("momentum"),
    case("momentum, heavy ball", momentum=0.7, averaged=False),
    case("nesterov"),
    case("nesterov, other options", momentum=0.6),
    case("adagrad"),
    case("adagrad, other options", epsilon=1e-2, initial_accumulator=0.1),
    case("adadelta"),
    case("adadelta, other options", decay=0.8, epsilon=1e-2),
    case("rmsprop"),
    case("rmsprop, other options", decay=0.7, epsilon=1e-2),
    case("rmsprop, centered", centered=True),
    case("rmsprop, with momentum", momentum=0.8),
    case("rmsprop, centered with momentum", centered=True, momentum=0.8, epsilon=1e-3),
    case("adam"),
    case("adam, other options", beta1=0.8, beta2=0.95, epsilon=1e-2),
    case("adam, other options: betas 0", beta1=0.0, beta2=0.0),
    case("adam, without bias correction", bias_correction=False),
    case("adam, betas as schedules", beta1=growing, beta2=growing_slowly),
    case("adamw"),
    case("adamw, other options", beta1=0.8, beta2=0.95, epsilon=1e-2, weight_decay=0.3),
    case("adamw, betas as schedules", beta1=growing, beta2=growing_slowly, weight_decay=decaying),
    case("amsgrad"),
    case("amsgrad, other options", beta1=0.8, beta2=0.6, epsilon=1e-2),
    case("nadam"),
    case("nadam, other options", beta1=0.8, beta2=0.95, epsilon=1e-2),
    case("nadam, betas as schedules", beta1=growing, beta2=growing_slowly),
    OptimizerCase(
        "nadam, Dozat's momentum",
        optimizers.nadam,
        reference.nadam,
        {"beta1": nadam_momentum(0.9)},
        {"beta1": dozat},
    ),
    case("adamax"),
    case("adamax, other options", beta1=0.8, beta2=0.6, epsilon=1e-2),
    case("radam"),
    case("radam, other options", beta1=0.8, beta2=0.95, epsilon=1e-2, threshold=4.0),
    case("radam, other options: always few gradients", beta2=0.6),
    case("lion"),
    case("lion, other options", beta1=0.6, beta2=0.8, weight_decay=0.3),
    case("lars"),
    case("lars, other options", momentum=0.6, trust=0.1, weight_decay=0.3),
    case("lamb"),
    case("lamb, other options", beta1=0.8, beta2=0.95, epsilon=1e-2, weight_decay=0.3),
    case("muon"),
    case("muon, other options", momentum=0.7, nesterov=False, weight_decay=0.3, iterations=3),
]
KINDS = [case for case in OPTIMIZERS if "other options" not in case.name]  # one for every path through the code
ALGORITHMS = [case for case in OPTIMIZERS if "," not in case.name]  # one for every algorithm, with its defaults


def tree(dtype: Any) -> Any:
    """Return parameters: a tall matrix with one weight that is 0, biases, a kernel that is a wide matrix, a scalar."""
    generator = np.random.default_rng(SEED)

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(generator.standard_normal(shape), dtype)

    return ({"w": draw(3, 2).at[0, 0].set(0), "b": draw(2)}, {"w": draw(1, 2, 4), "scale": draw()})


def gradients_for(params: Any, steps: int = STEPS) -> Any:
    """Return random gradients, with the steps on the first axis; those of the first entry of a tensor are always 0."""
    generator = np.random.default_rng(SEED + 1)

    def draw(p: jax.Array) -> jax.Array:
        g = generator.standard_normal((steps, *p.shape))
        if p.ndim:
            g[(slice(None), *[0] * p.ndim)] = 0
        return jnp.asarray(g).astype(p.dtype)

    return jax.tree.map(draw, params)


def run(optimizer: Optimizer, params: Any, gradients: Any) -> Any:
    """Return the parameters after every step."""

    def step(carry: Any, g: Any) -> Any:
        params, state = carry
        updates, state = optimizer.update(g, state, params)
        params = apply_updates(params, updates)
        return (params, state), params

    return jax.lax.scan(step, (params, optimizer.init(params)), gradients)[1]


def run_all(made: dict[str, Optimizer], params: Any, gradients: Any) -> dict[str, Any]:
    """Return ``run`` of many optimizers, as one compiled program."""
    return jax.jit(lambda p, g: {name: run(optimizer, p, g) for name, optimizer in made.items()})(params, gradients)
