"""A prefix of a bucket to which a dataset is written: what is there, what was added, and what is published in one step.

The manifest is put last, on the condition that the one that was there when the writer began still is. Whoever loses
removes its parts, but none that the manifest names that is there now: if the answer to the request was lost, it may be
a later one that was made from this writer's. If the manifest can't be read either, nothing is removed.
Objects of dead writers, and parts of replaced manifests, are removed after the next save if they and the manifest that
it replaces are older than a day: until then, somebody may read them. What a note of an unfinished conversion names is
left, however old it is, as long as the note is there: a writer may be resuming it. So are names of format 1, as other
programs use them, too, and a folder that holds a dataset of its own.
"""

import re
import secrets
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path

from ..dataset.files import DETAILS, read_details
from ..dataset.manifest import FILE, FIRST_LINE, Manifest, format_manifest, is_own, parse_manifest
from ..dataset.verification import verify_finished
from ..errors import (
    CorruptStoreError,
    InvalidInputError,
    StorageError,
    StoreExistsError,
    StoreLockedError,
    StoreNotFoundError,
)
from ..paths import is_system_file, walk_files
from ..registry import PACKAGE
from ..urls import Url
from .bucket import LINGER, Bucket, ContradictionError, Entry, Version
from .cache import hold_objects

PROGRESS = re.compile(r"progress-[0-9a-f]{16}\.json")
GRACE = timedelta(days=1)


def check_prefix(url: Url) -> bool:
    """Refuse a URL at which no dataset may be saved; tell whether there is one, which may be replaced."""
    return Prefix(url, lock=False).check(overwrite=True)


class Prefix:
    """The objects of a dataset below a URL.

    Without `lock`, nothing is conditional: the caller makes sure that there is no other writer.
    """

    def __init__(self, url: Url, *, lock: bool) -> None:
        self.url, self.bucket, self._lock = url, Bucket(url), lock
        self._listed: Entry | None = None  # the manifest when the writer began, as the server lists it
        self._found: Entry | None = None  # likewise, as it was read
        self._version: Version | None = None  # likewise
        self.manifest: Manifest | None = None  # likewise; None if there is none, or a damaged one
        self._added: set[str] = set()  # parts
        self._is_uncertain = False  # whether the manifest was put

    def check(self, *, overwrite: bool) -> bool:
        """Refuse to write over anything but a dataset that may be replaced; tell whether there is one."""
        objects, folders = self.bucket.list_folder()
        names = sorted([*(entry.name for entry in objects), *folders])
        self._found = self._listed = _find_manifest(objects)
        is_foreign = self._found is not None and not self._read_current()
        former = self._found is not None
        foreign = next((name for name in names if not (_is_own(name, former=former) or is_system_file(name))), None)
        if is_foreign:
            foreign = FILE
        if foreign is not None:
            hint = "choose another prefix, or move it"
            raise StoreExistsError(f"it holds {foreign}, which {PACKAGE}.save did not write", store=self.url, hint=hint)
        if self._found and not overwrite:
            hint = "choose another prefix, or replace it with overwrite=True"
            raise StoreExistsError("it holds a dataset", store=self.url, hint=hint)
        return self._found is not None

    def _read_current(self) -> bool:
        """Read the manifest that is there; tell whether it's ours, even if it's damaged."""
        try:
            content, self._found = self.bucket.read_entry(FILE)
        except StoreNotFoundError:
            self._found = None
            return True
        self._version = self._found.version
        with suppress(StorageError):
            self.manifest = parse_manifest(content, self.url)
        return FIRST_LINE.match(content) is not None

    def check_conditions(self) -> None:
        """Refuse a server that ignores conditions, or whose listing isn't complete: two writers would go unnoticed."""
        if not self._lock:
            return
        name = f"progress-{secrets.token_hex(8)}.json"
        self.bucket.create(name, b"")
        try:
            with suppress(StoreLockedError):
                self.bucket.create(name, b" ")
                hint = "save to another one; or, if nothing else writes there meanwhile, with lock=False (`--no-lock`)"
                problem = "this server has no conditional writes, so two writers at once would go unnoticed"
                raise StorageError(problem, store=self.url, hint=hint)
            if name not in {entry.name for entry in self.bucket.list_folder()[0]}:
                problem = "what was just written isn't in the list of objects that the server gives"
                raise StorageError(problem, store=self.url, hint="see what is between this machine and the server")
        finally:
            self.bucket.remove([name])

    def put_part(self, folder: Path, part: str) -> None:
        """Move a part, and the files beside it, from a folder into the bucket; each object is verified."""
        store = folder / part
        files = [place / name for place, names in walk_files(store) for name in names]
        files += folder.glob(f"{part}.*")
        names = [path.relative_to(folder).as_posix() for path in files]
        _refuse_names(self.url, names)
        self._added.add(part)
        self.bucket.upload_all(zip(files, names, strict=True))
        shutil.rmtree(store)
        for path in folder.glob(f"{part}.*"):
            path.unlink()

    def adopt_part(self, part: str) -> None:
        """Take a part that a worker uploaded for one that was added here."""
        self._added.add(part)

    def put_manifest(self, manifest: Manifest) -> None:
        """Publish a dataset in one step, unless another writer did; nothing is removed if that isn't known."""
        content = format_manifest(manifest)
        self._is_uncertain = True
        lost: StorageError | None = None
        try:
            try:
                self._version = self.put(FILE, content, self._version)
            except StoreLockedError as error:
                if not self._was_saved(manifest):
                    lost = error
            except ContradictionError as error:
                if not self._is_misread():
                    raise
                lost = error.replace(problem=f"nothing was saved: {error.problem}")
        except StorageError as error:
            problem = f"whether it was saved isn't known ({error.problem})"
            raise StorageError(problem, store=self.url, hint="open it to find out") from error
        if lost:
            self._is_uncertain = False
            raise lost.replace(store=self.url) from None
        self._added.clear()
        with suppress(StorageError):  # else the next writer does it
            self._remove_old()

    def _is_misread(self) -> bool:
        """Tell whether the manifest is as it was, and listed with another ETag than it is read with.

        Then no request on the condition of that one has replaced it, nor will a late one.
        """
        listed, version = _find_manifest(self.bucket.list_folder()[0]), self._version
        if listed is None or version is None or listed != self._listed:
            return False
        return listed.version.etag.strip('"') != version.etag.strip('"')  # some servers list it without quotes

    def _was_saved(self, manifest: Manifest) -> bool:
        """Tell whether the manifest that is there names parts of this one that were new, so was made from it."""
        found = self.bucket.find(FILE)
        return found is not None and not _list_names(parse_manifest(found[0], self.url)).isdisjoint(
            _list_names(manifest) - self._list_replaced()
        )

    def _list_replaced(self) -> frozenset[str]:
        """List what the manifest named that was there when the writer began."""
        return _list_names(self.manifest) if self.manifest else frozenset()

    def put_progress(self, name: str, manifest: Manifest, version: Version | None) -> Version:
        """Note what is finished, unless another writer has taken that over."""
        return self.put(name, format_manifest(manifest, name), version)

    def put(self, name: str, content: bytes, version: Version | None) -> Version:
        """Write an object if it is of this version, or isn't there."""
        if not self._lock:
            self.bucket.write(name, content)
            return self.bucket.read(name)[1]
        if version is None:
            return self.bucket.create(name, content)
        return self.bucket.replace(name, content, version)

    def withdraw(self, kept: Iterable[str] = ()) -> None:
        """Remove what was added, except parts that are kept; leave it all if the manifest may name it.

        After Ctrl-C, that may take a few seconds: nobody waits for a server that hangs, and a later save removes it.
        """
        removed = self._added - {*kept}
        if self._is_uncertain or not removed:
            return
        remover = threading.Thread(target=self._remove_parts, args=[removed], daemon=True)
        remover.start()
        remover.join(LINGER if isinstance(sys.exc_info()[1], KeyboardInterrupt) else None)

    def _remove_parts(self, removed: set[str]) -> None:
        with suppress(StorageError):  # else a later save does it
            names = [entry.name for entry in self.bucket.list_objects()]
            self.bucket.remove(name for name in names if _find_part(name) in removed)

    def is_whole(self, manifest: Manifest) -> bool:
        """Check that all objects of parts that were finished are there, and have the sizes that they had."""
        sizes = {entry.name: entry.size for entry in self.bucket.list_objects()}
        finished = [number for number, part in enumerate(manifest.parts) if not part.is_pending]
        names = [f"{manifest.parts[number].name}.{DETAILS}" for number in finished]
        if not sizes.keys() >= {*names}:
            return False
        with tempfile.TemporaryDirectory() as folder:
            try:
                self.bucket.download_all((name, Path(folder, name), sizes[name]) for name in names)
                expected = [_list_sizes(Path(folder), manifest, number) for number in finished]
            except (CorruptStoreError, StoreNotFoundError):
                return False
        return all(sizes.get(name) == size for part in expected for name, size in part.items())

    def is_undamaged(self, manifest: Manifest) -> bool:
        """Read all that was finished; tell whether it is what was written."""
        try:
            with hold_objects(self.bucket, manifest, self._version, fresh=True) as dataset:
                verify_finished(dataset)
        except (CorruptStoreError, StoreNotFoundError):
            return False
        return True

    def _remove_old(self) -> None:
        """Remove what no manifest names if it, and the manifest that was replaced, were older than a day by now."""
        objects, folders = self.bucket.list_folder()
        now = next(entry.modified for entry in objects if entry.name == FILE)
        if self._found and now - self._found.modified < GRACE:
            return
        groups: dict[str, list[Entry]] = {}
        for entry in objects:
            if entry.name != FILE and _is_own(entry.name, former=False):
                groups.setdefault(_find_part(entry.name), []).append(entry)
        for folder in folders:
            if _is_own(folder, former=False):
                groups.setdefault(folder, [])
        old = {}
        for name in groups.keys() - self._list_replaced():
            entries = groups[name] + (self.bucket.list_objects(name) if name in folders else [])
            names = [entry.name for entry in entries]
            if all(now - entry.modified > GRACE for entry in entries) and f"{name}/{FILE}" not in names:
                old[name] = names
        if old:
            used = self._list_used([entry.name for entry in objects if PROGRESS.fullmatch(entry.name)], now)
            self.bucket.remove(chain.from_iterable(names for name, names in old.items() if name not in used))

    def _list_used(self, notes: Iterable[str], now: datetime) -> set[str]:
        """List what notes of unfinished conversions and the manifest name, and notes that aren't older than a day."""
        used = set[str]()
        for note in notes:
            with suppress(CorruptStoreError, StoreNotFoundError):  # one that was given up names nothing
                content, entry = self.bucket.read_entry(note)
                used.update([_find_part(note)] if now - entry.modified <= GRACE else [])
                used |= _list_names(parse_manifest(content, self.url, note))
        content, _ = self.bucket.read(FILE)  # last: a writer that resumed may have published, and removed its note
        return used | _list_names(parse_manifest(content, self.url))


def _find_manifest(objects: Iterable[Entry]) -> Entry | None:
    return next((entry for entry in objects if entry.name == FILE), None)


def _is_own(name: str, *, former: bool) -> bool:
    return is_own(name, former=former) or PROGRESS.fullmatch(name) is not None


def _find_part(name: str) -> str:
    """Find the part that an object is of, by its name."""
    return name.partition("/")[0].partition(".")[0]


def _list_names(manifest: Manifest) -> frozenset[str]:
    """List what a manifest names: parts, and in format 1 the file of checksums."""
    return frozenset(part.name for part in manifest.parts) | ({"checksums"} if manifest.former else frozenset())


def _list_sizes(folder: Path, manifest: Manifest, number: int) -> dict[str, int]:
    """List the files of a part and those beside it, with their sizes; the details must be in the folder."""
    details, part = read_details(folder, manifest, number), manifest.parts[number].name
    beside = {f"{part}.{suffix}": file.size for suffix, file in details.beside.items()}
    return {f"{part}/{name}": size for name, size in details.sizes.items()} | beside


def _refuse_names(url: Url, names: Iterable[str]) -> None:
    """Refuse names that servers change: some take a backslash for a slash, and XML has no control characters."""
    for name in names:
        if "\\" in name or not name.isprintable():
            hint = "choose other names, or a backend whose files aren't named like images"
            raise InvalidInputError(f"not every bucket can hold an object named {name!r}", store=url, hint=hint)
