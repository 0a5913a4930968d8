"""What does a network look like: its neurons and weights before and after training, the way of the error, a deep one?

The network 64-16-10 of ReLU learns scikit-learn's digits. It is drawn with its weights and with the gradients of its
cost, before and after training. Two deep networks, which are not trained, are drawn as boxes: a residual network for
images and a network for text with recurrences and transformer blocks. Their outlines are in the summary. The command
exits with status 1 if the operations in an outline of the digits network are not those that XLA counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fnnet
from experiments import data
from experiments.results import Results, console, epoch_progress
from experiments.tables import TableRows, markdown_table, rich_table
from fnnet import inspect, plots
from fnnet.layers import Sequential


@dataclass(frozen=True)
class Config:
    hidden: int = 16
    """Number of hidden neurons."""
    epochs: int = 40
    """Passes over the training digits."""
    batch_size: int = 32
    """Digits per update."""
    learning_rate: float = 3e-3
    """Adam's learning rate."""
    seed: int = 0
    """Seed of the initial parameters and of the order of the digits."""
    runs: Path = Path("runs")
    """Folder for the results."""


def run(config: Config) -> int:
    results = Results("network", config, config.runs)
    split = data.digits()
    (x, y), (test_x, test_y) = ((images.reshape(len(images), -1), labels) for images, labels in split)
    model = fnnet.sequential(fnnet.Dense(config.hidden), fnnet.relu, fnnet.Dense(10))
    cost = fnnet.Cost(model, fnnet.losses.softmax_cross_entropy)
    start = model.init(jax.random.key(config.seed), x)
    with epoch_progress(f"64-{config.hidden}-10", config.epochs) as progress:
        fitted = fnnet.fit(
            cost,
            fnnet.optimizers.adam(config.learning_rate),
            start,
            (x, y),
            key=jax.random.key(config.seed + 1),
            epochs=config.epochs,
            batch_size=config.batch_size,
            validation=(test_x, test_y),
            metrics={"accuracy": fnnet.accuracy},
            callbacks=[progress],
        )
    rows, gradients = [], jax.jit(fnnet.backprop.grad(cost))
    for name, params in (("start", start), ("trained", fitted.state.params)):
        grads = gradients(params, (x, y))
        save(results, name, plots.network(model, params, x))
        save(results, f"{name}_gradients", plots.network(model, params, x, grads))
        accuracy = float(fnnet.accuracy(model.apply(params, test_x), jnp.asarray(test_y)).mean())
        rows.append(numbers(name, model, params, grads, x, accuracy))
        results.record(**dict(zip(COLUMNS, rows[-1], strict=True)))
    table: TableRows = (COLUMNS, rows)
    console.print(rich_table(*table))

    outlines = {"digits": inspect.outline(model, x, start, fnnet.optimizers.adam(config.learning_rate))}
    for name, (deep, like) in deep_networks().items():
        outlines[name] = inspect.outline(deep, like)
        save(results, name, plots.network(outlines[name]))
    for name, each in outlines.items():
        console.print(f"\n{name}\n{each}", highlight=False, soft_wrap=True)
    counted, by_xla = outlines["digits"].root.forward, xla_operations(model, start, x)
    agree = counted == by_xla
    verdict = f"operations forward of {len(x)} digits: {counted:,} in the outline, {by_xla:,} by XLA's count"
    console.print(f"\n{verdict}", style="bold green" if agree else "bold red", highlight=False)
    texts = "\n\n".join(f"{name}\n\n```\n{each}\n```" for name, each in outlines.items())
    results.summary(f"{markdown_table(*table)}\n\n{verdict}\n\n{texts}")
    return 0 if agree else 1


COLUMNS = ("parameters", "test accuracy", "largest |w|", "‖∂L/∂w‖", "neurons that are always 0", "pixels always 0")


def numbers(name: str, model: Sequential, params: Any, grads: Any, x: Any, accuracy: float) -> tuple[str, ...]:
    """Return one row of the table, with a number for each of both layers where it is one of the weights."""
    dense = (0, 2)
    hidden = inspect.layer_outputs(model, params, jnp.asarray(x))[1]
    return (
        name,
        f"{accuracy:.3f}",
        ", ".join(f"{jnp.abs(params[i]['w']).max():.2f}" for i in dense),
        ", ".join(f"{jnp.linalg.norm(grads[i]['w']):.1e}" for i in dense),
        str(int((hidden == 0).all(0).sum())),
        str(int((np.asarray(x) == 0).all(0).sum())),
    )


def save(results: Results, name: str, drawing: plots.Drawing) -> None:
    """Save the picture as PNG and as SVG."""
    results.figure(name, drawing.figure())
    (results.folder / f"{name}.svg").write_text(drawing.svg(), encoding="utf-8")


def xla_operations(model: Sequential, params: Any, x: Any) -> int:
    """Return XLA's count for the network, apart from the choices of two constants in each ReLU."""
    lowered = jax.jit(model.apply).lower(params, x)
    constants = 2 * sum(isinstance(layer, fnnet.Activation) for layer in model.layers)
    return int((lowered.cost_analysis() or {}).get("flops", 0)) - constants


def deep_networks() -> dict[str, tuple[Sequential, Any]]:
    """Return a residual network for images and a network for text, each with the shape of a batch."""

    def block(features: int) -> fnnet.Residual:
        conv = fnnet.Conv(features, 3, padding="SAME", use_bias=False)
        return fnnet.Residual(fnnet.sequential(fnnet.BatchNorm(), fnnet.relu, conv))

    down = fnnet.sequential(fnnet.BatchNorm(), fnnet.relu, fnnet.Conv(32, 3, 2, "SAME", use_bias=False))
    images = fnnet.sequential(
        fnnet.Conv(16, 3, padding="SAME"),
        *[block(16)] * 9,
        fnnet.Residual(down, fnnet.Conv(32, 1, 2, use_bias=False)),
        *[block(32)] * 8,
        fnnet.GlobalAvgPool(),
        fnnet.Dense(10),
    )
    text = fnnet.sequential(
        fnnet.Embedding(65, 64),
        fnnet.Bidirectional(fnnet.GRUCell(64)),
        fnnet.Recurrent(fnnet.LSTMCell(128)),
        *[fnnet.transformer_block(4, 128, causal=True)] * 6,
        fnnet.LayerNorm(),
        fnnet.Dense(65),
    )
    batch = jax.ShapeDtypeStruct((8, 32, 32, 3), jnp.float32), jax.ShapeDtypeStruct((8, 50), jnp.int32)
    return {"deep_images": (images, batch[0]), "deep_text": (text, batch[1])}
