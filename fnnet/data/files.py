"""Readers of files of numbers: IDX, the format of MNIST, NPZ, the format of NumPy, and CSV."""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from fnnet import checks

NumpyArray = np.ndarray[Any, Any]

IDX_DTYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}  # by type code
LONGEST_HEAD = 4 + 4 * 255


@contextmanager
def explained(place: str, path: Path) -> Iterator[None]:
    """Raise a ``ValueError`` that names a file which cannot be read; a file that is not there raises what it raises."""
    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except Exception as error:  # a decoder of a damaged file raises anything
        hint = "" if isinstance(error, ValueError) else "; get the file again"
        raise ValueError(f"{place}: cannot read {path}: {error}{hint}") from error


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
    with explained("data.read_idx", path):
        with gzip.open(path) if compressed else path.open("rb") as file:
            content = file.read(LONGEST_HEAD if mmap else -1)
        known = len(content) >= 4 and content[:2] == b"\0\0" and content[2] in IDX_DTYPES and content[3] > 0
        checks.require(known, "it does not begin as an IDX file; get the file again")
        dtype, axes = np.dtype(IDX_DTYPES[content[2]]), content[3]
        shape, start = tuple(np.frombuffer(content, ">i4", axes, 4).tolist()), 4 + 4 * axes
        size = path.stat().st_size if mmap else len(content)
        complete = size == start + math.prod(shape) * dtype.itemsize
        checks.require(complete, "it is not a complete IDX file; get the file again")
        if mmap:
            return np.memmap(path, dtype, "r", start, shape)
        return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def read_npz(path: str | PathLike[str], x: str = "x", y: str = "y") -> tuple[NumpyArray, NumpyArray]:
    """Return the arrays with the names ``x`` and ``y`` in an NPZ file, as ``np.savez(path, x=..., y=...)`` writes it.

    Arrays of Python objects raise a ``ValueError``, because to read them is to run code from the file.
    """
    path = Path(path)
    with explained("data.read_npz", path), path.open("rb") as opened:  # NumPy would leave a damaged file open
        file = np.load(opened, allow_pickle=False)
        checks.require(isinstance(file, np.lib.npyio.NpzFile), "it has a single array; read it with np.load")
        for name in (x, y):
            checks.require(name in file, f"it has no array {name!r}, only {sorted(file)}; pass x= and y=")
        pair = file[x], file[y]
        shapes = f"it has {x!r} of shape {pair[0].shape} and {y!r} of shape {pair[1].shape}"
        same = pair[0].ndim > 0 and pair[1].ndim > 0 and len(pair[0]) == len(pair[1]) > 0
        checks.require(same, f"{shapes}; expected the same number of examples, at least one, on the first axis of both")
        return pair


def read_csv(
    path: str | PathLike[str],
    target: str | int = -1,
    *,
    delimiter: str = ",",
    labels: bool = False,
    header: bool | None = None,
) -> tuple[NumpyArray, NumpyArray]:
    """Return ``x (N, D)`` and ``y (N, 1)``, both float32, from a CSV file of numbers.

    With ``labels=True``, ``y`` has shape ``(N,)`` and dtype int32. ``target`` is the column of ``y``, given by its name
    in the header or by its number; the other columns are ``x`` in their order.

    ``header`` says whether the first line has the names of the columns. Without it the line is a header if each entry
    is a word or the number of its own column, from 0 on, such as ``0,1,target``; a first line ``0,1,2``, which may be
    either, raises an error. A line with a different number of entries and an entry that is not a finite number in
    float32 raise a ``ValueError`` that names the line.
    """
    place = f"data.read_csv: {path}"
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter=delimiter)
        try:
            rows = [(reader.line_num, row) for row in reader if any(entry.strip() for entry in row)]
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{place} cannot be read: {error}; expected lines of numbers, saved as UTF-8") from error
    checks.require(bool(rows), f"{place} is empty")
    columns = [entry.strip() for entry in rows[0][1]]
    numbers = [str(j) for j in range(len(columns))]
    if header is None:
        either = f"{place} begins with {','.join(numbers)}: names of columns, or an example? Pass header=True or False"
        checks.require(columns != numbers, either)
        header = all(name == j or (name and number(name) is None) for name, j in zip(columns, numbers, strict=True))
    rows = rows[int(header) :]
    checks.require(bool(rows), f"{place} has a header but no lines of numbers")
    if isinstance(target, str):
        checks.require(header and target in columns, f"{place} has no column {target!r}; its first line is {columns}")
        alike = columns.count(target)
        checks.require(alike == 1, f"{place} has {alike} columns named {target!r}; give the number of one, from 0")
        target = columns.index(target)
    width = len(columns)
    checks.require(-width <= target < width, f"{place}: target is column {target} but there are {width} columns")
    values = np.empty((len(rows), width))
    for i, (line, row) in enumerate(rows):
        checks.require(len(row) == width, f"{place}: line {line} has {len(row)} entries; expected {width}")
        values[i] = [number(entry) for entry in row]  # None becomes NaN
    with np.errstate(over="ignore", invalid="ignore"):
        single, whole = values.astype(np.float32), values[:, target].astype(np.int32)
    for i, j in np.argwhere(~np.isfinite(single))[:1]:
        raise ValueError(
            f"{place}: line {rows[i][0]} has {rows[i][1][j]!r} in column {columns[j] if header else j}; expected a "
            f"finite number in float32: fill it in, turn categories into numbers, or pass header=True if it is a header"
        )
    x = np.delete(single, target, axis=1)
    if not labels:
        return x, single[:, target, None]
    checks.require(bool((whole == values[:, target]).all()), f"{place}: the labels are not whole numbers in int32")
    return x, whole


def number(entry: str) -> float | None:
    """Return the number in an entry, or None if there is none.

    It is NaN for what only Python takes for a number, ``1_000`` and digits of other scripts.
    """
    try:
        value = float(entry)
    except ValueError:
        return None
    return value if entry.strip().isascii() and "_" not in entry else math.nan
