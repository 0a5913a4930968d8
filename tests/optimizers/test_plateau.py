"""``reduce_on_plateau`` is compared with PyTorch."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import schedules
from fnnet.optimizers import sgd

COSTS = [5, 4, 4.5, 3.9997, 3.9997, 3.9997, 3.5, 3.6, 3.7, 3.8, 3.6, math.nan, 3.6, 3.6, 2, 2.5, math.inf, 2.1, 2, 2]
PLATEAUS: list[dict[str, Any]] = [
    {"factor": 0.5, "patience": 1},
    {"factor": 0.1, "patience": 0},
    {"factor": 0.5, "patience": 2, "cooldown": 2},
    {"factor": 0.5, "patience": 0, "cooldown": 1, "tolerance": 0.1},
    {"factor": 0.3, "patience": 1, "lowest": 0.2},
    {"factor": 0.5, "patience": 1, "tolerance": 0.0},
]


@pytest.mark.parametrize("options", PLATEAUS, ids=str)
@pytest.mark.usefixtures("x64")
def test_reduce_on_plateau_equals_pytorch(options: dict[str, Any]) -> None:
    """The costs contain gains below the tolerance, ties, NaN and infinity; the state runs in a loop and in a scan."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    renamed = {"tolerance": "threshold", "lowest": "min_lr"}
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, eps=0.0, **{renamed.get(name, name): value for name, value in options.items()}
    )
    expected = []
    for cost in COSTS * 2:
        theirs.step(cost)
        expected.append(optimizer.param_groups[0]["lr"])
    assert len(set(expected)) > 1

    plateau = schedules.reduce_on_plateau(**options)
    state, found = plateau.init(), []
    for cost in COSTS * 2:
        state = plateau.update(state, cost)
        found.append(float(state.scale))
    np.testing.assert_allclose(found, expected, rtol=1e-14)

    def step(state: Any, cost: Any) -> Any:
        state = plateau.update(state, cost)
        return state, state.scale

    last, scales = jax.jit(lambda costs: jax.lax.scan(step, plateau.init(), costs))(jnp.array(COSTS * 2))
    np.testing.assert_allclose(scales, expected, rtol=1e-14)
    assert [x.tolist() for x in last] == [x.tolist() for x in state]


def test_reduce_on_plateau_of_negative_values() -> None:
    """−1.05 is better than −1 by 5 %, less than the tolerance of 10 %; −1.2 is better by more."""
    plateau = schedules.reduce_on_plateau(0.5, patience=0, tolerance=0.1)
    state, scales = plateau.init(), []
    for value in (-1.0, -1.05, -1.2, -1.2):
        state = plateau.update(state, jnp.float32(value))
        scales.append(float(state.scale))
    assert scales == [1, 0.5, 0.5, 0.25]


def test_the_scale_in_an_optimizer_that_is_built_inside() -> None:
    plateau = schedules.reduce_on_plateau(0.5, patience=0)

    @jax.jit
    def step(state: Any, cost: Any) -> Any:
        state = plateau.update(state, cost)
        optimizer = sgd(0.1 * state.scale)
        return state, optimizer.update({"w": jnp.ones(1)}, optimizer.init({}))[0]["w"][0]

    state = plateau.init()
    state, first = step(state, 1.0)
    _, second = step(state, 1.0)
    assert [float(first), float(second)] == pytest.approx([-0.1, -0.05])


def test_states_share_no_buffer() -> None:
    leaves = jax.tree.leaves(schedules.reduce_on_plateau().init())
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)
