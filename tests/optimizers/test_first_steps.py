"""The first steps of every algorithm equal numbers computed by hand."""

from typing import Any

import jax.numpy as jnp
import pytest

from fnnet import Optimizer, apply_updates
from fnnet.optimizers import (
    adadelta,
    adagrad,
    adam,
    adamax,
    adamw,
    amsgrad,
    lamb,
    lars,
    lion,
    momentum,
    muon,
    nadam,
    nadam_momentum,
    nesterov,
    radam,
    rmsprop,
    sgd,
)
from tests.public import public_optimizers

HALF_THEN_QUARTER = (0.5, 0.25)
FIRST_STEPS: dict[str, tuple[Optimizer, float, tuple[float, ...], tuple[float, ...]]] = {
    # name: optimizer, θ, gradients, θ after each of them
    "sgd": (sgd(0.1), 1, HALF_THEN_QUARTER, (0.95, 0.925)),
    "momentum": (momentum(0.1), 1, HALF_THEN_QUARTER, (0.995, 0.988)),  # v = 0.05, 0.045 + 0.025
    "momentum, heavy ball": (momentum(0.1, averaged=False), 1, HALF_THEN_QUARTER, (0.95, 0.88)),  # v = 0.5, 0.7
    "nesterov": (nesterov(0.1), 1, HALF_THEN_QUARTER, (0.905, 0.817)),  # 0.5 + 0.45, 0.25 + 0.63
    "adagrad": (adagrad(0.1), 1, HALF_THEN_QUARTER, (0.9, 0.85527864)),  # 0.5 / 0.5, 0.25 / √0.3125
    "adagrad, with a start": (adagrad(0.1, 0.4, initial_accumulator=0.11), 1, (0.5,), (0.95,)),  # 0.5 / (0.6 + 0.4)
    "adadelta": (adadelta(1.0, 0.5, 0.03), 1, HALF_THEN_QUARTER, (0.78002933, 0.61458907)),  # v = 0.125, u = 0.0242
    "rmsprop": (rmsprop(0.1, 0.75), 1, HALF_THEN_QUARTER, (0.8, 0.7)),  # v = 1/16, twice
    "rmsprop, epsilon": (rmsprop(0.1, 0.75, 0.25), 1, (0.5,), (0.9,)),  # 0.5 / (0.25 + 0.25)
    "rmsprop, centered": (rmsprop(0.1, 0.5, centered=True), 1, HALF_THEN_QUARTER, (0.8, 0.65857864)),  # √(1/8 − 1/16)
    "rmsprop, with momentum": (rmsprop(0.1, 0.75, momentum=0.5), 1, HALF_THEN_QUARTER, (0.8, 0.6)),  # 2, 0.5 · 2 + 1
    "adam": (adam(0.1), 1, HALF_THEN_QUARTER, (0.9, 0.80678202)),  # 1, (0.07 / 0.19) / √(0.00031225 / 0.001999)
    "adam, epsilon": (adam(0.1, epsilon=0.5), 1, (0.5,), (0.95,)),  # 0.5 / (0.5 + 0.5)
    "adam, without bias correction": (
        adam(0.1, epsilon=0.0, bias_correction=False),
        1,
        (0.5,),
        (0.68377223,),
    ),  # 0.05 / √0.00025
    "adamw": (adamw(0.1, weight_decay=0.5), 1, (0.5,), (0.85,)),  # 1 + 0.5 · 1
    "amsgrad": (amsgrad(0.1, beta2=0.5), 1, (0.5, 0.0), (0.9, 0.84198577)),  # s stays 0.125: (0.045 / 0.19) / √(1/6)
    "nadam": (nadam(0.1), 1, (0.5,), (0.85263158,)),  # m̄ = 0.9 · 0.05 / 0.19 + 0.5
    "nadam, Dozat's": (nadam(0.1, nadam_momentum()), 1, (0.5,), (0.86895581,)),  # μ = 0.4500735, 0.4501469
    "adamax": (adamax(0.1), 1, HALF_THEN_QUARTER, (0.9, 0.82624203)),  # 1, (0.07 / 0.19) / (0.999 · 0.5)
    "radam": (radam(0.1), 1, (0.5, 0.5), (0.95, 0.9)),  # not rectified: m̂ alone
    "lion": (lion(0.1, weight_decay=0.5), 1, (0.5, -1.0), (0.85, 0.9075)),  # 1 + 0.5, −1 + 0.425
    "lars": (lars(1.0, trust=0.1, weight_decay=0.5), 1, (0.5,), (0.9,)),  # λ = 0.1 / (0.5 + 0.5)
    "lamb": (lamb(0.1, weight_decay=0.5), 3, (0.5,), (2.7,)),  # u = 1 + 1.5, scaled by 3 / 2.5
    "muon": (muon(0.1, sgd(0.1), iterations=1), 1, (0.5,), (0.9299,)),  # 3.4445 − 4.775 + 2.0315 = 0.701
    "muon, twice": (muon(0.1, sgd(0.1), iterations=2), 1, (0.5,), (0.88863802,)),  # the quintic of 0.701 is 1.1136198
}


def after_each(optimizer: Optimizer, params: Any, gradients: Any) -> list[Any]:
    state, every = optimizer.init(params), []
    for g in gradients:
        updates, state = optimizer.update(g, state, params)
        params = apply_updates(params, updates)
        every.append(params)
    return every


@pytest.mark.parametrize("name", FIRST_STEPS)
def test_the_first_steps_by_hand(name: str) -> None:
    optimizer, theta, gradients, expected = FIRST_STEPS[name]
    trees = [{"w": jnp.full((1, 1), g)} for g in gradients]
    found = after_each(optimizer, {"w": jnp.full((1, 1), float(theta))}, trees)
    assert [float(params["w"][0, 0]) for params in found] == pytest.approx(expected, rel=3e-7)


def test_every_algorithm_has_a_first_step() -> None:
    assert {name.split(",")[0] for name in FIRST_STEPS} == {function.__name__ for function in public_optimizers()}


def test_muon_steps_further_where_a_matrix_is_wide() -> None:
    """√(H / D) = 2 for (1, 4), and 1 for (4, 1)."""
    for shape, expected in (((1, 4), 1 - 0.1 * 2 * 0.701), ((4, 1), 1 - 0.1 * 0.701)):
        params, grads = {"w": jnp.ones(shape)}, {"w": jnp.zeros(shape).at[0, 0].set(7)}
        after = after_each(muon(0.1, sgd(0.1), iterations=1), params, [grads])[0]["w"]
        assert float(after[0, 0]) == pytest.approx(expected, rel=1e-6)
        assert float(jnp.delete(after.ravel(), 0).sum()) == 3


@pytest.mark.parametrize("optimizer", [lars(0.1), lamb(0.1)], ids=["lars", "lamb"])
def test_a_tensor_of_zeros_starts_to_move(optimizer: Optimizer) -> None:
    """A ratio of 0 would keep the tensor at 0 forever."""
    params = {"w": jnp.zeros((2, 2))}
    after = after_each(optimizer, params, [{"w": jnp.full((2, 2), 0.5)}])[0]["w"]
    assert bool((after < -0.04).all())
    still = after_each(optimizer, {"w": jnp.ones((2, 2))}, [params])[0]["w"]
    assert bool((still == 1).all())


def test_the_schedule_counts_from_zero() -> None:
    optimizer = sgd(lambda step: jnp.where(step == 0, 1.0, 10.0))
    found = after_each(optimizer, {"w": jnp.zeros(1)}, [{"w": jnp.ones(1)}] * 3)
    assert [float(params["w"][0]) for params in found] == [-1, -11, -21]
