"""The names of images: relative paths, kept in a file beside each part, each ended by a null character."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import overload

import numpy as np

from ..errors import InvalidInputError

END = b"\0"
IMPOSSIBLE = re.compile(rb"[\0/]\.{0,2}(?=[\0/])")  # a part of a path that is empty, "." or ".."
CLASH, CLASH_HINT = "that of a folder with others", "choose another name for it, or for the folder"
HINT = "give each image a relative path of its own, such as cats/1.jpg"


class Names(Sequence[str]):
    """Names in one buffer, which takes a fraction of the memory of a list."""

    def __init__(self, content: bytes = b"") -> None:
        self._content = END + content
        self._ends = np.flatnonzero(np.frombuffer(self._content, np.uint8) == 0)

    @classmethod
    def join(cls, names: Iterable[object]) -> "Names":
        """Check names and copy them into a buffer; refuse what isn't a relative path, or two that are the same."""
        if isinstance(names, Names):
            check_places(names)
            return names
        encoded = list(map(encode, names))
        if len(set(encoded)) != len(encoded):
            raise InvalidInputError(f"two images have the name {_find_twice(encoded)!r}", hint=HINT)
        joined = cls(b"".join(name + END for name in encoded))
        check_places(joined)
        return joined

    @classmethod
    def parse(cls, content: bytes) -> "Names":
        """Read names; raise ValueError for what `join` refuses, as far as it does no harm among images of pixels."""
        if content and not content.endswith(END):
            raise ValueError("names that were cut short")
        impossible = IMPOSSIBLE.search(END + content)
        if impossible:
            place = impossible.start()
            name = content[content.rfind(END, 0, place) + 1 : content.index(END, place)]
            raise ValueError(f"a name that isn't a relative path, {_decode(name)!r:.200}")
        names = cls(content)
        encoded = names.split()
        if len(set(encoded)) != len(encoded):
            raise ValueError(f"two images of the name {_find_twice(encoded)!r:.200}")
        return names

    def split(self) -> list[bytes]:
        """Return all names as they are in the file, without their ends."""
        return self.content.split(END)[:-1]

    @property
    def content(self) -> bytes:
        """All names as they are in the file."""
        return self._content[1:]

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> "Names": ...

    def __getitem__(self, index: int | slice) -> "str | Names":
        """Return one name, or some that follow each other."""
        if isinstance(index, slice):
            start, stop, _ = index.indices(len(self))
            return Names(self._content[self._ends[start] + 1 : self._ends[max(start, stop)] + 1])
        position = range(len(self))[index]
        return _decode(self._content[self._ends[position] + 1 : self._ends[position + 1]])

    def find(self, name: str) -> int | None:
        """Find the index of a name."""
        try:
            place = self._content.find(END + encode(name) + END)
        except InvalidInputError:
            return None
        return None if place < 0 else int(np.searchsorted(self._ends, place))

    def __eq__(self, other: object) -> bool:
        """Compare names and their order."""
        return self._content == other._content if isinstance(other, Names) else NotImplemented

    def __hash__(self) -> int:
        """Hash the names."""
        return hash(self._content)

    def __repr__(self) -> str:
        """Say how many there are."""
        return f"<Names: {len(self):,}>"


def check_places(*several: Names) -> None:
    """Refuse names of which one is that of a folder with another: the images can't be files side by side."""
    clashes = _find_clashes({name for names in several for name in names.split()})
    if clashes:
        raise InvalidInputError(f"an image has the name {_decode(min(clashes))!r}, which is {CLASH}", hint=CLASH_HINT)


def find_refused(names: Sequence[str], check_names: Callable[[Sequence[str]], None]) -> dict[int, InvalidInputError]:
    """Find the names that can't be kept, by their indices; `check_names` is that of the backend."""
    clashes = _find_clashes(set(map(encode, names)))
    with suppress(InvalidInputError):
        check_names(names)
        if not clashes:
            return {}
    refused = {}
    for index, name in enumerate(names):
        try:
            check_names([name])
        except InvalidInputError as error:
            refused[index] = error
        else:
            if encode(name) in clashes:
                refused[index] = InvalidInputError(f"its name is {CLASH}", hint=CLASH_HINT)
    return refused


def _find_clashes(encoded: set[bytes]) -> set[bytes]:
    """Find the names that are those of folders with others."""
    return find_folders(encoded) & encoded


def find_folders(encoded: set[bytes]) -> set[bytes]:
    """Find all folders that are in names."""
    folders = {name.rpartition(b"/")[0] for name in encoded}
    waiting = folders - {b""}
    while waiting := {name.rpartition(b"/")[0] for name in waiting} - folders:
        folders |= waiting
    return folders - {b""}


def _find_twice(encoded: list[bytes]) -> str:
    return _decode(Counter(encoded).most_common(1)[0][0])


def encode(name: object) -> bytes:
    """Return a name as it is in the file; refuse what isn't a relative path."""
    if not isinstance(name, str):
        raise InvalidInputError(f"a name is a {type(name).__name__}", hint=HINT)
    try:
        encoded = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise InvalidInputError(f"{name!r} can't be the name of a file", hint=HINT) from None
    if END in encoded or {"", ".", ".."} & set(name.split("/")):
        raise InvalidInputError(f"{name!r} isn't a relative path", hint=HINT)
    return encoded


def _decode(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
