"""One function per contender of ``recurrent``: the outputs of a layer and all its gradients for given ``dy``.

Each takes the task and returns a round of work, which computes the task ``task.repeats`` times and returns the MiB of
temporary memory that XLA's memory analysis of the compiled program reports (NaN where there is none). Each library
starts from its own initial parameters and has the arrays in its fastest order of axes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

from experiments.benchmarks.compiled import compiled
from experiments.benchmarks.harness import Factory, Work
from experiments.benchmarks.recurrent_task import HEAD, Task

Apply = Callable[[Any, Any], Any]  # (params, x) -> y


def fnnet_manual(task: Task) -> Work:
    """fnnet's layer with its rule, backpropagation through time for recurrences: ``fnnet.backprop.vjp``."""
    return by_hand(task, fnnet_layer(task))


def fnnet_rematerialized(task: Task) -> Work:
    """The same with the memory of a few segments: ``fnnet.Rematerialized``."""
    import fnnet

    return by_hand(task, fnnet.Rematerialized(fnnet_layer(task)))


def by_hand(task: Task, layer: Any) -> Work:
    import fnnet

    def both(params: Any, x: Any, dy: Any) -> Any:
        y, pullback = fnnet.backprop.vjp(layer, params, x)
        return y, pullback(dy)

    return from_init(task, layer.init, both)


def fnnet_autodiff(task: Task) -> Work:
    """fnnet's layer under ``jax.vjp``."""
    layer = fnnet_layer(task)
    return from_init(task, layer.init, by_autodiff(layer.apply))


def plain_autodiff(task: Task) -> Work:
    """``jax.vjp`` of the equations as a textbook has them, with fnnet's parameters."""
    return from_init(task, fnnet_layer(task).init, by_autodiff(textbook(task)))


def flax(task: Task) -> Work:
    """``jax.vjp`` of flax's ``nn.RNN`` of its fastest cell of the kind, or of its attention."""
    from flax import linen as nn

    cells: dict[str, Any] = {"rnn": nn.SimpleCell, "gru": nn.GRUCell, "lstm": nn.OptimizedLSTMCell}
    if task.kind == "attention":
        layer: Any = nn.MultiHeadDotProductAttention(task.features // HEAD)
    else:
        layer = nn.RNN(cells[task.kind](task.features))
    return from_init(task, layer.init, by_autodiff(layer.apply))


def fnnet_layer(task: Task) -> Any:
    import fnnet

    if task.kind == "attention":
        return fnnet.MultiHeadAttention(task.features // HEAD)
    cells: dict[str, Any] = {"rnn": fnnet.RNNCell, "gru": fnnet.GRUCell, "lstm": fnnet.LSTMCell}
    return fnnet.Recurrent(cells[task.kind](task.features))


def textbook(task: Task) -> Apply:
    return textbook_attention if task.kind == "attention" else textbook_recurrence(task)


def textbook_attention(params: Any, x: Any) -> Any:
    """Compute attention with all scores at once."""
    import jax
    import jax.numpy as jnp

    flat = x @ params["w_q"] + params["b_q"], x @ params["w_k"], x @ params["w_v"] + params["b_v"]
    q, k, v = (a.reshape(*a.shape[:2], -1, HEAD) for a in flat)
    p = jax.nn.softmax(jnp.einsum("nihd,njhd->nhij", q, k) / math.sqrt(HEAD), axis=-1)
    o = jnp.einsum("nhij,njhd->nihd", p, v)
    return o.reshape(*x.shape[:2], -1) @ params["w_o"] + params["b_o"]


def textbook_recurrence(task: Task) -> Apply:
    """Return the recurrence as a textbook writes it: both products are inside the step of a ``lax.scan``."""
    import jax
    import jax.numpy as jnp
    from jax.nn import sigmoid
    from jax.numpy import tanh

    def rnn(p: Any, h: Any, x: Any) -> Any:
        h = tanh(x @ p["w_x"] + h @ p["w_h"] + p["b"])
        return h, h

    def gru(p: Any, h: Any, x: Any) -> Any:
        z_r, z_u, z_n = jnp.split(x @ p["w_x"] + p["b"], 3, -1)
        a_r, a_u, a_n = jnp.split(h @ p["w_h"], 3, -1)
        r, u = sigmoid(z_r + a_r), sigmoid(z_u + a_u)
        h = u * h + (1 - u) * tanh(z_n + r * (a_n + p["b_h"]))
        return h, h

    def lstm(p: Any, carry: Any, x: Any) -> Any:
        h, c = carry
        i, f, g, o = jnp.split(x @ p["w_x"] + h @ p["w_h"] + p["b"], 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        return (h, c), h

    step = {"rnn": rnn, "gru": gru, "lstm": lstm}[task.kind]

    def apply(params: Any, x: Any) -> Any:
        zeros = jnp.zeros((task.examples, task.features))
        start = (zeros, zeros) if task.kind == "lstm" else zeros
        _, ys = jax.lax.scan(lambda carry, x: step(params, carry, x), start, jnp.swapaxes(x, 0, 1))
        return jnp.swapaxes(ys, 0, 1)

    return apply


def by_autodiff(apply: Apply) -> Callable[[Any, Any, Any], Any]:
    import jax

    def both(params: Any, x: Any, dy: Any) -> Any:
        y, pullback = jax.vjp(apply, params, x)
        return y, pullback(dy)

    return both


def from_init(task: Task, init: Callable[[Any, Any], Any], both: Callable[[Any, Any, Any], Any]) -> Work:
    """Return the work with the library's own initial parameters."""
    import jax
    import jax.numpy as jnp

    x, dy = map(jnp.asarray, task.arrays())
    return compiled(both, (init(jax.random.key(0), x), x, dy), task.repeats)


def pytorch(task: Task) -> Work:
    """PyTorch's ``nn.RNN``, ``nn.GRU``, ``nn.LSTM``, the time steps first, or ``nn.MultiheadAttention``."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(os.cpu_count() or 1)
    x, dy = (torch.from_numpy(a).to(device) for a in task.arrays())
    if task.kind == "attention":
        attention = torch.nn.MultiheadAttention(task.features, task.features // HEAD, batch_first=True)
        layer, arguments = attention.to(device), {"need_weights": False}
    else:
        kinds: dict[str, Any] = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}
        layer, arguments = kinds[task.kind](task.inputs, task.features).to(device), {}
        x, dy = (a.movedim(1, 0).contiguous() for a in (x, dy))
    x.requires_grad_()
    sources = (x, *layer.parameters())

    def work() -> float:
        for _ in range(task.repeats):
            y, _ = layer(*((x, x, x) if task.kind == "attention" else (x,)), **arguments)
            torch.autograd.grad(y, sources, dy)
        if device == "cuda":
            torch.cuda.synchronize()
        return math.nan

    return work


RECURRENT_ONLY = {"fnnet-rematerialized"}
CONTENDERS: dict[str, Factory] = {
    "fnnet-manual": fnnet_manual,
    "fnnet-rematerialized": fnnet_rematerialized,
    "fnnet-autodiff": fnnet_autodiff,
    "plain": plain_autodiff,
    "flax": flax,
    "pytorch": pytorch,
}
