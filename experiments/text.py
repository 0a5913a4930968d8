"""Texts as sequences of characters, and the loss of a simple model for comparison."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.cli import ExperimentError

Tokens = np.ndarray[Any, Any]  # (n,) int32, the indices of characters in an alphabet
SHAKESPEARE = "tinyshakespeare.txt"


class Corpus(NamedTuple):
    """A text that is split in two: the training text, and its end for validation."""

    alphabet: str  # its distinct characters, sorted
    train: Tokens
    validation: Tokens

    @property
    def held_out(self) -> Tokens:
        """Return the held-out text and the character before it; every character but the first is to be predicted."""
        return np.concatenate([self.train[-1:], self.validation])


def find(path: Path | None) -> tuple[str, str]:
    """Return ``(text, source)``.

    The text is the file at ``path``. Without a path it is Tiny Shakespeare in the folder FNNET_DATA; without that
    variable it is the topics of Python's ``help()``.
    """
    if path is None and os.environ.get("FNNET_DATA"):
        path = Path(os.environ["FNNET_DATA"]) / SHAKESPEARE
        if not path.is_file():
            raise ExperimentError(f"no {SHAKESPEARE} in the folder {path.parent} (FNNET_DATA); pass --text PATH")
    return (read(path), str(path)) if path is not None else (python_topics(), "the topics of Python's help()")


def read(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ExperimentError(f"cannot read the text {path}: {error}; pass --text with the path of a file") from error
    except UnicodeDecodeError as error:
        raise ExperimentError(
            f"the text {path} is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x} ({error.reason}); "
            f"convert it, or pass another --text"
        ) from error
    if not text:
        raise ExperimentError(f"the text {path} is empty; pass another --text")
    return text


def python_topics() -> str:
    """Return the chapters of the language reference that come with Python (and its license) for ``help()``."""
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise ExperimentError("this Python has no topics of help() to learn from; pass --text PATH") from error
    return "\n\n".join(topics[name].strip() for name in sorted(topics)) + "\n"


def corpus(text: str, validation_share: float, length: int) -> Corpus:
    """Split a text and hold out the fraction ``validation_share`` at its end.

    Raises ``ExperimentError`` if the training text is too short for a sequence of ``length``, or nothing is held out.
    """
    codes = np.frombuffer(text.encode("utf-32-le"), "<u4")  # a NumPy string would drop characters of code 0 at its end
    alphabet, tokens = np.unique(codes, return_inverse=True)
    cut = len(tokens) - round(len(tokens) * validation_share)
    train, validation = np.split(tokens.astype(np.int32), [cut])
    if len(train) <= length:
        raise ExperimentError(
            f"the text has {len(tokens)} characters, {len(train)} of them for training; expected at least {length + 1} "
            f"(one sequence and the character after it); pass a longer --text or a smaller --length"
        )
    if len(validation) < 1:
        raise ExperimentError(
            f"the text has {len(tokens)} characters, {len(validation)} of them held out: expected at least 1; pass a "
            f"longer --text or a larger --validation-share"
        )
    return Corpus("".join(map(chr, alphabet)), train, validation)


def encode(text: str, alphabet: str) -> Tokens:
    places = {character: place for place, character in enumerate(alphabet)}
    if unknown := sorted(set(text) - set(alphabet)):
        raise ExperimentError(f"the prompt has {unknown[0]!r}, which is not in the text; pass another --prompt")
    return np.array([places[character] for character in text], np.int32)


def decode(tokens: Any, alphabet: str) -> str:
    return "".join(alphabet[token] for token in np.asarray(tokens))


def in_rows(tokens: Tokens, rows: int, length: int) -> tuple[Tokens, Tokens, Tokens]:
    """Return ``(x, y, counts)`` of shape ``(S, rows, length)`` with every token but the first exactly once in ``y``.

    ``y`` is the token after ``x``. Each row holds consecutive text in ``S`` segments. The last rows are filled up with
    zeros, for which ``counts`` is False.
    """
    predictions = len(tokens) - 1
    segments = -(-predictions // (rows * length))
    missing = rows * segments * length - predictions

    def arranged(a: Tokens) -> Tokens:
        return np.pad(a, (0, missing)).reshape(rows, segments, length).swapaxes(0, 1)

    return arranged(tokens[:-1]), arranged(tokens[1:]), arranged(np.ones(predictions, bool))


def pair_loss(corpus: Corpus) -> float:
    """Return the nats per held-out character of a model that counts pairs of neighbors in the training text.

    One is added to each count (Laplace), so that no pair is impossible.
    """
    size, held_out = len(corpus.alphabet), corpus.held_out
    pairs, counts = np.unique(pair_numbers(corpus.train, size), return_counts=True)  # a table would be size × size
    wanted = pair_numbers(held_out, size)
    places = np.searchsorted(pairs[:-1], wanted)
    times = np.where(pairs[places] == wanted, counts[places], 0) + 1.0
    totals = np.bincount(corpus.train[:-1], minlength=size) + float(size)
    return float(np.log(totals[held_out[:-1]] / times).mean())


def pair_numbers(tokens: Tokens, size: int) -> np.ndarray[Any, Any]:
    """Return one number for each pair of neighboring tokens."""
    return tokens[:-1].astype(np.int64) * size + tokens[1:]
