"""The writer of a dataset: parts go into a stage, then checksums, then the manifest, and all of it to its path."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from xxhash import xxh3_64, xxh3_64_hexdigest

from ..arrays import CHANNELS, check_labels, check_pixels
from ..contract import Images, Labels
from ..durability import make_durable, sync
from ..errors import ForkedWriterError, InvalidInputError, StorageError, StoreFullError, writing
from ..paths import join_path
from ..registry import find_backend
from .checksums import DTYPE, hash_blocks, hash_records
from .files import CHECKSUMS, measure_files
from .manifest import FILE, Manifest, name_part, write_manifest
from .progress import PROGRESS, resume
from .replacement import (
    check_target,
    discard,
    find_stages,
    keep_access,
    lock_path,
    make_stage,
    pin,
    put_in_place,
)
from .structure import find_structure

PART = 128 << 20  # bytes of pixels that are kept in memory, where images come in batches


class Writer:
    """Writes one dataset; in a ``with`` statement, which leaves nothing behind unless `commit` was reached.

    Parameters
    ----------
    path : Path or str
        Where the dataset will be.
    labels : ndarray of int64, shape (N,)
        Of all images.
    backend : str
        A name in `storage.BACKENDS`.
    durable : bool
        Wait until the disk holds everything before the dataset comes to its path.
    overwrite : bool
        Replace a dataset that is there.
    classes : tuple of str
        What the labels 0, 1, ... stand for.
    source : str
        Where it is not empty, finished parts stay after an error, and a writer of the same source goes on behind them.

    Raises
    ------
    InvalidInputError
        `labels` are no labels, or there is no such backend.
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
        join_path(Path(path), "")  # refuses what no file can be named
        self._path = Path(os.path.realpath(path))
        self._labels = check_labels(labels)
        self._module = find_backend(backend)
        self._durable, self._overwrite = durable, overwrite
        if source:
            source = f"{source} {xxh3_64_hexdigest(self._labels.data)}"
        self._manifest = Manifest(backend, 0, 0, classes=classes, source=source)
        self._digest = xxh3_64()
        self._process = os.getpid()
        self._hold = ExitStack()
        self._buffer = np.empty((0, 0, 0, CHANNELS), np.uint8)
        self._waiting = 0  # images in the buffer

    @property
    def finished(self) -> int:
        """How many images are in finished parts, those of an earlier writer included."""
        return self._manifest.count

    @property
    def done(self) -> int:
        """How many images were added, those of an earlier writer included."""
        return self.finished + self._waiting

    def __enter__(self) -> Self:
        """Lock the path, see what is there, and make the stage.

        Raises
        ------
        StoreExistsError
            Something is at the path, and may not be replaced.
        StoreLockedError
            Another writer is writing to the path.
        """
        check_target(self._path, overwrite=self._overwrite)
        with ExitStack() as stack, writing(self._path):
            stack.enter_context(lock_path(self._path))
            check_target(self._path, overwrite=self._overwrite)
            self._stage = self._take_over() or make_stage(self._path)
            stack.callback(self._leave)
            with explain(self._path):
                self._hold.enter_context(pin(self._stage))  # even a writer whose lock was deleted keeps its stage
            self._resources = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Delete the stage, unless another writer may go on with it, and let the path go."""
        if self._process == os.getpid():
            self._resources.close()

    def _leave(self) -> None:
        self._hold.close()
        if not (self._manifest.source and self._manifest.parts):
            discard(self._stage)

    def add(self, images: Images) -> None:
        """Add the next images; they are written when a part is full.

        Parameters
        ----------
        images : ndarray of uint8, shape (n, H, W, 3)

        Raises
        ------
        InvalidInputError
            They are no images, of another size than those before, or more than there are labels.
        StoreFullError
            The file system has no room.
        """
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

    def write_part(self, images: Images) -> None:
        """Write a part that holds the next images.

        Parameters
        ----------
        images : ndarray of uint8, shape (n, H, W, 3)

        Raises
        ------
        InvalidInputError, StoreFullError
            As `add`.
        """
        images = self._check(images)
        start = self._manifest.count
        labels = self._labels[start : start + len(images)]
        with explain(self._path):
            self._check_space(images)
            folder = self._stage / name_part(len(self._manifest.parts))
            self._module.store_many(folder, images, labels)
            self._append_checksums(images, labels, start)
            self._describe(folder, images)
            if self._durable:
                make_durable(folder)
            if self._manifest.source:
                self._write_manifest(PROGRESS, self._manifest)

    def commit(self) -> None:
        """Bring the dataset to its path.

        Raises
        ------
        InvalidInputError
            There were fewer images than labels.
        """
        self._refuse_fork()
        if self.done != len(self._labels):
            raise InvalidInputError(
                f"{self.done} images and {len(self._labels)} labels: give one label an image; nothing was saved"
            )
        if not self._manifest.parts:
            raise InvalidInputError("no batch says how large the images are: give an array of shape (0, H, W, 3)")
        with explain(self._path):
            keep_access(self._path, self._stage)
            manifest = replace(self._manifest, source="")
            self._write_manifest(FILE, manifest)
            put_in_place(self._stage, self._path, overwrite=self._overwrite, durable=self._durable)
            self._manifest = manifest
        with suppress(OSError):  # until here, another writer could have gone on
            (self._path / PROGRESS).unlink(missing_ok=True)

    def _take_over(self) -> Path | None:
        """Find what an earlier writer of the same source left; delete what others left."""
        found = None
        for stage in find_stages(self._path):
            resumed = resume(stage, self._manifest) if self._manifest.source and found is None else None
            if resumed is None:
                discard(stage)
            else:
                found, (self._manifest, self._digest) = stage, resumed
        return found

    def _check(self, images: Images) -> Images:
        self._refuse_fork()
        images = check_pixels(images)
        size = self._manifest.height, self._manifest.width
        if self.done and images.shape[1:3] != (size if self._manifest.parts else self._buffer.shape[1:3]):
            raise InvalidInputError(f"images of shape {images.shape} come behind images of another size")
        if self.done + len(images) > len(self._labels):
            raise InvalidInputError(
                f"{self.done + len(images)} images so far, and {len(self._labels)} labels: give one label an image"
            )
        return images

    def _refuse_fork(self) -> None:
        if self._process != os.getpid():
            raise ForkedWriterError(
                f"{self._path} is being saved by process {self._process}, not by this one, which it forked: save "
                "there, or to another path"
            )

    def _check_space(self, images: Images) -> None:
        """Refuse before a library meets a full disk: not every one survives that."""
        if self._module.INFO.compresses:
            return  # nobody knows how small the store will be
        remaining = len(self._labels) - self._manifest.count
        needed = remaining * (images.nbytes // max(len(images), 1) + 2 * DTYPE.itemsize)
        system = os.statvfs(self._stage)
        free = system.f_bavail * system.f_frsize
        if free < needed:
            raise StoreFullError(f"no room: {free:,} bytes are free, {needed:,} are needed")

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
        sizes = measure_files(folder)
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

    def _write_manifest(self, name: str, manifest: Manifest) -> None:
        write_manifest(self._stage, manifest, name)
        if self._durable:
            sync(self._stage / name)
            sync(self._stage)


@contextmanager
def explain(path: Path) -> Iterator[None]:
    """Say of an error in the stage what it means for the path."""
    try:
        with writing(path):
            yield
    except StorageError as error:
        kind, cure = type(error), ""
        if kind is StoreFullError:
            cure = ": free some space, or choose another disk, then save again"
        raise kind(
            f"{path}: nothing was saved, and what was there is untouched ({error.__cause__ or error}){cure}"
        ) from error
