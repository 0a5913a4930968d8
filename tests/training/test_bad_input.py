"""What ``fit`` refuses, once, where data enters, and with which words."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Cost, Dense, Flatten, TrainState, accuracy, fit, losses, sequential
from fnnet.optimizers import sgd
from fnnet.training.callbacks import EarlyStopping
from tests.training.problems import COST, DATA, LABELS, PARAMS, X, key

NEEDS = r"but prediction \(\d+, 3\) needs integer labels \(\d+,\) or floating-point distributions \(\d+, 3\)"
BAD_DATA: list[tuple[Any, type[Exception], str]] = [
    (
        (X, LABELS[:-1]),
        ValueError,
        r"x has shape \(10, 3\) and y has shape \(9,\); expected the same number of examples",
    ),
    ((X[:0], LABELS[:0]), ValueError, r"x has shape \(0, 3\) and y has shape \(0,\); .* at least one"),
    ((X.at[4, 1].set(jnp.nan), LABELS), ValueError, r"x has 1 entries that are NaN or infinite, the first at \(4, 1\)"),
    (
        (X.at[7:, 2].set(-jnp.inf), LABELS),
        ValueError,
        r"x has 3 entries that are NaN or infinite, the first at \(7, 2\)",
    ),
    ((X, LABELS.at[3].set(3)), ValueError, r"label 3 \(first at \(3,\)\) is outside 0 .. 2, the 3 classes"),
    ((X, LABELS.at[3].set(-1)), ValueError, r"label -1 \(first at \(3,\)\) is outside 0 .. 2"),
    (
        (X, LABELS.astype(float)),
        ValueError,
        rf"target has shape \(\d+,\) and dtype float32 {NEEDS}: convert labels with",
    ),
    ((X, LABELS[:, None]), ValueError, rf"target has shape \(\d+, 1\) and dtype int32 {NEEDS}: drop the last axis"),
    ((X, LABELS == 0), TypeError, "target has dtype bool"),
    ((X[:, :2], LABELS), ValueError, r"x has shape \(10, 2\) but w has shape \(3, 3\); expected w \(2, 3\)"),
    ((X.astype(int), LABELS), TypeError, "x has dtype int32; expected floating point"),
    ((X.astype("bfloat16"), LABELS), TypeError, "x has dtype bfloat16 but w has float32"),
    (X, TypeError, r"batch is ArrayImpl; expected a pair \(x, y\)"),
    ((X, LABELS, jnp.ones(10)), TypeError, r"batch is a triple, but only a cost .* \(x, y, w\): .*; expected a pair"),
]


@pytest.mark.parametrize(("data", "error", "message"), BAD_DATA)
def test_bad_data_is_refused(data: Any, error: type[Exception], message: str) -> None:
    """As training and as validation data; the message says which where the fault is the data's own."""
    with pytest.raises(error, match=message) as caught:
        fit(COST, sgd(0.1), PARAMS, data, key=key(), epochs=1, batch_size=5)
    with pytest.raises(error, match=message) as in_validation:
        fit(COST, sgd(0.1), PARAMS, DATA, key=key(), epochs=1, batch_size=5, validation=data)
    if str(caught.value).startswith("fit"):
        assert str(in_validation.value).startswith("fit: validation: ")


def test_not_finite_targets_are_refused() -> None:
    cost, params = Cost(Dense(1), losses.squared_error), {"w": jnp.ones((3, 1)), "b": jnp.ones(1)}
    y = np.ones((10, 1))
    y[6] = np.nan
    with pytest.raises(ValueError, match=r"fit: y has 1 entries that are NaN or infinite, the first at \(6, 0\)"):
        fit(cost, sgd(0.1), params, (X, y), key=key(), batch_size=5)


@pytest.mark.filterwarnings("ignore:Cost")  # the model of both ends without a sigmoid
@pytest.mark.parametrize("loss", [losses.binary_cross_entropy, losses.sigmoid_cross_entropy])
def test_yes_no_targets_outside_zero_to_one_are_refused(loss: Any) -> None:
    """Labels 1 and 2, say: a compiled epoch cannot see them, so they are looked at where the data enters."""
    params = {"w": jnp.ones((3, 1)), "b": jnp.ones(1)}
    with pytest.raises(
        ValueError, match=r"target has values from 1 to 2; expected probabilities or labels in \[0, 1\]"
    ):
        fit(Cost(Dense(1), loss), sgd(0.1), params, (X, LABELS[:, None] % 2 + 1), key=key(), epochs=1, batch_size=5)


def test_an_error_in_a_deep_network_names_its_layer() -> None:
    cost = Cost(sequential(Flatten(), Dense(3)), losses.softmax_cross_entropy)
    with pytest.raises(ValueError, match=r"expected w \(2, 3\)") as caught:
        fit(cost, sgd(0.1), ({}, PARAMS), (X[:, :2], LABELS), key=key(), batch_size=5)
    assert "in layer 1 of Sequential, Dense(features=3" in caught.value.__notes__[0]


STATE = TrainState.create(PARAMS, sgd(0.1), key())
BAD_ARGUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"params": STATE}, "fit: a TrainState has its own key; leave key= out"),
    ({"batch_size": 11}, "fit: batch_size is 11 but there are only 10 examples; use a batch size of at most 10"),
    ({"batch_size": 0}, "fit: batch_size is 0; expected an integer of at least 1"),
    ({"batch_size": 2.0}, "fit: batch_size is 2.0"),
    ({"epochs": 0}, "fit: epochs is 0; expected an integer of at least 1"),
    ({"epochs": 1.5}, "fit: epochs is 1.5"),
    ({"callbacks": [EarlyStopping(2)]}, r"fit: callbacks.EarlyStopping needs validation data; pass validation="),
    ({"metrics": {"accuracy": accuracy}}, r"fit: metrics given without validation data; pass validation=\(x, y\)"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS, ids=[message[:40] for _, message in BAD_ARGUMENTS])
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    options = {"params": PARAMS, "key": key(), "epochs": 1, "batch_size": 5} | arguments
    with pytest.raises(ValueError, match=message):
        fit(COST, sgd(0.1), options.pop("params"), DATA, **options)


CONFUSED: list[tuple[dict[str, Any], str]] = [
    ({"key": None}, r"fit: key is None; expected a random key, such as jax.random.key\(0\)"),
    ({"key": 0}, "fit: key is 0; expected a random key"),
    ({"cost": COST.model}, r"fit: cost is Dense\(.*\); expected a fnnet.Cost, such as Cost\(model, losses"),
    ({"optimizer": sgd}, "fit: <function sgd at .*> has no init and update; expected an optimizer, such as"),
    ({"metrics": [accuracy], "validation": DATA}, r"fit: metrics are \[.*\]; expected a mapping, such as"),
    ({"callbacks": EarlyStopping(2)}, r"fit: callbacks is .*; expected a list of them: callbacks=\[...\]"),
    ({"callbacks": [EarlyStopping]}, "fit: callbacks has .*; expected a function"),
]


@pytest.mark.parametrize(("arguments", "message"), CONFUSED, ids=[" ".join(each) for each, _ in CONFUSED])
def test_one_thing_given_for_another(arguments: dict[str, Any], message: str) -> None:
    options = {"cost": COST, "optimizer": sgd(0.1), "params": PARAMS, "data": DATA, "key": key(), "epochs": 1}
    with pytest.raises(TypeError, match=message):
        fit(**options | arguments)
