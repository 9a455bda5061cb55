"""Saving an image set atomically."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import ANY_PIXELS, check_encoded, check_images, check_labels, check_pixels
from ..contract import Encoded, Images, Labels
from ..encoded import Content
from ..errors import CorruptStoreError, InvalidInputError, StorageError, StoreNotFoundError
from ..inputs import is_list_of_batches, take_batch, take_images, take_labels, take_single
from ..registry import find_backend
from ..urls import Location, find_location
from .annotations import Annotations
from .checksums import add_up, hash_records
from .files import NAMES, SKIPPED
from .manifest import find_form
from .metadata import ARROW, LINES, Columns
from .opening import Dataset, hold_dataset
from .parts import check_kind
from .writer import make_writer

DEFAULT_BACKEND = "lmdb_packed"
KEPT_HINT = "restore it from a copy, give what is damaged yourself, or delete the dataset first: then nothing is kept"


def save(
    path: Location | str,
    images: ArrayLike | Encoded | Iterable[ArrayLike] | Iterable[Encoded],
    labels: ArrayLike,
    backend: str = DEFAULT_BACKEND,
    *,
    names: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    metadata: Columns | None = None,
    losses: Iterable[str] = (),
    durable: bool = True,
    overwrite: bool = False,
    lock: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Save an image set as a dataset, atomically: readers see all of it, the dataset that was there before, or nothing.

    Parameters
    ----------
    path : Path or str
        Where the dataset will be; the folder above must exist. Or a URL, such as s3://bucket/photos.
    images : ndarray, shape (N, H, W) or (N, H, W, C), or Encoded, or iterable of such arrays or of Encoded
        Pixels (uint8, uint16, int16, float16 or float32), or image files. A list of N equal images (arrays, PyTorch
        tensors, pictures of Pillow) or of N files as bytes is as good, and so is one tensor. Batches, of any sizes that
        make N together, need no more memory than 128 MiB and one of them; an iterator may also yield single files,
        pictures or arrays. With one label, a single image is as good. What may be one image or several is refused.
    labels : sequence or array of int, shape (N,)
        Of all images. Any integers of 64 bits, or booleans.
    backend : str
        A name in `storage.BACKENDS`.
    names : sequence of str, optional
        A relative path for each image, all different.
    classes : sequence of str, optional
        The names of the labels 0, 1, and so on.
    metadata : mapping of str to sequence, optional
        A table: columns, by name, with a value per image. The values of a column are str, int, float, bool, or lists
        of these, all of one type, or None.
    losses : iterable of {"transparency", "frames", "depth"}
        What the dataset's reader may lose when it decodes image files, as for `decode`; without it, it refuses such a
        file.
    durable : bool
        Return when the disk holds everything.
    overwrite : bool
        Replace a dataset that is there, in one step. Its classes are kept unless `classes` is given. If `images` is
        one array or `Encoded`, and has the same images, names, metadata and losses that aren't given are kept, too,
        and the list of files that were skipped; to correct a label, for example. What would be kept and can't be read
        is an error: give it yourself, or delete the dataset first.
    lock : bool
        Refuse a second writer to the same path. Without a lock, as on a file system that has none, make sure yourself
        that nothing else reads or writes there meanwhile.
    progress : callable, optional
        Called with the number of images that were taken and N, after each batch.

    Raises
    ------
    InvalidInputError
        `images`, `labels` or what describes them are something else, or differ in number; or there is no such backend,
        or it can't store this kind of images.
    StoreExistsError
        Something is at `path`, and may not be replaced.
    StoreNotFoundError
        There is no folder above `path`.
    StoreLockedError
        Another writer is saving to `path`.
    StoreFullError
        The file system has no room.
    CorruptStoreError
        What would be kept of the dataset that is there is damaged.
    StorageError
        The file system has no locks, or the operating system refused otherwise. After any error, `path` is as it was
        before.

    Examples
    --------
    >>> import numpy as np
    >>> import storage
    >>> images = np.zeros((3, 32, 32, 3), np.uint8)
    >>> storage.save("photos", images, np.array([7, 0, 7]), "npy")
    >>> storage.load("photos")[1]
    array([7, 0, 7])

    Batches from a generator, so that they needn't fit in memory together:

    >>> batches = (images[start : start + 1] for start in range(3))
    >>> storage.save("photos", batches, np.array([1, 2, 3]), "npy", overwrite=True)
    >>> storage.load("photos")[1]
    array([1, 2, 3])
    """
    batches, labels = take_batches(images, labels)
    annotations = Annotations.check(labels, names, classes, metadata, losses)
    whole = batches[0] if isinstance(batches, list) else None
    if whole is not None:
        check_kind(find_backend(backend), whole)
    location = find_location(path)
    is_part = whole is not None and (isinstance(location, Path) or not len(labels))
    with make_writer(location, annotations, backend, durable=durable, overwrite=overwrite, lock=lock) as writer:
        if overwrite:
            writer.describe(inherit(location, whole, annotations, has_classes=classes is not None))
        for batch in batches:
            (writer.write_part if is_part else writer.add)(batch)
            if progress is not None:
                progress(writer.done, len(annotations))
        writer.commit()


def inherit(
    path: Location,
    images: Any,  # noqa: ANN401 - whatever a caller gives
    annotations: Annotations,
    *,
    has_classes: bool,
) -> Annotations:
    """Add what is kept of the dataset that will be replaced; refuse to replace it if that can't be read."""
    is_whole = isinstance(images, np.ndarray | Encoded)
    if has_classes and not is_whole:
        return annotations
    try:
        with hold_dataset(path) as held, held.reading():
            if not has_classes:
                annotations = replace(annotations, classes=held.manifest.classes)
            return _describe_same(held, images, annotations) if is_whole else annotations
    except StoreNotFoundError:
        return annotations
    except StorageError as error:
        hint = KEPT_HINT if isinstance(error, CorruptStoreError) else error.hint
        problem = f"what a replacement keeps of it can't be read ({error.problem})"
        raise error.replace(problem=problem, hint=hint) from error


def _describe_same(held: Dataset, images: Images | Encoded, annotations: Annotations) -> Annotations:
    """Add the names, the metadata and the like of a dataset that has the same images."""
    if not isinstance(images, Encoded):
        images = check_pixels(images)
    if (len(images), find_form(images)) != (held.manifest.count, held.manifest.form):
        return annotations
    old = held.make_lazy(verify=False)
    described = any(details.beside.keys() & {NAMES, ARROW, LINES, SKIPPED} for details in old.details.values())
    if not (described or old.manifest.losses) or not _is_same(old, images):
        return annotations
    return replace(
        annotations,
        names=old.read_names() if annotations.names is None else annotations.names,
        metadata=old.read_metadata() if annotations.metadata is None else annotations.metadata,
        skipped=old.read_skipped(),
        losses=annotations.losses or old.manifest.losses,
    )


def _is_same(old: Dataset, images: Images | Encoded) -> bool:
    """Check whether images are those of a dataset: with its labels, they have its checksum."""
    labels = old.read_labels(verify=True)
    return add_up(hash_records(images, labels, np.arange(len(images)))) == old.manifest.checksum


def take_batches(images: Any, labels: Any) -> tuple[list[Any] | Iterator[Any], Labels]:  # noqa: ANN401 - of a caller
    """Check images that are given whole, and list them as one batch; take batches one after the other."""
    labels = check_labels(take_labels(labels))
    take = take_images if isinstance(images, list | tuple) else take_batch
    if not is_list_of_batches(images, len(labels)):
        images = take_images(take_single(images, len(labels)))
    if isinstance(images, Encoded):
        return [images], check_encoded(images, labels)
    if isinstance(images, np.ndarray):
        return [images], check_images(images, labels, ANY_PIXELS)[1]
    if isinstance(images, str | Content | Mapping) or not isinstance(images, Iterable):
        hint = "give an array, or a list of images, or batches of arrays, or Encoded"
        raise InvalidInputError(f"images is a {type(images).__name__}", hint=hint)
    return map(take, images), labels
