"""Proof that records are those that were saved, and which are not."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..contract import Images, Labels
from ..errors import CorruptStoreError, StorageError
from ..reader import Reader
from ..sources.batches import cut_indices
from .checksums import count_per_block, hash_blocks, hash_records
from .opening import Dataset

CHANGED = CorruptStoreError("its pixels or its label are not those that were saved")


def name_record(path: Path, index: int, error: StorageError) -> StorageError:
    """Make the error that names a record.

    Parameters
    ----------
    path : Path
        The dataset.
    index : int
        Of the record.
    error : StorageError
        What is wrong with it.

    Returns
    -------
    StorageError
        Of the same kind.
    """
    if not isinstance(error, CorruptStoreError):
        return type(error)(f"{path}: record {index} cannot be read ({error})")
    return CorruptStoreError(
        f"{path}: record {index} is damaged ({error}): a disk, a copy or another program changed it; "
        "python -m storage check PATH lists all such records: restore the dataset from a copy"
    )


def check_part(dataset: Dataset, number: int, reader: Reader) -> None:
    """Refuse a part that holds another number of images than the manifest says, or images of another size."""
    manifest = dataset.manifest
    found = len(reader), *reader.read([])[0].shape[1:3]
    expected = manifest.parts[number], manifest.height, manifest.width
    if found != expected:
        raise CorruptStoreError(
            f"{dataset.parts[number]} holds {found} images (number, height, width) instead of {expected}: restore it "
            "from a copy"
        )


def prove_part(dataset: Dataset, number: int, images: Images, labels: Labels) -> None:
    """Refuse a part that is not what was saved.

    Parameters
    ----------
    dataset : Dataset
    number : int
        Of the part.
    images : ndarray of uint8, shape (N, H, W, 3)
        All that it holds.
    labels : ndarray of int64, shape (N,)

    Raises
    ------
    CorruptStoreError
        The message names the first record that is wrong.
    """
    manifest, checksums = dataset.manifest, dataset.checksums[number]
    start = manifest.starts[number]
    wrong = hash_blocks(images, labels, start) != checksums.blocks
    if wrong.any():
        per_block = count_per_block(manifest.height, manifest.width)
        first = int(wrong.argmax()) * per_block
        block = slice(first, first + per_block)
        indices = np.arange(start, start + len(images))[block]
        found = hash_records(images[block], labels[block], indices) != checksums.records[block]
        raise name_record(dataset.path, int(indices[found.argmax()]), CHANGED)


def find_damage(dataset: Dataset, number: int) -> Iterator[tuple[int, StorageError]]:
    """Find the records of a part that cannot be read, or are not those that were saved.

    Parameters
    ----------
    dataset : Dataset
        Without checksums, what can be read counts as whole.
    number : int
        Of the part.

    Yields
    ------
    index : int
        Of a record in the whole dataset.
    error : StorageError
        What is wrong with it.

    Raises
    ------
    StorageError
        The part cannot be opened.
    """
    start, count = dataset.manifest.starts[number], dataset.manifest.parts[number]
    with dataset.name_errors(), dataset.module.open_reader(dataset.parts[number]) as reader:
        check_part(dataset, number, reader)
        for positions in cut_indices(0, count, dataset.manifest.height, dataset.manifest.width):
            yield from ((start + position, error) for position, error in _inspect(dataset, number, reader, positions))


def _inspect(
    dataset: Dataset, number: int, reader: Reader, positions: NDArray[np.intp]
) -> list[tuple[int, StorageError]]:
    try:
        images, labels = reader.read(positions)
    except StorageError as error:
        if len(positions) > 1:
            return [found for position in positions for found in _inspect(dataset, number, reader, position[None])]
        return [(int(positions[0]), dataset.name_path(error))]
    if not dataset.checksums:
        return []
    indices = dataset.manifest.starts[number] + positions
    wrong = hash_records(images, labels, indices) != dataset.checksums[number].records[positions]
    return [(position, CHANGED) for position in positions[wrong].tolist()]
