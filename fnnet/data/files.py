"""Readers of files of numbers: IDX, the format of MNIST, NPZ, the format of NumPy, and CSV."""

from __future__ import annotations

import csv
import gzip
import math
import zipfile
import zlib
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from fnnet import checks

NumpyArray = np.ndarray[Any, Any]

IDX_DTYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}  # by type code
LONGEST_HEAD = 4 + 4 * 255
NOT_READABLE = (FileNotFoundError, PermissionError, IsADirectoryError)  # a new copy of the file would not help


def read_idx(path: str | PathLike[str], *, mmap: bool = False) -> NumpyArray:
    """Return the array in an IDX file, which is decompressed if its name ends in ``.gz``.

    The file consists of two zero bytes, a type code (8: uint8, 9: int8, 11: int16, 12: int32, 13: float32,
    14: float64), the number of axes, their lengths as int32, and the entries. All numbers are big-endian. With
    ``mmap=True`` the entries of an uncompressed file stay on disk, and ``from_arrays`` reads the rows that it needs.

    Source: LeCun, Cortes and Burges, "The MNIST database".
    """
    path = Path(path)
    compressed = path.suffix == ".gz"
    checks.require(not (mmap and compressed), f"data.read_idx: {path} is compressed; unpack it for mmap=True")
    try:
        with gzip.open(path) if compressed else path.open("rb") as file:
            content = file.read(LONGEST_HEAD if mmap else -1)
    except NOT_READABLE:
        raise
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"data.read_idx: cannot read {path}: {error}; get the file again") from error
    size = path.stat().st_size if mmap else len(content)
    known = len(content) >= 4 and content[:2] == b"\0\0" and content[2] in IDX_DTYPES
    dtype, axes = (np.dtype(IDX_DTYPES[content[2]]), content[3]) if known else (np.dtype("u1"), 0)
    start = 4 + 4 * axes
    shape = tuple(np.frombuffer(content, ">i4", axes, 4).tolist()) if len(content) >= start else ()
    if not axes or size != start + math.prod(shape) * dtype.itemsize:
        raise ValueError(f"data.read_idx: {path} is not a complete IDX file; get the file again")
    if mmap:
        return np.memmap(path, dtype, "r", start, shape)
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def read_npz(path: str | PathLike[str], x: str = "x", y: str = "y") -> tuple[NumpyArray, NumpyArray]:
    """Return the arrays with the names ``x`` and ``y`` in an NPZ file, as ``np.savez(path, x=..., y=...)`` writes it.

    Arrays of Python objects raise a ``ValueError``, because to read them is to run code from the file.
    """
    try:
        with Path(path).open("rb") as opened:  # NumPy would leave a damaged file open
            file = np.load(opened, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it has a single array; read it with np.load")
            missing = [name for name in (x, y) if name not in file]
            if missing:
                raise ValueError(f"it has no array {missing[0]!r}, only {sorted(file)}; pass x= and y=")
            pair = file[x], file[y]
    except NOT_READABLE:
        raise
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"data.read_npz: cannot read {path}: {error}") from error
    checks.require(
        pair[0].ndim > 0 and pair[1].ndim > 0 and len(pair[0]) == len(pair[1]) > 0,
        f"data.read_npz: {path} has {x!r} of shape {pair[0].shape} and {y!r} of shape {pair[1].shape}; expected the "
        f"same number of examples, at least one, on the first axis of both",
    )
    return pair


def read_csv(
    path: str | PathLike[str], target: str | int = -1, *, delimiter: str = ",", labels: bool = False
) -> tuple[NumpyArray, NumpyArray]:
    """Return ``x (N, D)`` and ``y (N, 1)``, both float32, from a CSV file of numbers.

    With ``labels=True``, ``y`` has shape ``(N,)`` and dtype int32. The first line is a header if none of its entries is
    a number. ``target`` is the column of ``y``, given by its name in the header or by its number; the other columns are
    ``x`` in their order. A line with a different number of entries and an entry that is not a finite number raise a
    ``ValueError`` that names the line.
    """
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter=delimiter)
        rows = [(reader.line_num, row) for row in reader if any(entry.strip() for entry in row)]
    checks.require(bool(rows), f"data.read_csv: {path} is empty")
    first = rows[0][1]
    header = [name.strip() for name in rows.pop(0)[1]] if all(number(entry) is None for entry in first) else []
    checks.require(bool(rows), f"data.read_csv: {path} has a header but no lines of numbers")
    width = len(first)
    if isinstance(target, str):
        checks.require(target in header, f"data.read_csv: {path} has no column {target!r}; its header is {header}")
        target = header.index(target)
    checks.require(-width <= target < width, f"data.read_csv: target is column {target} but {path} has {width} columns")
    values = np.empty((len(rows), width))
    for i, (line, row) in enumerate(rows):
        if len(row) != width:
            raise ValueError(f"data.read_csv: line {line} of {path} has {len(row)} entries; expected {width}")
        for j, entry in enumerate(row):
            value = number(entry)
            if value is None or not math.isfinite(value):
                raise ValueError(
                    f"data.read_csv: line {line} of {path} has {entry!r} in column {header[j] if header else j}; "
                    f"expected a finite number: fill it in, or turn categories into numbers"
                )
            values[i, j] = value
    x, y = np.delete(values, target, axis=1).astype(np.float32), values[:, target]
    if not labels:
        return x, y.astype(np.float32)[:, None]
    whole = y.astype(np.int32)
    checks.require(bool((whole == y).all()), f"data.read_csv: the labels of {path} are not whole numbers")
    return x, whole


def number(entry: str) -> float | None:
    """Return the number in an entry, or None if there is no number."""
    try:
        return float(entry)
    except ValueError:
        return None
