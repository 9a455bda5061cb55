"""The writer of a dataset: it writes parts into a stage, then the manifest, and publishes the stage."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from ..arrays import check_pixels
from ..contract import Backend, Encoded, Images
from ..errors import (
    CorruptStoreError,
    ForkedWriterError,
    InvalidInputError,
    StorageError,
    StoreFullError,
    StoreNotFoundError,
    writing,
)
from ..paths import join_path
from ..registry import find_backend
from ..urls import Location, Url
from .annotations import Annotations
from .details import Summary
from .gathering import FileBuffer, PixelBuffer, make_buffer
from .manifest import Manifest, find_form, put_manifest, read_manifest
from .parts import OTHER_HINT, SPACE_HINT, PartWriter, check_kind, check_space
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
    remove_unreferenced,
)
from .secret import read_secret
from .verification import verify_stage

PART = 128 << 20  # bytes of images that are kept in memory if they come in batches
PROGRESS = "progress.json"  # the manifest of an unfinished dataset


class ImageWriter:
    """Gathers images and writes them as parts into a folder."""

    _path: Location  # of the dataset
    _folder: Path  # where the parts are written
    _module: Backend
    _manifest: Manifest
    _summary: Summary  # of all images that there will be
    _before = 0  # images that were in the dataset already
    _first_part = _first_image = 0  # numbers of the first ones that are written here

    def __init__(self, annotations: Annotations, *, durable: bool, lock: bool = True) -> None:
        self._annotations = annotations
        self._durable, self._lock = durable, lock
        self._process = os.getpid()
        self._buffer: PixelBuffer | FileBuffer | None = None

    @property
    def finished(self) -> int:
        """The number of images in finished parts, including those that were there before."""
        return self._manifest.count

    @property
    def done(self) -> int:
        """The number of images added so far, including those that were there before."""
        return self.finished + (self._buffer.waiting if self._buffer else 0)

    def add(self, images: Images | Encoded) -> None:
        """Check the next images and add them; they are written when a part is full."""
        rest: Any = self._check(images)
        while len(rest):
            if self._buffer is None:
                self._buffer = make_buffer(rest, PART, self._before + len(self._annotations) - self.done)
            rest = self._buffer.add(rest)
            if self._buffer.is_full:
                buffer, self._buffer = self._buffer, None
                self._write(buffer.take())

    def write_part(self, images: Images | Encoded) -> None:
        """Check the next images and write them as a part."""
        self._write(self._check(images))

    def _check(self, images: Images | Encoded) -> Images | Encoded:
        check_kind(self._module, images)
        if not isinstance(images, Encoded):
            images = check_pixels(images)
        expected = self._manifest.form if self._manifest.parts else self._buffer and self._buffer.form
        if expected is not None and expected != find_form(images):
            what = "image files" if isinstance(images, Encoded) else f"{images.dtype} images of shape {images.shape}"
            raise InvalidInputError(f"{what} follow images of another size or kind")
        added = self.done - self._before + len(images)
        if added > len(self._annotations):
            raise InvalidInputError(
                f"{added} images so far, and {len(self._annotations)} labels", hint="give each image one label"
            )
        return images

    def _write(self, images: Images | Encoded) -> None:
        self._refuse_fork()
        manifest, start = self._manifest, self._manifest.count - self._before
        annotations = self._annotations.take(start, start + len(images))
        with describe_failure(self._path):
            check_space(self._folder, self._module, images, self._count_kept(images, start))
            writer = PartWriter(self._folder, self._module, durable=self._durable)
            number, first = self._first_part + len(manifest.parts), self._first_image + manifest.count
            part = writer.write(number, first, images, annotations, self._summary)
            parts = (*manifest.parts, part)
            kind, shape, dtype = find_form(images)
            written = replace(manifest, kind=kind, shape=shape, dtype=dtype, parts=parts)
            self._put_part(written)
            self._manifest = written
            self._note_progress()

    def _count_kept(self, images: Images | Encoded, start: int) -> int:  # noqa: ARG002 - of another writer
        """Count the images for which the folder must have room, from the ones that are written now on."""
        return len(self._annotations) - start

    def _put_part(self, manifest: Manifest) -> None:
        """Put the last part of a manifest, which was just written, where the dataset is."""

    def _note_progress(self) -> None:
        """Do what is to be done after each part."""

    def _check_end(self) -> None:
        """Refuse to publish fewer images than labels, or in another process."""
        self._refuse_fork()
        added = self.done - self._before
        if added != len(self._annotations):
            raise InvalidInputError(
                f"{added} images and {len(self._annotations)} labels; nothing was saved",
                hint="give each image one label",
            )

    def _refuse_fork(self) -> None:
        if self._process != os.getpid():
            raise ForkedWriterError(
                f"process {self._process} is saving it, not this one, which it forked",
                store=self._path,
                hint="save there, or to another path",
            )


class DatasetWriter(ImageWriter, ABC):
    """Writes one dataset in a ``with`` statement, which leaves nothing behind unless `commit` was reached.

    If `source` is not empty, finished parts stay after an error, and the next writer of the same source resumes after
    them.
    """

    def __init__(
        self, annotations: Annotations, backend: str, *, durable: bool, overwrite: bool, source: str, lock: bool
    ) -> None:
        super().__init__(annotations, durable=durable, lock=lock)
        self._overwrite = overwrite
        self._module = find_backend(backend)
        self._manifest = Manifest(backend, source=f"{source} {annotations.identify()}" if source else "")
        self.describe(annotations)

    def describe(self, annotations: Annotations) -> None:
        """Set what is known about the images, before any of them is added."""
        self._module.check_names(annotations.names or ())
        self._annotations, self._summary = annotations, annotations.summarize()
        self._manifest = replace(self._manifest, classes=annotations.classes, losses=annotations.losses)

    keeps_in: str  # where the next writer finds it

    @property
    def kept(self) -> int:
        """The number of images that the next writer needn't write again if this one fails."""
        return self.finished if self._manifest.source else 0

    @abstractmethod
    def __enter__(self) -> Self:
        """Refuse to replace what may not be replaced, and find out what can be resumed."""

    @abstractmethod
    def __exit__(self, *exception: object) -> None:
        """Remove what was written, unless it was published or another writer can resume it."""

    @abstractmethod
    def replaces(self, manifest: Manifest) -> bool:
        """Whether what will be replaced is still the dataset with this manifest."""

    @abstractmethod
    def commit(self) -> None:
        """Publish the dataset at its path."""

    def abandon(self) -> None:
        """Keep nothing for another writer."""
        self._manifest = replace(self._manifest, parts=())

    def _check_end(self) -> None:
        super()._check_end()
        if not self._manifest.parts:
            raise InvalidInputError(
                "no batch shows what kind of images there are none of",
                hint="give an array of shape (0, H, W) or (0, H, W, C), or Encoded.join([])",
            )


class Writer(DatasetWriter):
    """Writes a dataset on a file system. The same user resumes; where no secret can be kept, nothing is resumed."""

    _path: Path

    def __init__(
        self,
        path: Path | str,
        annotations: Annotations,
        backend: str,
        *,
        durable: bool,
        overwrite: bool,
        source: str = "",
        lock: bool = True,
    ) -> None:
        join_path(Path(path), "")  # refuses impossible names
        self._key = read_secret() if source else b""
        options = {"durable": durable, "overwrite": overwrite, "lock": lock}
        super().__init__(annotations, backend, source=source if self._key else "", **options)
        self._path = Path(os.path.realpath(path))
        self.keeps_in = f".{self._path.name}.tmp-* next to the destination"
        self._held = ExitStack()

    def __enter__(self) -> Self:
        """Lock the path, refuse to replace what may not be replaced, and make or resume the stage."""
        check_target(self._path, overwrite=self._overwrite)
        with ExitStack() as stack, writing(self._path):
            stack.enter_context(lock_path(self._path, lock=self._lock))
            check_target(self._path, overwrite=self._overwrite)
            self._folder = self._take_over() or make_stage(self._path)
            stack.callback(self._leave)
            with describe_failure(self._path):
                self._held.enter_context(hold_directory(self._folder))  # in case the lock's file is deleted
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
                found, self._manifest = stage, resumed
            elif is_ours(stage):
                discard(stage)
        return found

    def _leave(self) -> None:
        self._held.close()
        if not (self._manifest.source and self._manifest.parts):
            discard(self._folder)

    def _note_progress(self) -> None:
        if self._manifest.source:
            put_manifest(self._folder, self._manifest, PROGRESS, self._key, durable=self._durable)

    def replaces(self, manifest: Manifest) -> bool:
        """Whether what will be replaced is still the dataset with this manifest."""
        return read_manifest(self._path) == manifest

    def commit(self) -> None:
        """Publish the dataset at its path."""
        self._check_end()
        with describe_failure(self._path):
            replaces = check_target(self._path, overwrite=self._overwrite) is not None
            if replaces:
                self._verify()
            manifest = replace(self._manifest, source="")
            put_manifest(self._folder, manifest, durable=self._durable)
            copy_permissions(self._path, self._folder, manifest.parts[0].name)
            try:
                publish(self._folder, self._path, overwrite=replaces, durable=self._durable)
            except BaseException:
                self._folder.chmod(PRIVATE)  # it may be resumed
                raise
        self._manifest = manifest
        with suppress(OSError):  # until here, another writer could have resumed
            (self._path / PROGRESS).unlink(missing_ok=True)

    def _verify(self) -> None:
        """Read everything back, because it will be the only copy; what can't be read isn't resumed either."""
        try:
            verify_stage(self._folder, self._manifest)
        except (CorruptStoreError, StoreNotFoundError) as error:
            self._manifest = replace(self._manifest, parts=())
            problem = f"what was written can't be read back ({error.problem})"
            raise StorageError(problem, record=error.record, name=error.name, hint=OTHER_HINT) from None


def make_writer(path: Location, annotations: Annotations, backend: str, **options: Any) -> DatasetWriter:  # noqa: ANN401
    """Make the writer of a dataset in a folder or in a bucket."""
    if not isinstance(path, Url):
        return Writer(path, annotations, backend, **options)
    from ..remote.writing import BucketWriter  # noqa: PLC0415 - needs obstore

    return BucketWriter(path, annotations, backend, **options)


@contextmanager
def describe_failure(path: Location, start: int = 0) -> Iterator[None]:
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


def resume(stage: Path, wanted: Manifest, key: bytes) -> Manifest | None:
    """Prepare the stage of a dead writer for the next one: return its manifest.

    Return None if the stage has another backend, other classes, another source or key than `wanted`, or if anything in
    it is not what was written: it may become the only copy, so all of it is verified. A refusal of the system is
    raised: the stage may be whole.
    """
    try:
        manifest = read_manifest(stage, PROGRESS, key)
        found = manifest.former, manifest.backend, manifest.classes, manifest.losses, manifest.source
        if found != (None, wanted.backend, wanted.classes, wanted.losses, wanted.source):
            return None
        remove_unreferenced(stage, manifest)
        verify_stage(stage, manifest)
    except (CorruptStoreError, StoreNotFoundError, FileNotFoundError):
        return None
    return manifest
