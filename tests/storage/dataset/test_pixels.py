"""Datasets keep pixels of any dtype and shape, and notice when either is changed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from storage.__main__ import main
from storage.dataset.checksums import hash_blocks, hash_record, hash_records
from storage.dataset.manifest import FILE, Manifest, put_manifest, read_manifest
from tests.support.backends import EXAMPLES
from tests.support.datasets import read_first
from tests.support.image_sets import FORMS, assert_same, make_form


@pytest.mark.parametrize("form", FORMS)
def test_a_dataset_keeps_them_through_all_that_is_done_with_it(tmp_path: Path, form: str) -> None:
    images, labels = make_form(form, 7)
    storage.save(tmp_path / "set", iter([images[:2], images[2:5]]), labels[:5], "npy")
    storage.append(tmp_path / "set", images[5:], labels[5:])
    assert_same(storage.load(tmp_path / "set"), (images, labels))
    with storage.open(tmp_path / "set") as reader:
        assert_same(reader.read([-1, 0, 5]), (images[[-1, 0, 5]], labels[[-1, 0, 5]]))
        assert_same(reader[6], (images[6], labels[6]))
        out = np.zeros((2, *images.shape[1:]), images.dtype)
        assert reader.read([6, 1], out)[0] is out
        assert_same((out, labels[[6, 1]]), (images[[6, 1]], labels[[6, 1]]))
    storage.compact(tmp_path / "set")
    assert main(["convert", str(tmp_path / "set"), str(tmp_path / "other"), "--backend", "lmdb_packed"]) == 0
    assert storage.check(tmp_path / "other").records == {}
    assert_same(storage.load(tmp_path / "other"), (images, labels))
    assert json.loads((tmp_path / "other" / FILE).read_text("utf-8"))["dtype"] == images.dtype.name


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("form", ["16-bit gray", "RGBA"])
def test_a_plain_store_becomes_a_dataset(tmp_path: Path, name: str, form: str) -> None:
    images, labels = make_form(form, 3)
    storage.BACKENDS[name].store_many(tmp_path / "store", images, labels)
    assert main(["convert", str(tmp_path / "store"), str(tmp_path / "set"), "--backend", name]) == 0
    assert_same(storage.load(tmp_path / "set"), (images, labels))


def test_a_set_without_images_keeps_its_dtype_and_shape(tmp_path: Path) -> None:
    images, labels = make_form("half floats", 0)
    storage.save(tmp_path / "set", images, labels, "npy")
    assert_same(storage.load(tmp_path / "set"), (images, labels))
    storage.append(tmp_path / "set", *make_form("half floats", 2))
    assert_same(storage.load(tmp_path / "set"), make_form("half floats", 2))


@pytest.mark.parametrize(
    "change",
    [lambda images: images.view(np.int16), lambda images: images[..., np.newaxis], lambda images: images[:, :-1]],
    ids=["dtype", "axis", "height"],
)
def test_images_of_another_form_are_not_appended(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    images, labels = make_form("16-bit gray", 2)
    storage.save(tmp_path / "set", images, labels, "npy")
    with pytest.raises(storage.InvalidInputError, match="follow images of another size or kind"):
        storage.append(tmp_path / "set", change(images), labels)
    assert_same(storage.load(tmp_path / "set"), (images, labels))


def test_what_a_backend_cannot_store_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for images in (make_form("floats", 2)[0], iter([make_form("floats", 2)[0]])):
        with pytest.raises(storage.InvalidInputError, match="can't store images of float32"):
            storage.save(tmp_path / "set", images, np.arange(2), "png")
        assert {path.name for path in tmp_path.iterdir()} <= {".set.lock"}


def test_a_changed_dtype_in_the_manifest_is_found(tmp_path: Path) -> None:
    images, labels = make_form("16-bit gray", 3)
    storage.save(tmp_path / "set", images, labels, "lmdb_packed")
    path = tmp_path / "set" / FILE
    path.write_bytes(path.read_bytes().replace(b'"uint16"', b'"int16"'))
    with pytest.raises(storage.CorruptStoreError, match=r"manifest\.json is damaged"):
        storage.open(tmp_path / "set")


def test_a_manifest_of_another_dtype_is_not_that_of_its_parts(tmp_path: Path) -> None:
    images, labels = make_form("16-bit gray", 3)
    storage.save(tmp_path / "set", images, labels, "npy")
    facts = vars(read_manifest(tmp_path / "set")) | {"dtype": "int16"}
    put_manifest(tmp_path / "set", Manifest(**{name: facts[name] for name in Manifest.__match_args__}), durable=False)
    with pytest.raises(storage.CorruptStoreError, match=r"'uint16'\) instead of 3 of .*'int16'"):
        read_first(tmp_path / "set")
    with pytest.raises(storage.CorruptStoreError, match="does not hold what was saved"):
        storage.load(tmp_path / "set")


def test_a_changed_bit_is_found_where_it_is(tmp_path: Path) -> None:
    images, labels = make_form("floats", 9)
    storage.save(tmp_path / "set", images, labels, "npy")
    (path,) = (tmp_path / "set").glob("part-*/images.npy")
    content = bytearray(path.read_bytes())
    content[-2 * images[0].nbytes - 1] ^= 0x80  # the last sign of record 6
    path.write_bytes(content)
    assert list(storage.check(tmp_path / "set").records) == [6]
    with pytest.raises(storage.CorruptStoreError, match="record 6"):
        storage.load(tmp_path / "set")
    with storage.open(tmp_path / "set") as reader, pytest.raises(storage.CorruptStoreError, match="record 6"):
        reader.read([5, 6])


def test_dtype_and_shape_each_change_a_checksum() -> None:
    images, labels = np.zeros((2, 4, 6), np.uint16), np.arange(2)
    content = images.view(np.uint8)
    forms: list[Any] = [images, images.view(np.int16), images.view(np.float16), images.reshape(2, 6, 4)]
    forms += [images[..., np.newaxis], content, content.reshape(2, 4, 4, 3), content.reshape(2, 4, 3, 4)]
    for checksums in (
        [hash_record(form[0], 0, 0) for form in forms],
        [int(hash_records(form, labels, labels)[1]) for form in forms],
        [int(hash_blocks(form, labels, 0)[0]) for form in forms],
    ):
        assert len(set(checksums)) == len(forms)


def test_saving_the_same_images_in_another_byte_order_keeps_their_names(tmp_path: Path) -> None:
    images, labels = make_form("floats", 2)
    storage.save(tmp_path / "set", images, labels, "npy", names=["a", "b"])
    storage.save(tmp_path / "set", images.astype(">f4"), labels[::-1].copy(), "npy", overwrite=True)
    with storage.open(tmp_path / "set") as reader:
        assert list(reader.names) == ["a", "b"]
        assert_same(reader.read([0, 1]), (images, labels[::-1]))
