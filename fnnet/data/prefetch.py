"""Items that a thread makes while earlier ones are used."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from queue import Empty, Queue
from typing import Any, Generic, TypeVar

import jax

T = TypeVar("T")
PATIENCE = 2.0  # seconds that closing waits for the item being made


class Prefetched(Generic[T]):
    """An iterator over ``items``, which a thread makes up to ``depth`` ahead of their use.

    ``waited`` is the number of seconds that ``next`` has waited: where it is most of the time, making the items is the
    limit. ``worked`` is the number of seconds that the thread has been making them. An error in the thread is raised by
    ``next`` at its item's turn. The thread ends after the last item, after an error, and on ``close``, which a ``with``
    block calls however it is left; ``close`` also closes ``items`` if it is a generator.

    The settings that jax keeps for each thread (the default device, whether float64 is enabled) are those of the thread
    that creates the object.
    """

    def __init__(self, items: Iterator[T], depth: int) -> None:
        self.waited = self.worked = 0.0
        self.queue: Queue[tuple[T | None, BaseException | None]] = Queue(depth)
        self.stopped = False
        config: Any = jax.config  # its type does not declare these names
        settings = (config.jax_enable_x64, config.jax_default_device)
        self.thread = threading.Thread(target=self.make, args=(items, settings), name="fnnet prefetch", daemon=True)
        self.thread.start()

    def make(self, items: Iterator[T], settings: tuple[Any, Any]) -> None:
        with jax.enable_x64(settings[0]), jax.default_device(settings[1]):
            error: BaseException | None = None
            try:
                while not self.stopped:
                    start = time.perf_counter()
                    item = next(items)
                    self.worked += time.perf_counter() - start
                    self.queue.put((item, None))
            except BaseException as raised:
                error = raised
            close(items)
            self.queue.put((None, error))

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if self.stopped:
            raise StopIteration
        start = time.perf_counter()
        item, error = self.queue.get()
        self.waited += time.perf_counter() - start
        if error is not None:
            self.close()
            raise error
        return item  # type: ignore[return-value]

    def close(self) -> None:
        self.stopped = True
        deadline = time.monotonic() + PATIENCE
        while self.thread.is_alive() and time.monotonic() < deadline:
            with suppress(Empty):  # the thread may wait for a place in the queue
                self.queue.get_nowait()
            self.thread.join(0.01)

    def __enter__(self) -> Prefetched[T]:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def close(iterator: Any) -> None:
    """Run the ``finally`` blocks of a generator that is left in the middle."""
    if hasattr(iterator, "close"):
        iterator.close()
