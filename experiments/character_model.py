"""The network of the experiment ``characters``, an epoch of its training, its held-out loss, and its samples."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

import fnnet
from experiments import streaming
from experiments.streaming import Carries
from fnnet.types import Array, Layer, Params

Cell = Literal["rnn", "gru", "lstm", "transformer"]
LOSS = fnnet.losses.softmax_cross_entropy
CELLS: dict[str, Callable[[int], fnnet.layers.cells.Cell]] = {
    "rnn": fnnet.RNNCell,
    "gru": fnnet.GRUCell,
    "lstm": fnnet.LSTMCell,
}


def network(
    cell: Cell, characters: int, features: int, layers: int, *, heads: int = 1, dropout: float = 0.0
) -> fnnet.Sequential:
    """Return a network that maps tokens ``(N, T)`` to scores before the softmax, ``(N, T, characters)``.

    A token is the index of a character in the alphabet. ``heads`` counts the heads of the transformer, which encodes
    positions as rotations (``rotary``).
    """
    stack: list[Layer] = []
    if cell == "transformer":
        options: dict[str, Any] = {"causal": True, "rotary": True, "dropout": dropout}
        stack = [*(fnnet.transformer_block(heads, features, **options) for _ in range(layers)), fnnet.LayerNorm()]
    else:
        for _ in range(layers):
            stack += [fnnet.Recurrent(CELLS[cell](features)), *((fnnet.Dropout(dropout),) if dropout else ())]
    return fnnet.sequential(fnnet.Embedding(characters, features), *stack, fnnet.Dense(characters))


def train_epoch(
    model: fnnet.Sequential,
    optimizer: fnnet.Optimizer,
    *,
    streams: int,
    length: int,
    engine: streaming.Engine = "hand",
) -> Callable[[fnnet.TrainState, Array], tuple[fnnet.TrainState, Array]]:
    """Return the pure function ``epoch(state, tokens) -> (state, cost)``, which reads the text once.

    The text is cut into ``streams`` that are read side by side in consecutive segments of ``length``. The carries of
    the recurrent layers are zero at the start and continue from segment to segment. Fewer than ``streams · length``
    characters are left over; they are left out at the two ends of the text, divided at random in every epoch, so that
    the cuts move.
    """
    value_and_grad = streaming.value_and_grad(model, LOSS, engine)

    def step(carry: tuple[fnnet.TrainState, Carries], batch: tuple[Array, Array]) -> Any:
        state, carries = carry
        (cost, carries), grads = value_and_grad(state.params, batch, carries, state.network_key())
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = fnnet.apply_updates(state.params, updates)
        return (fnnet.TrainState(params, opt_state, state.step + 1, state.key), carries), cost

    def epoch(state: fnnet.TrainState, tokens: Array) -> tuple[fnnet.TrainState, Array]:
        segments = segments_in(len(tokens), streams, length)
        used = segments * streams * length
        start = jax.random.randint(state.order_key(), (), 0, len(tokens) - used)

        def arranged(start: Array) -> Array:
            text = jax.lax.dynamic_slice(tokens, (start,), (used,))
            return text.reshape(streams, segments, length).swapaxes(0, 1)

        begin = (state, streaming.initial_carries(model, streams))
        (state, _), costs = jax.lax.scan(step, begin, (arranged(start), arranged(start + 1)))
        return state, costs.mean()

    return epoch


def segments_in(characters: int, streams: int, length: int) -> int:
    """Return the number of segments of each stream, which is the number of updates of an epoch.

    Every character of a segment has a next one to predict, so one character of the text is not an input.
    """
    return (characters - 1) // (streams * length)


def held_out_loss(model: fnnet.Sequential) -> Callable[[Params, tuple[Array, Array, Array]], Array]:
    """Return ``loss(params, (x, y, counts)) -> nats per character`` for the rows of ``text.in_rows``.

    It is the mean over all characters for which ``counts`` is True. The rows are read side by side, each from zero
    carries.
    """

    def loss(params: Params, rows: tuple[Array, Array, Array]) -> Array:
        def segment(carries: Carries, batch: tuple[Array, Array, Array]) -> tuple[Carries, Array]:
            x, y, counts = batch
            scores, carries = streaming.scan(model, params, x, carries)
            return carries, jnp.where(counts, LOSS(scores, y), 0).sum()

        _, sums = jax.lax.scan(segment, streaming.initial_carries(model, rows[0].shape[1]), rows)
        total = sums.sum()
        return total / rows[2].sum().astype(total.dtype)

    return loss


@partial(jax.jit, static_argnums=(0, 4), static_argnames="window")
def sample(
    model: fnnet.Sequential,
    params: Params,
    key: Array,
    prompt: Array,
    characters: int,
    temperature: float | Array = 1.0,
    *,
    window: int,
) -> Array:
    """Return ``(characters,)`` tokens that continue a prompt, drawn one by one from ``softmax(scores / temperature)``.

    A temperature below 1 favors likely characters. Everything is one scan: recurrent layers continue from their
    carries, and a model without recurrent layers reads the last ``window`` tokens again for each new one.
    """
    draw = partial(drawn, temperature=temperature)
    keys = jax.random.split(key, characters)
    if any(map(streaming.goes_on, model.layers)):
        scores, carries = streaming.scan(model, params, prompt[None], streaming.initial_carries(model, 1))

        def go_on(state: tuple[Array, Carries], key: Array) -> tuple[tuple[Array, Carries], Array]:
            scores, carries = state
            token = draw(key, scores)
            after, carries = streaming.scan(model, params, token[None, None], carries)
            return (after[0, -1], carries), token

        _, tokens = jax.lax.scan(go_on, (scores[0, -1], carries), keys)
        return tokens

    def read_again(state: tuple[Array, Array], key: Array) -> tuple[tuple[Array, Array], Array]:
        seen, count = state  # seen (window,) holds ``count`` tokens; the causal model ignores what follows them
        scores = model.apply(params, seen[None])[0, count - 1]
        token = draw(key, scores)
        full = count == window
        seen = jnp.where(full, jnp.roll(seen, -1), seen).at[jnp.minimum(count, window - 1)].set(token)
        return (seen, jnp.minimum(count + 1, window)), token

    prompt = prompt[-window:]
    seen = jnp.zeros(window, prompt.dtype).at[: len(prompt)].set(prompt)
    _, tokens = jax.lax.scan(read_again, (seen, jnp.asarray(len(prompt))), keys)
    return tokens


def drawn(key: Array, scores: Array, temperature: float | Array) -> Array:
    return jax.random.categorical(key, scores / temperature).astype(jnp.int32)
