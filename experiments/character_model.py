"""A model of the next character: its network, an epoch of its training, its loss on held-out text, samples."""

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
    """Inputs ``(N, T)``, places in the alphabet; outputs ``(N, T, characters)``: scores before the softmax.

    ``heads`` are those of the transformer, whose positions are rotations (``rotary``).
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
    """``epoch(state, tokens) -> (state, cost)``: the text once, cut into streams that are read side by side.

    A pure function. Each of the ``streams`` is read in consecutive pieces of ``length``; the state of the recurrent
    layers goes on from piece to piece, and is zero at the start. What is left over, less than ``streams · length``, is
    left out at both ends, shared between them anew in every epoch: so all cuts move.
    """
    value_and_grad = streaming.value_and_grad(model, LOSS, engine)

    def step(carry: tuple[fnnet.TrainState, Carries], batch: tuple[Array, Array]) -> Any:
        state, carries = carry
        (cost, carries), grads = value_and_grad(state.params, batch, carries, state.network_key())
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = fnnet.apply_updates(state.params, updates)
        return (fnnet.TrainState(params, opt_state, state.step + 1, state.key), carries), cost

    def epoch(state: fnnet.TrainState, tokens: Array) -> tuple[fnnet.TrainState, Array]:
        pieces = pieces_in(len(tokens), streams, length)
        used = pieces * streams * length
        start = jax.random.randint(state.order_key(), (), 0, len(tokens) - used)

        def arranged(start: Array) -> Array:
            text = jax.lax.dynamic_slice(tokens, (start,), (used,))
            return text.reshape(streams, pieces, length).swapaxes(0, 1)

        begin = (state, streaming.initial_carries(model, streams))
        (state, _), costs = jax.lax.scan(step, begin, (arranged(start), arranged(start + 1)))
        return state, costs.mean()

    return epoch


def pieces_in(characters: int, streams: int, length: int) -> int:
    """Updates of an epoch: pieces of each stream, each with a character after it."""
    return (characters - 1) // (streams * length)


def held_out_loss(model: fnnet.Sequential) -> Callable[[Params, tuple[Array, Array, Array]], Array]:
    """``loss(params, (x, y, counts)) -> nats per character``, for the rows of ``text.in_rows``.

    The mean over every character that counts, once each; the rows are read side by side, each from a state of zero.
    """

    def loss(params: Params, rows: tuple[Array, Array, Array]) -> Array:
        def piece(carries: Carries, batch: tuple[Array, Array, Array]) -> tuple[Carries, Array]:
            x, y, counts = batch
            scores, carries = streaming.scan(model, params, x, carries)
            return carries, jnp.where(counts, LOSS(scores, y), 0).sum()

        _, sums = jax.lax.scan(piece, streaming.initial_carries(model, rows[0].shape[1]), rows)
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
    """``(characters,)`` tokens drawn one after the other from ``softmax(scores / temperature)``, after a prompt.

    A temperature below 1 makes the likely likelier. One scan: recurrent layers go on from their state; a model without
    any reads the last ``window`` tokens again for each new one.
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
        seen, count = state  # (window,), the first ``count`` of which are there: what comes later has no influence
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
