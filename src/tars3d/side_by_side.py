"""Pieces of work that know nothing of each other, such as a picture each, on all cores: as many at a time as there are, one core each.

Called by the commands that take many pictures. PyTorch spreads each operation over the cores, which gives little where operations are small: a second
core takes a quarter off the time of sixteen pictures one after the other, and half of it off that of two at a time.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

MOST = 8
"""At a time: a picture takes 0.1 to 0.3 GB at the default resolution."""
ALONE = 256
"""Resolution above which pictures are reconstructed one after the other: at 512 each takes over a gigabyte, and has work for several threads."""
T = TypeVar("T")
R = TypeVar("R")


def side_by_side(
    work: Callable[[T], R], items: Sequence[T], device: torch.device | str = "cpu", *, resolution: int = 0
) -> Iterator[Future[R]]:
    """Futures of `work(item)`, in the order of the items, each done by the time it is given; its `result` raises what `work` raised.

    As many at a time as PyTorch has threads, each in a thread with one of them; on an accelerator, for one item, or where PyTorch has one thread, one
    after the other, with all of them. Not many more are begun than were asked for, so results do not pile up.

    Args:
        device: where the work computes.
        resolution: of the meshes that the work makes, if it makes any, see `ALONE`.
    """
    threads = torch.get_num_threads() if torch.device(device).type == "cpu" else 1
    workers = min(threads, len(items), MOST if resolution <= ALONE else 1)
    if workers < 2:
        yield from (_done(work, item) for item in items)
        return
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    begun: deque[Future[R]] = deque()
    try:
        for item in items:
            begun.append(pool.submit(work, item))
            if len(begun) == 2 * workers:
                yield _awaited(begun)
        while begun:
            yield _awaited(begun)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # the number is also one for threads to come


def _awaited(begun: deque[Future[R]]) -> Future[R]:
    """The first of them, when it is done."""
    wait([begun[0]])
    return begun.popleft()


def _done(work: Callable[[T], R], item: T) -> Future[R]:
    """What came of work that is done here and now."""
    future: Future[R] = Future()
    try:
        future.set_result(work(item))
    except Exception as error:
        future.set_exception(error)
    return future
