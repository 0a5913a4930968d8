"""Each fault gives its verdict before training, and healthy networks give none."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import (
    BatchNorm,
    Conv,
    Cost,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GRUCell,
    LayerNorm,
    MaxPool,
    Recurrent,
    Residual,
    bind,
    gelu,
    initializers,
    losses,
    optimizers,
    penalties,
    relu,
    sequential,
    sigmoid,
    softmax,
    tanh,
    transformer_block,
)
from fnnet.configuration import configuration
from fnnet.data import from_batches
from fnnet.diagnosis import Report, preflight
from fnnet.diagnosis.preflight import CHECKS
from fnnet.types import Layer

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((160, 8)).astype("float32")
LABELS = (np.tanh(X @ RANDOM.standard_normal((8, 6))) @ RANDOM.standard_normal((6, 3))).argmax(1)
REAL = (np.sin(X[:, :1]) + X[:, 1:2] * X[:, 2:3]).astype("float32")
REAL = (REAL - REAL.mean()) / REAL.std()
YES = (LABELS == 0).astype("float32")[:, None]
ONE_HOT = np.eye(3, dtype="float32")[LABELS]
IMAGES = RANDOM.standard_normal((160, 6, 6, 1)).astype("float32")
BRIGHT = (IMAGES[:, :3].mean((1, 2, 3)) > IMAGES[:, 3:].mean((1, 2, 3))).astype(int)
TOKENS = (np.cumsum(RANDOM.integers(1, 3, (64, 9)), 1) % 7).astype("int32")
SEQUENCES = X.reshape(160, 4, 2)

LOGITS, SQUARED = losses.softmax_cross_entropy, losses.squared_error
CLASSES = (X, LABELS)
BASE = sequential(Dense(12), relu, Dense(12), relu, Dense(3))


@dataclass(frozen=True)
class Start:
    """What pre-flight is given; parameters are those of ``init``, changed by ``change``."""

    model: Layer = BASE
    loss: Any = LOGITS
    data: Any = CLASSES
    validation: Any = None
    optimizer: Any = None
    change: Callable[[Any], Any] = lambda params: params
    options: Any = ()
    penalty: Any = None

    def report(self) -> Report:
        params = self.change(self.model.init(jax.random.key(1), jnp.asarray(self.data[0][:2])))
        cost = Cost(self.model, self.loss, self.penalty)
        return preflight(cost, params, self.data, self.validation, self.optimizer, key=KEY, **dict(self.options))


def scaled(factor: float) -> Callable[[Any], Any]:
    """Return the change that multiplies the weights."""
    return lambda params: jax.tree.map(lambda p: p * factor if p.ndim > 1 else p, params)


def all_equal(value: float) -> Callable[[Any], Any]:
    return lambda params: jax.tree.map(lambda p: jnp.full_like(p, value) if p.ndim > 1 else p, params)


def normal(deviation: float) -> Callable[[Any], Any]:
    return lambda params: jax.tree.map(
        lambda p: deviation * jax.random.normal(jax.random.key(5), p.shape) if p.ndim > 1 else p, params
    )


def negative_bias(params: Any) -> Any:
    return ({**params[0], "b": params[0]["b"] - 20}, *params[1:])


@configuration
class Plain:
    """A user's layer: a matrix, with a parameter that is not used, a stop, or a mixture of examples or of steps."""

    fault: str = ""

    def init(self, key: Any, x: Any) -> Any:
        params = {"w": initializers.he_normal(key, (x.shape[-1], x.shape[-1]), jnp.float32)}
        return params | ({"unused": jnp.ones(3)} if self.fault == "unused" else {})

    def apply(self, params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        if self.fault == "stop":
            x = jax.lax.stop_gradient(x)
        if self.fault == "future":
            x = x + x[:, ::-1]
        if self.fault == "mix":
            x = x.reshape(x.shape[::-1]).T
        y = x @ params["w"]
        return y + jax.random.normal(key, y.shape) if self.fault == "noise" and key is not None else y


def deep(activation: Any, depth: int, width: int = 12, outputs: int = 3) -> Layer:
    return sequential(*[part for _ in range(depth) for part in (Dense(width), activation)], Dense(outputs))


def after(activation: Any, outputs: int = 3) -> Layer:
    return sequential(Dense(12), relu, Dense(outputs), activation)


PAIRING = "output cannot express the targets"
FLAT = "loss is flat where the output is most wrong"
LOSS = "loss at the start is not that of knowing nothing"
INPUTS = "inputs are not scaled"
TARGETS = "targets are not scaled"
SIGNAL = "signal dies on the way in"
REACH = "the gradient does not reach a layer"
BATCH = "one batch cannot be learned"
NEXT = (TOKENS[:, :-1], TOKENS[:, 1:])
LANGUAGE = sequential(Embedding(7, 8), transformer_block(2, 8, causal=True), LayerNorm(), Dense(7))
UNMASKED = sequential(Embedding(7, 8), Plain("future"), Dense(7))

FAULTS: dict[str, tuple[Start, str, set[str]]] = {
    # The number of the fault, what it is, and of which verdicts one is right, in the certainty that pre-flight gives.
    "F1 softmax before softmax cross-entropy": (Start(after(softmax)), "exact", {PAIRING}),
    "F2 sigmoid before softmax cross-entropy": (Start(after(sigmoid)), "exact", {PAIRING}),
    "F3 tanh before softmax cross-entropy": (Start(after(tanh)), "exact", {PAIRING}),
    "F4 sigmoid before sigmoid cross-entropy": (
        Start(after(sigmoid, 1), losses.sigmoid_cross_entropy, (X, YES)),
        "exact",
        {PAIRING},
    ),
    "F6 softmax over one unit": (
        Start(after(softmax, 1), losses.binary_cross_entropy, (X, YES)),
        "exact",
        {PAIRING},
    ),
    "F7 sigmoid for real targets": (Start(after(sigmoid, 1), SQUARED, (X, REAL)), "exact", {PAIRING}),
    "F7 relu for negative targets": (Start(after(relu, 1), SQUARED, (X, REAL)), "exact", {PAIRING}),
    "F8 squared error after softmax": (Start(after(softmax), SQUARED, (X, ONE_HOT)), "suspected", {FLAT}),
    "F11 softmax over the examples": (
        Start(after(bind(softmax, axis=0)), losses.cross_entropy),
        "exact",
        {PAIRING},
    ),
    "F12 sign of the loss": (Start(loss=lambda p, y: -LOGITS(p, y)), "exact", {BATCH}),
    "F13 no activations": (
        Start(sequential(Dense(12), Dense(12), Dense(3))),
        "exact",
        {"the network is an affine map"},
    ),
    "F14 softmax as hidden activation": (Start(deep(softmax, 3)), "suspected", {SIGNAL, REACH, BATCH}),
    "F15 deep sigmoid": (Start(deep(sigmoid, 6)), "suspected", {SIGNAL, REACH}),
    "F16 constant weights": (Start(change=all_equal(0.1)), "exact", {"units start identical"}),
    "F16 zero weights": (Start(change=all_equal(0.0)), "exact", {"units start identical"}),
    "F17 weights N(0, 4)": (Start(change=normal(2.0)), "suspected", {LOSS, SIGNAL, REACH}),
    "F17 weights N(0, 1e-6)": (Start(change=normal(1e-3)), "suspected", {LOSS, SIGNAL, REACH}),
    "F18 gain × 4": (Start(deep(relu, 6), change=scaled(4)), "suspected", {LOSS, SIGNAL}),
    "F18 gain ÷ 8": (Start(deep(relu, 6), change=scaled(1 / 8)), "suspected", {LOSS, SIGNAL}),
    "F19 bias −20": (Start(change=negative_bias), "exact", {"a layer is dead at the start"}),
    "F21 parameter unused": (
        Start(sequential(Dense(12), relu, Plain("unused"), Dense(3))),
        "exact",
        {"a parameter is not connected"},
    ),
    "F22 stop_gradient": (
        Start(sequential(Dense(12), relu, Plain("stop"), Dense(3))),
        "exact",
        {"a parameter is not connected"},
    ),
    "F23 raw inputs": (Start(data=(X * 100 + 100, LABELS)), "suspected", {INPUTS, LOSS}),
    "F24 scaled twice": (Start(data=(X / 255**2, LABELS)), "suspected", {INPUTS}),
    "F25 targets in hundreds": (Start(deep(relu, 1, outputs=1), SQUARED, (X, REAL * 300)), "suspected", {TARGETS}),
    "F25 targets with an offset": (Start(deep(relu, 1, outputs=1), SQUARED, (X, REAL + 1000)), "suspected", {TARGETS}),
    "F26 one column × 1e4": (Start(data=(X * [1e4, *[1] * 7], LABELS)), "suspected", {INPUTS}),
    "F27 constant features": (
        Start(data=(X * [1, 1, *[0] * 6], LABELS)),
        "exact",
        {"constant or copied features"},
    ),
    "F28 shuffled labels": (
        Start(data=(X, np.random.default_rng(2).permutation(LABELS))),
        "note",
        {"labels do not depend on the inputs"},
    ),
    "F32 duplicates in training and test": (
        Start(validation=(X[:40], LABELS[:40])),
        "exact",
        {"rows occur in training and test"},
    ),
    "F33 label as a feature": (
        Start(data=(np.concatenate([X[:, 1:], LABELS[:, None] - 1.0], 1).astype("float32"), LABELS)),
        "note",
        {"a feature gives the answer away"},
    ),
    "F34 sorted and not shuffled": (
        Start(data=(X[np.argsort(LABELS)], np.sort(LABELS)), options=(("shuffle", False),)),
        "suspected",
        {"data are sorted and not shuffled"},
    ),
    "F39 rate too high": (
        Start(optimizer=optimizers.sgd(30.0)),
        "suspected",
        {"learning rate out of range"},
    ),
    "F40 rate too low": (Start(optimizer=optimizers.adam(1e-6)), "suspected", {"learning rate out of range"}),
    "F54 no causal mask": (Start(UNMASKED, data=NEXT), "exact", {"a step sees the future"}),
    "F54 reshape across the batch": (
        Start(sequential(Dense(12), relu, Plain("mix"), Dense(3))),
        "suspected",
        {"examples of a batch mix"},
    ),
    "noise in evaluation": (
        Start(sequential(Dense(12), relu, Plain("noise"), Dense(3))),
        "exact",
        {"evaluation is random"},
    ),
    "strong dropout": (
        Start(sequential(Dense(12), relu, Dropout(0.9), Dense(3)), change=scaled(2)),
        "note",
        {"train mode differs"},
    ),
    "imbalance": (Start(data=(X, np.where(np.arange(160) < 4, LABELS, 0))), "note", {"classes are unbalanced"}),
}

HEALTHY: dict[str, Start] = {
    "relu": Start(optimizer=optimizers.adam(1e-2), validation=(X[::-1] * 0.9, LABELS[::-1])),
    "shallow": Start(sequential(Dense(3))),
    "tanh of depth 3, weights": Start(deep(tanh, 3), data=(X, LABELS, np.linspace(0, 1, 160).astype("float32"))),
    "gelu of depth 2, normalized, penalized": Start(
        sequential(*[part for _ in range(2) for part in (Dense(16), LayerNorm(), gelu)], Dense(3)),
        penalty=penalties.l2(1e-3),
    ),
    "real targets": Start(deep(relu, 2, outputs=1), SQUARED, (X, REAL)),
    "variance": Start(deep(tanh, 1, outputs=2), losses.gaussian_negative_log_likelihood, (X, REAL)),
    "probabilities": Start(after(softmax), losses.cross_entropy),
    "yes or no": Start(deep(relu, 1, outputs=1), losses.sigmoid_cross_entropy, (X, YES)),
    "convolutions": Start(sequential(Conv(6, 3), relu, MaxPool(2), Flatten(), Dense(2)), data=(IMAGES, BRIGHT)),
    "batch normalization": Start(sequential(Dense(12), BatchNorm(), relu, Dense(3))),
    "zero start of the last layer": Start(
        sequential(
            Dense(12),
            relu,
            Residual(sequential(LayerNorm(), Dense(12), gelu, Dense(12, w_init=initializers.zeros))),
            Dense(3, w_init=initializers.zeros),
        )
    ),
    "recurrent": Start(
        sequential(Recurrent(GRUCell(12), return_sequences=False), Dense(1)), SQUARED, (SEQUENCES, REAL)
    ),
    "attention": Start(LANGUAGE, data=NEXT),
    "a user's layer": Start(sequential(Dense(12), relu, Plain(), relu, Dense(3))),
}


@cache
def report_of(name: str) -> Report:
    """Return the report of a healthy start, or what the checks that are right about a fault give."""
    if name in HEALTHY:
        return HEALTHY[name].report()
    start, _, accepted = FAULTS[name]
    others = tuple(name for name in CHECKS if name not in accepted)
    return replace(start, options=(*start.options, ("leave_out", others))).report()


@pytest.mark.filterwarnings("ignore:Cost. ")
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_gives_its_verdict(name: str) -> None:
    _, certainty, accepted = FAULTS[name]
    report = report_of(name)
    right = [row.name for row in report.rows if row.certainty == certainty and row.name in accepted]
    assert right, f"{name}: {report}"


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_start_gives_none(name: str) -> None:
    report = report_of(name)
    assert report.ok, str(report)
    assert [row for row in report.rows if row.certainty == "suspected"] == [], str(report)


def test_the_faults_cover_every_verdict() -> None:
    given = {row.name for name in FAULTS for row in report_of(name).rows}
    assert given == set(CHECKS)


@pytest.mark.filterwarnings("ignore:Cost. ")
def test_a_cause_explains_its_symptoms_and_the_same_start_gives_the_same_report() -> None:
    report = FAULTS["F16 zero weights"][0].report()
    assert report.rows[0].name == "units start identical"
    assert "a layer is dead at the start" in report.symptoms
    assert str(FAULTS["F16 zero weights"][0].report()) == str(report)


def test_a_verdict_that_is_meant_is_left_out() -> None:
    start, _, (name,) = FAULTS["F13 no activations"]
    report = replace(start, options=(("leave_out", (name,)),)).report()
    assert report.ok
    assert report.not_looked_at[name] == "left out"
    with pytest.raises(ValueError, match=r"leave_out has \['no such name'\]"):
        replace(start, options=(("leave_out", ("no such name",)),)).report()


BAD: dict[str, tuple[Start, str]] = {
    "one class": (Start(data=(X, np.zeros(160, int))), "the targets are all alike"),
    "constant targets": (Start(deep(relu, 1, outputs=1), SQUARED, (X, np.full((160, 1), 7.0))), "no target varies"),
    "NaN inputs": (Start(data=(np.where(X > 2, np.nan, X), LABELS)), "x has NaN or infinite entries"),
    "no validation data": (Start(), "pass validation="),
    "no optimizer": (Start(), "pass optimizer="),
    "no layers": (Start(sequential(), SQUARED, (X, X)), ""),
    "no parameters": (Start(sequential(tanh), SQUARED, (X, np.tanh(X))), ""),
    "one example": (Start(data=(X[:1], LABELS[:1])), "there are fewer than two examples"),
    "a loss without a least value": (
        Start(deep(tanh, 1, outputs=2), losses.gaussian_negative_log_likelihood, (X, REAL)),
        "−∞ below",
    ),
    "a stream": (Start(data=from_batches([(X[:32], LABELS[:32])] * 2, batch_size=32), validation=CLASSES), "a stream"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_said(name: str) -> None:
    start, reason = BAD[name]
    if name == "a stream":
        params = start.model.init(KEY, X[:2])
        report = preflight(Cost(start.model, start.loss), params, start.data, start.validation, key=KEY)
    else:
        report = start.report()
    assert report.ok, str(report)
    assert any(reason in why for why in report.not_looked_at.values()), str(report)


def test_a_model_whose_layers_cannot_be_seen() -> None:
    class Closed:
        """Softmax before softmax cross-entropy, out of sight."""

        def init(self, key: Any, x: Any) -> Any:
            return BASE.init(key, x)

        def apply(self, params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
            return softmax(BASE.apply(params, x))

    report = Start(Closed()).report()
    assert report.ok
    assert "cannot be seen" in report.not_looked_at[PAIRING]
    assert "Closed shows no layers" in report.not_looked_at["the inside of the model"]
    assert report[BATCH].value == pytest.approx(0.55, abs=0.1)  # log(1 + 2/e) / log 3 = 0.50


@pytest.mark.parametrize(
    ("start", "error", "message"),
    [
        (Start(loss=SQUARED), TypeError, "losses.squared_error: target has dtype int32"),
        (Start(data=(X, REAL)), ValueError, "losses.softmax_cross_entropy: target has shape"),
        (Start(data=(X, LABELS + 1)), ValueError, "losses.softmax_cross_entropy: label 3"),
    ],
    ids=["F9 squared error of labels", "F9 cross-entropy of real targets", "labels out of range"],
)
def test_a_cost_that_does_not_take_the_data_raises_its_own_error(start: Start, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        start.report()
