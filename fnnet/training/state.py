"""The state of a training run."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.optimizers import Optimizer
from fnnet.optimizers.base import kind_of
from fnnet.optimizers.wrappers import AverageState
from fnnet.types import Array, Params


class TrainState(NamedTuple):
    """Everything that changes while a network trains, as one pytree of arrays.

    ``key`` never changes: the random numbers of a step are drawn from ``key`` and ``step``, so that a run continued
    from a saved state draws what the uninterrupted run would have drawn.
    """

    params: Params
    opt_state: Any
    step: Array  # updates made so far, int32
    key: Array

    @classmethod
    def create(cls, params: Params, optimizer: Optimizer, key: Array) -> TrainState:
        """Return the state before the first update."""
        kind_of("TrainState.create", optimizer)
        checks.random_key("TrainState.create", key)
        return cls(params, optimizer.init(params), jnp.zeros((), jnp.int32), key)

    def network_key(self) -> Array:
        """Return the key for the model's own random numbers (dropout) in the next step."""
        return jax.random.fold_in(jax.random.fold_in(self.key, 0), self.step)

    def order_key(self) -> Array:
        """Return the key for the order of the examples in an epoch that starts at this step."""
        return jax.random.fold_in(jax.random.fold_in(self.key, 1), self.step)

    def augmentation_key(self) -> Array:
        """Return the key for random changes of the batch in the next step."""
        return jax.random.fold_in(jax.random.fold_in(self.key, 2), self.step)


def averaged_params(state: TrainState) -> Params:
    """Return the average that ``optimizers.average_parameters`` keeps, in the dtypes of the parameters.

    Validate with it, ``fit(..., validate_on=fnnet.averaged_params)``, and take it from the final state.
    """

    def is_average(part: Any) -> bool:
        return isinstance(part, AverageState)

    found = [part for part in jax.tree.leaves(state.opt_state, is_leaf=is_average) if is_average(part)]
    checks.require(
        len(found) == 1,
        f"averaged_params: the optimizer keeps {len(found)} averages of the parameters; expected one: "
        f"train with optimizers.average_parameters(optimizer, decay)",
    )
    return jax.tree.map(lambda average, p: average.astype(p.dtype), found[0].average, state.params)
