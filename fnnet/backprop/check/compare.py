"""The comparison of two gradients of the same tensors."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from fnnet.backprop.check.report import GradientRow
from fnnet.types import DType

Tensor = np.ndarray[Any, Any]
NAN = float("nan")
ZERO = "0 up to rounding"


def compare_trees(by_hand: Any, reference: Any, tolerance: float, rounding: float = 0.0) -> tuple[GradientRow, ...]:
    """Return a row for each tensor of either side, matched by name.

    A row is right if ``max |m − a| ≤ tolerance · max |a|``, or if ``max |m − a| ≤ rounding``: a gradient that is zero
    on paper, as that of a bias which a softmax ignores, comes out as the rounding errors of larger numbers, and two
    such gradients have nothing in common. Both sides are lists of ``(name, tensor)``, as from
    ``fnnet.paths.named_leaves``.
    """
    rows = []
    for path, m, a, note in pairs(by_hand, reference):
        if note:
            rows.append(GradientRow(path, np.shape(m if a is None else a), NAN, NAN, NAN, False, note))
        else:
            absolute, relative, cosine = errors(m, a)
            ok = bool(relative <= tolerance)
            zero = not ok and absolute <= rounding
            rows.append(GradientRow(path, a.shape, absolute, relative, cosine, ok or zero, ZERO if zero else ""))
    return tuple(rows)


def pairs(by_hand: Any, reference: Any) -> list[tuple[str, Any, Any, str]]:
    """Return ``(name, m, a, note)`` in float64; the note says why the two cannot be compared."""
    hand = dict(by_hand)
    rows: list[tuple[str, Any, Any, str]] = []
    for path, a in reference:
        a = as_float64(a)
        m = hand.pop(path, None)
        if m is None:
            rows.append((path, None, a, "missing by hand"))
            continue
        m = as_float64(m)
        transposed = m.T.shape == a.shape and np.allclose(m.T, a)
        shape_note = f"by hand of shape {m.shape}" + (", the transpose" if transposed else "")
        rows.append((path, m, a, "" if m.shape == a.shape else shape_note))
    return rows + [(path, as_float64(m), None, "autodiff has no such tensor") for path, m in hand.items()]


def errors(m: Tensor, a: Tensor) -> tuple[float, float, float]:
    """Return ``max |m − a|``, its ratio to ``max |a|``, and the cosine of the angle between ``m`` and ``a``."""
    absolute = float(deviation(m, a).max(initial=0.0))
    scale = largest(a)
    relative = absolute if absolute == 0 else (absolute / scale if scale > 0 else float("inf"))
    return absolute, relative, cosine_of(m, a, same=absolute == 0)


def largest(a: Tensor) -> float:
    """Return the largest finite ``|a|``; with an infinity as the scale every error would pass."""
    return float(np.abs(a[np.isfinite(a)]).max(initial=0.0))


def deviation(m: Tensor, a: Tensor) -> Tensor:
    """Return ``|m − a|`` entry by entry; equal infinities differ by 0, not by NaN."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(m == a, 0.0, np.abs(m - a)))


def cosine_of(m: Tensor, a: Tensor, *, same: bool) -> float:
    m_scale, a_scale = np.abs(m).max(initial=0.0), np.abs(a).max(initial=0.0)
    if not (0 < m_scale < np.inf and 0 < a_scale < np.inf):  # also where either is NaN
        return 1.0 if same else 0.0
    m, a = m / m_scale, a / a_scale
    return float(np.vdot(m, a) / (np.linalg.norm(m) * np.linalg.norm(a)))


def ulps(absolute: float, a: Tensor, dtype: DType) -> float:
    """Return ``absolute`` in units in the last place of the largest entry of ``a``, in ``dtype``."""
    info = jnp.finfo(dtype)
    scale = max(largest(a), float(info.tiny))
    return absolute / (float(info.eps) * 2.0 ** np.floor(np.log2(scale)))


def as_float64(tensor: Any) -> Tensor:
    return np.asarray(tensor).astype(np.float64)
