"""What a read has filled so far, so that a dataset can verify it while the processor's cache still has it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from numpy.typing import NDArray

Notice = Callable[[NDArray[Any]], None]

_notice: ContextVar[Notice | None] = ContextVar("notice", default=None)


@contextmanager
def watching(notice: Notice) -> Iterator[None]:
    """Have `notice` called with each piece that this thread's reads have filled."""
    token = _notice.set(notice)
    try:
        yield
    finally:
        _notice.reset(token)


def report_filled(piece: NDArray[Any]) -> None:
    """Report a C-contiguous piece of the result of a read, which is as it will stay.

    Pieces that are reported in order are verified at once, and all else at the end.
    """
    notice = _notice.get()
    if notice is not None:
        notice(piece)
