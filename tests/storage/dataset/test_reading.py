"""Reading datasets: at once or in any order, verified, and undisturbed by a replacement."""

import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image as Pillow
from xxhash import xxh3_64_intdigest

import storage
from storage import BACKENDS, CorruptStoreError, Images, Labels, StorageError, StoreNotFoundError
from storage.dataset import checksums, writer
from storage.errors import InvalidInputError, ReaderClosedError, RecordNotFoundError
from storage.filling import watching
from tests.faults.children import Ending, run_child
from tests.support.backends import need_backend
from tests.support.datasets import (
    find_beside,
    find_part,
    flip_bit,
    list_details,
    list_parts,
    require_pixels,
    write_format1,
)
from tests.support.image_files import save
from tests.support.image_sets import assert_same, make_set

COUNT = 30
PICTURE = save(Pillow.new("RGB", (7, 5)), "PNG")


@pytest.fixture(params=[1, 3], ids=["one part", "three parts"])
def saved(request: pytest.FixtureRequest, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Save thirty images in one part or in three, whose blocks are of four records, the last of two."""
    images, labels = make_set(COUNT, 5, 7)
    monkeypatch.setattr(checksums, "BLOCK", 4 * images[0].nbytes)
    monkeypatch.setattr(writer, "PART", COUNT // request.param * images[0].nbytes)
    storage.save(tmp_path / "set", [images], labels, backend)
    return tmp_path / "set"


@pytest.fixture
def swapped(backend: str, tmp_path: Path) -> Path:
    """Save thirty images with one label, and swap two of them in the store."""
    path, other = tmp_path / "set", tmp_path / "other"
    images, labels = make_set(COUNT)[0], np.zeros(COUNT, np.int64)
    storage.save(path, images, labels, backend)
    storage.save(other, images[[*range(4), 9, *range(5, 9), 4, *range(10, COUNT)]], labels, backend)
    if [details.sizes for _, details in list_details(path)] != [details.sizes for _, details in list_details(other)]:
        pytest.skip(f"{backend} names or compresses each file differently, so swapped files are missing, not wrong")
    part = find_part(path)
    part.rename(tmp_path / "part")
    find_part(other).rename(part)
    return path


@pytest.mark.parametrize("verify", [True, False])
def test_load_reads_any_number_of_parts(saved: Path, *, verify: bool) -> None:
    assert_same(storage.load(saved, verify=verify), make_set(COUNT, 5, 7))


@pytest.mark.parametrize("verify", [True, False])
def test_batches_come_in_any_order_with_repeats(saved: Path, *, verify: bool) -> None:
    images, labels = make_set(COUNT, 5, 7)
    with storage.open(saved, verify=verify) as reader:
        assert len(reader) == COUNT
        for indices in ([29, 0, 11, 0, -1], [3, 4], [], list(range(COUNT)), list(range(COUNT))):
            assert_same(reader.read(indices), (images[indices], labels[indices]))
        out = np.empty((2, 5, 7, 3), np.uint8)
        assert reader.read([12, 28], out=out)[0] is out
        assert_same((out, labels), (images[[12, 28]], labels))
        for index in (0, 9, 10, 29, -1, 0):
            assert_same(reader[index], (images[index], labels[index]))
        np.testing.assert_array_equal(reader.read_labels(), labels)


def test_errors_name_the_path_of_the_caller(saved: Path) -> None:
    with storage.open(saved) as reader:
        with pytest.raises(RecordNotFoundError, match=f"^{saved}: record 30: no such index: the store holds 30 images"):
            reader.read([30])
        with pytest.raises(InvalidInputError, match=str(saved)):
            reader.read([3], out=np.empty((1, 5, 8, 3), np.uint8))
    with pytest.raises(ReaderClosedError, match=str(saved)):
        reader.read([3])


def test_a_pickled_reader_opens_the_dataset_again_unless_it_was_replaced(backend: str, saved: Path) -> None:
    with storage.open(saved, verify=False) as reader:
        pickled = pickle.dumps(reader)
        with pickle.loads(pickled) as copy:  # noqa: S301 - our own
            assert_same(copy.read([3, 25]), reader.read([3, 25]))
        assert vars(copy)["_verifies"] is False
    storage.save(saved, *make_set(5), backend, overwrite=True)
    with pytest.raises(StoreNotFoundError, match="was replaced since the reader was pickled"):
        pickle.loads(pickled)  # noqa: S301 - our own


def test_a_forked_child_reads_the_dataset_that_its_parent_opened(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = make_set(COUNT, 5, 7)

    def read() -> str:
        assert_same(reader.read([0, 15, 29]), (images[[0, 15, 29]], labels[[0, 15, 29]]))
        return ""

    with storage.open(saved) as reader:
        storage.save(saved, *make_set(4, 5, 7), storage.check(saved).backend, overwrite=True)
        assert run_child(read) == Ending(0, "")
        monkeypatch.setattr(os, "getpid", lambda: 1)  # as if this were the child
        assert not read()


def test_an_open_reader_keeps_the_replaced_dataset_until_it_is_closed(saved: Path) -> None:
    images, labels = make_set(COUNT, 5, 7)
    backend = storage.check(saved).backend
    with storage.open(saved) as reader:
        storage.save(saved, *make_set(4, 5, 7), backend, overwrite=True)
        assert len(list(saved.parent.glob(".set.tmp-*"))) == 1
        assert_same(reader.read(range(COUNT)), (images, labels))
        assert_same(storage.load(saved), make_set(4, 5, 7))
    storage.save(saved, *make_set(5, 5, 7), backend, overwrite=True)
    assert not list(saved.parent.glob(".set.tmp-*"))


def test_swapped_records_are_found_by_every_way_of_reading_and_others_read(backend: str, swapped: Path) -> None:
    ways: list[tuple[int, Callable[[], object]]] = [
        (4, lambda: storage.load(swapped)),
        (9, lambda: storage.open(swapped).read([3, 9, 5])),
        (4, lambda: storage.open(swapped)[4]),
    ]
    for index, read in ways:
        reason = rf"record {index}: it is damaged \(.*not those that were saved|\S+ is damaged outside"
        with pytest.raises(CorruptStoreError, match=f"^{swapped}: ({reason})"):
            read()
    assert sorted(storage.check(swapped).records) == [4, 9]
    require_pixels(backend, swapped)
    with storage.open(swapped) as reader:
        assert_same(reader.read([3, 5]), (make_set(COUNT)[0][[3, 5]], np.zeros(2, np.int64)))
        assert_same(reader[8], (make_set(COUNT)[0][8], 0))


def test_load_names_the_wrong_record_of_a_block(backend: str, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = list_parts(saved)
    read_many = BACKENDS[backend].read_many
    for index in range(0, COUNT, 3):
        number, position = divmod(index, COUNT // len(parts))

        def spoil(
            store: Path, out: Images | None = None, name: str = parts[number].name, position: int = position
        ) -> tuple[Images, Labels]:
            with watching(lambda _: None):  # nothing is reported, as it isn't as it will stay
                images, labels = read_many(store, out)
            if store.name == name:
                images[position, 4, 6, 2] ^= 1
            return images, labels

        monkeypatch.setattr(BACKENDS[backend], "read_many", spoil)
        with pytest.raises(CorruptStoreError, match=rf"^{saved}: record {index}: it is damaged \(.*not those"):
            storage.load(saved)


@need_backend("npy")
@pytest.mark.parametrize("survives", [0, 1])
def test_damage_to_structure_is_the_error_whatever_the_backend_finds(
    survives: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, path = BACKENDS["npy"], tmp_path / "set"
    storage.save(path, *make_set(COUNT), "npy")
    monkeypatch.setattr(module, "INFO", replace(module.INFO, survives_damage=bool(survives)))
    read: list[Path] = []

    def refuse(store: Path, _: Images | None = None) -> tuple[Images, Labels]:
        read.append(store)
        raise CorruptStoreError("the backend's own error", store=store)

    flip_bit(find_part(path) / "images.npy", 3)
    monkeypatch.setattr(module, "read_many", refuse)
    with pytest.raises(CorruptStoreError, match=r"images\.npy is damaged outside its images"):
        storage.load(path)
    assert len(read) == survives, "only a backend that survives damage reads before the structure is verified"


@need_backend("npy")
def test_a_whole_structure_that_is_verified_during_the_read_changes_neither_images_nor_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, path = BACKENDS["npy"], tmp_path / "set"
    storage.save(path, *make_set(COUNT), "npy")
    monkeypatch.setattr(module, "INFO", replace(module.INFO, survives_damage=True))
    assert_same(storage.load(path), make_set(COUNT))
    monkeypatch.setattr(module, "read_many", Mock(side_effect=CorruptStoreError("its own", store=path)))
    with pytest.raises(CorruptStoreError, match="its own"):
        storage.load(path)


def test_a_record_is_verified_once(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[object] = []

    def hash_and_count(content: memoryview, *seed: int) -> int:
        hashed.append(content)
        return xxh3_64_intdigest(content, *seed)

    monkeypatch.setattr(checksums, "xxh3_64_intdigest", hash_and_count)
    with storage.open(saved) as reader:
        for indices, new in [([3, 11, 29], 3), ([29, 3, 11], 0), ([3, 12, 13, 29], 2)]:
            reader.read(indices)
            assert len(hashed) == new, indices
            hashed.clear()
        for index, new in [(3, 0), (5, 1), (5, 0)]:
            reader[index]
            assert len(hashed) == new, index
            hashed.clear()
        reader.read([5, 3])
        assert not hashed


def test_records_of_several_parts_are_verified_at_once_and_each_once(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    indices: list[list[int]] = []

    def note(*arguments: Any) -> Any:  # noqa: ANN401 - of hash_records
        indices.append(arguments[2].tolist())
        return checksums.hash_records(*arguments)

    monkeypatch.setattr("storage.dataset.pool.hash_records", note)
    with storage.open(saved) as reader:
        for batch in ([25, 3, 14, 4], [3, 13, 25, 24], [4, 14, 24]):
            reader.read(batch)
    assert indices == [[25, 3, 14, 4], [13, 24]]


def test_a_record_that_the_backend_refuses_is_named(tmp_path: Path) -> None:
    path = tmp_path / "set"
    storage.save(path, *make_set(COUNT), "png")
    (find_part(path) / "00000021.png").write_bytes(b"no picture")
    (find_part(path) / "00000025.png").unlink()
    for verify in (True, False):
        with pytest.raises(
            CorruptStoreError, match=rf"^{path}: record 21: it is damaged \(part-00000-\w+: .*not a PNG"
        ):
            storage.load(path, verify=verify)
        with storage.open(path, verify=verify) as reader:
            with pytest.raises(
                CorruptStoreError, match=rf"{path}: record 25: it is damaged \(part-00000-\w+: .*missing"
            ):
                reader.read([3, 25])
            with pytest.raises(CorruptStoreError, match="record 21: it is damaged"):
                reader[21]


@pytest.mark.parametrize(
    ("kind", "place"),
    [(StorageError, r": record 3: it cannot be read \(part-00000-\w+: "), (CorruptStoreError, r"/part-00000-\w+: ")],
)
def test_an_error_of_a_backend_keeps_its_kind_even_if_it_does_not_happen_again(
    kind: type[StorageError], place: str, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "set"
    storage.save(path, *make_set(COUNT), backend)
    refuse = Mock(side_effect=kind("refused for once", store=find_part(path)))
    monkeypatch.setattr(BACKENDS[backend], "read_many", refuse)
    with pytest.raises(StorageError, match=rf"^{path}/part-00000-\w+: refused for once") as caught:
        storage.load(path)
    assert type(caught.value) is kind
    with storage.open(path) as reader:
        part = type(reader._pool.take(0).reader)  # noqa: SLF001
        monkeypatch.setattr(part, "__getitem__" if kind is StorageError else "_read_stored", refuse)
        with pytest.raises(StorageError, match=rf"^{path}{place}refused for once") as caught:
            reader.read([3]) if kind is CorruptStoreError else reader[3]
        assert type(caught.value) is kind


@need_backend("npy")
def test_something_else_than_a_dataset_is_refused_with_the_next_step(tmp_path: Path) -> None:
    BACKENDS["npy"].store_many(tmp_path / "plain", *make_set(3))
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("text")
    for name, message in {
        "plain": "it has no manifest.json, so storage.save did not write it.*python -m storage convert",
        "empty": "it is empty",
        "file": "it is a file",
        "absent": "it doesn't exist",
    }.items():
        for read in (storage.load, storage.open, storage.check):
            with pytest.raises(StoreNotFoundError, match=f"^{tmp_path / name}: {message}"):
                read(tmp_path / name)


@need_backend("hdf5")
def test_a_missing_backend_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.save(tmp_path / "set", *make_set(3), "hdf5")
    monkeypatch.setattr("storage.registry.BACKENDS", {"png": BACKENDS["png"]})
    with pytest.raises(StorageError, match="the backend that wrote this dataset is missing: 'hdf5' isn't a backend"):
        storage.load(tmp_path / "set")


def test_damaged_labels_are_refused_unless_verification_is_off(tmp_path: Path) -> None:
    images, labels = make_set(COUNT, 5, 7)
    storage.save(tmp_path / "set", images, labels, "npy")
    path = find_beside(tmp_path / "set", "labels")
    path.write_bytes((7).to_bytes(8, "little") + path.read_bytes()[8:])
    with (
        storage.open(tmp_path / "set") as reader,
        pytest.raises(CorruptStoreError, match=r"the file .*\.labels is dam"),
    ):
        reader.read_labels()
    with storage.open(tmp_path / "set", verify=False) as reader:
        assert reader.read_labels()[0] == 7


@need_backend("hdf5")
def test_damaged_labels_of_format_1_are_refused_unless_verification_is_off(tmp_path: Path) -> None:
    images, labels = make_set(COUNT, 5, 7)
    storage.save(tmp_path / "set", images, labels, "hdf5")
    write_format1(tmp_path / "set")
    file = tmp_path / "set" / "part-00000" / "images.h5"
    content = file.read_bytes()
    start = content.index(labels.tobytes())
    file.write_bytes(content[:start] + (7).to_bytes(8, "little") + content[start + 8 :])
    with storage.open(tmp_path / "set") as reader, pytest.raises(CorruptStoreError, match="record 0: it is damaged"):
        reader.read_labels()
    with storage.open(tmp_path / "set", verify=False) as reader:
        assert reader.read_labels()[0] == 7


def test_a_limit_of_pixels_can_be_raised_and_is_pickled(tmp_path: Path) -> None:
    storage.save(tmp_path / "set", storage.Encoded.join([PICTURE]), np.array([7]), "npy")
    with storage.open(tmp_path / "set", max_pixels=34) as reader:
        reads: list[Callable[[], object]] = [
            lambda: reader[0],
            lambda: reader[[0]],
            lambda: reader.read([0], size=(5, 7)),
            lambda: pickle.loads(pickle.dumps(reader))[0],  # noqa: S301 - our own
        ]
        for read in reads:
            with pytest.raises(
                storage.DecodingError, match=r"35 pixels, more than the limit of 34: .*raise max_pixels"
            ):
                read()
    with storage.open(tmp_path / "set", max_pixels=35) as reader:
        assert reader[0][0].shape == reader.read([0], size=(5, 7))[0][0].shape == (5, 7, 3)


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, None, "9"])
def test_a_limit_that_is_no_number_of_pixels_is_refused(limit: Any, tmp_path: Path) -> None:  # noqa: ANN401 - several
    with pytest.raises(InvalidInputError, match=r"max_pixels is .*: give a number above 0"):
        storage.open(tmp_path, max_pixels=limit)
