"""The contract of a backend, and the backends that this folder has: found, not listed.

`Backend` is the contract. `BACKENDS` holds the modules that keep it; `UNAVAILABLE` says why a module is not among them,
and how to get what it needs.
"""

import pkgutil
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Protocol, TypeVar, cast

from storage.checks import Image, Images, Labels
from storage.errors import BackendUnavailableError, InvalidInputError
from storage.reader import Reader


class Backend(Protocol):
    """The contract of a backend: plain functions in a plain module.

    A store is a directory that one backend fills with one image set; deleting the directory deletes the store. What was
    stored comes back exactly: pixels, order, labels, height and width, sets of no image and of one image included.
    Options beyond these arguments are keyword-only, have defaults, and change nothing that a read returns.

    No error of a library leaves a backend: each is a `StorageError` that says what happened, where, and what to do.
    Nothing is synced to disk: that is `storage.durability.make_durable`'s work, the same for every backend.
    A backend keeps no images in module globals, and closes what it opened when the function returns.

    A backend names the libraries that it stores with in ``VERSIONS``, a dict of name to version; who keeps the main one
    in ``MAINTAINER``, and its licence in ``LICENCE``, an SPDX expression. A run records all three for its page.
    If ``COMPRESSES`` is true, its stores may be far smaller than their pixels, and nobody looks for free space first.
    It may have a function ``find_pixels``, which says where in its files damage can do no worse than change pixels and
    labels: see `storage.dataset.structure`. All else of a saved store is checked before the backend opens it.
    """

    __name__: str

    def store_single(self, store: Path, image: Image, label: int) -> None:
        """Store one image, alone in its store.

        Parameters
        ----------
        store : Path
            An empty directory, or a path where none is yet.
        image : ndarray of uint8, shape (H, W, 3)
            RGB.
        label : int
            Any 64-bit integer.

        Raises
        ------
        InvalidInputError
            `image` or `label` is something else; nothing was written.
        StoreExistsError
            `store` is not empty, or is a file; nothing was written.
        StoreFullError
            The file system has no room.
        """

    def read_single(self, store: Path, index: int) -> tuple[Image, int]:
        """Read one image out of a store of any size.

        Parameters
        ----------
        store : Path
            A store of this backend.
        index : int
            From ``-N`` to ``N - 1``; negative ones count from the end.

        Returns
        -------
        image : ndarray of uint8, shape (H, W, 3)
            Fresh memory.
        label : int

        Raises
        ------
        StoreNotFoundError
            There is no store at this path.
        RecordNotFoundError
            The index is out of range.
        CorruptStoreError
            The store is cut short, damaged, or of another backend.
        """

    def store_many(self, store: Path, images: Images, labels: Labels) -> None:
        """Store an image set.

        Parameters
        ----------
        store : Path
            An empty directory, or a path where none is yet.
        images : ndarray of uint8, shape (N, H, W, 3)
            RGB; N may be 0, H and W are at least 1.
        labels : ndarray of int64, shape (N,)

        Raises
        ------
        InvalidInputError
            `images` or `labels` are something else, or differ in length; nothing was written.
        StoreExistsError
            `store` is not empty, or is a file; nothing was written.
        StoreFullError
            The file system has no room.
        """

    def read_many(self, store: Path, out: Images | None = None) -> tuple[Images, Labels]:
        """Read everything, in the order in which it was stored.

        Parameters
        ----------
        store : Path
            A store of this backend.
        out : ndarray of uint8, shape (N, H, W, 3), optional
            An array to fill, C-contiguous and writeable. After an error its content is undefined.

        Returns
        -------
        images : ndarray of uint8, shape (N, H, W, 3)
            `out`, or fresh and C-contiguous.
        labels : ndarray of int64, shape (N,)
            Fresh and C-contiguous.

        Raises
        ------
        InvalidInputError
            `out` is of another type, dtype or shape; it was not touched.
        StoreNotFoundError
            There is no store at this path.
        CorruptStoreError
            The store is cut short, damaged, or of another backend.
        """

    def open_reader(self, store: Path) -> Reader:
        """Open a store for reading in any order, as training does.

        Parameters
        ----------
        store : Path
            A store of this backend.

        Returns
        -------
        Reader
            To be closed, or used in a ``with`` statement.

        Raises
        ------
        StoreNotFoundError
            There is no store at this path.
        CorruptStoreError
            The store is cut short, damaged, or of another backend.
        """


FUNCTIONS = ("store_single", "read_single", "store_many", "read_many", "open_reader")


def list_modules() -> list[str]:
    """List the modules of this folder that may be backends, in alphabetical order: packages are none."""
    modules = pkgutil.iter_modules(import_module("storage").__path__)
    return sorted(found.name for found in modules if not found.ispkg and not found.name.startswith("_"))


@cache
def import_backend(name: str) -> ModuleType | str | None:
    """Import the backend of a name.

    Returns
    -------
    module or str or None
        The module, if it has at least one function of the contract: so one that lacks the others is noticed. Why it
        cannot be imported here: where a library is missing, the command that installs it. Or None: it is no backend.
    """
    if name not in list_modules():
        return None
    try:
        module = import_module(f"storage.{name}")
    except Exception as error:  # noqa: BLE001 - whatever it is, the other backends go on
        return _explain(name, error) if _is_written_as_backend(name) else None
    return module if any(hasattr(module, function) for function in FUNCTIONS) else None


def _is_written_as_backend(name: str) -> bool:
    """Whether a module that cannot be imported would be a backend, and not a room that a family shares."""
    spec = find_spec(f"storage.{name}")
    source = Path(spec.origin or "").read_text(encoding="utf-8") if spec else ""
    return re.search(r"^(def )?store_many\b", source, re.MULTILINE) is not None


def _explain(name: str, error: Exception) -> str:
    if isinstance(error, BackendUnavailableError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("storage"):
        return f'{error.name} is not installed: python -m pip install -e ".[{name}]"'
    return f"{type(error).__name__}: {error}"


Found = TypeVar("Found")


class Modules(Mapping[str, Found]):
    """Modules by name, in alphabetical order: one is imported when it is asked for, all are when they are listed.

    Together their libraries take half a second to import, and start threads of their own.
    """

    def __init__(self, kind: type) -> None:
        self._kind = kind

    def __getitem__(self, name: str) -> Found:
        """Return what became of importing the module; a `KeyError` if that is of another kind."""
        found = import_backend(name)
        if not isinstance(found, self._kind):
            raise KeyError(name)
        return cast("Found", found)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return (name for name in list_modules() if name in self)

    def __len__(self) -> int:
        """Count the names."""
        return sum(1 for _ in self)


BACKENDS = Modules[Backend](ModuleType)
UNAVAILABLE = Modules[str](str)


def find_backend(name: str) -> Backend:
    """Find a backend by its name.

    Raises
    ------
    InvalidInputError
        There is none of this name here; the message names those that are.
    """
    if name in BACKENDS:
        return BACKENDS[name]
    reason = f"is not here ({UNAVAILABLE[name]})" if name in UNAVAILABLE else "is no backend"
    raise InvalidInputError(f"{name!r} {reason}: choose one of {', '.join(BACKENDS)}")
