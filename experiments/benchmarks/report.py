"""Show a comparison as a table, and write it as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from experiments.benchmarks.harness import Comparison, Result, ratio


def table(title: str, comparison: Comparison, reference: str, value: str) -> Table:
    """Return a table with one row per contender.

    The columns are the median, least and largest seconds of a round, the ``ratio`` to the rounds of ``reference``, the
    seconds of the first round, the peak memory of the process, and the number that ``value`` names.
    """
    skipped = Text("\n".join(f"{name} skipped: {reason}" for name, reason in comparison.skipped.items()))
    columns = ("", "seconds", "min", "max", "ratio", "first", "peak MiB", value)
    rows = Table(*columns, title=f"{title}; ratio to {reference}", caption=skipped, box=box.SIMPLE_HEAD, pad_edge=False)
    rows.title_justify = rows.caption_justify = "left"
    for column in rows.columns[1:]:
        column.justify = "right"
    for name, result in comparison.results.items():
        times = (f"{seconds:.3f}" for seconds in (median(result.seconds), min(result.seconds), max(result.seconds)))
        against = relative(result, comparison, reference)
        rows.add_row(
            name,
            *times,
            "" if against is None else f"{against:.2f}",
            f"{result.first_seconds:.3f}",
            f"{result.peak_mib:.0f}",
            f"{result.value:.4f}",
        )
    return rows


def relative(result: Result, comparison: Comparison, reference: str) -> float | None:
    """Return the result's ``ratio`` to that of ``reference``, or None if the reference did not take part."""
    return ratio(result, comparison.results[reference]) if reference in comparison.results else None


def as_json(comparison: Comparison, reference: str) -> dict[str, Any]:
    """Return all numbers of a comparison in a form that ``write_json`` can write."""
    results = {
        name: asdict(result) | {"ratio": relative(result, comparison, reference)}
        for name, result in comparison.results.items()
    }
    return {"reference": reference, "results": results, "skipped": comparison.skipped}


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
