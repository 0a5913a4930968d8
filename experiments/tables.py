"""Tables, on the screen and in a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from rich.table import Table

TableRows: TypeAlias = tuple[Sequence[str], Sequence[Sequence[str]]]  # the columns' heads, and the rows


def rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> Table:
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*row)
    return table


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
