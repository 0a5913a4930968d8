"""The likely fault behind a wrong gradient."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from fnnet.backprop.check.compare import Tensor, deviation, largest
from fnnet.backprop.check.problem import Problem, name_params
from fnnet.cost import Cost

CLOSE = 1e-6  # relative: two tensors that agree to this count as equal


def diagnose(problem: Problem, name: str, m: Tensor, a: Tensor) -> str:
    """Return what is wrong with ``m`` where ``a`` is right: the entry, by how much, and the likely fault."""
    off = deviation(m, a)
    wrong = ~(off <= CLOSE * largest(a))
    if not wrong.any():
        wrong = ~(off <= off.max(initial=0.0) / 2)
    entry = tuple(int(i) for i in np.unravel_index(int(np.nanargmax(np.where(np.isnan(off), np.inf, off))), a.shape))
    at = f"at {list(entry)} " if entry else ""
    where = f"{at}{m[entry]:.6g} by hand, {a[entry]:.6g} by autodiff"
    return f"{where}: {fault(problem, name, m, a, wrong)}"


def fault(problem: Problem, name: str, m: Tensor, a: Tensor, wrong: Any) -> str:
    if not np.isfinite(m).all():
        return f"{int((~np.isfinite(m)).sum())} entries are NaN or infinite"
    for suspicion in (constant_factor, transpose, of_penalty, forgotten_derivative, some_entries):
        found = suspicion(problem, name, m, a, wrong)
        if found:
            return found
    return "no simple fault fits; look at the formula"


def constant_factor(problem: Problem, name: str, m: Tensor, a: Tensor, wrong: Any) -> str:
    if not a.any():
        return "the gradient is zero" if m.any() else ""
    if not m.any():
        return "it is zero: the term is missing"
    c = float(np.vdot(a, m) / np.vdot(a, a))
    if c == 0 or not agree(m, c * a):
        return ""
    if agree(c, -1.0):
        return "the sign"
    for size, of in sizes(problem):
        for factor, what in ((float(size), "a sum for a mean"), (1 / size, "a mean for a sum, or a mean taken twice")):
            if size > 1 and agree(abs(c), factor):
                sign = " and the sign" if c < 0 else ""
                return f"a factor of {c:.6g}, {'' if factor > 1 else '1 / '}the number of {of}: {what}{sign}"
    return f"a factor of {c:.6g}"


def sizes(problem: Problem) -> list[tuple[int, str]]:
    """Return the numbers by which a mean may have divided by mistake, each with its name."""
    x = problem.data[0] if isinstance(problem.subject, Cost) else problem.data
    shape = np.shape(x) if not isinstance(x, (dict, list, tuple)) else ()
    return [(shape[0], "examples")] if shape else []


def transpose(problem: Problem, name: str, m: Tensor, a: Tensor, wrong: Any) -> str:
    return "the transpose" if a.ndim == 2 and a.shape[0] == a.shape[1] and agree(m, a.T) else ""


def of_penalty(problem: Problem, name: str, m: Tensor, a: Tensor, wrong: Any) -> str:
    if not isinstance(problem.subject, Cost) or problem.subject.penalty is None:
        return ""
    penalty, params = problem.subject.penalty, problem.params
    gradient = dict(name_params(jax.grad(penalty)(params))).get(name)
    everywhere = dict(name_params(params)).get(name)
    if gradient is None or everywhere is None:
        return ""
    gradient, value = np.asarray(gradient), np.asarray(everywhere)
    extra = m - a
    if gradient.any() and is_multiple(extra, gradient):
        c = float(np.vdot(gradient, extra) / np.vdot(gradient, gradient))
        return "the penalty's gradient is missing" if agree(c, -1.0) else f"the penalty counts {1 + c:.6g} times"
    if not gradient.any() and (is_multiple(extra, value) or is_multiple(extra, np.sign(value))):
        return "a penalty on a parameter that it leaves free"
    return ""


def is_multiple(extra: Tensor, of: Tensor) -> bool:
    """Return whether ``extra`` is a multiple of ``of``."""
    if not of.any() or not extra.any():
        return False
    c = float(np.vdot(of, extra) / np.vdot(of, of))
    return agree(extra, c * of)


def forgotten_derivative(problem: Problem, name: str, m: Tensor, a: Tensor, wrong: Any) -> str:
    if not problem.is_layer or name != "x" or m.shape != np.shape(problem.cotangent):
        return ""
    return "dx is dy: the layer's own derivative is forgotten" if agree(m, np.asarray(problem.cotangent)) else ""


def some_entries(problem: Problem, name: str, m: Tensor, a: Tensor, wrong: Any) -> str:
    count = int(wrong.sum())
    if count == a.size:
        return ""
    zero = ", which are zero" if not m[wrong].any() else ""
    return f"{count} of {a.size} entries differ{zero}; the others agree"


def agree(m: Any, a: Any) -> bool:
    scale = float(np.abs(a).max(initial=0.0))
    return bool(np.all(np.abs(np.asarray(m) - a) <= CLOSE * scale))
