"""The backends: every module of `backends/` without a leading underscore, and those of other packages.

`BACKENDS` holds the modules that can be used, `UNAVAILABLE` the reason why another one can't, and how to install it.
A package adds a backend through the entry-point group ``image_storage.backends``.
"""

import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, wraps
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar, cast

from .arrays import check_image
from .contract import Backend, BackendInfo, Image, Labels, Records
from .encoded import Content
from .errors import BackendUnavailableError, InvalidInputError
from .inputs import take_images, take_labels, take_out

PACKAGE = __name__.rpartition(".")[0]  # `storage` in the repository, `image_storage` where it is installed
GROUP = "image_storage.backends"
REQUIRED = ("INFO", "store_many", "read_many", "open_reader")


@cache
def list_modules() -> dict[str, str | EntryPoint]:
    """List what may be a backend by name, in alphabetical order: modules of `backends/`, and entry points."""
    folder = import_module(f"{PACKAGE}.backends").__path__
    modules: dict[str, str | EntryPoint] = {entry.name: entry for entry in entry_points(group=GROUP)}
    built_in = [found.name for found in pkgutil.iter_modules(folder) if not found.name.startswith("_")]
    modules |= {name: f"{PACKAGE}.backends.{name}" for name in built_in}  # no package replaces these
    return dict(sorted(modules.items()))


def add_module(name: str) -> None:
    """Make any module a backend for this process, under its dotted name, such as ``my_package.raw``."""
    list_modules()[name] = name


@cache
def import_backend(name: str) -> Backend | str:
    """Import a backend by its name in `list_modules`, or say why that fails."""
    found = list_modules()[name]
    try:
        module = import_module(found) if isinstance(found, str) else found.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it must not stop the other backends
        return _explain(name, found, error)
    if not isinstance(module, ModuleType):
        return f"its entry point is of type {type(module).__name__}: it must name a module"
    if missing := [name for name in REQUIRED if not hasattr(module, name)]:
        return f"{module.__name__} lacks {', '.join(missing)}"
    if not isinstance(module.INFO, BackendInfo):
        kind = type(module.INFO)
        return f"INFO of {module.__name__} is a {kind.__module__}.{kind.__name__}, not a BackendInfo of {PACKAGE}"
    return complete(module)


def complete(module: ModuleType) -> Backend:
    """Add what a module may leave out: five functions, and other input than arrays."""
    backend = cast("Backend", module)
    vars(module)["store_many"] = _accept_inputs(module.store_many)
    vars(module)["read_many"] = _return_out(module.read_many)

    def store_single(store: Path, image: Image | Content, label: int) -> None:
        """Store one image alone in its store."""
        backend.store_many(store, *check_image(image, label))

    def read_single(store: Path, index: int) -> tuple[Image | Any, int]:
        """Read one image through a reader."""
        with backend.open_reader(store) as reader:
            if reader.kind == "pixels":
                return reader[index]
            files, labels = reader.read_encoded([index])
            return bytes(files[0]), int(labels[0])

    def find_pixels(store: Path) -> dict[str, list[range]]:  # noqa: ARG001 - as in the contract
        """Find nothing: all bytes are verified before the store is opened."""
        return {}

    def find_records(store: Path) -> list[Records]:  # noqa: ARG001 - likewise
        """Find nothing: the store is fetched as a whole."""
        return []

    def check_names(names: Sequence[str]) -> None:
        """Accept any names: they aren't those of files."""

    defaults: tuple[Callable[..., object], ...] = (store_single, read_single, find_pixels, find_records, check_names)
    for default in defaults:
        vars(module).setdefault(default.__name__, default)
    return backend


def _accept_inputs(store_many: Callable[..., None]) -> Callable[..., None]:
    """Accept lists and tensors, and the names of images and classes for a layout that has no room for them."""
    has_names = "names" in signature(store_many).parameters

    @wraps(store_many)
    def store_inputs(
        store: Path,
        images: Any,  # noqa: ANN401 - whatever a caller gives
        labels: Any,  # noqa: ANN401 - likewise
        *,
        names: Sequence[str] | None = None,
        classes: Sequence[str] | None = None,
        **options: Any,  # noqa: ANN401 - of the backend
    ) -> None:
        if has_names:
            options |= {"names": names, "classes": classes}
        store_many(store, take_images(images), take_labels(labels), **options)

    return store_inputs


def _return_out(read_many: Callable[..., tuple[Any, Labels]]) -> Callable[..., tuple[Any, Labels]]:
    """Return what was given as `out`, also if it is a tensor."""

    @wraps(read_many)
    def read_into(store: Path, out: Any = None) -> tuple[Any, Labels]:  # noqa: ANN401 - likewise
        if out is None:
            return read_many(store)
        return out, read_many(store, take_out(out))[1]

    return read_into


def _explain(name: str, found: str | EntryPoint, error: Exception | SystemExit) -> str:
    if isinstance(error, BackendUnavailableError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.partition(".")[0] != PACKAGE:
        if isinstance(found, EntryPoint) or found == name:
            return f"{error.name} is not installed, and {getattr(found, 'value', found)} needs it"
        source = '-e ".' if PACKAGE == "storage" else '"image-storage'
        return f'{error.name} is not installed: python -m pip install {source}[{name}]"'
    return f"{type(error).__name__}: {error}"


Found = TypeVar("Found")


class _Modules(Mapping[str, Found], Generic[Found]):
    """Backends by name, in alphabetical order; each is imported when it is asked for, all when they are listed."""

    def __init__(self, accept: Callable[[Backend | str], Found | None]) -> None:
        self._accept = accept

    def __getitem__(self, name: str) -> Found:
        found = self._accept(import_backend(name)) if name in list_modules() else None
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return (name for name in list_modules() if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


BACKENDS = _Modules[Backend](lambda found: None if isinstance(found, str) else found)
UNAVAILABLE = _Modules[str](lambda found: found if isinstance(found, str) else None)


def find_backend(name: str) -> Backend:
    """Return the backend of this name, or raise `InvalidInputError` with the names that can be used."""
    if name in BACKENDS:
        return BACKENDS[name]
    reason = f"can't be used here ({UNAVAILABLE[name]})" if name in UNAVAILABLE else "isn't a backend"
    raise InvalidInputError(f"{name!r} {reason}", hint=f"choose one of {', '.join(BACKENDS)}")
