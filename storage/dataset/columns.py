"""What is known about each image, such as its name: one part's is read when it is asked for."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Generic, TypeVar, overload

from ..errors import InvalidInputError
from .name_index import Hashes, hash_name
from .names import Names

T = TypeVar("T")


class Column(Sequence[T], Generic[T]):
    """A value for each image; `read` returns those of a part, of which `starts` has the index of the first.

    `prepare` yields parts again, when they can be read.
    """

    def __init__(
        self,
        starts: Sequence[int],
        read: Callable[[int], Sequence[T]],
        prepare: Callable[[Iterable[int]], Iterable[int]] = iter,
    ) -> None:
        self._starts, self._read, self._prepare = starts, read, prepare

    def __len__(self) -> int:
        """Return the number of images."""
        return self._starts[-1]

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...

    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        """Return the value of one image, or a list of those of some."""
        if isinstance(index, slice):
            return [self._find(position) for position in range(len(self))[index]]
        return self._find(range(len(self))[index])

    def _find(self, position: int) -> T:
        number = bisect_right(self._starts, position) - 1
        return self._read(number)[position - self._starts[number]]

    def __iter__(self) -> Iterator[T]:
        """Read one part after another."""
        for number in self._prepare(self._list_parts()):
            yield from self._read(number)

    def _list_parts(self) -> list[int]:
        """List the parts that have images."""
        return [number for number, (start, stop) in enumerate(pairwise(self._starts)) if start < stop]

    def __eq__(self, other: object) -> bool:
        """Compare all values with those of another sequence, such as a list."""
        if isinstance(other, str | bytes) or not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as that of a list

    def __repr__(self) -> str:
        """Say how many there are."""
        return f"<{type(self).__name__}: {len(self):,}>"


class NameColumn(Column[str]):
    """The names of all images. `may_hold` says whether a part may have a name of a hash."""

    def __init__(
        self,
        starts: Sequence[int],
        read: Callable[[int], Names],
        may_hold: Callable[[int, Hashes], bool],
        prepare: Callable[[Iterable[int]], Iterable[int]] = iter,
    ) -> None:
        super().__init__(starts, read, prepare)
        self._may_hold = may_hold

    def find(self, name: str) -> int | None:
        """Find the index of a name."""
        try:
            wanted = hash_name(name)
        except InvalidInputError:
            return None
        parts = self._list_parts()
        for number in parts:
            if len(parts) == 1 or self._may_hold(number, wanted):
                names: Any = self._read(number)
                place: int | None = names.find(name)
                if place is not None:
                    return self._starts[number] + place
        return None

    def join(self) -> Names:
        """Read all names."""
        parts: Any = map(self._read, self._prepare(self._list_parts()))
        return Names.parse(b"".join(names.content for names in parts))
