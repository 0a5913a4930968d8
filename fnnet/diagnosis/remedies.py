"""Reruns with one thing changed: what confirms or refutes a verdict.

A run is a pure function of its state, data and key. ``remedies`` goes back to a state of the run, the branch point, and
trains on with the same batches and the same random numbers, once unchanged and once for each remedy. These are the
arms:

- *unchanged*: it gives the run again, bit for bit on a CPU;
- *sham*: something else is changed, so that a run that anything would improve is not taken for a proof;
- one arm for each remedy. Arms whose change is a factor are one program under ``vmap``.

What counts is the difference of the losses of every example of the probe set, on the scale ``λ``, where 1 is the best
constant prediction and 0 the least possible loss. With the differences ``d_n``, ``z = mean(d) / (sd(d) / √n)``, and the
effect is ``mean(d)`` divided by the ``λ`` of the unchanged arm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnnet import checks, losses
from fnnet.data.chunks import Chunk
from fnnet.data.stream import as_stream
from fnnet.diagnosis.changes import IDENTITY, Change, ScaledPenalty, Setup, apply, scaled_updates, scaled_weights
from fnnet.diagnosis.programs import compiled
from fnnet.diagnosis.report import NotLookedAt, Outcome, Report, Verdict, in_order
from fnnet.diagnosis.statistics import z_of
from fnnet.diagnosis.thresholds import THRESHOLDS
from fnnet.diagnosis.watch import Watch
from fnnet.inspect.baselines import example_losses, loss_bounds
from fnnet.training.chunk import train_chunk
from fnnet.training.placement import Placement
from fnnet.training.program import chunk_program, copied, settings_of_jax
from fnnet.training.state import TrainState
from fnnet.training.step import Probe
from fnnet.types import Array, Batch, Loss, Params, Scalar

Run = Any  # a function (state, chunk) -> (state, numbers)
Excess = np.ndarray[Any, Any]  # λ of each example of the probe set
PROBE = 512  # examples
FEWEST, MOST = 50, 300  # steps of an arm
LARGEST = 10.0  # λ of one example, so that no single one decides; NaN and infinity count as this
POINTS = 6  # of the curve of an arm
SMALLEST = 1e-6  # probability in a score


def remedies(
    report: Report,
    setup: Setup,
    *,
    states: Sequence[TrainState] = (),
    watch: Watch | None = None,
    budget: float = 0.1,
    probe: Batch | None = None,
) -> Report:
    """Return the report with each suspected verdict confirmed or refuted by reruns, as far as the budget goes.

    A verdict is confirmed if the best of its remedies has ``z ≥ 3``, removes at least a tenth of the excess loss, and
    is better than the sham with ``z ≥ 2``; else it is refuted. ``row.remedy`` is then the best one, and
    ``row.outcome`` what it gave. Exact verdicts stay exact. Two verdicts that no rerun can test are confirmed by a
    second test, that of ``preflight`` on the data: see ``SAID_TWICE``.

    ``setup`` is what the run was made of, and ``states`` are states after some of its epochs. A rerun starts from the
    last of them before the window of the verdict and, if that refutes it, from the start. An arm has as many steps as
    an epoch, but at least 50 and at most 300; remedies of the whole run, such as a penalty against overfitting, have
    all of its steps. ``budget`` is the share of the run's steps that all reruns together may have; what it does not pay
    for is in ``not_looked_at``. ``probe`` are the examples on which the arms are compared: by default the first 512 of
    the validation data, or else of the training data. ``watch`` is the one that watched the run, if one did: the arms
    that change no program then run that of the run itself, which is compiled already.
    """
    left = budget * setup.steps
    rows: list[Verdict] = []
    skipped: dict[str, str] = {}
    reruns: dict[tuple[int, int], Rerun] = {}
    for row in sorted(report.rows, key=lambda row: row.certainty != "suspected"):
        changes = changes_of(row)
        if not changes or row.certainty not in ("suspected", "exact"):
            rows.append(row)
            continue
        tried = row
        try:
            for branch, steps in branches_of(row, changes, setup, states):
                probes: tuple[Any, ...] = () if watch is None else (watch.step_probe,)
                fresh = Rerun(setup, branch, steps, probe or probe_of(setup), probes)
                rerun = reruns.setdefault((int(branch.step), steps), fresh)
                before = rerun.made
                price = rerun.price(changes)
                if price > left:
                    raise NotLookedAt(
                        f"its rerun takes {price} steps, and {left:.0f} are left of the budget; pass remedies a budget "
                        f"of at least {(budget * setup.steps - left + price) / setup.steps:.2g}"
                    )
                tried = judged(row, rerun, changes)
                left -= rerun.made - before
                if tried.certainty != "refuted":
                    break
        except NotLookedAt as why:
            if tried is row:
                skipped[f"the remedy of {row.name}"] = str(why)
        rows.append(tried)
    rows = [corroborated(row, report) for row in rows]
    return Report(in_order(tuple(rows)), report.fine, {**report.not_looked_at, **skipped})


# Verdicts that no rerun can test, with the verdict on the data that says the same by another test.
SAID_TWICE = {
    "memorizes without learning": "labels do not depend on the inputs",
    "a class is not learned": "classes are unbalanced",
}


def corroborated(row: Verdict, report: Report) -> Verdict:
    """Return a suspected verdict as a confirmed one if an independent test of the data says the same."""
    said = SAID_TWICE.get(row.name) in [other.name for other in report.rows]
    return replace(row, certainty="confirmed") if said and row.certainty == "suspected" else row


def changes_of(row: Verdict) -> tuple[Change, ...]:
    """Return the changes that may mend a verdict: its remedy is one change or several alternatives."""
    found = row.remedy if isinstance(row.remedy, (tuple, list)) else (row.remedy,)
    return tuple(change for change in found if isinstance(change, Change))


def judged(row: Verdict, rerun: Rerun, changes: tuple[Change, ...]) -> Verdict:
    """Return the verdict with the outcome of the best of its remedies, confirmed or refuted by it."""
    changes, outcomes = rerun.outcomes(changes)
    remedy, best = max(zip(changes, outcomes, strict=True), key=lambda pair: (confirms(pair[1]), pair[1].effect))
    certainty = row.certainty
    if certainty == "suspected":
        certainty = "confirmed" if confirms(best) else "refuted"
    arms = {str(change): outcome.effect for change, outcome in zip(changes, outcomes, strict=True)}
    return replace(row, certainty=certainty, remedy=remedy, outcome=best, evidence={**row.evidence, "arms": arms})


def confirms(outcome: Outcome) -> bool:
    """Return whether an outcome confirms a verdict."""
    return (
        outcome.z >= THRESHOLDS["rerun: z"].value
        and outcome.effect >= THRESHOLDS["rerun: effect"].value
        and outcome.sham_z >= THRESHOLDS["rerun: z over the sham"].value
    )


def branches_of(
    row: Verdict, changes: tuple[Change, ...], setup: Setup, states: Sequence[TrainState]
) -> list[tuple[TrainState, int]]:
    """Return the states from which the reruns of a verdict start, and how many steps they have.

    What is changed in the program alone can be changed in the middle of a run. A change of the data or of the
    parameters is one of the run from its start. What does not help in the middle may help from the start: the damage
    may be done by then.
    """
    if any(change.target == "epochs" for change in changes):
        checks.require(len(changes) == 1, "remedies: a change of epochs has no alternatives; give it alone")
        if not states:
            raise NotLookedAt("it needs the last state of the run; pass states=[...] to remedies")
        return [(max(states, key=lambda state: int(state.step)), 0)]
    if any((change.target, change.action) in WHOLE_RUN for change in changes):
        return [(setup.start(), setup.steps)]
    start = row.window[0] if row.window and all(change.target in MIDWAY for change in changes) else 0
    before = [state for state in states if int(state.step) <= start]
    middle = max(before, key=lambda state: int(state.step), default=setup.start())
    found = [(middle, length(setup))]
    if row.window and int(middle.step) > 0:
        found.append((setup.start(), max(length(setup), min(MOST, row.window[1]))))
    return found


# What can be changed in the middle of a run, because the state stays as it is.
MIDWAY = ("learning_rate", "gradients", "penalty", "batch_size", "loss", "augment", "key")
# What changes the result of a run and not that of a few steps.
WHOLE_RUN = (
    ("penalty", "replace"),
    ("dropout", "set"),
    ("model", "widen"),
    ("model", "replace"),
    ("augment", "remove"),
)


def length(setup: Setup) -> int:
    """Return the number of steps of an arm: an epoch or, where these are short, the fewest epochs of 50 steps."""
    own = setup.steps_of_epoch
    return MOST if own > MOST else own * math.ceil(FEWEST / own)


def probe_of(setup: Setup) -> Batch:
    x, y = setup.data if setup.validation is None else setup.validation
    return x[:PROBE], y[:PROBE]


class Arm(NamedTuple):
    """A rerun: what it was made of, its parameters after each epoch, and how many steps it had."""

    setup: Setup
    params: tuple[Params, ...]
    steps: int


@dataclass
class Rerun:
    """Reruns of a run from one of its states. ``made`` counts the steps of all arms so far."""

    setup: Setup
    state: TrainState
    steps: int
    probe: Batch
    watched: tuple[Probe, ...] = ()  # what was computed in every step of the run
    made: int = 0

    @cached_property
    def unchanged(self) -> Arm:
        return self.arm(self.setup)

    def price(self, changes: Sequence[Change]) -> int:
        """Return how many steps the arms of these changes take, with those of the control arms."""
        if changes[0].target == "epochs":
            return max(0, apply(changes[0], self.setup).steps - self.setup.steps)
        return self.steps * (len(changes) + 1 + ("unchanged" not in vars(self)))

    def outcomes(self, changes: Sequence[Change]) -> tuple[tuple[Change, ...], list[Outcome]]:
        """Return the changes that can be tried on this run, and what each of them gave."""
        if changes[0].target == "epochs":
            return tuple(changes), [self.of_epochs(changes[0])]
        possible, why = self.possible(changes)
        if not possible:
            raise NotLookedAt(f"its remedies do not fit the run: {why}")
        *changed, sham = self.arms([*possible, sham_of(possible)])
        return possible, [self.outcome(arm, sham) for arm in changed]

    def possible(self, changes: Sequence[Change]) -> tuple[tuple[Change, ...], str]:
        """Return the changes whose cost can be computed, and why the others cannot: a loss for other targets, say."""
        found, why = [], ""
        for change in changes:
            try:
                changed = self.setup if change.is_number else apply(change, self.setup)
                x, y = (jax.ShapeDtypeStruct(np.shape(part[:1]), checks.dtype_of(part)) for part in changed.data)
                jax.eval_shape(partial(changed.cost, key=changed.key, train=True), changed.params, (x, y))
                found.append(change)
            except (TypeError, ValueError, KeyError) as error:
                why = str(error)
        return tuple(found), why

    def outcome(self, arm: Arm, sham: Arm) -> Outcome:
        score = score_of(self.setup, arm.setup)
        before, after, other = (excess(each, self.probe_for(each.setup), score) for each in (self.unchanged, arm, sham))
        gain = before[-1] - after[-1]
        return Outcome(
            z=z_of(gain),
            effect=share(gain, before[-1]),
            sham_z=z_of(other[-1] - after[-1]),
            steps=arm.steps,
            before=tuple(float(each.mean()) for each in before),
            after=tuple(float(each.mean()) for each in after),
        )

    def of_epochs(self, change: Change) -> Outcome:
        """Return what more epochs give, compared with the end of the run. There is no sham: one was the run itself."""
        end = Arm(self.setup, (self.state.params,), 0)
        changed = apply(change, self.setup)
        self.__dict__["unchanged"] = end
        more = changed.steps - self.setup.steps
        params = tuple(self.trained(self.program(changed), changed, self.state, more)) if more > 0 else ()
        self.made += max(more, 0)
        arm = Arm(changed, params or (self.state.params,), max(more, 0))
        outcome = self.outcome(arm, end)
        return replace(outcome, sham_z=outcome.z)

    def probe_for(self, setup: Setup) -> Batch:
        """Return the probe set as a changed setup has it: with inputs standardized, for example."""
        if setup.data is self.setup.data:
            return self.probe
        own = replace(self.setup, data=self.setup.data, validation=self.probe)
        for change in (Change("inputs", "standardize"), Change("targets", "standardize")):
            part = 0 if change.target == "inputs" else 1
            if setup.data[part] is not self.setup.data[part]:
                own = apply(change, own)
        assert own.validation is not None
        return own.validation

    def arms(self, changes: Sequence[Change]) -> list[Arm]:
        """Return an arm for each change."""
        numbers = [change for change in changes if change.is_number]
        of_numbers = iter(self.arms_of_numbers(numbers) if numbers else [])
        return [next(of_numbers) if change.is_number else self.arm(apply(change, self.setup)) for change in changes]

    def arm(self, setup: Setup) -> Arm:
        """Return the rerun of a changed setup, from the branch point if its state can go on from there."""
        changed = setup.params is not self.setup.params or setup.optimizer.init is not self.setup.optimizer.init
        state = setup.start() if changed else self.state._replace(key=setup.key)
        steps = max(1, self.steps * self.setup.batch_size // setup.batch_size)  # of as many examples
        params = tuple(self.trained(self.program(setup), setup, state, steps))
        self.made += steps
        return Arm(setup, params, steps)

    def arms_of_numbers(self, changes: Sequence[Change]) -> list[Arm]:
        """Return the arms whose change is a factor, all from one program."""
        factors = {
            target: jnp.asarray([change.value if change.target == target else 1.0 for change in changes], jnp.float32)
            for target in ("learning_rate", "penalty", "params")
        }

        def run(state: TrainState, chunk: Chunk, rate: Scalar, strength: Scalar) -> tuple[TrainState, Any]:
            cost, optimizer = self.setup.cost, scaled_updates(self.setup.optimizer, rate)
            if cost.penalty is not None:
                cost = replace(cost, penalty=ScaledPenalty(cost.penalty, strength))
            return train_chunk(cost, optimizer, augment=self.setup.augment)(state, chunk)

        axes = TrainState(params=0, opt_state=0, step=None, key=None)  # type: ignore[arg-type]
        program = jax.jit(jax.vmap(run, (axes, None, 0, 0), (axes, 0)))
        params = jax.vmap(lambda factor: scaled_weights(self.state.params, factor))(factors["params"])
        opt_state = jax.tree.map(lambda a: jnp.stack([a] * len(changes)), self.state.opt_state)
        states = self.state._replace(params=params, opt_state=opt_state)

        def run_all(states: TrainState, chunk: Chunk) -> Any:
            return program(states, chunk, factors["learning_rate"], factors["penalty"])

        made = list(self.trained(run_all, self.setup, states, self.steps))
        self.made += self.steps * len(changes)
        return [
            Arm(self.setup, tuple(jax.tree.map(lambda a, i=i: a[i], params) for params in made), self.steps)
            for i in range(len(changes))
        ]

    def program(self, setup: Setup) -> Run:
        """Return the program that ``fit`` compiles for this setup."""
        placement = Placement.of(None, setup.params)
        made_of = (setup.cost, setup.optimizer, jax.value_and_grad, None, setup.augment)
        return chunk_program(*made_of, placement, settings_of_jax(), *self.watched)

    def trained(self, run: Run, setup: Setup, state: TrainState, steps: int) -> Iterator[Params]:
        """Yield the parameters after each epoch, and after the last step. The order of the examples is that of fit."""
        data: Any = tuple(jnp.asarray(part) for part in setup.data)
        stream = as_stream(data, setup.batch_size, shuffle=setup.shuffle, drop_last=False)
        state, left = copied(state), steps
        while left > 0:
            for chunk in stream.chunks(state.order_key()):
                part = chunk if chunk.updates <= left else chunk._replace(rows=chunk.rows[:left])
                state, _ = run(state, part)
                left -= part.updates
                if left == 0:
                    break
            yield copied(state.params)  # the next epoch takes the buffers over


def sham_of(changes: Sequence[Change]) -> Change:
    """Return a change that is not expected to help where these are.

    Remedies at the start are compared with a lower rate, which calms any run. Those that change the steps are compared
    with other batches and other random numbers, which is what chance gives.
    """
    calm = all(change.target not in (*MIDWAY, "optimizer") for change in changes)
    return Change("learning_rate", "scale", 1 / 3) if calm else Change("key", "fold", 1)


# Scores of predictions, in which setups with different losses can be compared.


class Score(NamedTuple):
    """``loss`` scores predictions; ``baseline`` is the loss that it is for the outputs that it is made for."""

    loss: Loss
    baseline: Loss


def score_of(setup: Setup, changed: Setup) -> Score:
    """Return the loss if both have the same one, else a proper score that both admit.

    That is the cross-entropy of the normalized outputs for labels and targets in {0, 1}, else the squared error.
    """
    if setup.cost.loss == changed.cost.loss:
        return Score(setup.cost.loss, setup.cost.loss)
    target = np.asarray(setup.data[1])
    binary = not checks.is_integer(target) and bool(np.isin(target, (0, 1)).all())
    one_hot = binary and target.ndim > 1 and target.shape[-1] > 1 and bool((target.sum(-1) == 1).all())
    if checks.is_integer(target) or one_hot:
        return Score(of_classes, losses.softmax_cross_entropy)
    return Score(of_yes_and_no, losses.sigmoid_cross_entropy) if binary else Score(*[losses.squared_error] * 2)


def of_classes(prediction: Array, target: Array) -> Array:
    """Return the cross-entropy of outputs that are logits or, if the sum of every row is 1, probabilities."""
    probabilities = (prediction.min() >= 0) & (jnp.abs(prediction.sum(-1) - 1).max() < 1e-3)
    logits = jnp.where(probabilities, jnp.log(jnp.maximum(prediction, SMALLEST)), prediction)
    return losses.softmax_cross_entropy(logits, target)


def of_yes_and_no(prediction: Array, target: Array) -> Array:
    """Return the cross-entropy of outputs that are logits or, if all lie in [0, 1], probabilities."""
    probabilities = (prediction.min() >= 0) & (prediction.max() <= 1)
    p = jnp.clip(prediction, SMALLEST, 1 - SMALLEST)
    return losses.sigmoid_cross_entropy(jnp.where(probabilities, jnp.log(p) - jnp.log1p(-p), prediction), target)


def excess(arm: Arm, probe: Batch, score: Score) -> list[Excess]:
    """Return ``(ℓ_n − L*) / (H₀ − L*)`` of each example of the probe set, after some of the epochs of an arm.

    It is ``ℓ_n − H₀`` where ``L*`` is −∞, and at most ``LARGEST``.
    """
    cost = replace(arm.setup.cost, loss=score.loss, penalty=None)
    x, y = (jnp.asarray(part) for part in probe)
    shape = jax.eval_shape(cost.model.apply, arm.params[-1], x).shape
    of_score = replace(cost, model=IDENTITY, loss=score.baseline)
    constant, least = map(float, compiled(loss_bounds, of_score, shape)((x, y)))
    chosen = np.unique(np.linspace(0, len(arm.params) - 1, POINTS).round().astype(int))
    losses_of_examples = compiled(example_losses, cost)
    # An example none of whose labels counts has the same loss in every arm.
    losses_of_each = [np.asarray(losses_of_examples(arm.params[i], (x, y), 0.0), np.float64) for i in chosen]
    with np.errstate(all="ignore"):
        scaled = [
            each - constant if least == -math.inf else (each - least) / (constant - least) for each in losses_of_each
        ]
    return [np.where(np.isfinite(each), np.clip(each, -LARGEST, LARGEST), LARGEST) for each in scaled]


def share(gain: Excess, before: Excess) -> float:
    """Return the share of the excess loss that a change removed, 0 where there was none."""
    total = abs(float(before.mean()))
    return float(gain.mean()) / total if total > 0 else 0.0
