"""Types that every module shares, the index letters and the glossary. It imports nothing of fnnet.

Index letters in all docstrings: ``N`` examples, ``T`` time steps, ``D`` input features, ``H`` output features of a
layer, ``K`` outputs of a network, ``C`` classes, or the channels of an image.

Glossary, one word for one thing everywhere:

example, batch, epoch, step
    as everywhere in the field; a step is one update of the parameters
chunk
    several batches that go to the device together and through one compiled program
params, state, opt_state
    the parameters, the state of training and the state of the optimizer, as in flax and optax
residuals
    what a forward pass keeps for the backward pass
rule
    the hand-written forward and backward pass of one function
placement
    where arrays lie on devices
record
    the numbers of one epoch; the history is the list of records
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax

Array: TypeAlias = jax.Array
Shape: TypeAlias = tuple[int, ...]
DType: TypeAlias = Any  # what jax.numpy takes as a dtype; jax gives it no public name of its own
Params: TypeAlias = Any  # a pytree of arrays
Batch: TypeAlias = tuple[Any, Any]  # inputs and targets, examples on the first axis
Scalar: TypeAlias = float | Array
Schedule: TypeAlias = Callable[[Array], Scalar]  # the step number -> the value at that step
Hyperparameter: TypeAlias = Scalar | Schedule
ActivationFunction: TypeAlias = Callable[..., Array]
Loss: TypeAlias = Callable[..., Array]  # (prediction, target) -> one number per example
Penalty: TypeAlias = Callable[[Params], Array]


class Shaped(Protocol):
    """Anything with a shape and a dtype: an array or a ``jax.ShapeDtypeStruct``."""

    @property
    def shape(self) -> Shape: ...
    @property
    def dtype(self) -> DType: ...


class Initializer(Protocol):
    """Draws a parameter of a given shape and dtype. It is part of a layer's configuration, so it must be hashable."""

    def __call__(self, key: Array, shape: Shape, dtype: DType, /) -> Array: ...


@runtime_checkable
class Layer(Protocol):
    """A frozen, hashable description of a function with parameters.

    ``init(key, x)`` draws the parameters for inputs shaped like ``x`` (batch axis included);
    ``apply(params, x, *, key=None, train=False)`` is a pure function of its arguments.
    """

    def init(self, key: Array, x: Shaped) -> Params: ...

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array: ...
