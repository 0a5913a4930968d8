"""Sums of the files in a folder, to tell whether they are still what was written."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

NAME = "sums.json"  # beside the files that it is about
CHUNK = 1 << 20  # bytes


def write_sums(folder: Path) -> None:
    """Size and CRC-32 of every file, in a file of its own that appears whole or not at all."""
    sums = {str(path.relative_to(folder)): sum_of(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    part = folder / f".{NAME}.part"
    part.write_text(json.dumps(sums, indent=1))
    part.replace(folder / NAME)


def damaged_files(folder: Path) -> list[str]:
    """What is not as it was when the sums were written; nothing if they never were."""
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
