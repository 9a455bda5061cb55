"""Image sets for the tests of storage, and how two of them are compared."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage import Backend, Images, Labels

LABELS = (-1, 0, 255, 300, 2**40, -(2**63), 2**63 - 1)


def make_set(count: int, height: int = 32, width: int = 32) -> tuple[Images, Labels]:
    """Make `count` random images, and labels that go through the hard ones."""
    images = np.random.default_rng(count).integers(0, 256, (count, height, width, 3), np.uint8)
    return images, np.resize(np.array(LABELS, np.int64), count)


FORMS: dict[str, tuple[str, tuple[int, ...]]] = {  # dtype and shape of images that aren't 8-bit RGB
    "masks": ("uint8", (9, 7)),
    "RGBA": ("uint8", (5, 7, 4)),
    "16-bit gray": ("uint16", (9, 8)),
    "spectra": ("int16", (4, 5, 13)),
    "half floats": ("float16", (6, 5, 1)),
    "floats": ("float32", (3, 5)),
}


def make_form(form: str, count: int) -> tuple[Images, Labels]:
    """Make `count` images of one of FORMS of random bytes, among them NaNs with a payload, and negative zeros."""
    dtype, shape = np.dtype(FORMS[form][0]), FORMS[form][1]
    content = np.random.default_rng(count).bytes(count * int(np.prod(shape)) * dtype.itemsize)
    images = np.frombuffer(content, dtype).reshape(count, *shape).copy()
    if dtype.kind == "f":
        images[:, 0, 0] = -0.0
        images[:, 1, 1] = (
            np.uint32(0x7FC01234 if dtype.itemsize == 4 else 0x7E34).astype(f"u{dtype.itemsize}").view(dtype)
        )
    return images, np.resize(np.array(LABELS, np.int64), count)


def accepts(module: Backend, images: Images) -> bool:
    """Check whether a backend says that it accepts pixels like these."""
    channels = module.INFO.dtypes.get(images.dtype.name, ())
    return channels is None or (*images.shape, 0)[3] in channels


def view_content(array: Any) -> NDArray[np.uint8]:  # noqa: ANN401 - an image, images, or a view of them
    """View the bytes of an array: NaNs differ from themselves, and negative zeros don't from zeros."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def assert_same(found: tuple[Images, Any], expected: tuple[Images, Any]) -> None:
    assert found[0].dtype == expected[0].dtype
    assert found[0].shape == expected[0].shape
    assert np.asarray(found[1]).dtype == np.int64
    np.testing.assert_array_equal(view_content(found[0]), view_content(expected[0]))
    np.testing.assert_array_equal(found[1], expected[1])


def check_reads(module: Backend, store: Path, expected: tuple[Images, Labels]) -> None:
    """Read all images, one, a batch in any order, and the labels alone, and compare each with what was stored."""
    images, labels = expected
    order = [*np.random.default_rng(0).permutation(len(images)).tolist(), 0, -1, 0]
    assert_same(module.read_many(store), expected)
    assert_same(module.read_single(store, -1), (images[-1], labels[-1]))
    with module.open_reader(store) as reader:
        assert_same(reader.read(order), (images[order], labels[order]))
        assert_same(reader[order[0]], (images[order[0]], labels[order[0]]))
        np.testing.assert_array_equal(reader.read_labels(), labels)
