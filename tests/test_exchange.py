"""Weights of PyTorch's recurrent modules give the same outputs and gradients, and can go back."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import (
    Bidirectional,
    Dense,
    Dropout,
    GRUCell,
    LSTMCell,
    Recurrent,
    RNNCell,
    Truncated,
    backprop,
    exchange,
    relu,
    sequential,
    sigmoid,
)
from tests.cases import random_params
from tests.compare import assert_close, assert_identical

X = np.random.default_rng(0).standard_normal((3, 5, 2))
DY = np.random.default_rng(1).standard_normal((3, 5, 8))
MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "RNN": (Recurrent(RNNCell(4)), {}),
    "RNN of ReLU": (Recurrent(RNNCell(4, relu)), {"nonlinearity": "relu"}),
    "GRU": (Recurrent(GRUCell(4)), {}),
    "LSTM": (Recurrent(LSTMCell(4)), {}),
    "LSTM without biases": (Recurrent(LSTMCell(4)), {"bias": False}),
    "GRU, 2 layers": (
        sequential(Recurrent(GRUCell(4)), Dropout(0.5), Truncated(Recurrent(GRUCell(4)), 9)),
        {"num_layers": 2},
    ),
    "LSTM, both directions": (Bidirectional(LSTMCell(4)), {"bidirectional": True}),
    "RNN, 2 layers, both directions": (
        sequential(Bidirectional(RNNCell(4)), Bidirectional(RNNCell(4))),
        {"num_layers": 2, "bidirectional": True},
    ),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.usefixtures("x64")
def test_outputs_and_gradients_are_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    model, options = MODELS[name]
    torch.manual_seed(0)
    module = getattr(torch.nn, name.split()[0].strip(","))(2, 4, batch_first=True, dtype=torch.float64, **options)
    x = torch.tensor(X, requires_grad=True)
    expected, _ = module(x)
    dy = DY[..., : expected.shape[-1]]
    expected.backward(torch.tensor(dy))
    weights = {key: jnp.asarray(value.numpy()) for key, value in module.state_dict().items()}

    params = exchange.from_torch(model, weights)
    y, pullback = backprop.vjp(model, params, X)
    dparams, dx = pullback(jnp.asarray(dy))
    assert_close(y, expected.detach().numpy())
    assert_close(dx, x.grad.numpy())
    (dweights,) = jax.linear_transpose(lambda weights: exchange.from_torch(model, weights), weights)(dparams)
    assert_close(dweights, {key: value.grad.numpy() for key, value in module.named_parameters()})


@pytest.mark.parametrize("name", MODELS)
def test_there_and_back(name: str) -> None:
    model, _ = MODELS[name]
    params = random_params(model, jnp.ones((3, 5, 2)))
    weights = exchange.to_torch(model, params)
    assert_identical(exchange.from_torch(model, weights), params)


RNN = Recurrent(RNNCell(4))
WEIGHTS = {
    "weight_ih_l0": np.ones((4, 2)),
    "weight_hh_l0": np.ones((4, 4)),
    "bias_ih_l0": np.ones(4),
    "bias_hh_l0": np.ones(4),
}


@pytest.mark.parametrize(
    ("model", "weights", "message"),
    [
        (RNN, WEIGHTS | {"weight_hr_l0": np.ones(4)}, r"have \['weight_hr_l0'\] beyond"),
        (RNN, {k: v for k, v in WEIGHTS.items() if k != "bias_hh_l0"}, r"lack \['bias_hh_l0'\]"),
        (Bidirectional(RNNCell(4)), WEIGHTS, r"lack \['bias_hh_l0_reverse', .*'weight_ih_l0_reverse'\]"),
        (RNN, {}, r"lack \['weight_hh_l0', 'weight_ih_l0'\]"),
        (RNN, WEIGHTS | {"weight_hh_l0": np.ones((4, 3))}, r"weight_hh_l0 has shape \(4, 3\); expected \(4, 4\)"),
        (RNN, WEIGHTS | {"bias_ih_l0": np.ones((4, 1))}, r"bias_ih_l0 has shape \(4, 1\); expected \(4,\)"),
        (Recurrent(GRUCell(4)), WEIGHTS, r"weight_ih_l0 has shape \(4, 2\); expected \(12, 2\)"),
        (Recurrent(GRUCell(4, reset_after=False)), WEIGHTS, r"PyTorch has no GRUCell\(features=4, reset_after=False\)"),
        (Recurrent(RNNCell(4), reverse=True), WEIGHTS, r"PyTorch has no Recurrent\(.*runs only backwards"),
        (Recurrent(RNNCell(4, sigmoid)), WEIGHTS, r"PyTorch has no RNNCell\(.*expected the activation fnnet.tanh or"),
        (Bidirectional(RNNCell(4), other=RNNCell(3)), WEIGHTS, "PyTorch has no Bidirectional.*directions differ"),
        (Bidirectional(RNNCell(4), other=RNNCell(4, relu)), WEIGHTS, "PyTorch has no Bidirectional.*directions differ"),
        (sequential(RNN, Recurrent(GRUCell(4))), WEIGHTS, "PyTorch has no Sequential.*layers or directions differ"),
        (sequential(RNN, Dense(2)), WEIGHTS, r"the model has Dense\(.*expected Recurrent, Bidirectional"),
    ],
)
def test_what_does_not_fit_is_refused(model: Any, weights: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        exchange.from_torch(model, weights)


def test_a_module_itself() -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.LSTM(2, 4, batch_first=True)
    weights = {name: tensor.detach().numpy() for name, tensor in module.named_parameters()}
    for given in (module, module.state_dict(), dict(module.named_parameters())):
        assert_identical(
            exchange.from_torch(Recurrent(LSTMCell(4)), given), exchange.from_torch(Recurrent(LSTMCell(4)), weights)
        )


@pytest.mark.parametrize("weights", [None, "lstm.pt", [1.0], {"weight_ih_l0": "abc"}, {"weight_ih_l0": None}])
def test_what_is_no_weights_is_refused(weights: Any) -> None:
    with pytest.raises(TypeError, match=r"exchange.from_torch: \w+ is .*; expected"):
        exchange.from_torch(Recurrent(LSTMCell(4)), weights)
