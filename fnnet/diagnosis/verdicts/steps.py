"""Verdicts on the steps of a run: the learning rate, the gradients, the optimizer.

Notation: ``L_B`` is the cost of a batch, ``u`` the update that was made, ``g`` the gradient,
``ρ = [L_B(θ + u) − L_B(θ)] / ⟨g, u⟩`` the actual change of the cost over the predicted one, and
``λ = (L − L*) / (H₀ − L*)`` the excess loss, where ``H₀`` is the loss of the best constant prediction and ``L*`` the
least loss there is. On a quadratic ``ρ = 1 − uᵀHu / (2 |⟨g, u⟩|)``: 1 for a tiny step, ½ at the bottom of the valley, 0
on its other side at the same height, negative above that.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from fnnet.diagnosis.changes import Change
from fnnet.diagnosis.evidence import Evidence, parts_named
from fnnet.diagnosis.report import NotLookedAt, Verdict
from fnnet.diagnosis.thresholds import bound, found
from fnnet.diagnosis.watch import FIRST
from fnnet.diagnosis.watched import Numbers
from fnnet.inspect.curvature import eigenvalues, hvp, scaled_product, stability_limits
from fnnet.layers import Embedding
from fnnet.layers.nesting import nested
from fnnet.paths import named_leaves

LOWER = tuple(Change("learning_rate", "scale", factor) for factor in (1 / 3, 0.1))
HIGHER = tuple(Change("learning_rate", "scale", factor) for factor in (3.0, 10.0, 30.0))
FEWEST = 5  # probed steps, below which a median says nothing
WINDOW = 10  # probes of a moving average


def not_finite(run: Evidence) -> list[Verdict]:
    """A cost, or a parameter, became NaN or infinite, so that training stopped.

    The first such value has a cause before it: a rate that is too high, the logarithm of 0, an overflow of float16.
    ``fit`` makes the last updates again and names the step, the direction and the layer.

    Statistic: the number of epochs whose cost is not finite, or 1 if ``fit`` found a value that is not. Threshold: > 0;
    the statistic is exact. Steps that ``dynamic_loss_scale`` or ``skip_non_finite`` skip leave the cost finite and do
    not count.

    When it is wrong: never, but the layer that is named may only be the place where a wrong value of another one came
    to light.
    """
    name, statistic = "not finite", "epochs whose cost is not finite"
    count = int((~np.isfinite(run.series("cost"))).sum())
    where = run.non_finite
    if count == 0 and where is None:
        return []
    layer = None if where is None or not where.where.startswith("layer ") else where.where[6:].partition(",")[0]
    said = "" if where is None else f": {where}"
    return [
        found(
            name,
            statistic,
            max(count, 1),
            "exact",
            f"The run has values that are NaN or infinite{said}.",
            layer=layer,
            window=None if where is None else (where.step, where.step),
            remedy=(Change("learning_rate", "scale", 0.1), Change("gradients", "clip", 1.0)),
        )
    ]


def diverges(run: Evidence) -> list[Verdict]:
    """The loss grows, and does not come back.

    Statistics: the excess loss ``λ`` of the training examples at each of the last two looks, over the larger of ``λ``
    at the start and 1; and over the least ``λ`` of the run. Thresholds: > 3 for the first; or > 2 for the second where
    ``λ`` is also > 0.5, because a run that has converged to ``λ = 0.001`` doubles it by chance.

    Source: TheDeepChecker has twice the minimum; AUTOTRAINER an absolute loss of 1000, which depends on the units.

    When it is wrong: spikes that recover are no divergence, so both of the last two looks must show it. A run whose
    last epochs were cut off in the middle of a spike looks the same.
    """
    name = "diverges"
    values = run.training.value
    if len(values) < 3:
        raise NotLookedAt("the run has fewer than 3 looks; train for at least two epochs")
    finite = np.where(np.isfinite(values), values, np.inf)
    late = float(np.minimum(*finite[-2:]))
    start = max(float(values[0]), 1.0)
    least = max(float(finite.min()), 1e-3)
    window = int(run.training.step[int(np.argmin(finite))]), int(run.training.step[-1])
    said = f"The loss on the training examples is {late:.3g} times that of the best constant"
    if late / start > bound(name, "loss over that of the start"):
        statistic, value = "loss over that of the start", late / start
    elif late / least > bound(name, "loss over its least") and late > bound(name, "lambda"):
        statistic, value = "loss over its least", late / least
    else:
        return []
    sentence = f"{said}, and it was {least:.3g} times it before: training makes the network worse."
    return [found(name, statistic, value, "suspected", sentence, window=window, remedy=LOWER)]


def learning_rate_too_high(run: Evidence) -> list[Verdict]:
    """Steps overshoot: after a step the cost of its own batch is hardly lower than before, or higher.

    Statistics, from the first 20 steps: the share with ``ρ < 0`` (a step downhill that ends above its start), and the
    largest cost over the first one. From the rest: the median of ``ρ``. Thresholds: > 0.3 of the first steps; > 3 for
    the cost; or < 0.2 for the median where the training loss does not fall either (less than 2 standard errors between
    the halves of the later steps).

    Measured at the best rate: ``ρ`` from 0.36 to 0.73. At 3 to 10 times the best rate: 0.31 to 0.07 for gradient
    descent, 0.46 to 0.40 for momentum, 0.62 to 0.69 for Adam. So a high ``ρ`` does not acquit an adaptive optimizer:
    the rerun with a lower rate decides.

    When it is wrong: at the edge of stability ``ρ`` hovers about 0 and the run learns (Cohen et al. 2021), and small
    batches zigzag at their best rate; therefore the loss must stand still, and oscillation alone is no verdict.
    """
    name = "learning rate too high"
    watched = run.steps()
    step, cost, rho = np.asarray(watched.steps["step"]), np.asarray(watched.steps["cost"]), watched.rho
    begin = int(step[0])
    early = step < begin + FIRST
    known = rho[early & np.isfinite(rho)]
    above, worst = (
        bound(name, "share of the first steps with rho < 0"),
        bound(name, "largest early cost over the first"),
    )
    share = float((known < 0).mean()) if len(known) >= FEWEST else 0.0
    peak = float(np.nan_to_num(cost[early], nan=np.inf).max() / abs(cost[0])) if cost[0] != 0 else 1.0
    verdicts = []
    if share > above:
        sentence = f"Of the first {len(known)} steps, {share:.0%} ended higher than they began on their own batch."
        verdicts.append(("share of the first steps with rho < 0", share, sentence, begin))
    if peak > worst and cost[0] > 0:
        sentence = f"Within the first steps the cost rose to {peak:.3g} times what it was at the start."
        verdicts.append(("largest early cost over the first", peak, sentence, begin))
    late = ~early & np.isfinite(rho)
    if late.sum() >= FEWEST and not verdicts:
        middle = float(np.median(rho[late]))
        if middle < bound(name, "median rho") and not run.falls(begin + FIRST, int(step[-1])):
            sentence = f"A step brings {middle:.0%} of what its gradient promises, and the loss does not fall."
            verdicts.append(("median rho", middle, sentence, begin + FIRST))
    window_end = int(step[-1])
    return [
        found(name, statistic, value, "suspected", sentence, window=(start, window_end), remedy=LOWER)
        for statistic, value, sentence, start in verdicts[:1]
    ]


def learning_rate_too_low(run: Evidence) -> list[Verdict]:
    """Steps are so short that the cost is a straight line along them, and there is far to go.

    Statistic: the median of ``ρ`` over the whole run after its first 20 steps. Threshold: ≥ 0.97, where ``λ`` is > 0.3
    and the training loss falls. Where steps are too short to be seen in the rounding of the cost, the statistic is how
    far all of them together would bring ``λ`` to first order, ``Σ |⟨g, u⟩| / (H₀ − L*)``. Threshold: < 0.05, again with
    ``λ`` > 0.3.

    Measured: ``ρ`` at 1/10 of the best rate 0.96 for gradient descent, 0.97 for momentum, 0.98 for Adam; at 1/18 0.98
    to 0.99; at 1/3 0.77 to 0.88. The size of the updates relative to the weights tells nothing: at the best rates it
    was 0.013 to 0.034, and 0.0013 in a network that a rate 100 times too high had killed.

    When it is wrong: a schedule may end in tiny rates on purpose, so the median is over the whole run; a plateau that
    no rate leaves sooner is caught by the rerun with a higher one.
    """
    name = "learning rate too low"
    watched = run.steps()
    step, rho = np.asarray(watched.steps["step"]), watched.rho
    excess = run.late_training
    if not excess > bound(name, "lambda"):
        return []
    window = int(step[0]), int(step[-1])
    later = step >= step[0] + FIRST
    later |= later.sum() < FEWEST  # of a short run, all of them
    known = rho[later & np.isfinite(rho)]
    if len(known) >= FEWEST and len(known) >= later.sum() / 2:
        middle = float(np.median(known))
        if middle < bound(name, "median rho") or not run.training.value[-1] < run.training.value[0]:
            return []
        sentence = (
            f"A step brings {middle:.0%} of what its gradient promises, so it could be longer, and the loss is still "
            f"{excess:.0%} of that of a constant."
        )
        return [found(name, "median rho", middle, "suspected", sentence, window=window, remedy=HIGHER)]
    moved, predicted = np.asarray(watched.steps["update_norm"]).max(1) > 0, np.asarray(watched.steps["predicted"])
    downhill = np.abs(predicted[np.isfinite(predicted) & (predicted < 0) & moved])
    scale = np.subtract(*watched.facts["training_bounds"])
    if len(downhill) < FEWEST or not np.isfinite(scale) or scale <= 0:
        raise NotLookedAt(f"fewer than {FEWEST} steps go downhill far enough to be seen in the cost")
    total = float(downhill.mean() * (window[1] - window[0] + 1) / scale)
    if total >= bound(name, "predicted fall of lambda over the run"):
        return []
    sentence = f"All steps together can lower the loss by only {total:.2%} of what there is to learn."
    statistic = "predicted fall of lambda over the run"
    return [found(name, statistic, total, "suspected", sentence, window=window, remedy=HIGHER)]


def a_layer_stands_still(run: Evidence) -> list[Verdict]:
    """A layer hardly moves while others learn: it is frozen, its rate is tiny, or its updates are lost in rounding.

    Statistic: the largest ``‖θ_l − θ_l'‖ / ‖θ_l'‖`` over an epoch, of all epochs. Threshold: < 1e-05 and, beside the
    layer that moves most in the same epoch, < 0.001; while the gradient of the layer is not 0. For parameters of low
    precision also the share of the entries with ``g ≠ 0`` and ``u = 0``. Threshold: > 0.5 of the entries, at the
    median probed step.

    Source: the relation of 1e-8 in SageMaker's WeightUpdateRatio is absolute; here the layers are compared.

    When it is wrong: a layer that is frozen on purpose, by ``optimizers.freeze`` or ``restrict``, is reported too, as
    the run looks the same; leave it out by name. Layer-wise rates that differ by 1000 look alike.
    """
    name = "a layer stands still"
    watched = run.steps()
    if len(watched.looks["step"]) < 2:
        raise NotLookedAt("there is no epoch between two looks")
    verdicts: list[Verdict] = []
    parameters = watched.facts["parameters"]
    travel = np.asarray(watched.looks["travel"])[1:]
    gradient = np.asarray(watched.steps["gradient_norm"])
    largest = np.max(np.where(np.isfinite(travel), travel, 0), 1, initial=0, keepdims=True)
    beside = np.where(largest > 0, travel / np.where(largest > 0, largest, 1), 1)
    window = int(watched.steps["step"][0]), int(watched.steps["step"][-1])
    for i, path in enumerate(parameters):
        far, relative = float(travel[:, i].max()), float(beside[:, i].max())
        still = far < bound(name, "travel of an epoch") and relative < bound(name, "travel over the largest")
        lost = float(np.median(np.asarray(watched.steps["lost"])[:, i]))
        if still and gradient[:, i].max() > 0:
            sentence = f"Parameter {path} moves by {far:.1e} of its length in an epoch, others a thousand times as far."
            statistic, value, remedy = "travel of an epoch", far, Change("learning_rate", "scale", 30.0)
        elif lost > bound(name, "share of lost entries") and not still:
            sentence = f"In {lost:.0%} of the entries of {path} the update is so small that adding it changes nothing."
            statistic, value, remedy = "share of lost entries", lost, Change("params", "cast", "float32")
        else:
            continue
        layer = path.rpartition(".")[0]
        if layer not in [row.layer for row in verdicts]:
            verdicts.append(
                found(name, statistic, value, "suspected", sentence, layer=layer, window=window, remedy=remedy)
            )
    return verdicts


def gradients_vanish(run: Evidence) -> list[Verdict]:
    """Hardly any gradient reaches a layer, relative to its weights and to the layer that gets most.

    Statistic: ``reach_l = (‖g_l‖ / ‖θ_l‖) / max_k (‖g_k‖ / ‖θ_k‖)``, the moving average of 10 probes at the end, of the
    layer where it is least. Threshold: < 0.001, where it is also < 0.05 times its own median over the first 20 steps,
    or was below 0.001 in all of the run; and ``λ`` > 0.1, because past convergence there is nothing left to learn.

    Measured at the start of 1350 healthy networks: at least 0.022, median 0.3 to 0.5; sigmoid networks of depth 5 have
    4e-4, of depth 8 3e-6. Absolute bounds on the gradient, as in SageMaker and DeepDiagnosis, fire at every
    convergence.

    When it is wrong: embeddings get gradients for the rows of the batch alone and are left out, as are layers whose
    parameters are all 0. Branches that start at zero pass no gradient in their first steps, so the first 5 steps do not
    count.
    """
    name, statistic = "gradients vanish", "reach"
    watched = run.steps()
    if not run.late_training > bound(name, "lambda"):
        return []
    layers, reach = watched.reach()
    step = np.asarray(watched.steps["step"])
    reach = reach[step >= step[0] + 5]
    if len(reach) < FEWEST:
        raise NotLookedAt(f"fewer than {FEWEST} steps were probed after the first 5")
    embeddings = {path for path, layer in nested(run.cost.model) if isinstance(layer, Embedding)}
    verdicts = []
    for i, path in enumerate(layers):
        values = reach[:, i][np.isfinite(reach[:, i])]
        if path in embeddings or len(values) < FEWEST:
            continue
        begin, end = float(np.median(values[: FIRST - 5])), moving_average(values)
        smallest = bound(name, statistic)
        if end < smallest and (end < bound(name, "reach over that of the start") * begin or values.max() < smallest):
            verdicts.append((end, path, values))
    if not verdicts:
        return []
    end, path, values = min(verdicts, key=lambda row: row[0])
    sentence = f"Layer {path or 'model'} gets {end:.1e} of the gradient, per weight, that the best layer gets."
    evidence = {"reach": values.tolist(), "layers": [row[1] for row in verdicts]}
    window = int(step[0]), int(step[-1])
    remedy = Change("params", "draw")
    return [
        found(name, statistic, end, "suspected", sentence, layer=path, window=window, evidence=evidence, remedy=remedy)
    ]


def gradients_explode(run: Evidence) -> list[Verdict]:
    """Now and then a gradient is far longer than those before it, and the step along it makes things worse.

    Statistic: ``‖g_t‖`` over the median of the 100 probes before it, the third largest of those steps where ``ρ < 0``
    or the cost is not finite. Threshold: > 100, so that there are at least 3 such steps.

    Source: AUTOTRAINER compares the first with the last layer (70), which depth alone can reach; here a run is compared
    with its own history.

    When it is wrong: single examples with huge losses do this once or twice; three are asked for.
    """
    name, statistic = "gradients explode", "third largest gradient over the median before it"
    watched = run.steps()
    norms = np.sqrt(np.square(np.asarray(watched.steps["gradient_norm"])).sum(1))
    rho, change = watched.rho, np.asarray(watched.steps["change"])
    if len(norms) < FEWEST:
        raise NotLookedAt(f"fewer than {FEWEST} steps were probed")
    before = [np.median(norms[max(0, t - 100) : t]) if t >= FEWEST else np.inf for t in range(len(norms))]
    ratios = np.nan_to_num(norms, nan=np.inf) / np.where(np.asarray(before) > 0, before, np.inf)
    bad = np.where((rho < 0) | ~np.isfinite(change), ratios, 0.0)
    third = float(np.sort(bad)[-3]) if len(bad) >= 3 else 0.0
    if not third > bound(name, statistic):
        return []
    usual = float(np.median(norms[np.isfinite(norms)]))
    places = np.asarray(watched.steps["step"])[bad > bound(name, statistic)]
    sentence = f"At {len(places)} of the probed steps the gradient is more than {third:.0f} times as long as usual."
    window = int(places[0]), int(places[-1])
    remedy = Change("gradients", "clip", 2 * usual)
    return [found(name, statistic, third, "suspected", sentence, window=window, remedy=remedy)]


def noise_rules(run: Evidence) -> list[Verdict]:
    """The gradient of a batch is nearly all noise, and the loss stands still: the batch is too small for the rate.

    Statistic: ``q = B / B_simple`` for the batch size ``B`` and the noise scale ``B_simple = tr Σ / |G|²``, whose parts
    are averaged over the looks of the second half of the run. Threshold: < 0.05, where the training loss does not fall
    (less than 2 standard errors between the halves of that part) and ``λ`` > 0.1.

    Source: McCandlish et al. 2018, appendix A.1: below ``B_simple`` noise dominates a gradient. It does so late in
    every healthy run, as ``|G|`` falls faster than the noise; that is why the loss must stand, too.

    When it is wrong: a plateau of another cause, where the true gradient is tiny, has a large ``B_simple`` as well. The
    rerun with a lower rate tells them apart.
    """
    name, statistic = "noise rules", "batch size over noise scale"
    watched = run.steps()
    if "signal" not in watched.looks:
        raise NotLookedAt("the training examples of the look are too few to tell the noise of their gradients")
    step = np.asarray(watched.looks["step"])
    half = step >= (step[0] + step[-1]) / 2
    signal, noise = (np.asarray(watched.looks[each])[half].mean() for each in ("signal", "noise"))
    if not noise > 0 or not np.isfinite(signal):
        raise NotLookedAt("the gradients of the training examples do not differ")
    q = float(watched.facts["batch_size"] * max(signal, 0.0) / noise)
    stands = not run.falls(int(step[half][0]), int(step[-1]))
    if q >= bound(name, statistic) or not stands or not run.late_training > bound(name, "lambda"):
        return []
    sentence = f"A batch must be {1 / q if q > 0 else np.inf:.0f} times as large to show as much slope as noise."
    remedy = (Change("learning_rate", "scale", 0.2), Change("batch_size", "scale", 8.0))
    window = int(step[half][0]), int(step[-1])
    return [found(name, statistic, q, "suspected", sentence, window=window, remedy=remedy)]


def epsilon_rules(run: Evidence) -> list[Verdict]:
    """The ``ε`` of an adaptive optimizer is larger than most of the roots that it is added to.

    The optimizer then divides by ``ε``, a constant, and is gradient descent with momentum at the rate ``α/ε``.

    Statistic: the share of the entries of the weights with ``√v̂ < ε`` among those whose gradient was ever other than
    0, at the end of the run. Threshold: > 0.5, where ``λ`` > 0.1: past convergence every gradient is below ``ε``.

    When it is wrong: where the rate was chosen for a large ``ε`` on purpose.
    """
    name, statistic = "optimizer's ε rules", "share of entries below epsilon"
    state = run.given("state")
    moments = getattr_anywhere(state.opt_state, "v")
    if moments is None:
        raise NotLookedAt("the optimizer has no second moment v")
    epsilon, beta2 = run.hyperparameter("epsilon"), run.hyperparameter("beta2")
    if callable(epsilon) or callable(beta2):
        raise NotLookedAt("epsilon or beta2 is a schedule")
    if not run.late_training > bound(name, "lambda"):
        return []
    weight = 1 - beta2 ** max(int(state.step), 1)
    entries = [np.asarray(v, np.float64).ravel() for _, v in named_leaves(moments) if np.ndim(v) >= 2]
    v = np.concatenate(entries) if entries else np.zeros(0)
    roots = np.sqrt(v[v > 0] / weight)
    share = float((roots < epsilon).mean()) if len(roots) else 0.0
    if share <= bound(name, statistic):
        return []
    sentence = f"In {share:.0%} of the weights epsilon is larger than the size of the gradients that it is added to."
    return [found(name, statistic, share, "suspected", sentence, evidence={"median root": float(np.median(roots))})]


def every_gradient_is_clipped(run: Evidence) -> list[Verdict]:
    """Nearly every gradient is longer than the bound, so that all steps have one length: the bound is the rate.

    Statistic: the share of the probed steps, after the first 20, with ``‖g‖`` above the limit of
    ``optimizers.clip_by_global_norm``. Threshold: > 0.95. It is a note.

    When it is wrong: for those who want normalized gradients, it is no fault.
    """
    name, statistic = "every gradient is clipped", "share of clipped steps"
    watched = run.steps()
    limits = [
        limit
        for clip in parts_named(run.given("optimizer").update, "clip")
        if getattr(clip, "__qualname__", "").startswith("clip_by_global_norm")
        for limit in parts_named(run.given("optimizer").update, "limit")
        if not callable(limit)
    ]
    if not limits:
        raise NotLookedAt("the optimizer has no clip_by_global_norm with a constant limit that could be seen")
    step = np.asarray(watched.steps["step"])
    norms = np.sqrt(np.square(np.asarray(watched.steps["gradient_norm"])).sum(1))[step >= step[0] + FIRST]
    if len(norms) < FEWEST:
        raise NotLookedAt("fewer than 5 steps were probed after the first 20")
    share = float((norms > limits[0]).mean())
    if share <= bound(name, statistic):
        return []
    sentence = (
        f"{share:.0%} of the gradients are longer than the limit {limits[0]:g}; the median is {np.median(norms):.2g}."
    )
    return [found(name, statistic, share, "note", sentence)]


def loss_spikes(run: Evidence) -> list[Verdict]:
    """Single batches have a cost far above the others of their epoch, and the run recovers.

    Statistic: the share of the steps with ``L_t > median + 10 MAD`` of their epoch, the mean over the epochs after the
    first, in which the loss falls too far for that. Threshold: > 0.01, where ``λ`` > 0.1. It is a note.

    When it is wrong: data with heavy tails have such batches, whatever the training does. A run past convergence has
    costs that differ by orders of magnitude; so ``λ`` > 0.1 is asked for.
    """
    name, statistic = "loss spikes", "share of steps above median + 10 MAD"
    watched = run.watch()
    values = np.asarray(watched.looks["spikes"])[2:]
    if len(values) == 0:
        raise NotLookedAt("it needs an epoch after the first")
    share = float(values.mean())
    if share <= bound(name, statistic) or not run.late_training > bound(name, "lambda"):
        return []
    return [found(name, statistic, share, "note", f"{share:.1%} of the steps had a cost far above those around them.")]


def at_the_edge_of_stability(run: Evidence) -> list[Verdict]:
    """The curvature is as large as the optimizer can bear: a note, and healthy.

    Gradient descent on the whole set drives the largest eigenvalue of the Hessian to the limit of its rate, ``2/η``,
    and goes on learning there (Cohen et al. 2021, section 3).

    Statistic: the largest eigenvalue over ``fnnet.inspect.curvature.stability_limits``, at the end of the run, on at
    most 512 training examples. Threshold: > 0.9. Above 1.5 it is evidence for "learning rate too high".

    When it is wrong: 512 examples estimate the curvature of the set. It takes 20 products with the Hessian and is not
    looked at without ``curvature=True``.
    """
    name, statistic = "at the edge of stability", "sharpness over its limit"
    if not run.curvature:
        raise NotLookedAt("it takes 20 products with the Hessian; pass curvature=True to diagnose")
    state, optimizer, (x, y) = run.given("state"), run.given("optimizer"), run.sample("data")
    limits = jax.jit(lambda s: stability_limits(optimizer, s.params, s.opt_state))(state)

    def top(params: object, limits: object) -> object:
        product = scaled_product(lambda v: hvp(run.cost, params, (x, y), v), limits)
        return eigenvalues(product, params, key=jax.random.key(0), steps=20).largest.values[0]

    value = float(jax.jit(top)(state.params, limits))
    if not np.isfinite(value):
        raise NotLookedAt("the optimizer has no limit of stability that is known")
    if value <= bound(name, statistic):
        return []
    return [found(name, statistic, value, "note", f"The curvature is {value:.2f} times what the optimizer can bear.")]


def rate_decayed_too_early(run: Evidence) -> list[Verdict]:
    """The schedule spends its learning rate early, and the network stops learning before it is done.

    Statistic: the share of ``Σ η_t`` over all steps of the run that is spent in the first half. Threshold: > 0.95,
    where ``λ`` > 0.1 at the end.

    When it is wrong: where the network is as good as it can get and ``λ`` stays above 0.1 for the noise of the labels;
    the rerun tells. Schedules that are not seen in the optimizer are not looked at.
    """
    name, statistic = "rate decayed too early", "share of the rate spent in the first half"
    rates = rates_of(run)
    total = rates.sum()
    if not total > 0 or not run.late_training > bound(name, "lambda"):
        return []
    share = float(rates[: len(rates) // 2].sum() / total)
    if share <= bound(name, statistic):
        return []
    sentence = f"{share:.0%} of all that the learning rate adds up to was spent in the first half of the run."
    return [found(name, statistic, share, "suspected", sentence, evidence={"last rate": float(rates[-1])})]


def rate_still_too_high_at_the_end(run: Evidence) -> list[Verdict]:
    """The network would be better with a lower rate for its last steps: they jump about the minimum.

    Statistic: the median of ``ρ`` over the last tenth of the probed steps, of which there must be 5. Threshold: < 0.3,
    where the rate at the end is at least half of its peak, and the training loss does not fall any more. This only says
    that the rerun with a lower rate is worth its time.

    Measured at the best rate: 0.36 to 0.73. Source of the practice: the tuning playbook's step-to-step variance.

    When it is wrong: the average of the parameters, where one is kept and used, has the same effect as a low rate.
    """
    name, statistic = "rate still too high at the end", "median rho of the last tenth"
    watched = run.steps()
    rho, step = watched.rho, np.asarray(watched.steps["step"])
    try:
        rates = rates_of(run)
        if rates[-1] < rates.max() / 2:
            return []
    except NotLookedAt:
        pass  # the steps themselves are looked at
    last = slice(-max(FEWEST, len(rho) // 10), None)
    known = rho[last][np.isfinite(rho[last])]
    if len(known) < FEWEST:
        raise NotLookedAt("fewer than 5 of the last steps go downhill far enough to be seen in the cost")
    value, window = float(np.median(known)), (int(step[last][0]), int(step[-1]))
    if value >= bound(name, statistic) or run.falls(*window):
        return []
    sentence = f"At the end a step brings {value:.0%} of what its gradient promises: it is too long for what is left."
    return [found(name, statistic, value, "suspected", sentence, window=window, remedy=LOWER[1])]


def rates_of(run: Evidence) -> Numbers:
    """Return the learning rate at up to 1000 steps of the run, evenly spaced."""
    rate = run.hyperparameter("learning_rate")
    last = int(run.series("step")[-1])
    steps = np.unique(np.linspace(0, max(last - 1, 0), 1000).astype(int))
    if not callable(rate):
        return np.full(len(steps), float(rate))
    return np.asarray(jax.vmap(rate)(jnp.asarray(steps, jnp.int32)), np.float64)


def moving_average(values: Numbers) -> float:
    """Return the exponential moving average of 10 values at the end, which starts at the median of the first 10."""
    average = float(np.median(values[:WINDOW]))
    for value in values:
        average += (value - average) * 2 / (WINDOW + 1)
    return average


def getattr_anywhere(state: object, name: str) -> object:
    """Return the field of this name of the first named tuple in the state of an optimizer that has one, else None."""
    if hasattr(state, "_fields") and name in state._fields:
        return getattr(state, name)
    parts = state if isinstance(state, tuple) else ()
    return next((value for value in (getattr_anywhere(part, name) for part in parts) if value is not None), None)
