"""Raw: three files that any language can read.

On disk: ``shape.json``, the numbers N, H and W; ``images.raw``, N x H x W x 3 bytes of RGB; and ``labels.raw``, N
little-endian integers of 64 bits. ``shape.json`` is written last: a store without it is not complete.

Library: NumPy (https://numpy.org).
"""

import json
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.arrays import check_images, check_shape, make_array, make_result, read_range
from storage.contract import BackendInfo, Images, Labels
from storage.errors import CorruptStoreError, reading, writing
from storage.paths import claim_store, find_file, stat_file
from storage.reader import Description, Reader

SHAPE, IMAGES, LABELS = "shape.json", "images.raw", "labels.raw"
INFO = BackendInfo({"numpy": np.__version__}, "the NumPy team", "BSD-3-Clause")


def store_many(store: Path, images: Images, labels: Labels) -> None:
    """Store an image set; see `storage.Backend`."""
    images, labels = check_images(images, labels)
    shape = json.dumps(images.shape[:3]).encode()
    folder = claim_store(store)
    with writing(store):
        for name, content in ((IMAGES, images.data), (LABELS, labels.astype("<i8").data), (SHAPE, shape)):
            with (folder / name).open("xb") as file:  # of two writers at once, one is refused
                file.write(content)


def read_many(store: Path, out: Images | None = None) -> tuple[Images, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with RawReader(store) as reader:
        return reader.read(range(len(reader)), out)


class RawReader(Reader):
    """Reads each image where it is in the file."""

    def _open(self) -> Description:
        path = find_file(self.store, SHAPE)
        with reading(self.store, ValueError, TypeError):  # whatever damage makes of the file
            count, height, width = check_shape(self.store, *json.loads(path.read_bytes()))
        labels = os.open(self._check_size(LABELS, 8 * count), os.O_RDONLY)
        try:
            self._labels = make_array(self.store, (count,), "<i8")
            read_range(self.store, labels, 0, self._labels)
        finally:
            os.close(labels)
        self._images = os.open(self._check_size(IMAGES, 3 * height * width * count), os.O_RDONLY)
        return Description(count, (height, width, 3))

    def _check_size(self, name: str, size: int) -> bytes:
        path, status = stat_file(self.store, name)
        if status.st_size != size:
            raise CorruptStoreError(f"{name} has {status.st_size} bytes, not {size}", store=self.store)
        return path

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        images = make_result(self.store, (len(positions), *self._shape), out)
        with reading(self.store):
            for image, position in zip(images, positions.tolist(), strict=True):
                read_range(self.store, self._images, position * image.nbytes, image)
        return images, self._labels[positions].astype(np.int64)

    def _close(self) -> None:
        os.close(self._images)


open_reader = RawReader
