"""The cache of datasets in buckets: a folder for each, into which its files come when they are read.

Its files are those of a dataset on a disk, and are verified as these are. Parts are filled as they are read (see
`ranges`). If the cache is full, the parts that were used least recently are deleted, but none that a process is
reading: each holds a shared lock on the folder of the part. Nobody but the user may write to the cache.

The user may have other files in the folder that was chosen. So the cache is a folder of its own in it, and nothing is
deleted there but what has one of the names that are given here.
"""

import fcntl
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

from xxhash import xxh3_64_hexdigest

from ..dataset.manifest import FILE, Manifest, parse_manifest
from ..dataset.opening import Dataset, Origin, find_module
from ..dataset.replacement import PRIVATE, discard, hold_directory, is_ours
from ..errors import CorruptStoreError, InvalidInputError, StorageError, StoreLockedError, StoreNotFoundError
from ..paths import join_path
from ..reader import fork_lock
from ..registry import PACKAGE
from ..urls import Url, find_location
from .ranges import BLOCK, CHOOSE, Piece, SparseStore, caching, check_sizes

MAX_BYTES = 32 << 30
STEP = 64 << 20  # bytes that come before the size of the cache is measured again
PART = 128 << 20  # bytes that a part usually has
NAME = "image-storage"
BLOCKS, TRASH, FRESH = ".blocks", ".trash-", "fresh-"
DATASETS, FRESHES, TRASHES = (re.compile(name) for name in (r"[0-9a-f]{16}", FRESH + r"\w{8}", r"\.trash-[0-9a-f]{16}"))
PARTS = re.compile(r"(part-\d{5,}(?:-[0-9a-f]{8})?)(\.[a-z]+)?")  # and what is beside them
TAG, SIGNATURE = "CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55\n"  # backups leave such a folder out
PAUSE, TIMEOUT, ABANDONED = 0.01, 60.0, 3600.0  # seconds
T = TypeVar("T")


def cache(folder: Path | str | None = None, *, max_bytes: int = MAX_BYTES) -> None:
    """Choose where datasets in buckets are kept on this machine while they are read, and how much of them.

    Parameters
    ----------
    folder : Path or str, optional
        They are kept in ``image-storage`` in it, and no other file there is touched. Made if it isn't there. By
        default, ``$XDG_CACHE_HOME``, or else ``~/.cache``.
    max_bytes : int
        How many bytes it may have, 32 GiB by default. If there are more, what was used least recently is deleted, but
        no part that any process is reading.

    Raises
    ------
    InvalidInputError
        `max_bytes` is no number above 0, or `folder` is the URL of a bucket.

    Examples
    --------
    >>> import storage
    >>> storage.cache("cache", max_bytes=100 << 30)
    >>> storage.cache()  # the default again
    """
    if type(max_bytes) is not int or max_bytes <= 0:
        raise InvalidInputError(f"max_bytes is {max_bytes!r}", hint="give a number above 0")
    Cache.chosen = Cache(None if folder is None else _find_folder(folder), max_bytes)


def _find_folder(given: Path | str) -> Path:
    """Take the path of a folder, of which ~ is this user's home; a URL may hold a secret, so it isn't repeated."""
    try:
        found = find_location(given)
    except InvalidInputError:
        found = None
    if not isinstance(found, Path):
        raise InvalidInputError("the cache can't be at a URL: it is on this machine", hint="give the path of a folder")
    if not os.fspath(given):
        raise InvalidInputError("the path of the cache: it is empty", hint="give the path of a folder")
    join_path(found, "")  # refuses impossible names
    with suppress(RuntimeError):  # nobody's home
        found = found.expanduser()
    return found.absolute()


class _Group(NamedTuple):
    """A part in the cache, with the files beside it."""

    used: float  # when it was used last
    size: int
    path: Path  # of its store


@dataclass(frozen=True)
class Cache:
    """A folder that holds at most so many bytes; by default, the user's."""

    given: Path | None = None
    max_bytes: int = MAX_BYTES
    chosen: ClassVar["Cache"]

    def make(self) -> Path:
        """Make the folder of the cache in the given one; refuse one to which another user could write."""
        outer = self.given or _find_default()
        folders = [Path(os.path.realpath(path)) for path in (outer, outer / NAME)]  # `is_ours` follows no link
        folder = folders[-1]
        with caching(folder):
            for each in folders if self.given else [folder]:
                each.mkdir(PRIVATE, parents=True, exist_ok=True)
                if not is_ours(each, private=True):
                    problem = "another user could write to this cache, and so change what is read from it"
                    raise StorageError(problem, store=each, hint=CHOOSE)
            if not (folder / TAG).exists():
                (folder / TAG).write_bytes(SIGNATURE)
        return folder

    def make_room(self, needed: int) -> None:
        """Delete what was used least recently, until there is room for so many bytes."""
        groups = sorted(_list_groups(self.make()))
        surplus = sum(group.size for group in groups) + needed - self.max_bytes
        for group in groups:
            if surplus <= 0:
                return
            if _remove(group.path):
                surplus -= group.size


Cache.chosen = Cache()


def _find_default() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME", ""))  # the specification ignores a relative path
    try:
        return home if home.is_absolute() else Path.home() / ".cache"
    except RuntimeError:
        raise StorageError("this user has no home for a cache", hint=CHOOSE) from None


def _list_groups(root: Path) -> Iterator[_Group]:
    """List the parts of all datasets in the cache, and delete what dead processes left."""
    for entry in _list_folder(root):
        with suppress(FileNotFoundError):  # another process removes it
            if FRESHES.fullmatch(entry.name) and time.time() - entry.stat().st_mtime > ABANDONED:
                discard(Path(entry))
        if DATASETS.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
            yield from _list_parts(Path(entry))


def _list_folder(folder: Path) -> list[os.DirEntry[str]]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        return list(entries)
    return []


def _list_parts(folder: Path) -> Iterator[_Group]:
    """List the parts of a dataset, and delete what was left of others."""
    sizes: dict[str, int] = {}
    used: dict[str, float] = {}
    for entry in _list_folder(folder):
        if TRASHES.fullmatch(entry.name):
            shutil.rmtree(entry, ignore_errors=True)
        found = PARTS.fullmatch(entry.name)
        if found is None:
            continue
        with suppress(FileNotFoundError):  # another process removes it
            name, status = found[1], entry.stat(follow_symlinks=False)
            sizes[name] = sizes.get(name, 0) + status.st_blocks * 512
            if found[2] == BLOCKS:
                sizes[name] += Path(entry).read_bytes().count(1) * BLOCK
            used[name] = max(used.get(name, 0.0), status.st_mtime)
    yield from (_Group(used[name], size, folder / name) for name, size in sizes.items())


def _remove(store: Path) -> bool:
    """Delete a part and the files beside it, unless it is being read; tell whether it was."""
    try:
        store.mkdir(PRIVATE, exist_ok=True)  # without it, a reader could make it and hold it meanwhile
        descriptor = os.open(store, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), store.stat()):  # another process deleted it meanwhile
            return False
        for path in store.parent.glob(f"{store.name}.*"):
            path.unlink(missing_ok=True)
        _discard(store)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _discard(store: Path) -> None:
    """Delete a part, of which another process never finds half."""
    store.with_name(f"{store.name}{BLOCKS}").unlink(missing_ok=True)
    trash = store.with_name(f"{TRASH}{secrets.token_hex(8)}")
    with suppress(FileNotFoundError):
        store.rename(trash)
    shutil.rmtree(trash, ignore_errors=True)


@dataclass(frozen=True)
class Cached(Origin):
    """Brings the files of a dataset from a bucket into a folder of the cache."""

    bucket: Any
    cache: Cache
    folder: Path
    manifest: Manifest
    version: Any  # of the manifest's object
    is_fresh: bool  # whether nothing is kept
    _renewed: set[str] = field(default_factory=set)
    _fetched: list[int] = field(default_factory=lambda: [STEP])  # bytes since the cache was measured

    @property
    def most_open(self) -> int:
        """How many parts may be held at once, so that they fit."""
        return max(1, self.cache.max_bytes // (2 * PART))

    def fits(self, size: int) -> bool:
        """Whether all bytes of a dataset of this size can be kept, beside as many of others."""
        return 2 * size <= self.cache.max_bytes

    def bring(self, name: str) -> None:
        """Have a file beside the parts in the folder; if the bucket hasn't got it, the reader finds it missing."""
        if not (self.folder / name).exists():
            self._keep(name, self.bucket.find(name))

    def bring_all(self, names: Iterable[str]) -> None:
        """Have several there; many are asked for at once."""
        self.bucket.find_all((name for name in names if not (self.folder / name).exists()), self._keep)

    def _keep(self, name: str, found: tuple[bytes, Any] | None) -> None:
        if found is None:
            self._refuse_replaced()
            return
        self._count(len(found[0]))
        with caching(self.folder.parent):
            self.folder.mkdir(PRIVATE, exist_ok=True)
            new = self.folder / f".{secrets.token_hex(8)}"
            new.write_bytes(found[0])
            new.rename(self.folder / name)

    @contextmanager
    def hold(self, number: int, dataset: Dataset) -> Iterator[SparseStore]:
        """Have the structure of a part in the folder, and keep others from deleting it; the rest comes when needed."""
        part = dataset.manifest.parts[number].name
        details = dataset.details.get(number) or dataset.read_details(number)
        with ExitStack() as stack:
            store = self.folder / part
            _lock(store, stack)
            if self.is_fresh:
                stack.callback(_discard, store)
            check_sizes(store, part, details, self.fetch)
            filling = SparseStore(store, part, details, self.fetch)
            filling.make()
            with suppress(OSError):
                os.utime(f"{store}{BLOCKS}")
            filling.fetch_structure()
            yield filling

    def fetch(self, pieces: Iterable[Piece]) -> None:
        """Fetch pieces of parts."""
        listed = list(pieces)
        self._count(sum(end - start for _, (start, end), _, _ in listed))
        try:
            self.bucket.read_pieces(listed)
        except StoreNotFoundError as error:
            self._refuse_replaced()
            raise CorruptStoreError("it is missing", store=error.store) from error

    def _count(self, size: int) -> None:
        """Count bytes that come, and make room for them from time to time."""
        self._fetched[0] += size
        if self._fetched[0] >= STEP:
            self.cache.make_room(self._fetched[0])
            self._fetched[0] = 0

    def _refuse_replaced(self) -> None:
        """Raise an error if what is missing belongs to a dataset that isn't there any more."""
        if self.bucket.find_version(FILE) == self.version:  # which takes less than to read it
            return
        found = self.bucket.find(FILE)
        with suppress(CorruptStoreError):
            if found and parse_manifest(found[0], self.bucket.url) == self.manifest:  # a proxy may change versions
                return
        problem = "it was replaced or deleted while it was open"
        raise StoreNotFoundError(problem, store=self.bucket.url, hint="open it again")

    def renew(self, name: str) -> bool:
        """Delete what was found to be damaged, once, so that it comes again.

        Another thread that found the same damage reads what has come meanwhile.
        """
        with fork_lock:
            if name not in self._renewed:
                self._renewed.add(name)
                path = self.folder / name
                with suppress(OSError):
                    _discard(path) if path.is_dir() else path.unlink()
        return True

    def pass_on(self, open_store: Callable[[Path], T]) -> Callable[[Path], T]:
        """Have a function that opens a dataset use the same cache."""
        return partial(_open_with, self.cache, open_store)


def _open_with(chosen: Cache, open_store: Callable[[Path], T], store: Path) -> T:
    before, Cache.chosen = Cache.chosen, chosen
    try:
        return open_store(store)
    finally:
        Cache.chosen = before


def _lock(store: Path, stack: ExitStack) -> None:
    """Make the folder of a part and hold it; wait for a process that is about to delete it."""
    end = time.monotonic() + TIMEOUT
    while True:
        with caching(store.parents[1]):
            store.mkdir(PRIVATE, parents=True, exist_ok=True)
        try:
            stack.enter_context(hold_directory(store))
        except (StoreNotFoundError, StoreLockedError):
            if time.monotonic() > end:
                raise
            time.sleep(PAUSE)
        else:
            return


@contextmanager
def hold_remote(url: Url, *, fresh: bool = False) -> Iterator[Dataset]:
    """Read the manifest of a dataset in a bucket; if `fresh`, nothing that was in the cache before is used."""
    from .bucket import Bucket  # noqa: PLC0415 - needs obstore

    bucket = Bucket(url)
    found = bucket.find(FILE)
    if found is None:
        hint = f"correct the URL, or save images there first with {PACKAGE}.save"
        raise StoreNotFoundError(f"it has no {FILE}", store=url, hint=hint)
    with hold_objects(bucket, parse_manifest(found[0], url), found[1], fresh=fresh) as dataset:
        yield dataset


@contextmanager
def hold_objects(bucket: Any, manifest: Manifest, version: Any, *, fresh: bool) -> Iterator[Dataset]:  # noqa: ANN401 - needs obstore
    """Hold the dataset of a manifest that was read, or will be published in place of the one of this version."""
    url, chosen = bucket.url, Cache.chosen
    module, root = find_module(url, manifest), chosen.make()
    with ExitStack() as stack:
        folder = root / _name_folder(url, manifest)
        if fresh:
            with caching(root):
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=FRESH, dir=root)))
            stack.enter_context(hold_directory(folder))
        origin = Cached(bucket, chosen, folder, manifest, version, fresh)
        yield Dataset(url, folder, manifest, module, origin=origin)


def _name_folder(url: Url, manifest: Manifest) -> str:
    """Name the folder of a dataset; the parts of format 1 have no unique names, so each dataset has its own."""
    return xxh3_64_hexdigest(f"{url} {manifest.former[0] if manifest.former else ''}".encode())
