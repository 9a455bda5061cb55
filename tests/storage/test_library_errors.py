"""Whatever a library raises becomes an error of this package: injected at each call of each backend."""

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb
from types import FrameType, ModuleType
from typing import Any

import pytest

import storage
from storage import BACKENDS, Backend
from tests.support.encoded_sets import make_pictures
from tests.support.image_sets import make_set

ERRORS = (MemoryError, ValueError, OverflowError, KeyError, RuntimeError, UnicodeError)
MAX_CALLS = 40  # of those with more, every second or third fails
FOLDER = str(Path(storage.__file__).parent)
SAFE = {
    "__enter__",
    "__exit__",
    "acquire",
    "close",
    "fspath",
    "getpid",
    "register_at_fork",
    "release",
}  # functions that don't fail
LANGUAGE = {"_operator", "_struct", "_thread", "builtins", "collections", "itertools", "math", "re", "time"}
SETS: Mapping[str, tuple[Any, storage.Labels]] = {"pixels": make_set(5), "encoded": make_pictures()[:2]}


def read_batch(module: Backend, store: Path) -> None:
    """Read through a reader in each way."""
    with module.open_reader(store) as reader:
        (reader.read if reader.kind == "pixels" else reader.read_encoded)([3, 1])
        reader[2]
        reader.read_labels()


CALLS: dict[str, Callable[[Backend, Path], object]] = {
    "read_many": lambda module, store: module.read_many(store),
    "read_single": lambda module, store: module.read_single(store, 3),
    "open_reader": read_batch,
    "find_pixels": lambda module, store: module.find_pixels(store),
    "find_records": lambda module, store: module.find_records(store),
}


class Injection:
    """Raises an error in place of one of the calls that this package makes to libraries."""

    def __init__(self, number: int, error: Exception) -> None:
        self.count, self.number, self.error = 0, number, error

    def __call__(self, frame: FrameType, event: str, function: Any) -> None:  # noqa: ANN401 - as of `sys.setprofile`
        """Count a call from a frame of this package."""
        if event == "c_call" and frame.f_code.co_filename.startswith(FOLDER) and is_of_library(function):
            self.count_call()

    def count_call(self) -> None:
        """Count a call, and raise the error in place of the one with the number."""
        self.count += 1
        if self.count == self.number:
            raise self.error


class Library:
    """A library written in Cython, whose calls Python doesn't report."""

    def __init__(self, module: ModuleType, injection: Injection) -> None:
        self._module, self._injection = module, injection

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the library has
        """Count what is taken from the library as a call."""
        value = getattr(self._module, name)
        if callable(value) and not (isinstance(value, type) and issubclass(value, Exception)):
            self._injection.count_call()
        return value


def is_of_library(function: Any) -> bool:  # noqa: ANN401 - a function in C
    """Check whether a function belongs to a library or the operating system, and may fail."""
    owner = getattr(function, "__module__", None) or type(function.__self__).__module__
    return function.__name__ not in SAFE and owner.partition(".")[0] not in LANGUAGE


@contextmanager
def inject(module: Backend, injection: Injection) -> Iterator[None]:
    """Have calls of libraries go through an injection."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("h5d", "h5f", "h5s", "h5l", "plyvel", "pa", "tiledb", "lmdb"):
            library = getattr(module, name, None)
            if isinstance(library, ModuleType):
                patch.setattr(module, name, Library(library, injection))
        sys.setprofile(injection)
        try:
            yield
        finally:
            sys.setprofile(None)


def find_escaped(module: Backend, store: Path, call: Callable[[Backend, Path], object], injection: Injection) -> str:
    """Make a call with an injection; return how its error escaped."""
    try:
        with inject(module, injection):
            call(module, store)
    except storage.StorageError as error:
        if error.store is not None and not error.store.is_relative_to(store):
            return f"call {injection.number}: {error} doesn't name {store}"
    except TypeError as error:
        return "" if str(error).startswith("indices are not an array") else repr(error)  # what the caller gave
    except Exception as error:  # noqa: BLE001 - any other escaped
        frames = [frame for frame in extract_tb(error.__traceback__) if frame.filename.startswith(FOLDER)]
        return f"{frames[-1].filename}:{frames[-1].lineno}: {error!r}"
    return ""


@pytest.mark.kinds(*SETS)
@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("name", [*CALLS, "store_many"])
def test_no_error_of_a_library_escapes(backend: str, name: str, kind: str, tmp_path: Path) -> None:
    module = BACKENDS[backend]
    if kind not in module.INFO.kinds:
        pytest.skip(f"{backend} stores no {kind} images")
    store = tmp_path / "store"
    module.store_many(store, *SETS[kind])
    call = CALLS.get(name, lambda module, store: module.store_many(store / "new", *SETS[kind]))
    counter = Injection(0, ValueError())
    assert not find_escaped(module, store, call, counter)
    escaped: list[str] = []
    for number in range(1, counter.count + 1, -(-counter.count // MAX_CALLS) or 1):
        shutil.rmtree(store / "new", ignore_errors=True)
        error = ERRORS[len(escaped) % len(ERRORS)]("injected")
        escaped.append(find_escaped(module, store, call, Injection(number, error)))
    assert not list(filter(None, escaped))
