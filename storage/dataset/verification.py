"""Verification: which records are those that were saved, and which are not."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..arrays import cut_batches
from ..contract import Encoded, Images, Labels
from ..errors import CorruptStoreError, StorageError
from ..reader import Reader, read_stored
from ..registry import PACKAGE
from ..urls import Location
from .checksums import DTYPE, Checksums, add_up, count_per_block, hash_blocks, hash_records
from .files import PartChecksums, check_file
from .manifest import FILES, Manifest, find_form
from .opening import Dataset, find_module

CHANGED = CorruptStoreError("its image or its label are not those that were saved")


def explain(path: Location, error: StorageError) -> str:
    """Say what is wrong with a record, and in which part if that is known, without the path of the dataset."""
    if error.store is None or not error.store.is_relative_to(path) or error.store == path:
        return error.problem
    return f"{error.store.relative_to(path)}: {error.problem}"


def name_record(dataset: Dataset, index: int, error: StorageError) -> StorageError:
    """Make an error of the same kind that names the record of a dataset, or says that the dataset was deleted."""
    if dataset.is_deleted():
        return dataset.make_deletion()
    reason, name = explain(dataset.path, error), dataset.find_name(index) or error.name
    if not isinstance(error, CorruptStoreError):
        return error.replace(problem=f"it cannot be read ({reason})", store=dataset.path, record=index, name=name)
    return CorruptStoreError(
        f"it is damaged ({reason})",
        store=dataset.path,
        record=index,
        name=name,
        hint=f"python -m {PACKAGE} check PATH lists all damaged records; restore the dataset from a copy",
    )


def check_part(dataset: Dataset, number: int, reader: Reader) -> None:
    """Refuse a part that holds another number or kind of images than the manifest says, or images of another size."""
    manifest = dataset.manifest
    found = FILES if reader.kind == "encoded" else find_form(reader.read([])[0])
    expected = manifest.form
    if (len(reader), found) != (manifest.parts[number].count, expected):
        raise CorruptStoreError(
            f"it holds {len(reader)} images of {found} instead of {manifest.parts[number].count} of {expected}",
            store=dataset.find_part(number),
        )


def verify_part(
    dataset: Dataset, number: int, images: Images | Encoded, labels: Labels, pixels: Checksums | None = None
) -> None:
    """Refuse a part that is not what was saved; the error names the first record that is wrong.

    `pixels` as in `hash_blocks`.
    """
    start, checksums = dataset.manifest.starts[number], dataset.checksums[number]
    if isinstance(images, Encoded):
        block = slice(0, len(images))
    else:
        wrong = np.flatnonzero(hash_blocks(images, labels, start, pixels) != checksums.blocks)
        if not wrong.size:
            return
        per_block = count_per_block(dataset.manifest.image_size)
        block = slice(wrong[0] * per_block, (wrong[0] + 1) * per_block)
    indices = np.arange(start, start + len(images))[block]
    found = hash_records(images[block], labels[block], indices) != checksums.records[block]
    if found.any():
        raise name_record(dataset, int(indices[found.argmax()]), CHANGED)


def verify_stage(stage: Path, manifest: Manifest) -> None:
    """Do what `verify_finished` does for one in a folder."""
    verify_finished(Dataset(stage, stage, manifest, find_module(stage, manifest)))


def verify_finished(dataset: Dataset) -> None:
    """Read all of a dataset that isn't published yet; refuse it if anything in it isn't what was written."""
    dataset = dataset.make_lazy(verify=True)
    for number in (number for number, part in enumerate(dataset.manifest.parts) if not part.is_pending):
        with dataset.origin.hold(number, dataset):
            verify_written(dataset, number)


def verify_written(dataset: Dataset, number: int) -> None:
    """Read all of a part that isn't published yet; refuse it if anything in it isn't what was written."""
    details = dataset.details[number]
    dataset.check_structure(number)
    for name in details.sizes.keys() - details.structure.keys():
        check_file(dataset.folder, dataset.manifest.parts[number].name, details, name)
    for suffix in details.beside:
        dataset.read_beside(number, details, suffix)
    for index, error in find_damage(dataset, number):
        raise error.replace(record=index, name=dataset.find_name(index))


def measure_images(dataset: Dataset, number: int) -> int:
    """Measure the bytes of an image of a part: on average, if each has its own size."""
    if dataset.manifest.shape is not None:
        return dataset.manifest.image_size
    return sum(dataset.details[number].sizes.values()) // max(1, dataset.manifest.parts[number].count)


def find_damage(dataset: Dataset, number: int) -> Iterator[tuple[int, StorageError]]:
    """Yield each record of a part that can't be read, or isn't what was saved: its index, and what is wrong with it.

    Without checksums, a record that can be read counts as whole. A part that can't be opened raises `StorageError`.
    """
    start, count = dataset.manifest.starts[number], dataset.manifest.parts[number].count
    with dataset.hold_part(number) as part, dataset.module.open_reader(part) as reader:
        check_part(dataset, number, reader)
        for positions in cut_batches(0, count, measure_images(dataset, number)):
            yield from ((start + position, error) for position, error in _inspect(dataset, number, reader, positions))


def rebuild_checksums(dataset: Dataset, number: int) -> PartChecksums:
    """Compute the checksums of the records of a part; refuse them if their sum isn't that in the manifest."""
    start, count = dataset.manifest.starts[number], dataset.manifest.parts[number].count
    with dataset.hold_part(number) as part, dataset.module.open_reader(part) as reader:
        check_part(dataset, number, reader)  # so there are as many images as the manifest claims
        records = np.empty(count, DTYPE)
        for positions in cut_batches(0, count, measure_images(dataset, number)):
            records[positions] = hash_records(*read_stored(reader, positions), start + positions)
    if add_up(records) != dataset.manifest.parts[number].records:
        raise CorruptStoreError("its records aren't those that were saved", store=dataset.find_part(number))
    return PartChecksums(records, np.empty(0, DTYPE))


def _inspect(
    dataset: Dataset, number: int, reader: Reader, positions: NDArray[np.intp]
) -> list[tuple[int, StorageError]]:
    try:
        images, labels = read_stored(reader, positions)
    except StorageError as error:
        if len(positions) > 1:
            return [found for position in positions for found in _inspect(dataset, number, reader, position[None])]
        return [(int(positions[0]), dataset.show_path(error))]
    if number not in dataset.checksums:
        return []
    indices = dataset.manifest.starts[number] + positions
    wrong = hash_records(images, labels, indices) != dataset.checksums[number].records[positions]
    return [(position, CHANGED) for position in positions[wrong].tolist()]
