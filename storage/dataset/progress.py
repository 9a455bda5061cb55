"""The progress of a writer that another one may go on with: the parts that are finished."""

import os
import shutil
from pathlib import Path

from xxhash import xxh3_64

from storage.dataset.checksums import DTYPE
from storage.dataset.files import CHECKSUMS, check_sizes, count_checksums
from storage.dataset.manifest import Manifest, name_part, read_manifest
from storage.errors import StorageError

PROGRESS = "progress.json"


def resume(stage: Path, wanted: Manifest) -> tuple[Manifest, xxh3_64] | None:
    """Make the stage of a dead writer ready for another one.

    Parameters
    ----------
    stage : Path
        What it left.
    wanted : Manifest
        Of the writer that would go on: backend, classes and source.

    Returns
    -------
    manifest : Manifest
        What was written.
    digest : xxh3_64
        Of its checksums. Instead of both None, where the stage is of another source, or not as it was left.
    """
    try:
        manifest = read_manifest(stage, PROGRESS)
        check_sizes(stage, manifest)
        content = (stage / CHECKSUMS).read_bytes()[: sum(map(sum, count_checksums(manifest))) * DTYPE.itemsize]
        digest = xxh3_64(content)
        same = (manifest.backend, manifest.classes, manifest.source) == (wanted.backend, wanted.classes, wanted.source)
        if not same or digest.hexdigest() != manifest.checksum:
            return None
        os.truncate(stage / CHECKSUMS, len(content))
        shutil.rmtree(stage / name_part(len(manifest.parts)), ignore_errors=True)
    except (StorageError, OSError):
        return None
    return manifest, digest
