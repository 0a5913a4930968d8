"""Texts as sequences of characters."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.cli import ExperimentError

Tokens = np.ndarray[Any, Any]  # (n,) int32: the places of characters in an alphabet
SHAKESPEARE = "tinyshakespeare.txt"


class Corpus(NamedTuple):
    """A text cut in two: to learn from, and its end to validate with."""

    alphabet: str  # its distinct characters, sorted
    train: Tokens
    validation: Tokens

    @property
    def held_out(self) -> Tokens:
        """The text whose every character but the first is predicted: what is held out, and the one before it."""
        return np.concatenate([self.train[-1:], self.validation])


def find(path: Path | None) -> tuple[str, str]:
    """``(text, where it is from)``: a file; else FNNET_DATA's Tiny Shakespeare; else topics of ``help()``."""
    if path is None and os.environ.get("FNNET_DATA"):
        path = Path(os.environ["FNNET_DATA"]) / SHAKESPEARE
        if not path.is_file():
            raise ExperimentError(f"no {SHAKESPEARE} in the folder FNNET_DATA, {path.parent}; pass --text PATH")
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
    """Chapters of Python's language reference, which come with it (under its licence) for the use of ``help()``."""
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise ExperimentError("this Python comes without the topics of help(); pass --text PATH") from error
    return "\n\n".join(topics[name].strip() for name in sorted(topics)) + "\n"


def corpus(text: str, validation_share: float, length: int) -> Corpus:
    """The last share of the text is held out. Refuses one too short for a sequence of ``length`` to learn."""
    codes = np.frombuffer(text.encode("utf-32-le"), "<u4")  # NumPy's strings lose characters of code 0 at their end
    alphabet, tokens = np.unique(codes, return_inverse=True)
    cut = len(tokens) - round(len(tokens) * validation_share)
    train, validation = np.split(tokens.astype(np.int32), [cut])
    if len(train) <= length:
        raise ExperimentError(
            f"the text has {len(tokens)} characters, {len(train)} of them to learn from: shorter than one sequence of "
            f"{length} and the character after it; pass a longer --text or a smaller --length"
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
    """``(x, y, counts)`` of shape ``(S, rows, length)``: every token but the first is once the ``y`` after an ``x``.

    Row by row the text goes on from one of the ``S`` pieces to the next. What is left of the last rows is filled up
    with zeros, where ``counts`` is False.
    """
    predictions = len(tokens) - 1
    pieces = -(-predictions // (rows * length))
    missing = rows * pieces * length - predictions

    def arranged(a: Tokens) -> Tokens:
        return np.pad(a, (0, missing)).reshape(rows, pieces, length).swapaxes(0, 1)

    return arranged(tokens[:-1]), arranged(tokens[1:]), arranged(np.ones(predictions, bool))


def pair_loss(corpus: Corpus) -> float:
    """Nats per held-out character of a model that counts pairs: what stood how often after the character before?

    Each count is one more than it is (Laplace), so that no pair is impossible.
    """
    size, held_out = len(corpus.alphabet), corpus.held_out
    pairs, counts = np.unique(pair_numbers(corpus.train, size), return_counts=True)  # a table would be size × size
    wanted = pair_numbers(held_out, size)
    places = np.searchsorted(pairs[:-1], wanted)
    times = np.where(pairs[places] == wanted, counts[places], 0) + 1.0
    totals = np.bincount(corpus.train[:-1], minlength=size) + float(size)
    return float(np.log(totals[held_out[:-1]] / times).mean())


def pair_numbers(tokens: Tokens, size: int) -> np.ndarray[Any, Any]:
    """One number for each pair of neighbours."""
    return tokens[:-1].astype(np.int64) * size + tokens[1:]
