"""What a stream makes of its source, and what it asks of it."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import grain
import jax
import numpy as np
import pytest

from fnnet.data import Stream, from_arrays, from_batches
from fnnet.data.chunks import Chunk

X, Y = np.arange(30, dtype=np.float32).reshape(10, 3), np.arange(10, dtype=np.int32)


def batch(size: int = 4, dtype: Any = np.float32) -> tuple[Any, Any]:
    return np.ones((size, 3), dtype), np.zeros(size, np.int32)


def key(seed: int = 0) -> jax.Array:
    return jax.random.key(seed)


def labels(stream: Stream, seed: int = 0, start: int = 0) -> list[list[int]]:
    return [b.y.tolist() for b in batches(stream, seed, start)]


def batches(stream: Stream, seed: int = 0, start: int = 0) -> list[Chunk]:
    """The batches of an epoch one by one."""
    return [Chunk(chunk.x[0], chunk.y[0]) for chunk in stream.chunks(key(seed), start, 1)]


def test_arrays_in_the_order_of_train_epoch() -> None:
    order = np.asarray(jax.random.permutation(key(), 10)).tolist()
    stream = from_arrays(X, Y, 4)
    assert labels(stream) == [order[:4], order[4:8], order[8:]]
    assert labels(stream, start=1) == [order[4:8], order[8:]]
    assert labels(stream, 1) != labels(stream)
    assert all((b.x[:, 0] == 3 * b.y).all() for b in batches(stream))
    assert (stream.steps, stream.examples) == (3, 10)


def test_the_last_batch() -> None:
    kept, dropped = (from_arrays(X, Y, 4, shuffle=False, drop_last=drop) for drop in (False, True))
    assert labels(kept) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert labels(dropped) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert (kept.steps, dropped.steps) == (3, 2)


@pytest.mark.parametrize(("most", "start", "drop"), [(1, 0, False), (2, 1, False), (2, 0, True), (5, 0, False)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_chunks_are_the_batches_together(most: int, start: int, drop: bool, dtype: Any) -> None:
    """Whole chunks, then single batches, then the smaller one; read at once from arrays, or put together."""
    stream = from_arrays(X.astype(dtype), Y, 4, drop_last=drop)
    expected = batches(stream, 0, start)
    size = stream.batches_per_chunk(4 * 16, most)
    given = [(each.x, each.y) for each in expected]
    for same in (stream, from_batches([None] * start + given, 4, examples=10, drop_last=drop)):
        chunks = list(same.chunks(key(), start, most))
        assert {chunk.x.shape[:2] for chunk in chunks} <= {(size, 4), (1, 4), (1, 2)}
        rows = [(x, y) for chunk in chunks for x, y in zip(chunk.x, chunk.y, strict=True)]
        for (x, y), batch in zip(rows, expected, strict=True):
            np.testing.assert_array_equal(x, batch.x)
            np.testing.assert_array_equal(y, batch.y)
            assert x.dtype == np.dtype(dtype if dtype != np.float64 else np.float32)


@pytest.mark.parametrize("per_chunk", [1, 2, 3, 64])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_a_loader_may_use_its_memory_again(kind: str, per_chunk: int, drop_last: bool) -> None:
    """Batches are copied when they come, also the smaller last one, after which the loader is asked for another."""

    def reusing() -> Iterator[Any]:
        x, y = np.zeros((4, 3), np.float32), np.zeros(4, np.int32)
        given = x, y
        if kind == "torch":
            torch = pytest.importorskip("torch")
            given = torch.from_numpy(x), torch.from_numpy(y)
        for i, size in enumerate((4, 4, 4, 4, 4, 2)):
            x[:], y[:] = i, i
            yield given[0][:size], given[1][:size]
        x[:], y[:] = 9, 9

    stream = from_batches(reusing, 4, drop_last=drop_last, chunk_bytes=per_chunk * 64)
    chunks = [jax.device_put(chunk) for chunk in stream.chunks(key())]
    found = [set(np.r_[x.ravel(), y.ravel()].tolist()) for chunk in chunks for x, y in zip(chunk.x, chunk.y)]  # noqa: B905
    assert found == [{i} for i in range(5 if drop_last else 6)]


def numbered(n: int, skip_first: bool = False, **options: Any) -> Any:
    assert not options
    return [batch() for _ in range(n - skip_first)]


def shuffled(n: int, *, key: Any, **options: Any) -> Any:
    return [batch() for _ in range(n + int(jax.random.randint(key, (), 1, 2)))]


class Loaders:
    def without(self, skip_first: bool = False) -> Any:
        return numbered(2, skip_first)

    def __call__(self, key: Any) -> Any:
        return shuffled(1, key=key)


@pytest.mark.parametrize(
    "source",
    [
        lambda: numbered(2),
        lambda skip_first=False: numbered(2, skip_first),
        lambda *arguments: numbered(2 + len(arguments)),
        lambda **options: numbered(2, **options),
        partial(numbered, 2),
        partial(numbered, n=2),
        partial(zip, [X[:4], X[:4]], [Y[:4], Y[:4]]),
        Loaders().without,
        lambda key: shuffled(1, key=key),
        lambda key, /: shuffled(1, key=key),
        lambda first=1, key=None, /: shuffled(first, key=key),
        lambda *key: numbered(2 + len(key)),
        lambda **key: numbered(2, **key),
        lambda first=False, *, key: shuffled(1, key=key),
        partial(shuffled, 1),
        partial(shuffled, n=1),
        partial(shuffled, n=1, key=jax.random.key(7)),
        Loaders(),
    ],
)
def test_a_key_goes_where_a_parameter_is_named_key(source: Any) -> None:
    """And nowhere else; a ``partial`` that has a key keeps it."""
    assert len(batches(from_batches(source, 4))) == 2


def test_the_key_is_that_of_the_epoch() -> None:
    seen: list[Any] = []
    source = partial(lambda key, other: seen.append(key) or [batch()], other=1)
    batches(from_batches(source, 4), 3)
    batches(from_batches(partial(source, key=jax.random.key(7)), 4), 3)
    assert seen == [key(3), key(7)]


def test_batches_of_grain() -> None:
    """Shuffled anew for every key; a run goes on in the middle of an epoch without making the batches before it."""

    def made(key: jax.Array) -> Any:
        source = grain.MapDataset.source([(x, y) for x, y in zip(X, Y, strict=True)])
        return source.shuffle(seed=int(jax.random.bits(key)) % 2**31).batch(4)

    stream = from_batches(made, 4, examples=10)
    assert sorted(label for each in labels(stream) for label in each) == list(range(10))
    assert labels(stream) == labels(stream) != labels(stream, seed=1)
    assert labels(stream, start=2) == labels(stream)[2:]


def test_arrays_that_cannot_be_read() -> None:
    class Damaged:
        shape, dtype = X.shape, X.dtype

        def __getitem__(self, rows: Any) -> Any:
            raise OSError("the disk is gone")

    with pytest.raises(RuntimeError, match="batches 0 to 1 could not be read: OSError: the disk is gone"):
        next(from_arrays(Damaged(), Y, 4).chunks(key(), 0, 2))


def test_a_number_that_is_none_is_named_in_a_chunk() -> None:
    bad = X.copy()
    bad[6, 1] = np.inf
    with pytest.raises(ValueError, match=r"batch 1: x has 1 entries that are NaN or infinite, the first at \(2, 1\)"):
        list(from_arrays(bad, Y, 4, shuffle=False).chunks(key(), 0, 2))
    list(from_arrays(X + np.float32(3e38), Y, 4).chunks(key(), 0, 2))  # large, and finite


def test_chunks_are_bounded_in_bytes() -> None:
    each = 4 * 3 * 4 + 4 * 4
    for chunk_bytes, most, steps, expected in (
        *((5 * each, None, None, 5), (5 * each, 3, None, 3), (1, None, None, 1), (2**40, None, None, 64)),
        *((5 * each, None, 4, 4), (5 * each, None, 11, 3), (5 * each, None, 12, 4)),
    ):
        stream = from_batches([], 4, examples=None if steps is None else 4 * steps, chunk_bytes=chunk_bytes)
        assert stream.batches_per_chunk(each, most) == expected


def test_somebody_elses_batches() -> None:
    """A list, a function, a function of the key, PyTorch's loader."""
    torch = pytest.importorskip("torch")
    given = [(X[:4], Y[:4]), (X[4:8], Y[4:8])]
    assert (
        labels(from_batches(given, 4)) == labels(from_batches(lambda: iter(given), 4)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    )
    assert labels(from_batches(given, 4), start=1) == [[4, 5, 6, 7]]
    seen = []
    batches(from_batches(lambda key: seen.append(key) or given, 4))
    assert len(seen) == 1
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    stream = from_batches(torch.utils.data.DataLoader(dataset, batch_size=4))
    assert labels(stream) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert (stream.batch_size, stream.examples, stream.steps) == (4, 10, 3)
    dropping = from_batches(torch.utils.data.DataLoader(dataset, batch_size=4, drop_last=True))
    assert (labels(dropping), dropping.steps, dropping.drop_last) == ([[0, 1, 2, 3], [4, 5, 6, 7]], 2, True)
    chosen = from_batches(torch.utils.data.DataLoader(dataset, batch_size=4, sampler=[7, 3, 1, 2, 9]))
    assert (labels(chosen), chosen.examples, chosen.steps) == ([[7, 3, 1, 2], [9]], 5, 2)


def failing() -> Iterator[Any]:
    yield batch()
    yield batch()
    raise OSError("the disk is gone")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([batch(), batch(0)], r"batch 1 has x of shape \(0, 3\) and y of shape \(0,\); .* from 1 to batch_size=4"),
        (
            [batch(), batch(3), batch()],
            "batch 1 has fewer than 4 examples but batch 2 comes after it",
        ),
        ([batch(), batch(5)], r"batch 1 has x of shape \(5, 3\) .* from 1 to batch_size=4"),
        (
            [batch(), batch(dtype=np.float16)],
            "batch 1 has x of .* float16 but the first batch had .*float32",
        ),
        ([batch(), (np.ones((4, 2), np.float32), Y[:4])], r"batch 1 has x of shape \(4, 2\)"),
        ([batch(), (X[:4], Y[:3])], r"batch 1 has x of shape \(4, 3\) and y of shape \(3,\)"),
        ([batch(), ([[1.0], [2.0, 3.0]], Y[:2])], "batch 1: x is of type list, which NumPy cannot make an array of"),
        ([(X[:4] * np.nan, Y[:4])], r"batch 0: x has 12 entries that are NaN or infinite, the first at \(0, 0\)"),
        ([batch(), X[:4]], "batch 1 is ndarray; expected a pair"),
        ([(X[:4].astype(float) * 1e39, Y[:4])], "batch 0: x has 11 entries that are NaN or infinite"),
        ([(X[:4], np.full(4, 2**40))], "batch 0: y has integers that do not fit into int32"),
        (failing, "batch 2 could not be made: OSError: the disk is gone"),
    ],
)
def test_bad_batches_are_named(given: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError, RuntimeError), match=f"data.Stream: {message}"):
        batches(from_batches(given, 4))


def test_the_number_of_a_bad_batch_counts_from_the_start_of_the_epoch() -> None:
    with pytest.raises(ValueError, match=r"batch 2 has x of shape \(0, 3\)"):
        batches(from_batches([batch(), batch(), batch(0)], 4), 0, 1)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: from_batches(iter([batch()]), 4),
            TypeError,
            "a list_iterator, which can be gone through once only; pass the function",
        ),
        (lambda: from_batches([batch()]), ValueError, "source does not tell its batch size; pass batch_size"),
        (lambda: from_batches(3, 4), TypeError, "source is a int; expected an iterable"),
        (lambda: from_arrays(X, Y[:9], 4), ValueError, r"x has shape \(10, 3\) and y has shape \(9,\)"),
        (lambda: from_arrays(X, Y, 11), ValueError, "batch_size is 11 but there are only 10 examples"),
        (lambda: from_arrays([1, 2], Y, 1), TypeError, "x is of type list, without examples; expected an array"),
        (lambda: from_arrays(X, Y, 4, chunk_bytes=0), ValueError, "chunk_bytes is 0"),
        (lambda: from_batches([], 4).first(key()), ValueError, "there is no batch of 4 examples"),
        (lambda: from_batches([batch(3)], 4, drop_last=True).first(key()), ValueError, "there is no batch of 4"),
    ],
)
def test_what_is_no_stream(make: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        make()
