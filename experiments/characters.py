"""Learn to predict the next character of a text with an RNN, GRU, LSTM or transformer, on any UTF-8 file.

The text is cut into streams that are read side by side, segment by segment. The state continues from segment to
segment, and gradients stop where a segment begins (truncated backpropagation through time). An epoch is one compiled
program. The end of the text is held out, and the loss per held-out character is reported in nats and in bits. Samples
are printed during training.

Without ``--text`` the model learns Tiny Shakespeare if FNNET_DATA names its folder, and the topics of Python's
``help()`` otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

import fnnet
from experiments import character_model, text
from experiments.character_model import Cell
from experiments.cli import ExperimentError
from experiments.results import Results, console
from experiments.streaming import Engine
from fnnet import optimizers, plots
from fnnet.types import Params

# The held-out text is read in this many rows side by side. Each row starts from a zero state, which makes its first few
# characters slightly harder to predict.
ROWS = 8


@dataclass(frozen=True)
class Config:
    text: Path | None = None
    """Path of the text, a UTF-8 file."""
    cell: Cell = "lstm"
    """Kind of the layers."""
    layers: int = 2
    """Number of layers between the embedding and the scores."""
    features: int = 128
    """Number of neurons of a layer, and of numbers in the embedding of a character."""
    heads: int = 4
    """Number of heads of the transformer's attention."""
    length: int = 50
    """Number of characters of a segment, beyond which neither gradients nor the transformer's attention reach."""
    dropout: float = 0.1
    """Rate at which the outputs of every layer are dropped in training."""
    epochs: int = 20
    """Passes over the training text."""
    batch_size: int = 32
    """Number of streams, and so of segments in an update; a short text has fewer."""
    learning_rate: float = 4e-3
    """Adam's highest learning rate, reached after 1/20 of the updates; then it falls to 0 along half a cosine."""
    clip: float = 1.0
    """Largest norm of a gradient; a longer gradient is scaled down to it."""
    engine: Engine = "hand"
    """Gradients from hand-written rules or from jax.grad."""
    validation_share: float = 0.1
    """Fraction of the text, at its end, that is held out."""
    samples: int = 5
    """Number of samples printed during training."""
    sample_length: int = 300
    """Number of characters of a sample."""
    temperature: float = 0.8
    """Divisor of the scores before a character is drawn; a lower temperature prefers likely characters."""
    prompt: str | None = None
    """Text that a sample continues; by default a line break, or the first character of a text without one."""
    seed: int = 0
    """Seed of the initial parameters, of dropout and of the samples."""
    runs: Path = Path("runs")
    """Folder for the results."""


class Task(NamedTuple):
    """The model, its optimizer and its first state, and the text that it learns."""

    corpus: text.Corpus
    prompt: str
    streams: int
    updates: int
    model: fnnet.Sequential
    optimizer: fnnet.Optimizer
    state: fnnet.TrainState  # before the first update


def run(config: Config) -> None:
    check(config)
    content, source = text.find(config.text)
    task = task_of(config, content)
    results = Results("characters", config, config.runs)
    corpus, name = task.corpus, f"{config.cell} {config.layers} × {config.features}"
    console.print(
        f"{source}: {len(content):,} characters, {len(corpus.alphabet)} of them different; {len(corpus.train):,} for "
        f"training, {len(corpus.validation):,} held out\n"
        f"{name}: {count(task.state.params):,} parameters; {task.streams} streams in segments of {config.length}, "
        f"{task.updates:,} updates\n",
        highlight=False,
    )
    pairs = text.pair_loss(corpus)
    params, history = train(config, task, results, name)
    line = (
        f"{history['nats'][-1]:.4f} nats = {history['bits'][-1]:.3f} bits per held-out character after "
        f"{config.epochs} epochs; {sum(history['seconds']):.0f} s of training, {history['compile_seconds'][0]:.0f} s "
        f"of compiling"
    )
    console.print(line, highlight=False)
    results.figure("curve", curve(history, pairs, name))
    results.summary(f"{name}; {source}.\n\n{line}\n\n```text\n{sample(config, task, params, 0).strip()}\n```")


def task_of(config: Config, content: str) -> Task:
    corpus = text.corpus(content, config.validation_share, config.length)
    prompt = prompt_of(config, content)
    text.encode(prompt, corpus.alphabet)  # raises an error for an unknown character before any work is done
    streams = min(config.batch_size, (len(corpus.train) - 1) // config.length)
    updates = config.epochs * character_model.segments_in(len(corpus.train), streams, config.length)
    model = character_model.network(
        config.cell,
        len(corpus.alphabet),
        config.features,
        config.layers,
        heads=config.heads,
        dropout=config.dropout,
    )
    warm = max(1, updates // 20)
    rate = fnnet.schedules.warmup(fnnet.schedules.cosine(config.learning_rate, max(1, updates - warm)), warm)
    optimizer = fnnet.chain(optimizers.clip_by_global_norm(config.clip), optimizers.adam(rate))
    init_key, train_key = jax.random.split(jax.random.key(config.seed))
    params = model.init(init_key, jax.ShapeDtypeStruct((streams, config.length), jnp.int32))
    state = fnnet.TrainState.create(params, optimizer, train_key)
    return Task(corpus, prompt, streams, updates, model, optimizer, state)


def train(config: Config, task: Task, results: Results, name: str) -> tuple[Params, dict[str, list[float]]]:
    """Return ``(params, history)``: the final parameters, and for each name a list with one number per epoch."""
    corpus, state, tokens = task.corpus, task.state, jnp.asarray(task.corpus.train)
    options: dict[str, Any] = {"streams": task.streams, "length": config.length, "engine": config.engine}
    start = perf_counter()
    epoch = jax.jit(character_model.train_epoch(task.model, task.optimizer, **options)).lower(state, tokens).compile()
    compile_seconds = perf_counter() - start
    held_out = jax.jit(character_model.held_out_loss(task.model))
    rows = tuple(jnp.asarray(a) for a in text.in_rows(corpus.held_out, ROWS, config.length))
    history: dict[str, list[float]] = {}
    with epoch_bar(name, config.epochs) as progress:
        for number in range(1, config.epochs + 1):
            start = perf_counter()
            state, cost = jax.block_until_ready(epoch(state, tokens))
            seconds, nats = perf_counter() - start, float(held_out(state.params, rows))
            record = {"epoch": number, "cost": float(cost), "nats": nats, "bits": in_bits(nats)}
            record |= {"seconds": seconds, "compile_seconds": compile_seconds if number == 1 else 0.0}
            results.record(**record)
            for key, value in record.items():
                history.setdefault(key, []).append(value)
            line = f"epoch {number}/{config.epochs}  held out {nats:.4f} nats, {record['bits']:.3f} bits"
            progress.update(progress.task_ids[0], advance=1, numbers=line)
            if number * config.samples // config.epochs > (number - 1) * config.samples // config.epochs:
                shown = sample(config, task, state.params, number)
                results.record(epoch=number, sample=shown)
                progress.console.print(Panel(Text(shown), title=line, title_align="left"))
    return state.params, history


def sample(config: Config, task: Task, params: Params, number: int) -> str:
    """Return the text that the model writes after the prompt; each number gives another text."""
    key = jax.random.fold_in(jax.random.key(config.seed + 1), number)
    prompt = jnp.asarray(text.encode(task.prompt, task.corpus.alphabet))
    tokens = character_model.sample(
        task.model, params, key, prompt, config.sample_length, config.temperature, window=config.length
    )
    return text.decode(tokens, task.corpus.alphabet)


def check(config: Config) -> None:
    for name in ("layers", "features", "heads", "length", "epochs", "batch_size", "sample_length"):
        if getattr(config, name) < 1:
            raise ExperimentError(f"--{name.replace('_', '-')} is {getattr(config, name)}; expected at least 1")
    if not 0 < config.validation_share < 1:
        raise ExperimentError(f"--validation-share is {config.validation_share}; expected a fraction in (0, 1)")
    if not 0 <= config.dropout < 1:
        raise ExperimentError(f"--dropout is {config.dropout}; expected a rate in [0, 1)")
    if not config.temperature > 0:
        raise ExperimentError(f"--temperature is {config.temperature}; expected a number above 0")
    if config.cell == "transformer" and config.features % (2 * config.heads):
        raise ExperimentError(
            f"--features is {config.features} and --heads {config.heads}; expected an even number of features per head"
        )
    if config.prompt == "":
        raise ExperimentError("--prompt is empty; expected at least one character of the text")


def prompt_of(config: Config, content: str) -> str:
    return config.prompt or ("\n" if "\n" in content else content[0])


def count(params: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def epoch_bar(label: str, epochs: int) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[numbers]}"), TimeElapsedColumn())
    progress = Progress(*columns, console=console)
    progress.add_task(label, total=epochs, numbers="")
    return progress


def in_bits(nats: Any) -> Any:
    return nats / math.log(2)


def in_nats(bits: Any) -> Any:
    return bits * math.log(2)


def curve(history: Mapping[str, Sequence[float]], pairs: float, title: str) -> Figure:
    """Draw training and held-out loss by epoch, in nats (left) and bits (right), and the loss of counting pairs."""
    figure = Figure(figsize=(plots.WIDTH, 4.2), layout="constrained")
    ax = figure.subplots()
    for i, (name, label) in enumerate((("cost", "training"), ("nats", "held out"))):
        look: dict[str, Any] = plots.style(i)
        ax.plot(history["epoch"], history[name], label=label, markersize=3, **look | {"marker": "o"})
    last = history["epoch"][-1], history["nats"][-1]
    ax.annotate(f"{last[1]:.3f}", last, (0, 6), textcoords="offset points", ha="center")
    ax.axhline(pairs, color="0.4", linewidth=1, linestyle=":", label=f"counting pairs: {pairs:.2f}")
    ax.set(xlabel="epoch", ylabel="nats per character", title=title)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    bits = ax.secondary_yaxis("right", functions=(in_bits, in_nats))
    bits.set_ylabel("bits per character")
    plots.tidy(ax)
    ax.legend(frameon=False)
    return figure
