"""The averaged parameters in a state, to evaluate with."""

from __future__ import annotations

from typing import Any

import jax

from fnnet import checks
from fnnet.optimizers.wrappers import AverageState
from fnnet.training.state import TrainState
from fnnet.types import Params


def averaged_params(state: TrainState) -> Params:
    """The average that ``optimizers.average_parameters`` keeps, in the dtypes of the parameters.

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
