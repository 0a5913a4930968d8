"""Checksums of the files in a folder, which show whether they are still what was written."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

NAME = "sums.json"  # in the same folder
CHUNK = 1 << 20  # bytes


def write_sums(folder: Path) -> None:
    """Write the size and CRC-32 of every file to a file of its own, which appears complete or not at all."""
    sums = {str(path.relative_to(folder)): sum_of(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    part = folder / f".{NAME}.part"
    part.write_text(json.dumps(sums, indent=1))
    part.replace(folder / NAME)


def damaged_files(folder: Path) -> list[str]:
    """Return the files that are not as they were when the sums were written; none if no sums were written."""
    if not (folder / NAME).exists():
        return []
    try:
        sums = json.loads((folder / NAME).read_text())
        return [name for name, saved in sums.items() if not (folder / name).is_file() or sum_of(folder / name) != saved]
    except (ValueError, AttributeError):
        return [NAME]


def sum_of(path: Path) -> list[int]:
    size, crc = 0, 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            size, crc = size + len(chunk), zlib.crc32(chunk, crc)
    return [size, crc]
