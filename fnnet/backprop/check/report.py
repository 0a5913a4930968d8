"""The report of the checker."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class GradientRow:
    """One tensor: the gradient under test ``m`` and the reference ``a``, which is autodiff's in float64."""

    path: str
    shape: tuple[int, ...]
    absolute: float  # max |m − a|
    relative: float  # max |m − a| / max |a|
    cosine: float  # m · a / (‖m‖ ‖a‖)
    ok: bool
    note: str = ""  # what is wrong, and the likely fault
    ulps: float | None = None  # max |m − a| in units in the last place of max |a|, in low precision
    differences: float | None = None  # largest relative error against a central difference; None without one
    kinks: int = 0  # central differences across a kink, which say nothing


@dataclass(frozen=True)
class GradientReport:
    """The rows of a check, one per tensor. ``report.ok`` is True if all rows are; ``str(report)`` is a table."""

    rows: tuple[GradientRow, ...]
    tolerance: float | None
    precision: str = "float64"
    compared: str = "by hand against autodiff"

    @property
    def ok(self) -> bool:
        return all(row.ok for row in self.rows)

    @property
    def worst(self) -> float:
        """The largest relative error of all tensors."""
        return max((row.relative for row in self.rows), key=lambda r: math.inf if math.isnan(r) else r)

    def __str__(self) -> str:
        columns = {
            "tensor": [row.path for row in self.rows],
            "shape": ["×".join(map(str, row.shape)) or "scalar" for row in self.rows],
            "max abs error": [f"{row.absolute:.2e}" for row in self.rows],
            "max rel error": [f"{row.relative:.2e}" for row in self.rows],
            "ulps": ["" if row.ulps is None else f"{row.ulps:.1f}" for row in self.rows],
            "cosine": [f"{row.cosine:.6f}" for row in self.rows],
            "differences": [shown_differences(row) for row in self.rows],
            "": ["ok" if row.ok else "DIFFERS" for row in self.rows],
        }
        columns = {name: cells for name, cells in columns.items() if any(cells)}
        lines = [list(columns), *map(list, zip(*columns.values(), strict=True))]
        widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
        table = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
        notes = [f"{row.path}: {row.note}" for row in self.rows if row.note]
        wrong = [row.path for row in self.rows if not row.ok]
        verdict = f"differ: {', '.join(wrong)}" if wrong else "all agree"
        limit = "" if self.tolerance is None else f", relative tolerance {self.tolerance:g}"
        return "\n".join([*table, *notes, f"{verdict} ({self.compared}, {self.precision}{limit})"])


def shown_differences(row: GradientRow) -> str:
    if row.differences is None:
        return f"{row.kinks} at kinks" if row.kinks else ""
    return f"{row.differences:.0e}" + (f", {row.kinks} at kinks" if row.kinks else "")
