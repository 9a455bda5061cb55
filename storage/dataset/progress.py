"""The progress of a writer that another one may go on with: the parts that are finished."""

import os
import shutil
from pathlib import Path

from xxhash import xxh3_64

from ..errors import StorageError
from .checksums import DTYPE
from .files import CHECKSUMS, count_checksums, read_checksums
from .manifest import Manifest, name_part, read_manifest
from .opening import Dataset, find_module
from .proof import find_damage
from .structure import check_file

PROGRESS = "progress.json"


def resume(stage: Path, wanted: Manifest) -> tuple[Manifest, xxh3_64] | None:
    """Make the stage of a dead writer ready for another one: all that is in it is read and proved.

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
        Of its checksums. Instead of both None, where the stage is of another source, or anything in it is not what
        was written: it may become the only copy.
    """
    try:
        manifest = read_manifest(stage, PROGRESS)
        if (manifest.backend, manifest.classes, manifest.source) != (wanted.backend, wanted.classes, wanted.source):
            return None
        os.truncate(stage / CHECKSUMS, sum(map(sum, count_checksums(manifest))) * DTYPE.itemsize)
        shutil.rmtree(stage / name_part(len(manifest.parts)), ignore_errors=True)
        if not _is_whole(stage, manifest):
            return None
        digest = xxh3_64((stage / CHECKSUMS).read_bytes())
    except (StorageError, OSError):
        return None
    return manifest, digest


def _is_whole(stage: Path, manifest: Manifest) -> bool:
    for name in manifest.sizes:
        check_file(stage, manifest, name)
    dataset = Dataset(stage, stage, manifest, find_module(manifest), read_checksums(stage, manifest))
    return not any(list(find_damage(dataset, number)) for number in range(len(manifest.parts)))
