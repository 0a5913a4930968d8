"""The published rules of other tools, as functions of the numbers of one run.

The rules are re-expressed from the thresholds that the tools' authors state, for comparison on the same networks:

- AUTOTRAINER (Zhang et al. 2021, "AUTOTRAINER: an automatic DNN training problem detection and repair system"):
  ``utils/monitor.py`` and ``reproduce.py`` of its repository.
- DeepDiagnosis (Wardat et al. 2022, "DeepDiagnosis: automatically diagnosing faults and recommending actionable fixes
  in deep learning programs"): ``callback/callbacks.py``.
- UMLAUT (Schoop et al. 2021, "UMLAUT: debugging deep learning programs using program structure and model behavior"):
  ``heuristics.py``.
- SageMaker Debugger: the list of built-in rules in its developer guide.

What depends on names of a program (softmax by name, ``from_logits``) is decided from the layers instead. Their numbers
of every step are taken once per epoch here, which favours none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import fnnet
from fnnet import Activation, Dense
from fnnet.binding import unbind
from fnnet.diagnosis import Setup
from fnnet.inspect import leaf_layers
from fnnet.inspect.signals import Taps
from fnnet.paths import is_weight, named_leaves
from fnnet.training.state import TrainState

Numbers = np.ndarray[Any, Any]
EXAMPLES = 256


class Trace(NamedTuple):
    """The numbers of a run after each of ``E`` epochs, for ``L`` weights and ``A`` activation layers."""

    loss: Numbers  # (E,), in training
    validation_loss: Numbers  # (E,)
    accuracy: Numbers  # (E,) on training examples, NaN for a regression
    validation_accuracy: Numbers  # (E,)
    gradient_norm: Numbers  # (E, L)
    gradient_mean: Numbers  # (E, L), mean |g|
    gradient_zero: Numbers  # (E,), share of all entries
    largest_weight: Numbers  # (E,)
    variance: Numbers  # (E, L), of the weights
    update_ratio: Numbers  # (E, L), ‖Δw‖ / ‖w‖ of an epoch
    not_positive: Numbers  # (E, A), share of the outputs' entries that are not above 0
    beyond_5: Numbers  # (E, A), share of the inputs' entries outside [−5, 5]
    inactive: Numbers  # (E, A), share of units that are above 0 for less than 1 % of the examples
    saturated: Numbers  # (E, A), share of entries where tanh or sigmoid has a slope of 0 in float32


def trace_of(setup: Setup, states: Sequence[TrainState], history: dict[str, list[float]]) -> Trace:
    """Return the trace of a run with these states after its epochs."""
    x, y = (jnp.asarray(part[:EXAMPLES]) for part in setup.data)
    other = setup.validation or setup.data
    other_x, other_y = (jnp.asarray(part[:EXAMPLES]) for part in other)
    kinds = {path: layer for path, layer in leaf_layers(setup.cost.model).items() if isinstance(layer, Activation)}

    @jax.jit
    def look(params: Any, before: Any) -> dict[str, Any]:
        grads = [g for _, g in named_leaves(jax.grad(setup.cost)(params, (x, y))) if is_weight(g)]
        weights = [w for _, w in named_leaves(params) if is_weight(w)]
        earlier = [w for _, w in named_leaves(before) if is_weight(w)]
        taps = Taps()
        prediction = taps.put_on(setup.cost.model).apply(params, x)
        pairs = [taps.seen[path] for path in kinds if path in taps.seen]
        flat = [(z.reshape(-1, z.shape[-1]), a.reshape(-1, a.shape[-1])) for z, a in pairs]
        length = jnp.linalg.norm
        return {
            "accuracy": accuracy(prediction, y),
            "validation_accuracy": accuracy(setup.cost.model.apply(params, other_x), other_y),
            "gradient_norm": jnp.array([length(g.ravel()) for g in grads]),
            "gradient_mean": jnp.array([jnp.abs(g).mean() for g in grads]),
            "gradient_zero": jnp.concatenate([(g == 0).ravel() for g in grads]).mean(),
            "largest_weight": jnp.array([jnp.abs(w).max() for w in weights]).max(),
            "variance": jnp.array([w.var() for w in weights]),
            "update_ratio": jnp.array(
                [length((w - e).ravel()) / length(w.ravel()) for w, e in zip(weights, earlier, strict=True)]
            ),
            "not_positive": jnp.array([(a <= 0).mean() for _, a in flat]),
            "beyond_5": jnp.array([(jnp.abs(z) > 5).mean() for z, _ in flat]),
            "inactive": jnp.array([((a > 0).mean(0) < 0.01).mean() for _, a in flat]),
            "saturated": jnp.array([(jnp.abs(z) > 9.4999).mean() for z, _ in flat]),
        }

    before = [setup.params, *(state.params for state in states)]
    looks = [look(state.params, earlier) for state, earlier in zip(states, before, strict=False)]
    numbers = {name: np.array([np.asarray(each[name], np.float64) for each in looks]) for name in looks[0]}
    loss = np.array(history["cost"], np.float64)
    return Trace(loss=loss, validation_loss=np.array(history.get("validation_cost", loss), np.float64), **numbers)


def accuracy(prediction: Any, target: Any) -> Any:
    """Return the share of right classes, NaN for a regression."""
    if jnp.issubdtype(target.dtype, jnp.integer):
        return (prediction.argmax(-1) == target).mean()
    if prediction.shape[-1] > 1 and prediction.shape == target.shape:
        return (prediction.argmax(-1) == target.argmax(-1)).mean()
    return jnp.float32(jnp.nan)


def autotrainer(setup: Setup, trace: Trace) -> list[str]:
    """Return the complaints of AUTOTRAINER, which looks from 30 % of the epochs on."""
    found, start = [], round(0.3 * len(trace.loss))
    later = [getattr(trace, name)[start:] for name in ("gradient_norm", "gradient_zero", "accuracy")]
    norms, zeros, accuracies = later
    first, last = norms[:, 0], norms[:, -1]
    with np.errstate(all="ignore"):
        if ((first / last < 1e-3) & (first < 1e-4)).any():
            found.append("vanishing gradient")
        if not np.isfinite(trace.loss).all() or (first / last > 70).any() or (trace.largest_weight > 1e4).any():
            found.append("exploding gradient")
    if (zeros >= 0.7).any():
        found.append("dying ReLU")
    steps = np.diff(accuracies)
    turns = (steps[1:] * steps[:-1] < 0) & (np.abs(steps[1:]) >= 0.03)
    if len(turns) and turns.sum() >= 0.2 * len(trace.loss):
        found.append("oscillating loss")
    if len(steps) and np.isfinite(accuracies).all() and (steps < 0.01).all() and accuracies.max() < 0.6:
        found.append("slow convergence")
    return found


def deepdiagnosis(setup: Setup, trace: Trace) -> list[str]:
    found = []
    if (trace.not_positive >= 0.7).any():
        found.append("dead node")
    if (trace.beyond_5 > 0.5).any():
        found.append("saturated activation")
    if (trace.gradient_mean < 1e-7).any():
        found.append("vanishing gradient")
    if ((trace.variance < 1e-5) | (trace.variance > 10)).any():
        found.append("improper weights")
    if not np.isfinite(trace.loss).all():
        found.append("numerical error")
    if len(trace.loss) > 2 and (np.diff(trace.loss) >= 0).all():
        found.append("loss does not decrease")
    if len(trace.accuracy) > 2 and np.isfinite(trace.accuracy).all() and (np.diff(trace.accuracy) <= 0).all():
        found.append("accuracy does not increase")
    low, high = output_range(setup)
    target = np.asarray(setup.data[1], np.float64)
    if not np.issubdtype(np.asarray(setup.data[1]).dtype, np.integer) and (target.min() < low or target.max() > high):
        found.append("outputs out of range")
    return found


def output_range(setup: Setup) -> tuple[float, float]:
    """Return the range of the last activation function."""
    last = list(leaf_layers(setup.cost.model).values())[-1]
    if not isinstance(last, Activation):
        return -np.inf, np.inf
    ranges = {fnnet.sigmoid: (0, 1), fnnet.softmax: (0, 1), fnnet.tanh: (-1, 1), fnnet.relu: (0, np.inf)}
    return ranges.get(unbind(last.function)[0], (-np.inf, np.inf))


def umlaut(setup: Setup, trace: Trace) -> list[str]:
    found = []
    x = np.asarray(setup.data[0])
    if np.issubdtype(x.dtype, np.floating) and (x.min() < -1 or x.max() > 1):
        found.append("input data exceeds typical limits")
    validation, training = trace.validation_accuracy, trace.accuracy
    falls = np.diff(trace.validation_loss)
    if (falls > 0).any() and (np.diff(trace.loss)[falls > 0] < 0).any():
        found.append("possible overfitting")
    if ((validation > 0.95) | (validation > training + 0.05))[3:].any():
        found.append("check validation accuracy")
    layers = list(leaf_layers(setup.cost.model).values())
    if any(isinstance(a, Dense) and isinstance(b, Dense) for a, b in pairwise(layers)):
        found.append("missing activation functions")
    last = layers[-1]
    normalized = isinstance(last, Activation) and unbind(last.function)[0] in (fnnet.softmax, fnnet.sigmoid)
    if not normalized:
        found.append("missing softmax layer before loss")
    if any(isinstance(layer, fnnet.Dropout) and layer.rate > 0.5 for layer in layers):
        found.append("high dropout rate")
    return found


def sagemaker(setup: Setup, trace: Trace) -> list[str]:
    found = []
    if (trace.inactive > 0.5).any():
        found.append("DeadRelu")
    if (trace.gradient_mean < 1e-7).any():
        found.append("VanishingGradient")
    if (trace.saturated > 0.5).any():
        found.append("SaturatedActivation")
    with np.errstate(all="ignore"):
        if trace.variance.shape[1] > 1 and (trace.variance.max(1) / trace.variance.min(1))[:1].max() > 10:
            found.append("PoorWeightInitialization")
        if ((trace.update_ratio < 1e-8) | (trace.update_ratio > 10)).any():
            found.append("WeightUpdateRatio")
        if ((trace.validation_loss - trace.loss) / np.abs(trace.validation_loss) > 0.1).any():
            found.append("Overfit")
    if not np.isfinite(trace.loss).all():
        found.append("ExplodingTensor")
    labels = np.asarray(setup.data[1])
    if labels.dtype.kind in "iu":
        counts = np.bincount(labels.ravel())
        if counts.max() > 10 * max(counts.min(), 1e-9):
            found.append("ClassImbalance")
    if len(trace.loss) > 1 and (trace.loss[1:] >= trace.loss[:-1]).any():
        found.append("LossNotDecreasing")
    return found


TOOLS: dict[str, Callable[[Setup, Trace], list[str]]] = {
    "AUTOTRAINER": autotrainer,
    "DeepDiagnosis": deepdiagnosis,
    "UMLAUT": umlaut,
    "SageMaker Debugger": sagemaker,
}
