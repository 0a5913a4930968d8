"""Compiled programs of the diagnosis, which equal runs share."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax

from fnnet.cpu.compilation import quick_options

KEPT = 32  # programs


def compiled(function: Callable[..., Any], *static: Any) -> Callable[..., Any]:
    """Return ``function(*static, ...)``, compiled, as a function of the other arguments.

    Calls with equal ``static`` arguments share a program; a model of the user's own that has no hash gets its own. The
    last few programs are kept. Under ``jax.disable_jit`` it stays compiled, because whoever steps through a run does
    not mean to step through what looks at it.
    """
    try:
        program = kept(function, *static)
    except TypeError:  # something has no hash
        program = new(function, *static)
    return jax.disable_jit(False)(program)


def new(function: Callable[..., Any], *static: Any) -> Callable[..., Any]:
    return jax.jit(partial(function, *static), compiler_options=quick_options())


kept = lru_cache(KEPT)(new)
