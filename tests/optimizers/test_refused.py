"""Wrong arguments raise errors that say what was expected."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import chain, projections, schedules
from fnnet.optimizers import (
    accumulate,
    adadelta,
    adagrad,
    adam,
    adamax,
    adamw,
    adaptive_clip,
    add_noise,
    amsgrad,
    average_parameters,
    centralize,
    clip_by_global_norm,
    clip_by_layer_norm,
    clip_by_value,
    decay_weights,
    depth_decay,
    dynamic_loss_scale,
    freeze,
    groups,
    lamb,
    lars,
    layerwise,
    lion,
    lookahead,
    momentum,
    muon,
    nadam,
    nesterov,
    project,
    radam,
    restrict,
    rmsprop,
    scale,
    sgd,
    skip_non_finite,
)
from tests.public import public_optimizers

NUMBERS: list[tuple[Callable[[], Any], str]] = [
    (lambda: sgd(-0.1), r"optimizers.sgd: learning_rate is -0.1; expected a number in \[0, inf\)"),
    (lambda: sgd(float("nan")), "learning_rate is nan"),
    (lambda: sgd(float("inf")), "learning_rate is inf"),
    (lambda: sgd(np.float32(-1)), "learning_rate is -1"),
    (lambda: sgd(jnp.array(-0.5)), "learning_rate is -0.5"),
    (lambda: sgd(np.array([0.1, 0.2])), r"learning_rate has shape \(2,\); expected one number: use jax.vmap"),
    (lambda: momentum(0.1, 1.0), r"optimizers.momentum: momentum is 1.0; expected a number in \[0, 1\)"),
    (lambda: momentum(0.1, -0.1), "momentum is -0.1"),
    (lambda: momentum(0.1, np.zeros(2)), r"momentum has shape \(2,\)"),
    (lambda: nesterov(0.1, 1.5), "optimizers.nesterov: momentum is 1.5"),
    (lambda: adagrad(epsilon=-1), "optimizers.adagrad: epsilon is -1"),
    (lambda: adagrad(initial_accumulator=-1), "initial_accumulator is -1"),
    (lambda: adadelta(decay=1), "optimizers.adadelta: decay is 1"),
    (lambda: adadelta(epsilon=-1e-6), "epsilon is -1e-06"),
    (lambda: rmsprop(decay=1.0), "optimizers.rmsprop: decay is 1.0"),
    (lambda: rmsprop(momentum=1.0), "momentum is 1.0"),
    (lambda: rmsprop(epsilon=float("nan")), "epsilon is nan"),
    (lambda: adam(beta1=1), "optimizers.adam: beta1 is 1"),
    (lambda: adam(beta2=1.5), "optimizers.adam: beta2 is 1.5"),
    (lambda: adam(epsilon=-1e-8), "optimizers.adam: epsilon is -1e-08"),
    (lambda: adamw(beta1=-0.5), "optimizers.adamw: beta1 is -0.5"),
    (lambda: adamw(weight_decay=-0.1), "optimizers.adamw: weight_decay is -0.1"),
    (lambda: amsgrad(beta2=1), "optimizers.amsgrad: beta2 is 1"),
    (lambda: nadam(beta2=float("nan")), "optimizers.nadam: beta2 is nan"),
    (lambda: adamax(beta1=1), "optimizers.adamax: beta1 is 1"),
    (lambda: radam(threshold=-1), "optimizers.radam: threshold is -1"),
    (lambda: lion(beta2=1), "optimizers.lion: beta2 is 1"),
    (lambda: lion(weight_decay=-1), "optimizers.lion: weight_decay is -1"),
    (lambda: lars(1.0, trust=-1), "optimizers.lars: trust is -1"),
    (lambda: lars(1.0, weight_decay=float("inf")), "optimizers.lars: weight_decay is inf"),
    (lambda: lamb(weight_decay=-1), "optimizers.lamb: weight_decay is -1"),
    (lambda: muon(0.1, sgd(0.1), 1.0), "optimizers.muon: momentum is 1.0"),
    (lambda: muon(0.1, sgd(0.1), iterations=0), "optimizers.muon: iterations is 0; expected an integer of at least 1"),
    (lambda: muon(0.1, sgd(0.1), weight_decay=-1), "optimizers.muon: weight_decay is -1"),
    (lambda: clip_by_value(-1), "optimizers.clip_by_value: limit is -1"),
    (lambda: clip_by_global_norm(-1), "optimizers.clip_by_global_norm: limit is -1"),
    (lambda: clip_by_layer_norm(float("nan")), "optimizers.clip_by_layer_norm: limit is nan"),
    (lambda: adaptive_clip(-0.1), "optimizers.adaptive_clip: limit is -0.1"),
    (lambda: adaptive_clip(epsilon=-0.1), "epsilon is -0.1"),
    (lambda: decay_weights(-0.1), "optimizers.decay_weights: weight_decay is -0.1"),
    (lambda: add_noise(jax.random.key(0), -1), "optimizers.add_noise: variance is -1"),
    (lambda: add_noise(jax.random.key(0), power=-1), "power is -1"),
    (lambda: scale(float("nan")), "optimizers.scale: factor is nan"),
    (lambda: depth_decay({"w": jnp.ones(1)}, -0.5), "optimizers.depth_decay: factor is -0.5"),
    (lambda: accumulate(sgd(0.1), 0), "optimizers.accumulate: every is 0; expected an integer of at least 1"),
    (lambda: accumulate(sgd(0.1), 2.5), "every is 2.5"),
    (lambda: lookahead(sgd(0.1), 0), "optimizers.lookahead: every is 0"),
    (lambda: lookahead(sgd(0.1), rate=-1), "rate is -1"),
    (lambda: average_parameters(sgd(0.1), 1.0), "optimizers.average_parameters: decay is 1.0"),
    (lambda: chain(), "nothing to chain"),
    (lambda: groups(str, {}), "optimizers.groups: there are no optimizers"),
    (lambda: schedules.step_decay(0.1, 0.5, 0), "schedules.step_decay: every is 0"),
    (lambda: schedules.step_decay(0.1, 0.0, 10), "factor is 0.0; expected a number above 0"),
    (lambda: schedules.piecewise([10], [0.1]), "1 boundaries and 1 values; expected one value more"),
    (lambda: schedules.piecewise([10, 5], [0.1, 0.2, 0.3]), r"boundaries are \[10, 5\]; expected increasing numbers"),
    (lambda: schedules.piecewise([0], [0.1, 0.2]), "expected increasing numbers above 0"),
    (lambda: schedules.exponential(0.1, -0.5), "schedules.exponential: factor is -0.5"),
    (lambda: schedules.exponential(0.1, 0.5, 0), "every is 0"),
    (lambda: schedules.inverse_time(0.1, -1), "schedules.inverse_time: rate is -1"),
    (lambda: schedules.polynomial(0.1, 0.0, 0), "schedules.polynomial: steps is 0"),
    (lambda: schedules.polynomial(0.1, 0.0, 10, 0.0), "power is 0.0"),
    (lambda: schedules.cosine(0.1, -5), "schedules.cosine: steps is -5"),
    (lambda: schedules.cosine(0.1, True), "steps is True"),
    (lambda: schedules.cosine(0.1, 10.5), "steps is 10.5"),
    (lambda: schedules.cosine(-0.1, 10), "schedules.cosine: start is -0.1"),
    (lambda: schedules.piecewise([1], [0.1, -0.2]), r"schedules.piecewise: values\[1\] is -0.2"),
    (lambda: schedules.warmup(-0.1, 10), "value is -0.1"),
    (lambda: schedules.one_cycle(-1, 10), "peak is -1"),
    (lambda: schedules.constant(float("nan")), "schedules.constant: value is nan"),
    (lambda: schedules.cosine_restarts(0.1, 0), "schedules.cosine_restarts: period is 0"),
    (lambda: schedules.cosine_restarts(0.1, 10, 0), "factor is 0"),
    (lambda: schedules.warmup(0.1, 0), "schedules.warmup: steps is 0"),
    (lambda: schedules.one_cycle(0.1, 0), "schedules.one_cycle: steps is 0"),
    (lambda: schedules.one_cycle(0.1, 10, rise=1.0), r"rise is 1.0; expected a number in \(0, 1\)"),
    (lambda: schedules.one_cycle(0.1, 10, start_factor=0), "start_factor is 0"),
    (lambda: accumulate(sgd(0.1), 2**31), "optimizers.accumulate: every is 2147483648; expected at most 2147483647"),
    (lambda: lookahead(sgd(0.1), 2**31), "optimizers.lookahead: every is 2147483648; expected at most"),
    (lambda: dynamic_loss_scale(sgd(0.1), period=2**31), "dynamic_loss_scale: period is 2147483648; expected at most"),
    (lambda: schedules.reduce_on_plateau(1.0), r"schedules.reduce_on_plateau: factor is 1.0"),
    (lambda: schedules.reduce_on_plateau(patience=-1), "patience is -1"),
    (lambda: schedules.reduce_on_plateau(cooldown=-1), "cooldown is -1"),
    (lambda: schedules.reduce_on_plateau(tolerance=float("nan")), "tolerance is nan"),
]


@pytest.mark.parametrize(("make", "message"), NUMBERS, ids=[message for _, message in NUMBERS])
def test_bad_hyperparameters_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("function", sorted(public_optimizers(), key=lambda f: f.__name__), ids=lambda f: f.__name__)
def test_every_algorithm_refuses_a_negative_rate(function: Any) -> None:
    arguments = {"others": sgd(0.1)} if function is muon else {}
    with pytest.raises(ValueError, match=rf"optimizers\.{function.__name__}: learning_rate is -1"):
        function(-1, **arguments)


def test_a_schedule_where_a_number_is_needed_is_refused() -> None:
    with pytest.raises(TypeError, match=r"optimizers\.radam: beta2 is a schedule; expected a number"):
        radam(beta2=lambda step: 0.9)


PARAMS = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
NAMES = r"chooses none of the parameters \['b', 'w'\]"
never: Callable[[str], bool] = lambda name: False  # noqa: E731

ON_PARAMETERS: list[tuple[Any, str]] = [
    (adamw(where=never), "optimizers.adamw: where= " + NAMES),
    (lion(where=never), "optimizers.lion: where= " + NAMES),
    (lars(0.1, where=never), "optimizers.lars: where= " + NAMES),
    (lamb(where=never), "optimizers.lamb: where= " + NAMES),
    (muon(0.1, sgd(0.1), where=never), "optimizers.muon: where= " + NAMES),
    (muon(0.1, sgd(0.1), where="b".__eq__), r"optimizers.muon: 'b' has shape \(2,\); expected a matrix"),
    (adaptive_clip(where=never), "optimizers.adaptive_clip: where= " + NAMES),
    (decay_weights(0.1, where=never), "optimizers.decay_weights: where= " + NAMES),
    (centralize(where=never), "optimizers.centralize: where= " + NAMES),
    (project(projections.non_negative, where=never), "optimizers.project: where= " + NAMES),
    (freeze(never), "optimizers.freeze: where= " + NAMES),
    (restrict(clip_by_value(1.0), never), "optimizers.restrict: where= " + NAMES),
    (groups(lambda name: name, {"w": sgd(0.1)}), r"label gives \{'b': 'b'\}, but the optimizers are for \['w'\]"),
    (
        groups(lambda name: "w", {"w": sgd(0.1), "head": freeze()}),
        r"no parameter is in \['head'\]; the parameters are \['b', 'w'\]",
    ),
    (layerwise(lambda name: -1.0), r"optimizers.layerwise: parameter 'b': multiplier is -1.0"),
]


@pytest.mark.parametrize(("optimizer", "message"), ON_PARAMETERS, ids=[message for _, message in ON_PARAMETERS])
def test_options_that_do_not_fit_the_parameters_are_refused(optimizer: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optimizer.init(PARAMS)


@pytest.mark.parametrize(
    "optimizer",
    [adamw(), lion(), lars(0.1), lamb(), muon(0.1, sgd(0.1)), adaptive_clip(), decay_weights(0.1),
     project(projections.non_negative), average_parameters(sgd(0.1)), lookahead(sgd(0.1))],
)  # fmt: skip
def test_missing_parameters_are_refused(optimizer: Any) -> None:
    with pytest.raises(ValueError, match=r"optimizers.\w+: params is None; pass update\(grads, state, params\)"):
        optimizer.update(PARAMS, optimizer.init(PARAMS))


@pytest.mark.parametrize(
    "optimizer",
    [sgd(0.1), adam(), skip_non_finite(accumulate(sgd(0.1), 2)), accumulate(skip_non_finite(sgd(0.1)), 2),
     average_parameters(sgd(0.1)), dynamic_loss_scale(sgd(0.1)), clip_by_global_norm(1.0), lookahead(adam())],
)  # fmt: skip
def test_integer_gradients_are_refused(optimizer: Any) -> None:
    """Their updates would be rounded to integers, that is, to 0."""
    grads = PARAMS | {"b": jnp.ones(2, int)}
    with pytest.raises(TypeError, match="optimizers: a gradient has dtype int32; expected floating point"):
        optimizer.update(grads, optimizer.init(PARAMS), PARAMS)


def test_the_state_of_another_chain_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        chain(sgd(1.0), scale(1.0)).update(PARAMS, (sgd(1.0).init({}),))


def test_a_schedule_that_returns_an_array_is_refused() -> None:
    optimizer = sgd(lambda step: jnp.array([0.1, 0.2]))
    with pytest.raises(ValueError, match=r"schedule.*shape \(2,\)"):
        optimizer.update(PARAMS, optimizer.init(PARAMS))


@pytest.mark.parametrize("make", sorted(public_optimizers(), key=lambda f: f.__name__), ids=lambda f: f.__name__)
def test_words_and_exchanged_arguments_are_refused(make: Any) -> None:
    others = [sgd(0.1)] if make is muon else []
    message = rf"optimizers.{make.__name__}: learning_rate .*expected .*number"
    for bad in ("1e-3", None, [0.1]):
        with pytest.raises((TypeError, ValueError), match=message):
            make(bad, *others)
    if make.__name__ in ("newton", "gauss_newton"):
        return
    optimizer, params = make(0.1, *others), {"w": jnp.ones((2, 2))}
    with pytest.raises(TypeError, match=r"expected update\(grads, state, params\), in this order"):
        optimizer.update(params, params, optimizer.init(params))
