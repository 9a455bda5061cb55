"""Every backend keeps the contract of `storage.Backend` for pixels of any dtype and shape that its INFO has."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from storage import Backend
from storage.arrays import DTYPES
from tests.support.image_sets import FORMS, accepts, assert_same, check_reads, make_form


def need_form(module: Backend, form: str) -> None:
    """Skip a test of pixels that the backend refuses."""
    if not accepts(module, make_form(form, 0)[0]):
        pytest.skip(f"{module.__name__.rpartition('.')[2]} stores no {form}")


@pytest.mark.parametrize("form", FORMS)
def test_pixels_come_back_or_are_refused_before_anything_is_written(module: Backend, tmp_path: Path, form: str) -> None:
    images, labels = make_form(form, 5)
    if not accepts(module, images):
        with pytest.raises(storage.InvalidInputError, match=r"can't store images of .*give uint8 .*INFO\.dtypes"):
            module.store_many(tmp_path / "store", images, labels)
        assert not (tmp_path / "store").exists()
        return
    module.store_many(tmp_path / "store", images, labels)
    check_reads(module, tmp_path / "store", (images, labels))


@pytest.mark.parametrize("count", [0, 1])
def test_no_image_or_one_image_comes_back(module: Backend, tmp_path: Path, count: int) -> None:
    form = "spectra" if "int16" in module.INFO.dtypes else "masks"
    need_form(module, form)
    images, labels = make_form(form, count)
    module.store_many(tmp_path / "store", images, labels)
    assert_same(module.read_many(tmp_path / "store"), (images, labels))
    with module.open_reader(tmp_path / "store") as reader:
        assert (len(reader), reader.kind) == (count, "pixels")
        assert_same(reader.read(range(count)), (images, labels))


def test_a_single_image_comes_back(module: Backend, tmp_path: Path) -> None:
    need_form(module, "16-bit gray")
    image = make_form("16-bit gray", 1)[0][0]
    module.store_single(tmp_path / "store", image, -3)
    assert_same(module.read_single(tmp_path / "store", 0), (image, -3))


def test_pixels_in_another_byte_order_come_back_in_that_of_this_machine(module: Backend, tmp_path: Path) -> None:
    need_form(module, "16-bit gray")
    images, labels = make_form("16-bit gray", 3)
    module.store_many(tmp_path / "store", images.astype(">u2"), labels)
    assert_same(module.read_many(tmp_path / "store"), (images, labels))


def test_pixels_are_read_into_an_array_of_their_dtype_and_shape_only(module: Backend, tmp_path: Path) -> None:
    need_form(module, "16-bit gray")
    images, labels = make_form("16-bit gray", 4)
    module.store_many(tmp_path / "store", images, labels)
    out = np.zeros_like(images)
    with module.open_reader(tmp_path / "store") as reader:
        for wrong in (out.view(np.int16), out.view(">u2"), out[..., np.newaxis], out.view(np.uint8)):
            with pytest.raises(storage.InvalidInputError, match=r"out has dtype .*give a NumPy array of uint16, shape"):
                reader.read(range(4), wrong)
            with pytest.raises(storage.InvalidInputError, match="out has dtype"):
                module.read_many(tmp_path / "store", wrong)
        assert not out.any(), "a refused array was written to"
        assert reader.read(range(4), out)[0] is out
        assert_same((out, labels), (images, labels))
    out[...] = 0
    assert module.read_many(tmp_path / "store", out)[0] is out
    assert_same((out, labels), (images, labels))


def test_a_backend_names_dtypes_that_there_are(module: Backend) -> None:
    assert module.INFO.dtypes.keys() <= DTYPES.keys()
    assert "uint8" in module.INFO.dtypes


def test_a_view_shows_pixels_as_they_were_stored(module: Backend, tmp_path: Path) -> None:
    need_form(module, "floats")
    images, labels = make_form("floats", 4)
    module.store_many(tmp_path / "store", images, labels)
    with module.open_reader(tmp_path / "store") as reader:
        try:
            view: Any = reader.view()
        except storage.StorageError:
            pytest.skip("this backend can't view its images")
        assert_same((np.asarray(view), labels), (images, labels))
        assert_same((view[2], labels[2]), (images[2], labels[2]))
