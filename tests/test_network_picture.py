"""The picture of a network: its parts are read back from the SVG."""

import re
from dataclasses import replace
from functools import cache
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from fnnet import (
    Bidirectional,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GRUCell,
    LSTMCell,
    Recurrent,
    Residual,
    Truncated,
    plots,
    relu,
    sequential,
    softmax,
    tanh,
    transformer_block,
)
from fnnet.inspect import Outline, outline
from fnnet.plots import network
from fnnet.plots.network import NEGATIVE, POSITIVE

X = jnp.asarray(np.random.default_rng(0).standard_normal((20, 4)), jnp.float32)
MODEL = sequential(Dense(3), relu, Dense(2))
PARAMS = (
    {"w": jnp.array([[1.0, -2.0, 0.5], [0.0, 1.0, -0.5], [1.0, 1.0, 1.0], [0.25, 0.5, -1.0]]), "b": jnp.zeros(3)},
    {},
    {"w": jnp.array([[1.0, -1.0], [3.0, 0.5], [-0.1, 0.2]]), "b": jnp.zeros(2)},
)
DEAD = (PARAMS[0] | {"b": jnp.array([0.0, -100.0, 0.0])}, {}, PARAMS[2])


def parts(drawing: plots.Drawing, tag: str) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(drawing.svg())
    return list(root.iter(f"{{http://www.w3.org/2000/svg}}{tag}"))


def title(part: ElementTree.Element) -> str:
    return part.findtext("{http://www.w3.org/2000/svg}title") or ""


def texts(drawing: plots.Drawing) -> list[str]:
    return [part.text or "" for part in parts(drawing, "text")]


def test_every_neuron_and_every_weight_is_drawn() -> None:
    drawing = network(MODEL, PARAMS, X)
    neurons = [part for part in parts(drawing, "circle") if title(part)]
    assert len(neurons) == 4 + 3 + 2
    weights = {title(part): part for part in parts(drawing, "polyline") if title(part)}
    assert len(weights) == 11 + 6  # one of the 12 is 0
    largest, small = weights["layer 2: w[1, 0] = 3"], weights["layer 2: w[2, 0] = -0.1"]
    assert (largest.get("stroke"), small.get("stroke")) == (POSITIVE, NEGATIVE)
    widths = [float(line.get("stroke-width") or 0) for line in (largest, small)]
    np.testing.assert_allclose(widths, [0.3 + 3.2, 0.3 + 3.2 * 0.1 / 3], atol=0.01)
    assert {"input 4", "Dense 3, relu", "Dense 2", "|w| ≤ 2", "|w| ≤ 3"} <= set(texts(drawing))


def test_neurons_are_filled_by_mean_activation() -> None:
    drawing = network(MODEL, DEAD, X)
    neurons = [part for part in parts(drawing, "circle") if title(part)]
    hidden = np.maximum(np.asarray(X @ DEAD[0]["w"] + DEAD[0]["b"]), 0).mean(0)
    assert title(neurons[4]) == f"unit 0: mean activation {hidden[0]:.3g}"
    assert title(neurons[5]) == "unit 1: 0 for every example"
    assert (neurons[5].get("fill"), neurons[5].get("stroke-dasharray")) == ("#ffffff", "3 2")
    most = neurons[4 + int(hidden.argmax())]
    assert most.get("fill") == POSITIVE
    output = np.asarray(MODEL.apply(DEAD, X)).mean(0)
    expected = POSITIVE if output[np.abs(output).argmax()] > 0 else NEGATIVE
    assert neurons[7 + int(np.abs(output).argmax())].get("fill") == expected


def test_wide_layers_have_an_ellipsis() -> None:
    x = jnp.ones((3, 64))
    model = sequential(Dense(40), tanh, Dropout(0.5), Dense(16))
    drawing = network(model, model.init(jax.random.key(0), x), x)
    neurons = [title(part) for part in parts(drawing, "circle") if title(part)]
    assert len(neurons) == 12 + 12 + 16
    assert neurons[11].startswith("unit 63")
    assert texts(drawing).count("⋮") == 2


def test_gradients_flow_back() -> None:
    grads = jax.tree.map(lambda p: -2 * p, PARAMS)
    drawing = network(MODEL, PARAMS, X, grads)
    weights = {title(part): part for part in parts(drawing, "polyline") if title(part)}
    assert weights["layer 2: ∂L/∂w[1, 0] = -6"].get("stroke") == NEGATIVE
    assert f"‖∂L/∂w‖ {2 * np.linalg.norm(PARAMS[2]['w']):.2g}" in texts(drawing)
    assert "the error flows back, ∂L/∂w" in texts(drawing)
    heads = [part.get("points") for part in (parts(drawing, "polygon"), parts(network(MODEL, PARAMS, X), "polygon"))[0]]
    assert len(heads) == 1


@pytest.mark.parametrize(
    "model", [MODEL, sequential(Flatten(), Dense(2), softmax), sequential(Dense(20), *[Dense(3)] * 9, Dense(2))]
)
def test_without_parameters_or_with_other_layers_there_are_boxes(model: sequential) -> None:
    assert any("Dense 2" in text for text in texts(network(model, None, X)))
    assert not [part for part in parts(network(model, None, X), "circle") if title(part) != "sum"]


DEEP = sequential(
    Recurrent(LSTMCell(8)),
    Bidirectional(GRUCell(4)),
    *[transformer_block(2, 8)] * 7,
    Truncated(Recurrent(GRUCell(8)), 5),
    Residual(Dense(6), Dense(6)),
    *[Dense(6)] * 5,
)


@cache
def summary() -> Outline:
    return outline(DEEP, jax.ShapeDtypeStruct((2, 31, 8), jnp.float32))


def test_boxes() -> None:
    drawing = network(summary())
    found = texts(drawing)
    assert found.count("× 31") == 4  # the recurrences
    assert "GRU 8, truncated" in found
    assert "× 7" in found
    assert "Dense 6 × 5" in found
    assert found.count("+") == 3  # two residual sums in a block of the stack, and one after it
    assert found.count("LayerNorm") == 2
    assert "input 2×31×8" in found
    titles = [title(part) for part in parts(drawing, "polyline")]
    assert titles.count("10 shortcut: Dense(features=6)") == 2  # the line to it and the line from it
    assert drawing.title in ElementTree.fromstring(drawing.svg())[0].text


def test_depth_limits_the_boxes() -> None:
    deep = replace(summary(), depth=1)
    assert "Sequential × 7" in texts(network(deep))
    assert "LayerNorm" not in texts(network(deep))


def test_nothing_is_drawn_outside_and_no_text_leaves_its_box() -> None:
    model = sequential(Conv(8, 3, dilation=2, stride=3, use_bias=False), Residual(Conv(8, 1), Conv(8, (1, 1))), relu)
    for drawing in (
        network(MODEL, PARAMS, X),
        network(summary()),
        network(model, None, jnp.ones((1, 9, 9, 1))),
    ):
        for tag, horizontal, vertical in (("rect", "x", "y"), ("circle", "cx", "cy"), ("text", "x", "y")):
            for part in parts(drawing, tag)[tag == "rect" :]:
                assert 0 <= float(part.get(horizontal) or 0) + float(part.get("width") or 0) <= drawing.width
                assert 0 <= float(part.get(vertical) or 0) + float(part.get("height") or 0) <= drawing.height
        for part in parts(drawing, "polyline"):
            numbers = [float(number) for number in re.split("[ ,]", part.get("points") or "")]
            assert min(numbers) >= 0
            assert max(numbers[::2]) <= drawing.width
        assert max(map(len, texts(drawing))) < 60


def test_figure(tmp_path) -> None:  # type: ignore[no-untyped-def]
    for drawing in (network(MODEL, PARAMS, X), network(summary())):
        figure = drawing.figure()
        assert isinstance(figure, Figure)
        np.testing.assert_allclose(figure.get_size_inches(), [drawing.width / 100, drawing.height / 100])
        figure.savefig(tmp_path / "network.pdf")
        shown = [text.get_text() for text in figure.axes[0].texts]
        assert shown == texts(drawing)


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match=r"plots.network: x is None; pass a batch"):
        network(MODEL, PARAMS)
    with pytest.raises(ValueError, match=r"plots.network: grads are drawn for networks of a few dense layers only"):
        network(sequential(Recurrent(GRUCell(2))), None, jnp.ones((1, 2, 3)), ({},))
