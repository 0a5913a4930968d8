"""What a stream asks of its batches, and that its thread ends."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

from fnnet.data import Stream, from_arrays, from_batches
from fnnet.data.arrays import permutation
from fnnet.data.chunks import Reused, batches_per_chunk, chunks
from fnnet.data.prefetch import Prefetched

X, Y = np.arange(30, dtype=np.float32).reshape(10, 3), np.arange(10, dtype=np.int32)


def batch(size: int = 4, dtype: Any = np.float32) -> tuple[Any, Any]:
    return np.ones((size, 3), dtype), np.zeros(size, np.int32)


def key(seed: int = 0) -> jax.Array:
    return jax.random.key(seed)


def labels(stream: Stream, seed: int = 0, start: int = 0) -> list[list[int]]:
    return [b.y.tolist() for b in stream.batches(key(seed), start)]


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "fnnet prefetch"]


def test_arrays_in_the_order_of_train_epoch() -> None:
    order = np.asarray(jax.random.permutation(key(), 10)).tolist()
    stream = from_arrays(X, Y, 4)
    assert labels(stream) == [order[:4], order[4:8], order[8:]]
    assert labels(stream, start=1) == [order[4:8], order[8:]]
    assert labels(stream, 1) != labels(stream)
    assert all((b.x[:, 0] == 3 * b.y).all() for b in stream.batches(key()))
    assert (stream.steps, stream.examples) == (3, 10)


@pytest.mark.parametrize("examples", [1, 2, 1000, 5000])
def test_the_permutation_is_that_of_jax(examples: int) -> None:
    """With one round of sorting, and with two."""
    np.testing.assert_array_equal(permutation(key(3), examples), jax.random.permutation(key(3), examples))


def test_the_last_batch() -> None:
    kept, dropped = (from_arrays(X, Y, 4, shuffle=False, last=last) for last in ("pad", "drop"))
    assert labels(kept) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert labels(dropped) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert (kept.steps, dropped.steps) == (3, 2)


@pytest.mark.parametrize("together", [True, False])
def test_a_chunk_is_filled_up_with_real_examples(together: bool) -> None:
    """Whether it is read in one go or batch by batch."""
    stream = from_arrays(X, Y, 4, shuffle=False)
    first, last = stream.chunks(key(), 0, 2) if together else chunks(stream.batches(key()), 2, 4)
    assert first.y.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert (first.sizes.tolist(), int(first.updates)) == ([4, 4], 2)
    assert last.y.tolist() == [[8, 9, 8, 9], [0, 0, 0, 0]]
    assert last.x[0, :, 0].tolist() == [24, 27, 24, 27]
    assert (last.sizes.tolist(), int(last.updates)) == ([2, 0], 1)


@pytest.mark.parametrize(("size", "start", "last"), [(1, 0, "pad"), (2, 1, "pad"), (2, 0, "drop"), (5, 0, "pad")])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_reading_in_one_go_is_reading_by_batches(size: int, start: int, last: Any, dtype: Any) -> None:
    stream = from_arrays(X.astype(dtype), Y, 4, last=last)
    by_batches = chunks(stream.batches(key(), start), size, 4)
    for one, two in zip(stream.chunks(key(), start, size), by_batches, strict=True):
        for a, b in zip(one, two, strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype


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
    with pytest.raises(ValueError, match=r"batch 1 has x with NaN or infinite entries, the first at \(2, 1\)"):
        list(from_arrays(bad, Y, 4, shuffle=False).chunks(key(), 0, 2))
    list(from_arrays(X + np.float32(3e38), Y, 4).chunks(key(), 0, 2))  # large, and finite


def test_chunks_are_bounded_in_bytes() -> None:
    one = from_arrays(X, Y, 4).first_batch(key())
    each = 4 * 3 * 4 + 4 * 4
    assert batches_per_chunk(one, 5 * each, None) == 5
    assert batches_per_chunk(one, 5 * each, 3) == 3
    assert batches_per_chunk(one, 1, None) == 1
    assert batches_per_chunk(one, 2**40, None) == 64


def test_somebody_elses_batches() -> None:
    """A list, a function, a function of the key, PyTorch's loader."""
    torch = pytest.importorskip("torch")
    given = [(X[:4], Y[:4]), (X[4:8], Y[4:8])]
    assert (
        labels(from_batches(given, 4)) == labels(from_batches(lambda: iter(given), 4)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    )
    assert labels(from_batches(given, 4), start=1) == [[4, 5, 6, 7]]
    seen = []
    list(from_batches(lambda key: seen.append(key) or given, 4).batches(key()))
    assert len(seen) == 1
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    stream = from_batches(torch.utils.data.DataLoader(dataset, batch_size=4))
    assert labels(stream) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert (stream.batch_size, stream.examples, stream.steps) == (4, 10, 3)
    dropping = from_batches(torch.utils.data.DataLoader(dataset, batch_size=4, drop_last=True))
    assert (labels(dropping), dropping.steps, dropping.last) == ([[0, 1, 2, 3], [4, 5, 6, 7]], 2, "drop")
    chosen = from_batches(torch.utils.data.DataLoader(dataset, batch_size=4, sampler=[7, 3, 1, 2, 9]))
    assert (labels(chosen), chosen.examples, chosen.steps) == ([[7, 3, 1, 2], [9]], 5, 2)


def failing() -> Iterator[Any]:
    yield batch()
    yield batch()
    raise OSError("the disk is gone")


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([batch(), batch(0)], "batch 1 is empty"),
        ([batch(), batch(3), batch()], "batch 1 has 3 examples but batch 2 comes after it; expected 4 in every"),
        ([batch(), batch(5)], "batch 1 has 5 examples; expected batch_size=4"),
        ([batch(), batch(dtype=np.float64)], "batch 1 has x of shape .* and dtype float64 but batch 0 had .*float32"),
        ([batch(), (np.ones((4, 2), np.float32), Y[:4])], r"batch 1 has x of shape \(4, 2\)"),
        ([batch(), (X[:4], Y[:3])], r"batch 1 has x of shape \(4, 3\) and y of shape \(3,\)"),
        ([batch(), ([[1.0], [2.0, 3.0]], Y[:2])], "batch 1 is no pair of arrays"),
        ([(X[:4] * np.nan, Y[:4])], r"batch 0 has x with NaN or infinite entries, the first at \(0, 0\)"),
        ([batch(), X[:4]], "batch 1 is a ndarray; expected a pair"),
        ([(np.array(["a"]), Y[:1])], "batch 0 has x of dtype <U1; expected numbers"),
        (failing, "batch 2 could not be made: OSError: the disk is gone"),
    ],
)
def test_bad_batches_are_named(batches: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError, RuntimeError), match=f"data.Stream: {message}"):
        list(from_batches(batches, 4).batches(key()))


def test_the_number_of_a_bad_batch_counts_from_the_start_of_the_epoch() -> None:
    with pytest.raises(ValueError, match="batch 2 is empty"):
        list(from_batches([batch(), batch(), batch(0)], 4).batches(key(), 1))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: from_batches(iter([batch()]), 4), TypeError, "can be gone through once only; pass the function"),
        (lambda: from_batches([batch()]), ValueError, "source does not tell its batch size; pass batch_size"),
        (lambda: from_batches(3, 4), TypeError, "source is a int; expected an iterable"),
        (lambda: from_arrays(X, Y[:9], 4), ValueError, r"x has shape \(10, 3\) and y has shape \(9,\)"),
        (lambda: from_arrays(X, Y, 11), ValueError, "batch_size is 11 but there are only 10 examples"),
        (lambda: from_arrays([1, 2], Y, 1), TypeError, "x is a list without examples on a first axis"),
        (lambda: from_arrays(X, Y, 4, last="keep"), ValueError, "last is 'keep'; expected 'pad' or 'drop'"),
        (lambda: from_arrays(X, Y, 4, prefetch=0), ValueError, "prefetch is 0"),
        (lambda: from_batches([], 4).first_batch(key()), ValueError, "there is no batch of 4 examples"),
        (lambda: from_batches([batch(3)], 4, last="drop").first_batch(key()), ValueError, "there is no batch of 4"),
    ],
)
def test_what_is_no_stream(make: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_prefetching_is_bounded_ahead_and_in_order() -> None:
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for i in range(10):
            made.append(i)
            yield i

    with Prefetched(numbers(), 2) as items:
        deadline = time.monotonic() + 5
        while len(made) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert made == [0, 1, 2]  # two in the queue, one that waits for a place
        assert list(items) == list(range(10))
    assert threads() == []


def test_waiting_is_counted() -> None:
    def slow() -> Iterator[int]:
        for i in range(3):
            time.sleep(0.05)
            yield i

    with Prefetched(slow(), 2) as items:
        assert list(items) == [0, 1, 2]
    assert 0.1 < items.waited < 5


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ValueError, None])
def test_the_thread_ends_however_the_loop_is_left(interruption: Any) -> None:
    closed = []

    class Endless:
        def __iter__(self) -> "Endless":
            return self

        def __next__(self) -> int:
            return 1

        def close(self) -> None:
            closed.append(True)

    try:
        with Prefetched(Endless(), 2) as items:
            next(items)
            if interruption is not None:
                raise interruption
    except (KeyboardInterrupt, ValueError):
        pass
    assert threads() == []
    assert closed == [True]
    assert list(items) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, StopAsyncIteration])
def test_an_error_in_the_thread_comes_at_its_turn_and_ends_it(error: type[BaseException]) -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise error("here")

    with Prefetched(numbers(), 2) as items:
        assert next(items) == 1
        with pytest.raises(error, match="here"):
            next(items)
        assert threads() == []


def test_settings_of_jax_that_belong_to_a_thread() -> None:
    with jax.enable_x64(True), Prefetched((jax.numpy.asarray(np.ones(1)) for _ in range(1)), 1) as items:
        assert next(items).dtype == np.float64


@pytest.mark.parametrize("on_device", [False, True])
def test_memory_is_used_again_when_nothing_is_left_in_it(on_device: bool) -> None:
    memory = Reused()
    first = memory((64, 8), np.float32)
    first[:] = 1
    left: Any = jax.device_put(first) if on_device else first[3:].reshape(-1)[5:].view(np.int32)
    address = first.ctypes.data
    del first
    others = [memory((64, 8), np.float32) for _ in range(3)]
    for other in others:
        other[:] = 2
    assert len({address, *(other.ctypes.data for other in others)}) == 4
    assert (np.asarray(left) == (1 if on_device else np.float32(1).view(np.int32))).all()
    places = {other.ctypes.data for other in others}
    del other, others
    assert {array.ctypes.data for array in [memory((64, 8), np.float32) for _ in range(3)]} == places
    assert memory((64, 9), np.float32).shape == (64, 9)
