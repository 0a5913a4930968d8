"""The table of cases: every public layer, activation, loss and penalty, each with inputs that suit it.

Every property runs over this table, so a new layer joins all of them with one line here. Numbers are drawn in NumPy
from a seed; ``dtype`` is chosen by the test.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnnet import (
    Activation,
    Dense,
    Dropout,
    Flatten,
    activations,
    bind,
    identity,
    log_softmax,
    losses,
    penalties,
    sequential,
    sigmoid,
    softmax,
    tanh,
)
from fnnet.backprop import as_custom_vjp
from fnnet.types import Layer, Loss, Penalty

Generator = np.random.Generator
SEED = 20


def random_params(layer: Layer, x: Any) -> Any:
    """Parameters none of which is zero, as biases are at the start; no program is compiled to draw them."""
    generator = np.random.default_rng(SEED + 1)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)
    return jax.tree.map(lambda p: jnp.asarray(generator.standard_normal(p.shape), p.dtype), shapes)


@dataclass(frozen=True)
class LayerCase:
    """A layer, built anew by ``build()``, and the shape of its input."""

    name: str
    build: Callable[[], Layer]
    shape: tuple[int, ...]
    train: bool = False
    mixes_examples: bool = False

    def __str__(self) -> str:
        return self.name

    def x(self, dtype: Any) -> jax.Array:
        return jnp.asarray(np.random.default_rng(SEED).standard_normal(self.shape), dtype)

    def params(self, dtype: Any) -> Any:
        return random_params(self.build(), self.x(dtype))

    def options(self) -> dict[str, Any]:
        """The keyword arguments of ``apply``; a key made anew at each call, as a key is used once."""
        return {"key": jax.random.key(7) if self.train else None, "train": self.train}


LAYERS = [
    LayerCase("Dense", lambda: Dense(4), (5, 3)),
    LayerCase("Dense without bias", lambda: Dense(4, use_bias=False), (5, 3)),
    LayerCase("Dense of a sequence", lambda: Dense(4), (2, 3, 3)),
    LayerCase("Dense of one example", lambda: Dense(1), (1, 1)),
    LayerCase("Flatten", lambda: Flatten(), (5, 2, 3)),
    LayerCase("Flatten of one axis", lambda: Flatten(), (5,)),
    LayerCase("Dropout", lambda: Dropout(0.4), (5, 3)),
    LayerCase("Dropout in training", lambda: Dropout(0.4), (5, 3), train=True),
    LayerCase("Dropout of nothing", lambda: Dropout(0.0), (5, 3), train=True),
    LayerCase("Activation(identity)", lambda: Activation(activations.identity), (5, 3)),
    LayerCase("Activation(sigmoid)", lambda: Activation(activations.sigmoid), (5, 3)),
    LayerCase("Activation(tanh)", lambda: Activation(activations.tanh), (5, 3)),
    LayerCase("Activation(relu)", lambda: Activation(activations.relu), (5, 3)),
    LayerCase("Activation(softmax)", lambda: Activation(activations.softmax), (5, 3)),
    LayerCase("Activation(softmax, axis 1 of 3)", lambda: Activation(bind(softmax, axis=1)), (2, 3, 2)),
    LayerCase("Activation(log_softmax)", lambda: Activation(activations.log_softmax), (5, 3)),
    LayerCase(
        "Activation(log_softmax, axis 0)", lambda: Activation(bind(log_softmax, axis=0)), (5, 3), mixes_examples=True
    ),
    LayerCase("Sequential", lambda: sequential(Flatten(), Dense(4), tanh, Dropout(0.4), Dense(2)), (5, 2, 3)),
    LayerCase("Sequential in training", lambda: sequential(Dropout(0.4), Dense(4), tanh), (5, 3), train=True),
    LayerCase("Sequential in Sequential", lambda: sequential(sequential(Dense(4), sigmoid), Dense(2)), (5, 3)),
    LayerCase("Sequential of nothing", lambda: sequential(), (5, 3)),
    LayerCase("CustomVJP", lambda: as_custom_vjp(sequential(Dense(4), tanh)), (5, 3)),
]


@dataclass(frozen=True)
class LossCase:
    """A loss, makers of its prediction and target, and the last activation of a network trained with it."""

    name: str
    loss: Loss
    prediction: Callable[[Generator], np.ndarray]
    target: Callable[[Generator], np.ndarray]
    head: Callable[..., jax.Array] = identity

    def __str__(self) -> str:
        return self.name

    def arrays(self, dtype: Any) -> tuple[jax.Array, jax.Array]:
        """Prediction and target; a floating-point target in the same dtype."""
        generator = np.random.default_rng(SEED)
        prediction, target = self.prediction(generator), self.target(generator)
        floating = np.issubdtype(target.dtype, np.floating)
        return jnp.asarray(prediction, dtype), jnp.asarray(target, dtype if floating else None)


def real(*shape: int) -> Callable[[Generator], np.ndarray]:
    return lambda generator: generator.standard_normal(shape)


def probabilities(*shape: int) -> Callable[[Generator], np.ndarray]:
    return lambda generator: generator.uniform(0.05, 0.95, shape)


def yes_no(*shape: int, dtype: Any) -> Callable[[Generator], np.ndarray]:
    return lambda generator: generator.integers(0, 2, shape).astype(dtype)


def labels(*shape: int, classes: int, dtype: Any = np.int32) -> Callable[[Generator], np.ndarray]:
    return lambda generator: generator.integers(0, classes, shape).astype(dtype)


def simplex(*shape: int) -> Callable[[Generator], np.ndarray]:
    return lambda generator: generator.dirichlet(np.ones(shape[-1]), shape[:-1])


SQUARED, HALF = losses.squared_error, losses.half_squared_error
BINARY, SIGMOID = losses.binary_cross_entropy, losses.sigmoid_cross_entropy
CLASSES, SOFTMAX = losses.cross_entropy, losses.softmax_cross_entropy

LOSSES = [
    LossCase("squared_error", SQUARED, real(4, 3), real(4, 3)),
    LossCase("squared_error of a sequence", SQUARED, real(2, 3, 4), real(2, 3, 4)),
    LossCase("half_squared_error", HALF, real(4, 3), real(4, 3)),
    LossCase("binary_cross_entropy", BINARY, probabilities(4, 3), probabilities(4, 3), sigmoid),
    LossCase("binary_cross_entropy, booleans", BINARY, probabilities(4, 3), yes_no(4, 3, dtype=bool), sigmoid),
    LossCase("binary_cross_entropy, integers", BINARY, probabilities(4, 3), yes_no(4, 3, dtype=np.int32), sigmoid),
    LossCase("sigmoid_cross_entropy", SIGMOID, real(4, 3), probabilities(4, 3)),
    LossCase("sigmoid_cross_entropy, booleans", SIGMOID, real(4, 3), yes_no(4, 3, dtype=bool)),
    LossCase("sigmoid_cross_entropy, integers", SIGMOID, real(4, 1), yes_no(4, 1, dtype=np.int32)),
    LossCase("cross_entropy, labels", CLASSES, simplex(4, 3), labels(4, classes=3), softmax),
    LossCase("cross_entropy, distributions", CLASSES, simplex(4, 3), simplex(4, 3), softmax),
    LossCase("cross_entropy of a sequence", CLASSES, simplex(2, 3, 4), labels(2, 3, classes=4), softmax),
    LossCase("softmax_cross_entropy, labels", SOFTMAX, real(4, 3), labels(4, classes=3)),
    LossCase("softmax_cross_entropy, bytes", SOFTMAX, real(4, 3), labels(4, classes=3, dtype=np.uint8)),
    LossCase("softmax_cross_entropy, distributions", SOFTMAX, real(4, 3), simplex(4, 3)),
    LossCase("softmax_cross_entropy, not normalized", SOFTMAX, real(4, 3), probabilities(4, 3)),
    LossCase("softmax_cross_entropy of a sequence", SOFTMAX, real(2, 3, 4), labels(2, 3, classes=4)),
]


@dataclass(frozen=True)
class PenaltyCase:
    name: str
    penalty: Penalty

    def __str__(self) -> str:
        return self.name


PENALTIES = [
    PenaltyCase("l1", penalties.l1(0.3)),
    PenaltyCase("l2", penalties.l2(0.7)),
    PenaltyCase("elastic_net", penalties.elastic_net(0.3, 0.7)),
    PenaltyCase("l1 of all", penalties.l1(0.3, where=bool)),
    PenaltyCase("l2 of one layer", penalties.l2(0.7, where="1.w".__eq__)),
]


def network_params(dtype: Any) -> Any:
    """Parameters of two layers, as penalties and optimizers meet them; one weight is exactly 0."""
    generator = np.random.default_rng(SEED)

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(generator.standard_normal(shape), dtype)

    return ({"w": draw(3, 2).at[0, 0].set(0), "b": draw(2)}, {"w": draw(2, 1), "b": draw(1)})
