"""A backend that says where its images are can read some from a store that has the bytes of no others."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from storage import Backend, Encoded
from storage.contract import Records
from storage.reader import read_stored
from tests.support.encoded_sets import assert_same_files, make_files
from tests.support.image_sets import accepts, assert_same, make_form, make_set

pytestmark = pytest.mark.kinds("pixels", "encoded")
SETS: dict[str, Any] = {
    "RGB": make_set(40, 8, 6)[0],
    "gray": make_form("16-bit gray", 21)[0],
    "files": make_files()[0],
    "one": make_set(1, 4, 4)[0],
    "none": make_set(0, 4, 4)[0],
    "no files": make_files(0)[0],
}


class Stored(NamedTuple):
    """A store of images, whose labels are their places."""

    path: Path
    images: Any
    records: Sequence[Records]

    def list_ranges(self) -> list[tuple[str, range]]:
        """List the file and the bytes of each image."""
        return [
            (some.file, range(int(start), int(end))) for some in self.records for start, end in pairwise(some.offsets)
        ]

    def find_ends(self) -> Iterator[int]:
        """Find the first and the last image of each file."""
        count = 0
        for some in self.records:
            yield from (count, count + len(some.offsets) - 2)
            count += len(some.offsets) - 1

    def copy_without(self, copy: Path, ranges: list[tuple[str, range]]) -> Path:
        """Copy it, but for some of its bytes, which are zeros in the copy."""
        copy.mkdir()
        for path in self.path.iterdir():
            content = bytearray(path.read_bytes())
            for name, places in ranges:
                if name == path.name:
                    content[places.start : places.stop] = bytes(len(places))
            (copy / path.name).write_bytes(content)
        return copy


def store_sets(module: Backend, folder: Path) -> Iterator[Stored]:
    """Store each set that a backend accepts and can say about where its images are."""
    for name, images in SETS.items():
        kind = "encoded" if isinstance(images, Encoded) else "pixels"
        if kind in module.INFO.kinds and (kind == "encoded" or accepts(module, images)):
            module.store_many(folder / name, images, np.arange(len(images)))
            records = module.find_records(folder / name)
            if records:
                yield Stored(folder / name, images, records)


@pytest.fixture
def stores(module: Backend, tmp_path: Path) -> list[Stored]:
    found = list(store_sets(module, tmp_path)) if module.find_records.__module__ == module.__name__ else []
    if not found:
        pytest.skip("it doesn't tell, so its stores are fetched whole")
    return found


def test_each_image_is_where_the_backend_says(module: Backend, stores: list[Stored]) -> None:
    for path, images, records in stores:
        ranges, pixels = Stored(path, images, records).list_ranges(), module.find_pixels(path)
        assert len(ranges) == len(images)
        for (name, places), image in zip(ranges, images, strict=True):
            expected = bytes(image) if isinstance(images, Encoded) else image.tobytes()
            assert expected in (path / name).read_bytes()[places.start : places.stop]
            inside = any(some.start <= places.start and places.stop <= some.stop for some in pixels[name])
            assert inside or not places, "an image is among what is verified before the store is opened"


def test_images_are_read_without_the_bytes_of_others(module: Backend, stores: list[Stored], tmp_path: Path) -> None:
    for stored in stores:
        images, wanted = stored.images, np.arange(len(stored.images))[1::5]
        kept = {*wanted.tolist(), *stored.find_ends()}
        others = [found for number, found in enumerate(stored.list_ranges()) if number not in kept]
        copy = stored.copy_without(tmp_path / f"some of {stored.path.name}", others)
        with module.open_reader(copy) as reader:
            found: Any = read_stored(reader, wanted)
            assert reader.read_labels().tolist() == list(range(len(images)))
        if isinstance(images, Encoded):
            assert_same_files(found, (images.take(wanted), wanted))
        else:
            assert_same(found, (images[wanted], wanted))


def test_images_are_found_by_the_structure_alone(module: Backend, stores: list[Stored], tmp_path: Path) -> None:
    for stored in stores:
        pixels = [(name, places) for name, some in module.find_pixels(stored.path).items() for places in some]
        copy = stored.copy_without(tmp_path / f"structure of {stored.path.name}", pixels)
        found = stored._replace(records=module.find_records(copy))
        assert found.list_ranges() == stored.list_ranges()
