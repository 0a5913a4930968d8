"""Verdicts on the parameters at the start: symmetry, dead units, signals that die, and what a few steps can do."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from fnnet.cost import Cost
from fnnet.diagnosis.changes import Change, scaled_updates
from fnnet.diagnosis.programs import compiled
from fnnet.diagnosis.report import NotLookedAt, Verdict
from fnnet.diagnosis.subject import FIRST_STEPS, Numbers, Subject, counted, spread
from fnnet.diagnosis.thresholds import bound, found
from fnnet.layers import Activation, Conv, ConvTranspose, Dense, GroupNorm, LayerNorm
from fnnet.optimizers import apply_updates
from fnnet.optimizers.base import kind_of
from fnnet.paths import named_leaves
from fnnet.types import Array, Params

WIDE = 32  # units of a layer of which all but a few are dead by no chance
RATES = (1e-3, 1e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1000.0)  # times the user's
RATE_STEPS = 50


def units_start_identical(subject: Subject) -> Verdict | None:
    """Units of a hidden layer have the same weights, the same bias and the same gradient, and so stay the same forever.

    A layer of H such units has the power of a single one. The cause is an initial value of 0 or any other constant.

    Statistic: the share of units whose incoming weights and bias equal those of another unit of the layer, at the start
    and after 10 steps of gradient descent on one batch. Equal units get equal gradients, so they can never differ.

    Threshold: above 0; equal means up to 1e-4 of the norm. Weights that are drawn at random have 0, and a constant
    start has 1.

    When it is wrong: layers that start at 0 on purpose, such as the last one of a residual branch, get different
    gradients, and so differ after 10 steps. Units that do not move while others of their layer do are left out: no
    gradient reaches them, because they are dead. The last layer of the network is not looked at.
    """
    name, statistic = "units start identical", "share of units equal to another"
    early = dict(named_leaves(subject.one_batch.early))
    start = dict(named_leaves(subject.params))
    for path in subject.weight_layers[:-1]:
        names = [n for n in start if n.rpartition(".")[0] == path]
        before, after = (columns_of([np.asarray(of[n], np.float64) for n in names]) for of in (start, early))
        moved = (before != after).any(0)
        alive = moved if moved.any() else ~moved
        share = min(shares := [twins(columns[:, alive]) for columns in (before, after)])
        if share > bound(name, statistic):
            return found(
                name,
                statistic,
                share,
                "exact",
                f"{share:.0%} of the units of layer {path} equal another unit, and will do so after every step: start "
                f"from random weights.",
                layer=path,
                evidence={"at the start": shares[0], f"after {FIRST_STEPS} steps": shares[1]},
                remedy=Change("params", "draw"),
            )
    return None


def columns_of(arrays: list[Numbers]) -> Numbers:
    """Return the weights and biases ``(weights, units)`` of a layer, whose units are the entries of the last axis."""
    width = max((a.shape[-1] for a in arrays if a.ndim > 1), default=0)
    return np.concatenate([np.zeros((0, width)), *(a.reshape(-1, width) for a in arrays if of_units(a, width))])


def of_units(a: Numbers, width: int) -> bool:
    return bool(width and a.ndim and a.shape[-1] == width)


def twins(columns: Numbers) -> float:
    """Return the share of units whose columns equal those of another."""
    if columns.shape[1] < 2:
        return 0.0
    size = np.sqrt(np.square(columns).sum(0)).max()
    unit = columns / (size or 1)
    square = np.square(unit).sum(0)
    distance = np.sqrt(np.maximum(square[:, None] + square - 2 * unit.T @ unit, 0))
    np.fill_diagonal(distance, np.inf)
    return float((distance.min(0) < EQUAL).mean())


EQUAL = 1e-4  # a distance of two columns, in units of the longest, that rounding may make


def a_layer_is_dead_at_the_start(subject: Subject) -> Verdict | None:
    """All units of a layer are 0 for every example, and so is their derivative: nothing passes, and nothing is learned.

    ReLUs die by a large negative bias, by inputs that are not scaled, or by chance in narrow and deep networks: the
    probability goes to 1 with the depth (Lu et al. 2019, "Dying ReLU and initialization").

    Statistic: the share of units that are 0 for all of at most 512 examples.

    Thresholds: 1 for any layer whose units are flat there, too, and above 0.9 for a layer of at least 32 units. Healthy
    starts have up to 0.75 in 8 layers of 8 units. Shares of zero *entries* are no sign at all: half of them is normal.

    When it is wrong: a unit may live for an example that was not looked at. A zero at which the derivative is not 0,
    as that of GELU or tanh after a layer that starts at 0, is not counted.
    """
    name, statistic = "a layer is dead at the start", "share of units that are 0 for all examples"
    for path, layer in subject.layers.items():
        seen = subject.look.signals.get(path)
        if not isinstance(layer, Activation) or seen is None:
            continue
        share = float(seen.dead)
        width = units_of(subject, path)
        dead = share >= bound(name, statistic) or (width >= WIDE and share > bound(name, "that of a wide layer"))
        if dead and float(subject.all_signals[path].saturated) >= share:
            return found(
                name,
                statistic,
                share,
                "exact",
                f"{share:.0%} of the units of layer {path} are 0 for every example, so no gradient passes: look at the "
                f"biases, the initializer and the scale of the inputs.",
                layer=path,
                remedy=Change("params", "draw"),
            )
    return None


def units_of(subject: Subject, path: str) -> int:
    """Return the number of units of the last layer with weights before an activation, 0 if it is not known."""
    paths = list(subject.layers)
    before = [p for p in paths[: paths.index(path)] if p in subject.weight_layers]
    if not before:
        return 0
    weights = [leaf for name, leaf in named_leaves(subject.params) if name.rpartition(".")[0] == before[-1]]
    return max(leaf.shape[-1] for leaf in weights if leaf.ndim > 1)


def signal_dies_on_the_way_in(subject: Subject) -> Verdict | None:
    """What a layer gives hardly depends on the example, or the signal shrinks or grows with every layer.

    After some layers of sigmoids all examples have the same hidden vector, up to a part in a thousand: the outputs
    then cannot tell them apart until the weights have grown. With weights too small or too large the signal vanishes
    or explodes along the depth.

    Statistics: the least ``vary = √(mean Var_n h / mean h²)`` of the hidden layers, see ``fnnet.inspect.LayerSignals``;
    and the geometric mean of ``rms(out)/rms(in)`` over the hidden affine layers.

    Thresholds: ``vary`` below 0.01; the mean gain below 0.2 or above 3. Healthy networks of ReLU, tanh and GELU have
    ``vary`` of at least 0.19, of two sigmoid layers 0.013 to 0.10, and gains of 1 to 1.5 by the initializers of fnnet;
    weights of N(0, 1) have 8 at a width of 64, weights of 1e-3 have 0.008.

    When it is wrong: layers that start at 0 on purpose have no gain and are left out, and so is the last layer. Layers
    with normalization after them may have any gain, because it sets the scale again; where there is any, gains are
    left out. Suspected, until a rerun from other weights is better.
    """
    name, varies = "signal dies on the way in", "vary, at least"
    signals = subject.look.signals
    hidden = [path for path in subject.hidden if path in signals]
    if not hidden:
        raise NotLookedAt("there are no hidden layers that can be seen")
    if len(subject.rows) < 2:
        raise NotLookedAt("there are fewer than two examples")
    flat = {path: float(signals[path].vary) for path in hidden if float(signals[path].rms) > 0}
    flat = {path: value for path, value in flat.items() if not np.isnan(value)}
    worst = min(flat, key=lambda path: flat[path], default=None)
    remedy = Change("params", "draw")
    if worst is not None and flat[worst] < bound(name, varies):
        sentence = (
            f"Layer {worst} gives nearly the same for all examples: only {flat[worst]:.1g} of its output depends on "
            f"the input."
        )
        return found(name, varies, flat[worst], "suspected", sentence, layer=worst, evidence=flat, remedy=remedy)
    if any(
        isinstance(layer, (LayerNorm, GroupNorm)) or "Norm" in type(layer).__name__ for layer in subject.layers.values()
    ):
        return None
    gains = {path: float(signals[path].gain) for path in hidden if is_affine(subject, path)}
    gains = {path: gain for path, gain in gains.items() if gain > 0}
    if not gains:
        return None
    mean = float(np.exp(np.mean(np.log(list(gains.values())))))
    for statistic, sign in (("gain, at most", 1), ("gain, at least", -1)):
        if sign * mean > sign * bound(name, statistic):
            worst = max(gains, key=lambda path: sign * gains[path])
            sentence = (
                f"Every hidden layer makes the signal {mean:.2g} times as large, so it "
                f"{'explodes' if sign > 0 else 'vanishes'} with the depth: draw the weights with variance 2/D."
            )
            return found(name, statistic, mean, "suspected", sentence, layer=worst, evidence=gains, remedy=remedy)
    return None


def is_affine(subject: Subject, path: str) -> bool:
    return isinstance(subject.layers[path], (Dense, Conv, ConvTranspose))


def the_gradient_does_not_reach_a_layer(subject: Subject) -> Verdict | None:
    """The gradient of a layer is tiny compared with its weights and with the other layers: it will hardly be trained.

    Sigmoids multiply the gradient by at most 1/4 at every layer, saturated tanh by nearly 0; so the first layers of a
    deep network stand still while the last ones learn.

    Statistic: ``reach = (‖g‖/‖w‖) / max_k (‖g_k‖/‖w_k‖)``, see ``fnnet.inspect.LayerSignals``, at the start and after
    10 steps of gradient descent on one batch; the larger of both.

    Threshold: below 1e-3. The least of 1,350 healthy networks of ReLU, tanh and GELU is 0.022; five sigmoid layers have
    4e-4, eight have 3e-6. Being relative, it does not depend on the units of the loss.

    When it is wrong: what lies before a layer that starts at 0 gets no gradient in the first step; hence the second
    look. Layers that are frozen on purpose are told by the optimizer, which is not looked at here. Suspected, until a
    rerun from other weights, or with another activation, is better.
    """
    name, statistic = "the gradient does not reach a layer", "reach"
    limit = bound(name, statistic)
    reach = {path: float(seen.reach) for path, seen in subject.look.signals.items()}
    low = [path for path in subject.weight_layers if reach[path] < limit]
    if not low:
        return None
    later = subject.look_at(subject.one_batch.early).signals
    low = [path for path in low if not float(later[path].reach) >= limit]
    if not low:
        return None
    worst = min(low, key=lambda path: reach[path])
    return found(
        name,
        statistic,
        max(reach[worst], float(np.nan_to_num(later[worst].reach))),
        "suspected",
        f"The relative gradient of layer {worst} is {reach[worst]:.1g} of that of the layer that learns fastest: it "
        f"will stand still while the others learn.",
        layer=worst,
        evidence=reach,
        remedy=Change("params", "draw"),
    )


def one_batch_cannot_be_learned(subject: Subject) -> Verdict | None:
    """Even 16 examples cannot be learned by heart, so something between inputs and loss is broken or too small.

    A network of any use learns so few examples within some hundred steps. If it does not, more data and more epochs
    will not help. It is a symptom: the other verdicts tell the cause, or the network is too small.

    Statistic: ``λ = (L − L*)/(H₀ − L*)`` of 16 examples of different inputs after at most 1000 steps of Adam with rate
    3e-3, without penalty and noise; the test stops where ``λ`` is 0.02. Of sequences it is one example. The loss is
    compared with its floor, because accuracy is blind: softmax before softmax cross-entropy of 10 classes reaches an
    accuracy of 1 and stops at ``λ = 0.635``.

    Threshold: above 0.05. Of 90 healthy networks all passed, 95 % of them within 241 steps; weights that start at 0
    end at 0.8, eight sigmoid layers at 0.5.

    When it is wrong: models that are too narrow on purpose, and tasks that need thousands of steps, fail it. Models
    with fewer parameters than 16 examples have outputs are not looked at. So it is suspected. It is exact where the
    loss of a constant prediction falls without end, as with a wrong sign.
    """
    name, statistic = "one batch cannot be learned", "λ of 16 examples after training"
    if subject.bounds.constant == -np.inf and not subject.closed:
        return found(
            name,
            statistic,
            np.inf,
            "exact",
            "The loss of a constant prediction falls without end, so training drives the outputs away from the "
            "targets: check the sign of the loss.",
        )
    bounds = subject.finite_bounds
    if len(subject.small) < 2:
        raise NotLookedAt("there are fewer than two examples")
    outputs = subject.shapes_of(len(subject.small))[0]
    parameters = sum(leaf.size for leaf in jax.tree.leaves(subject.params))
    if len(outputs) < 3 and parameters < np.prod(outputs):
        raise NotLookedAt("the model has fewer parameters than 16 examples have outputs")
    end = subject.one_batch.end
    if np.isnan(end):
        raise NotLookedAt("the targets of the 16 examples are all alike, or their loss has no least value")
    if not end > bound(name, statistic):
        return None
    return found(
        name,
        statistic,
        end,
        "suspected",
        f"After {subject.one_batch.steps} steps on 16 examples {end:.0%} of the loss that a constant prediction has is "
        f"left: the network cannot even learn these by heart.",
        evidence={"steps": subject.one_batch.steps, "H₀": bounds.constant, "L*": bounds.least},
    )


def learning_rate_out_of_range(subject: Subject) -> Verdict | None:
    """The learning rate is far from the one that lowers the loss of one batch most in 50 steps.

    Statistic: 10 runs of 50 steps of the user's optimizer on 32 examples, all in one program, with the updates times
    0.001 to 1000; ``best`` is the factor with the least loss.

    Thresholds: ``1/best`` above 3 or below 1/30, if ``λ`` at the user's rate is above the best by more than 0.2. The
    runs are parallel, because a single run with a growing rate mixes the rate with time.

    When it is wrong: schedules are seen at their first 50 steps, so that a warm-up looks too low. The best rate of a
    long run is lower than that of a short one. A hint: suspected.
    """
    name, high, low = "learning rate out of range", "rate over the best, at most", "rate over the best, at least"
    if subject.optimizer is None:
        raise NotLookedAt("there is no optimizer; pass optimizer=")
    bounds = subject.finite_bounds
    kind_of("preflight", subject.optimizer)
    batch = subject.part(subject.rows[spread(len(subject.rows), 32)])
    try:
        program = compiled(rate_losses, subject.cost, subject.optimizer)
        losses = jax.device_get(program(subject.params, batch, subject.key, np.asarray(RATES, np.float32)))
    except (TypeError, ValueError) as error:
        raise NotLookedAt(f"the optimizer takes more than gradients and parameters: {str(error)[:100]}") from error
    lam = (np.where(np.isfinite(losses), losses, np.inf) - bounds.least) / (bounds.constant - bounds.least)
    best = RATES[int(lam.argmin())]
    own = lam[RATES.index(1.0)]
    if not own > lam.min() + bound(name, "λ over the best"):
        return None
    for statistic, sign in ((high, 1), (low, -1)):
        if sign / best > sign * bound(name, statistic):
            return found(
                name,
                statistic,
                1 / best,
                "suspected",
                f"In 50 steps on one batch, {best:g} times your learning rate leaves {lam.min():.2g} of the loss, and "
                f"yours {own:.2g}.",
                evidence={"factor": RATES, "λ": lam.tolist()},
                remedy=Change("learning_rate", "scale", best),
            )
    return None


def rate_losses(cost: Cost, optimizer: Any, params: Params, batch: Any, key: Array, factors: Array) -> Array:
    """Return the loss of the batch after 50 steps on it, for every factor of the updates."""
    x, y, weights = counted(cost, batch)

    def value(params: Params) -> Array:
        return cost.mean_loss(cost.model.apply(params, x, key=key), y, weights)

    def run(factor: Array) -> Array:
        scaled = scaled_updates(optimizer, factor)

        def step(state: Any, _: None) -> Any:
            params, opt_state = state
            updates, opt_state = scaled.update(jax.grad(value)(params), opt_state, params)
            return (apply_updates(params, updates), opt_state), None

        (after, _), _ = jax.lax.scan(step, (params, scaled.init(params)), None, length=RATE_STEPS)
        return value(after)

    return jax.vmap(run)(factors)
