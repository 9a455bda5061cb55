"""Writing a dataset to a bucket: each part is written and read back in a local folder, verified, and then uploaded.

The local folder holds one part at a time. A conversion notes what it finished in ``progress-<id>.json``; the next one
of the same source takes that object over, and with it the parts, all of which it reads and verifies.
"""

import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

from xxhash import xxh3_64_hexdigest

from ..contract import Encoded, Images
from ..dataset.annotations import Annotations
from ..dataset.appending import REPLACED, Appender
from ..dataset.manifest import Manifest, Part, parse_manifest
from ..dataset.opening import Dataset
from ..dataset.planning import Job, RangesWriter, RangeWriter, Written, make_pending
from ..dataset.verification import verify_written
from ..dataset.writer import DatasetWriter, ImageWriter
from ..errors import StorageError, StoreLockedError, writing
from ..urls import Url
from .bucket import Version
from .cache import hold_remote
from .prefix import Prefix


class Uploads(ImageWriter):
    """Uploads each part, and removes it from the folder."""

    _path: Url
    _prefix: Prefix

    def _count_kept(self, images: Images | Encoded, start: int) -> int:  # noqa: ARG002 - of another writer
        """Count those of one part: it is removed when it was uploaded."""
        return len(images)

    def _put_part(self, manifest: Manifest) -> None:
        """Verify the last part of a manifest where it was written, and upload it."""
        dataset = Dataset(self._path, self._folder, manifest, self._module)
        verify_written(dataset.make_lazy(verify=True), len(manifest.parts) - 1)
        self._prefix.put_part(self._folder, manifest.parts[-1].name)


class BucketWriter(Uploads, DatasetWriter):
    """Writes a dataset below a URL; any writer of the same source resumes, also on another machine."""

    _version: Version | None = None  # of the note of what is finished
    _noted: frozenset[str] = frozenset()  # the parts in it, which another writer may have taken over
    _is_resumed = False

    def __init__(
        self,
        url: Url,
        annotations: Annotations,
        backend: str,
        *,
        overwrite: bool,
        durable: bool = True,
        source: str = "",
        lock: bool = True,
    ) -> None:
        del durable  # a server answers when it has everything
        super().__init__(annotations, backend, durable=False, overwrite=overwrite, source=source, lock=lock)
        self._path, self.keeps_in = url, "the bucket"

    def __enter__(self) -> Self:
        """Refuse to replace what may not be replaced, and take over what the last writer of the same source did."""
        with ExitStack() as stack, writing(self._path):
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dataset-")))
            self._prefix = Prefix(self._path, lock=self._lock)
            self._prefix.check(overwrite=self._overwrite)
            self._prefix.check_conditions()
            if self._manifest.source:
                self._resume()
            self._resources = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        """Remove what was added unless it was published, or another writer can resume it."""
        if self._process == os.getpid():
            with self._resources:
                self._prefix.withdraw(self._noted)

    @property
    def _progress(self) -> str:
        manifest = self._manifest
        known = manifest.source, manifest.backend, manifest.classes, manifest.losses
        return f"progress-{xxh3_64_hexdigest(repr(known).encode())}.json"

    def _resume(self) -> None:
        """Take over what an earlier writer finished; begin anew if it isn't all there and as it was written."""
        found = self._prefix.bucket.find(self._progress)
        if found is None:
            return
        self._version, begun = found[1], self._manifest
        noted = self._parse_note(found[0])
        if noted is None or not self._prefix.is_whole(noted):
            return
        self._manifest = replace(noted, source=begun.source)
        self._note_progress()  # now it's this writer's
        self._is_resumed = self._prefix.is_undamaged(noted)
        if not self._is_resumed:
            self._manifest = begun

    def _parse_note(self, content: bytes) -> Manifest | None:
        """Parse what an earlier writer noted; None unless this one may have, as others may write to the bucket, too."""
        try:
            noted = parse_manifest(content, self._path, self._progress)
        except StorageError:
            return None
        wanted, found = self._manifest, (noted.former, noted.backend, noted.classes, noted.losses)
        is_ours = found == (None, wanted.backend, wanted.classes, wanted.losses)
        return noted if is_ours and self._may_have_written(noted.parts) else None

    def _may_have_written(self, parts: Sequence[Part]) -> bool:
        is_pending = any(part.is_pending for part in parts)
        return not is_pending and sum(part.count for part in parts) <= len(self._annotations)

    def _note_progress(self) -> None:
        if not self._manifest.source:
            return
        noted = replace(self._manifest, source=secrets.token_hex(8))  # so that no two notes have one ETag
        try:
            self._version = self._prefix.put_progress(self._progress, noted, self._version)
        except StoreLockedError:
            self._manifest = replace(self._manifest, source="")  # this one can't be resumed
            problem = "another conversion of the same source has taken it over"
            raise StoreLockedError(problem, store=self._path, hint="wait until it has ended") from None
        self._noted = frozenset(part.name for part in noted.parts)

    def replaces(self, manifest: Manifest) -> bool:
        """Whether what will be replaced is still the dataset with this manifest."""
        return self._prefix.manifest == manifest

    def commit(self) -> None:
        """Publish the dataset at its URL."""
        self._check_end()
        if self._is_resumed and not self._prefix.is_whole(self._manifest):
            self.abandon()
            problem = "nothing was saved: objects that were there when this conversion resumed are gone"
            raise StorageError(problem, store=self._path, hint="convert it again")
        try:
            self._prefix.put_manifest(replace(self._manifest, source=""))
        except StoreLockedError:
            self.abandon()
            raise
        if self._version:
            with suppress(StorageError):  # it doesn't matter any more
                self._prefix.bucket.remove([self._progress])

    def abandon(self) -> None:
        """Have nobody take over what this writer did, so that it can be removed; unless somebody has already."""
        with suppress(StorageError):
            if self._version:
                self._prefix.put(self._progress, secrets.token_bytes(8), self._version)
            self._noted = frozenset()
            super().abandon()
            self._prefix.bucket.remove([self._progress])


class PlannedBucketWriter(RangesWriter, BucketWriter):
    """Publishes planned ranges in a bucket, to which each worker uploads its own."""

    _writes_here = False

    def _may_have_written(self, parts: Sequence[Part]) -> bool:
        return self._find_written(parts) is not None

    def insert(self, number: int, written: Written) -> None:
        """Take the parts of a range; they are removed if the dataset isn't published."""
        for part in written.parts:
            self._prefix.adopt_part(part.name)
        super().insert(number, written)


class BucketRangeWriter(Uploads, RangeWriter):
    """Writes the images of one range in a local folder, part by part, and uploads them."""

    @classmethod
    @contextmanager
    def open(cls, job: Job) -> Iterator[Self]:
        """Make a writer; after an error, what it uploaded is removed."""
        with writing(job.path), tempfile.TemporaryDirectory(prefix="dataset-") as folder:
            writer = cls(job, Path(folder))
            writer._prefix = Prefix(writer._path, lock=False)
            try:
                yield writer
            except BaseException:
                writer._prefix.withdraw()
                raise

    def _put_part(self, manifest: Manifest) -> None:
        before = make_pending(0, range(self._first_image))  # so that each image has its index in the whole set
        super()._put_part(replace(manifest, parts=(before, *manifest.parts)))


class BucketAppender(Uploads, Appender):
    """Appends to a dataset in a bucket."""

    def __init__(self, url: Url, annotations: Annotations, *, lock: bool) -> None:
        super().__init__(annotations, durable=False, lock=lock)
        self._path = url

    def __enter__(self) -> Self:
        """Refuse what doesn't fit the dataset."""
        with ExitStack() as stack:
            dataset = stack.enter_context(hold_remote(self._path, fresh=True))
            with writing(self._path):
                self._prefix = Prefix(self._path, lock=self._lock)
                self._prefix.check(overwrite=True)
                self._prefix.check_conditions()
            if self._prefix.manifest != dataset.manifest:
                raise StoreLockedError(REPLACED, store=self._path, hint="append again")
            self._check_fit(dataset)
            stack.callback(self._prefix.withdraw)
            self._resources = stack.pop_all()
        return self

    def commit(self) -> None:
        """Publish the new parts: replace the manifest."""
        self._check_end()
        if self._manifest != self._dataset.manifest:
            self._prefix.put_manifest(self._manifest)
