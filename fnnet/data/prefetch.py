"""Making things in a thread of their own while others are used."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from queue import Empty, Full, Queue
from typing import Any, Generic, TypeVar

import jax

T = TypeVar("T")
POLL = 0.05  # seconds between two looks at whether the thread shall end
PATIENCE = 10.0  # seconds that closing waits for the item being made


class Prefetched(Generic[T]):
    """An iterator over ``items``, made in a thread up to ``depth`` ahead of their use.

    ``waited`` is how many seconds ``next`` has waited for items in all: where it is most of the time, making them is
    the limit. ``worked`` is how many the thread has been at making them. An error in the thread comes out of ``next``
    at its item's turn. The thread ends after the last item, after an error, and on ``close``, which a ``with`` block
    calls however it is left; ``close`` also closes ``items``, if that is a generator.

    What jax keeps by thread (the default device, whether float64 is enabled) is in the new thread as in this one.
    """

    def __init__(self, items: Iterable[T], depth: int) -> None:
        self.waited = self.worked = 0.0
        self.queue: Queue[tuple[Callable[[], T]]] = Queue(depth)
        self.stopped = threading.Event()
        config: Any = jax.config  # names that its type does not tell
        settings = (config.jax_enable_x64, config.jax_default_device)
        self.thread = threading.Thread(target=self.make, args=(items, settings), name="fnnet prefetch", daemon=True)
        self.thread.start()

    def make(self, items: Iterable[T], settings: tuple[Any, Any]) -> None:
        try:
            with jax.enable_x64(settings[0]), jax.default_device(settings[1]):
                iterator = iter(items)
                try:
                    for item in self.timed(iterator):
                        if not self.put(lambda item=item: item):  # type: ignore[misc]
                            return
                finally:
                    close(iterator)
            self.put(ended)
        except BaseException as error:
            self.put(lambda error=error: raised(error))  # type: ignore[misc]

    def timed(self, iterator: Iterator[T]) -> Iterator[T]:
        while True:
            start = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self.worked += time.perf_counter() - start
            yield item

    def put(self, outcome: Callable[[], T]) -> bool:
        """False if nobody wants it any more."""
        while not self.stopped.is_set():
            with suppress(Full):
                self.queue.put((outcome,), timeout=POLL)
                return True
        return False

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if self.stopped.is_set():
            raise StopIteration
        start = time.perf_counter()
        (outcome,) = self.queue.get()
        self.waited += time.perf_counter() - start
        try:
            return outcome()
        except BaseException:  # the end, too: nothing comes after it
            self.close()
            raise

    def close(self) -> None:
        self.stopped.set()
        self.thread.join(PATIENCE)
        with suppress(Empty):
            while True:
                self.queue.get_nowait()

    def __enter__(self) -> Prefetched[T]:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def ended() -> Any:
    raise StopIteration


def raised(error: BaseException) -> Any:
    raise error


def close(iterator: Any) -> None:
    """Runs the ``finally`` blocks of a generator that is left in the middle."""
    if hasattr(iterator, "close"):
        iterator.close()
