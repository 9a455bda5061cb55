"""The writer of a dataset: it writes parts into a stage, then checksums, then the manifest, and publishes the stage."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
from xxhash import xxh3_64, xxh3_64_hexdigest

from ..arrays import CHANNELS, check_labels, check_pixels
from ..contract import Images, Labels
from ..durability import make_durable, sync
from ..errors import (
    CorruptStoreError,
    ForkedWriterError,
    InvalidInputError,
    StorageError,
    StoreFullError,
    StoreNotFoundError,
    hold_interrupts,
    writing,
)
from ..paths import join_path, walk_files
from ..registry import find_backend
from .checksums import DTYPE, hash_blocks, hash_records
from .files import CHECKSUMS, check_file, count_checksums, find_structure, read_checksums
from .manifest import FILE, Manifest, name_part, read_manifest, write_manifest
from .opening import Dataset, find_module
from .replacement import (
    PRIVATE,
    check_target,
    copy_permissions,
    discard,
    find_stages,
    hold_directory,
    is_ours,
    lock_path,
    make_stage,
    publish,
)
from .secret import read_secret
from .verification import find_damage

PART = 128 << 20  # bytes of pixels that are kept in memory if images come in batches
PROGRESS = "progress.json"  # the manifest of an unfinished dataset
OTHER_HINT = "choose another backend"
SPACE_HINT = "free some space or choose another disk, then save again"


class Writer:
    """Writes one dataset in a ``with`` statement, which leaves nothing behind unless `commit` was reached.

    If `source` is not empty, finished parts stay after an error, and the same user's next writer of the same source
    resumes after them; where no secret can be kept, it starts from the beginning.
    """

    def __init__(
        self,
        path: Path | str,
        labels: Labels,
        backend: str,
        *,
        durable: bool,
        overwrite: bool,
        classes: tuple[str, ...] = (),
        source: str = "",
    ) -> None:
        join_path(Path(path), "")  # refuses impossible names
        self._path = Path(os.path.realpath(path))
        self._labels = check_labels(labels)
        self._module = find_backend(backend)
        self._durable, self._overwrite = durable, overwrite
        self._key = read_secret() if source else b""
        source = f"{source} {xxh3_64_hexdigest(self._labels.data)}" if self._key else ""
        self._manifest = Manifest(backend, 0, 0, classes=classes, source=source)
        self._digest = xxh3_64()
        self._process = os.getpid()
        self._held = ExitStack()
        self._buffer = np.empty((0, 0, 0, CHANNELS), np.uint8)
        self._waiting = 0  # images in the buffer

    @property
    def finished(self) -> int:
        """The number of images in finished parts, including those of an earlier writer."""
        return self._manifest.count

    @property
    def kept(self) -> int:
        """The number of images that the next writer needn't write again if this one fails."""
        return self.finished if self._manifest.source else 0

    @property
    def done(self) -> int:
        """The number of images added so far, including those of an earlier writer."""
        return self.finished + self._waiting

    def __enter__(self) -> Self:
        """Lock the path, refuse to replace what may not be replaced, and make or resume the stage."""
        check_target(self._path, overwrite=self._overwrite)
        with ExitStack() as stack, writing(self._path):
            stack.enter_context(lock_path(self._path))
            check_target(self._path, overwrite=self._overwrite)
            self._stage = self._take_over() or make_stage(self._path)
            stack.callback(self._leave)
            with describe_failure(self._path):
                self._held.enter_context(hold_directory(self._stage))  # in case the lock's file is deleted
            self._resources = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        """Delete the stage, unless another writer can resume it, and unlock the path."""
        if self._process == os.getpid():
            self._resources.close()

    def _take_over(self) -> Path | None:
        """Resume the stage of an earlier writer of the same source; delete all other stages of this user."""
        found = None
        for stage in find_stages(self._path):
            wanted = (
                self._manifest if self._manifest.source and found is None and is_ours(stage, private=True) else None
            )
            resumed = resume(stage, wanted, self._key) if wanted else None
            if resumed is not None:
                found, (self._manifest, self._digest) = stage, resumed
            elif is_ours(stage):
                discard(stage)
        return found

    def _leave(self) -> None:
        self._held.close()
        if not (self._manifest.source and self._manifest.parts):
            discard(self._stage)

    def add(self, images: Images) -> None:
        """Check the next images and add them; they are written when a part is full."""
        images = self._check(images)
        while len(images):
            if not self._waiting:
                per_part = max(1, PART // images[0].nbytes)
                shape = min(per_part, len(self._labels) - self.done), *images.shape[1:]
                self._buffer = np.empty(shape, np.uint8)
            batch = images[: len(self._buffer) - self._waiting]
            self._buffer[self._waiting : self._waiting + len(batch)] = batch
            self._waiting += len(batch)
            images = images[len(batch) :]
            if self._waiting == len(self._buffer):
                self._waiting = 0
                self.write_part(self._buffer)

    def _check(self, images: Images) -> Images:
        images = check_pixels(images)
        size = self._manifest.height, self._manifest.width
        if self.done and images.shape[1:3] != (size if self._manifest.parts else self._buffer.shape[1:3]):
            raise InvalidInputError(f"images of shape {images.shape} follow images of another size")
        if self.done + len(images) > len(self._labels):
            raise InvalidInputError(
                f"{self.done + len(images)} images so far, and {len(self._labels)} labels",
                hint="give each image one label",
            )
        return images

    def write_part(self, images: Images) -> None:
        """Write a part that holds the next images, which the caller has checked."""
        self._refuse_fork()
        start = self._manifest.count
        labels = self._labels[start : start + len(images)]
        with describe_failure(self._path):
            self._check_space(images)
            folder = self._stage / name_part(len(self._manifest.parts))
            self._module.store_many(folder, images, labels)
            self._read_back(folder, images, labels)
            self._append_checksums(images, labels, start)
            self._describe(folder, images)
            if self._durable:
                make_durable(folder)
            if self._manifest.source:
                self._write_manifest(PROGRESS, self._manifest, self._key)

    def commit(self) -> None:
        """Publish the dataset at its path."""
        self._refuse_fork()
        if self.done != len(self._labels):
            raise InvalidInputError(
                f"{self.done} images and {len(self._labels)} labels; nothing was saved",
                hint="give each image one label",
            )
        if not self._manifest.parts:
            raise InvalidInputError(
                "no batch shows how large the images are", hint="give an array of shape (0, H, W, 3)"
            )
        manifest = replace(self._manifest, source="")
        with describe_failure(self._path):
            self._write_manifest(FILE, manifest)
            if read_manifest(self._stage) != manifest:
                raise StorageError(f"{FILE} can't be read back")
            copy_permissions(self._path, self._stage)
            try:
                publish(self._stage, self._path, overwrite=self._overwrite, durable=self._durable)
            except BaseException:
                self._stage.chmod(PRIVATE)  # it may be resumed
                raise
        self._manifest = manifest
        with suppress(OSError):  # until here, another writer could have resumed
            (self._path / PROGRESS).unlink(missing_ok=True)

    def _refuse_fork(self) -> None:
        if self._process != os.getpid():
            raise ForkedWriterError(
                f"process {self._process} is saving it, not this one, which it forked",
                store=self._path,
                hint="save there, or to another path",
            )

    def _check_space(self, images: Images) -> None:
        """Refuse before a library meets a full disk: some crash."""
        if self._module.INFO.compresses:
            return  # the size of the store can't be known
        remaining = len(self._labels) - self._manifest.count
        needed = remaining * (images.nbytes // max(len(images), 1) + 2 * DTYPE.itemsize)
        system = os.statvfs(self._stage)
        free = system.f_bavail * system.f_frsize
        if free < needed:
            raise StoreFullError(f"{free:,} bytes are free, {needed:,} are needed", hint=SPACE_HINT)

    def _read_back(self, folder: Path, images: Images, labels: Labels) -> None:
        """Refuse a part that isn't what was given: some formats accept what they can't read later."""
        places = np.unique([0, len(images) - 1]) if len(images) else np.empty(0, np.intp)
        try:
            with hold_interrupts(), self._module.open_reader(folder) as reader:  # h5py would lose Ctrl-C
                found = len(reader), *reader.read(places)
        except StorageError as error:
            raise StorageError(f"what was written can't be read back ({error.problem})", hint=OTHER_HINT) from None
        if found[0] != len(images) or not (
            np.array_equal(found[1], images[places]) and np.array_equal(found[2], labels[places])
        ):
            raise StorageError("what was read back isn't what was written", hint=OTHER_HINT)

    def _append_checksums(self, images: Images, labels: Labels, start: int) -> None:
        records = hash_records(images, labels, np.arange(start, start + len(images)))
        content = np.concatenate([records, hash_blocks(images, labels, start)]).astype(DTYPE).data
        self._digest.update(content)
        with (self._stage / CHECKSUMS).open("ab") as file:
            file.write(content)
        if self._durable:
            sync(self._stage / CHECKSUMS)

    def _describe(self, folder: Path, images: Images) -> None:
        """Add a part that was just written to the manifest."""
        paths = sorted(place / name for place, names in walk_files(folder) for name in names)
        sizes = {str(path.relative_to(folder)): path.stat().st_size for path in paths}
        structure = find_structure(self._module, folder, sizes)
        manifest = self._manifest
        self._manifest = replace(
            manifest,
            height=images.shape[1],
            width=images.shape[2],
            parts=(*manifest.parts, len(images)),
            sizes={**manifest.sizes, **{f"{folder.name}/{name}": size for name, size in sizes.items()}},
            structure={**manifest.structure, **{f"{folder.name}/{name}": entry for name, entry in structure.items()}},
            checksum=self._digest.hexdigest(),
        )

    def _write_manifest(self, name: str, manifest: Manifest, key: bytes = b"") -> None:
        write_manifest(self._stage, manifest, name, key)
        if self._durable:
            sync(self._stage / name)
            sync(self._stage)


@contextmanager
def describe_failure(path: Path, start: int = 0) -> Iterator[None]:
    """Turn an error in the stage into one about the path; a failed write is never reported as corruption."""
    try:
        with writing(path):
            yield
    except StorageError as error:
        hint = error.hint
        if error.__cause__ is not None:  # an error of the system or a library, whose hint is about the hidden stage
            hint = SPACE_HINT if isinstance(error, StoreFullError) else ""
        problem = f"nothing was saved, and what was there is untouched ({error.problem})"
        record = None if error.record is None else start + error.record
        raise error.replace(problem=problem, store=path, record=record, hint=hint) from error


def resume(stage: Path, wanted: Manifest, key: bytes) -> tuple[Manifest, xxh3_64] | None:
    """Prepare the stage of a dead writer for the next one: return its manifest and the digest of its checksums.

    Return None if the stage has another backend, other classes, another source or key than `wanted`, or if anything in
    it is not what was written: it may become the only copy, so all of it is verified. A refusal of the system is
    raised: the stage may be whole.
    """
    try:
        manifest = read_manifest(stage, PROGRESS, key)
        if (manifest.backend, manifest.classes, manifest.source) != (wanted.backend, wanted.classes, wanted.source):
            return None
        os.truncate(stage / CHECKSUMS, sum(map(sum, count_checksums(manifest))) * DTYPE.itemsize)
        shutil.rmtree(stage / name_part(len(manifest.parts)), ignore_errors=True)
        for name in manifest.sizes:
            check_file(stage, manifest, name)
        checksums = read_checksums(stage, manifest)
        dataset = Dataset(stage, stage, manifest, find_module(stage, manifest), checksums)
        for number in range(len(manifest.parts)):
            for _, error in find_damage(dataset, number):
                raise error
        return manifest, xxh3_64((stage / CHECKSUMS).read_bytes())
    except (CorruptStoreError, StoreNotFoundError, FileNotFoundError):
        return None
