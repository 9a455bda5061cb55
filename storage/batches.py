"""An epoch in batches: every image once, in an order that a seed chooses."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, MutableSet
from functools import partial
from itertools import combinations, cycle
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from .arrays import Images, Labels, make_result
from .augmentation import Augmentation
from .decoding import check_threads, import_decoders, is_integer
from .epoch_order import EpochOrder, WindowedOrder
from .errors import InvalidInputError
from .inputs import take_out
from .read_ahead import Memory, ReadAhead, choose_cores, stop_abandoned

QUEUE = 2  # batches that are being read or are ready: while the caller works on one, the next is read
VERSION = 1  # of the order of an epoch


class Source(Protocol):
    """What batches need of a reader."""

    store: Path

    @property
    def kind(self) -> Literal["pixels", "encoded"]:
        """The kind of what is stored."""
        ...

    def __len__(self) -> int:
        """Return how many images there are."""
        ...


class Batches(Iterator[tuple[Images, Labels]]):
    """One rank's batches of an epoch, as `Reader.batches` describes them: an iterator, and a context manager.

    Threads start with the first batch. They end with the last one, with an error, with `close`, when the reader is
    closed, and when nothing refers to the iterator any more. Then, and in a forked child, the next batch starts new
    ones; so after an error, the same batch is read again.
    """

    def __init__(
        self,
        reader: Source,
        read: Callable[..., tuple[Images, Labels]],
        expect: Callable[[Iterator[NDArray[np.intp]], EpochOrder], Iterator[NDArray[np.intp]]],
        started: MutableSet[ReadAhead],
        memory: Memory,
        dtype: np.dtype[Any],
        starts: NDArray[np.integer],
        *,
        size: int,
        augment: tuple[float, float] | None,
        seed: int,
        epoch: int,
        window: int | None,
        threads: int | None,
        out: Any,  # noqa: ANN401 - an array, a tensor, or several
        drop_last: bool,
        rank: int,
        world_size: int,
    ) -> None:
        self._reader, self._read, self._expect, self._started, self._memory = reader, read, expect, started, memory
        self._count, self._size = len(reader), int(size)
        self._seed, self._epoch = check_number("seed", seed), check_number("epoch", epoch)
        self._starts, self._window = starts, window if window is None else check_number("window", window, 1)
        self._world_size = check_number("world_size", world_size, 1)
        self._rank = check_number("rank", rank, most=self._world_size - 1)
        check_threads(threads)
        self._threads, self._drop_last, self._augment = threads, drop_last, augment
        self._outs = None if out is None else check_outs(reader.store, out, (size, *memory.shape[1:]), dtype)
        self._position = 0  # of the order: what is before it was read, by all ranks together
        self._ahead: ReadAhead | None = None

    def __len__(self) -> int:
        """Return how many batches are left."""
        return len(self._find_starts())

    def __next__(self) -> tuple[Images, Labels]:
        """Return the next batch, and have threads read those that follow."""
        before = self._position
        try:
            batch = self._find_ahead().take()
            end = before + self._size * self._world_size
            self._position = self._count if batch is None else min(end, self._count)
        except BaseException:
            self._position = before
            self.close()
            raise
        if batch is None:
            self.close()
            raise StopIteration
        return batch

    def state_dict(self) -> dict[str, int]:
        """Describe how much of the epoch was read, to go on from there, also with other numbers of images or ranks.

        All ranks must have taken as many batches; then all have the same state. What was read ahead doesn't count.

        Returns
        -------
        dict of int
            It can be kept as JSON. That of a windowed epoch has the window, and a number that stands for the parts.
        """
        return {
            **({} if self._window is None else {"window": self._window, "parts": number_parts(self._starts)}),
            "version": VERSION,
            "count": self._count,
            "seed": self._seed,
            "epoch": self._epoch,
            "position": self._position,
        }

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where `state_dict` was called, with its seed, epoch and window.

        Parameters
        ----------
        state : dict of int
            What `state_dict` returned, for the same images; in batches of any size, on any number of ranks. With a
            window, the images must be in the same parts.

        Raises
        ------
        InvalidInputError
            It is something else, or the state of another number of images, or of other parts.
        """
        own, hint = self.state_dict(), "give what state_dict returned for these images"
        own |= {"parts": number_parts(self._starts)}
        given: Any = state
        names = own.keys() - {"window", "parts"}
        if not isinstance(given, Mapping) or set(given) not in (names, names | {"window", "parts"}):
            raise InvalidInputError(f"a state of {state!r}", store=self._reader.store, hint=hint)
        numbers = {name: check_number(name, state[name], int(name == "window")) for name in sorted(given)}
        fixed = numbers.keys() & {"version", "count", "parts"}
        if any(numbers[name] != own[name] for name in fixed) or numbers["position"] > self._count:
            raise InvalidInputError(f"a state of {numbers}, and not of {own}", store=self._reader.store, hint=hint)
        self.close()
        self._seed, self._epoch, self._position = numbers["seed"], numbers["epoch"], numbers["position"]
        self._window = numbers.get("window")

    def close(self) -> None:
        """End the threads, and free what they have read ahead; the next batch would start them again."""
        if self._ahead is not None:
            self._ahead.stop()
            self._ahead = None

    def __enter__(self) -> Self:
        """Return the iterator itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _find_starts(self) -> range:
        """Find where the batches of this rank start in the order; the ranks take turns."""
        step = self._size * self._world_size
        left = self._count - self._position
        end = self._position + (left - left % step if self._drop_last else left)
        return range(self._position + self._rank * self._size, end, step)

    def _make_order(self) -> EpochOrder:
        if self._window is None:
            return EpochOrder(self._count, self._seed, self._epoch)
        return WindowedOrder(self._starts, self._window, self._seed, self._epoch)

    def _find_ahead(self) -> ReadAhead:
        """Find the threads, or start them: at first, after an error, when they were stopped, or in a forked child."""
        if self._ahead is not None and self._ahead.is_running():
            return self._ahead
        self.close()
        stop_abandoned(self._started)
        if self._reader.kind == "encoded":
            import_decoders(of_parts=self._augment is not None)
        order = self._make_order()
        augmentation = None if self._augment is None else Augmentation(self._augment, self._seed, self._epoch)
        self._ahead = ReadAhead(
            self,
            self._reader.store,
            partial(self._read, shape=self._memory.shape[1:], threads=1, augmentation=augmentation),
            self._expect(order.cut(self._find_starts(), self._size), order),
            self._memory.lend if self._outs is None else partial(next, cycle(self._outs)),
            queue=QUEUE if self._outs is None else len(self._outs),
            cores=choose_cores(self._rank, self._world_size, self._threads),
        )
        self._started.add(self._ahead)
        return self._ahead


def number_parts(starts: NDArray[np.integer]) -> int:
    """Make a number that stands for the parts of a dataset: where each starts, and how many images there are."""
    return int.from_bytes(hashlib.blake2b(starts.astype("<i8").tobytes(), digest_size=6).digest(), "little")


def check_number(name: str, number: Any, least: int = 0, most: int | None = None) -> int:  # noqa: ANN401 - any
    """Refuse what isn't an integer in a range."""
    if is_integer(number) and number >= least and (most is None or number <= most):
        return int(number)
    limits = f"{least} or more" if most is None else f"a number from {least} to {most}"
    raise InvalidInputError(f"{name} is {number!r}", hint=f"give {limits}")


def check_outs(store: Path, out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> list[Any]:  # noqa: ANN401 - likewise
    """Refuse memory of the caller that can't hold batches, each in its own."""
    outs = list(out) if isinstance(out, list | tuple) else [out]
    arrays = [make_result(store, shape, take_out(each), dtype) for each in outs]
    if (
        not outs
        or any(each is None for each in outs)
        or any(np.may_share_memory(*pair) for pair in combinations(arrays, 2))
    ):
        hint = "give one array, or several that have memory of their own"
        raise InvalidInputError("out holds None, or nothing, or the same memory twice", store=store, hint=hint)
    return outs
