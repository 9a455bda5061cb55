"""Images and labels are accepted as people have them where nothing is lost by it; everything else is refused."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

import storage
from storage import BACKENDS, Backend, Encoded, InvalidInputError, StorageError, inputs
from storage.dataset import writer
from tests.support.encoded_sets import assert_same_files, make_files, need_files
from tests.support.image_sets import assert_same, make_set
from tests.support.suite import ROOT

IMAGES, LABELS = make_set(3, 9, 11)


class Tensor:
    """What the suite uses of a tensor; tests/storage/test_data_loader.py uses PyTorch's own."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array, self.ndim = array, array.ndim

    def numpy(self) -> np.ndarray[Any, Any]:
        """Return the array itself, as PyTorch does, or its error."""
        if self.array.dtype == np.float64:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        return self.array

    def __index__(self) -> int:
        """Return the number that it is."""
        return int(self.array)

    def __len__(self) -> int:
        """Return the length of the first axis."""
        return len(self.array)


Tensor.__module__ = "torch"
Parameter = type("Parameter", (Tensor,), {})


class Arrow:
    """Something else that says how it becomes an array."""

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray[Any, Any]:
        """Return the labels."""
        return LABELS


TRUTHS = [np.array([True, False, True]), [True, False, True], list(np.array([True, False, True]))]


@pytest.mark.parametrize("labels", TRUTHS, ids=["an array", "a list", "a list of NumPy's"])
def test_labels_may_be_truth_values(labels: Any, tmp_path: Path) -> None:  # noqa: ANN401 - several
    storage.save(tmp_path / "set", IMAGES, labels, "npy")
    assert_same(storage.load(tmp_path / "set"), (IMAGES, np.array([1, 0, 1])))


SETS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "a list of arrays": lambda: (list(IMAGES), LABELS.tolist()),
    "a tuple of arrays": lambda: (tuple(IMAGES), tuple(LABELS)),
    "tensors": lambda: (Tensor(IMAGES), Tensor(LABELS.astype(np.int16))),
    "a list of tensors": lambda: ([Parameter(image) for image in IMAGES], Arrow()),
    "pictures": lambda: ([Image.fromarray(image) for image in IMAGES], LABELS.astype(">i4")),
}


@pytest.mark.parametrize("make", SETS.values(), ids=SETS)
def test_an_image_set_comes_back_however_it_was_given(make: Callable[[], tuple[Any, Any]], tmp_path: Path) -> None:
    images, labels = make()
    BACKENDS["npy"].store_many(tmp_path / "plain", images, labels)
    storage.save(tmp_path / "set", images, labels, "npy")
    storage.append(tmp_path / "set", images, labels)
    assert_same(BACKENDS["npy"].read_many(tmp_path / "plain"), (IMAGES, LABELS))
    assert_same(storage.load(tmp_path / "set"), (np.concatenate([IMAGES] * 2), np.concatenate([LABELS] * 2)))


def test_every_backend_accepts_lists(module: Backend, tmp_path: Path) -> None:
    module.store_many(tmp_path / "store", list(IMAGES), LABELS.tolist())
    assert_same(module.read_many(tmp_path / "store"), (IMAGES, LABELS))


@pytest.mark.kinds("encoded")
def test_every_backend_of_files_accepts_a_list_of_bytes(module: Backend, tmp_path: Path) -> None:
    need_files(module)
    files, labels = make_files()
    module.store_many(tmp_path / "store", [bytes(file) for file in files], labels.tolist())
    assert_same_files(module.read_many(tmp_path / "store"), (files, labels))


@pytest.mark.parametrize(
    "labels", [range(3), [2**63 - 1, -(2**63), 0], np.array([0, 255, 7], np.uint8), [], [np.int8(1)]]
)
def test_labels_may_be_any_integers(labels: Any, tmp_path: Path) -> None:  # noqa: ANN401 - many types
    BACKENDS["npy"].store_many(tmp_path / "store", make_set(len(labels))[0], labels)
    found = BACKENDS["npy"].read_many(tmp_path / "store")[1]
    assert found.dtype == np.int64
    assert found.tolist() == list(labels)


BAD_LABELS: dict[str, tuple[Any, str]] = {
    "a float": ([1, 2.0, 3], "a label isn't an integer .*'float'"),
    "texts": (["1", "2", "3"], "a label isn't an integer .*'str'"),
    "65 bits": ([1, 2, 2**63], "a label does not fit in 64 bits"),
    "65 bits in an array": (np.array([1, 2, 2**63], np.uint64), "a label does not fit in 64 bits"),
    "floats": (np.array([1.0, 2.0, 3.0]), "labels has dtype float64"),
    "rank 2": (Tensor(np.zeros((3, 1), np.int32)), r"labels has shape \(3, 1\)"),
    "gradients": (Tensor(np.zeros(3)), "labels can't be made an array .*requires grad"),
    "a text": ("123", "labels is a str"),
    "bytes": (b"123", "labels is a bytes"),
    "an iterator": (iter([1, 2, 3]), "labels is a list_iterator"),
    "nothing": (None, "labels is a NoneType"),
}


@pytest.mark.parametrize(("labels", "message"), BAD_LABELS.values(), ids=BAD_LABELS)
def test_what_is_no_labels_is_refused_before_anything_is_written(labels: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=message):
        storage.save(tmp_path / "set", IMAGES, labels, "npy")  # type: ignore[arg-type] # on purpose
    with pytest.raises(InvalidInputError, match=message):
        BACKENDS["npy"].store_many(tmp_path / "store", IMAGES, labels)  # type: ignore[arg-type] # on purpose
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("images", "record", "message"),
    [
        ([IMAGES[0], IMAGES[1, 1:]], 1, r"shape \(8, 11, 3\) and dtype uint8, and the first of \(9, 11, 3\)"),
        ([IMAGES[0], IMAGES[1].astype(np.int16)], 1, "dtype int16, and the first of .* uint8: bring all to one"),
        ([IMAGES[0], None], 1, "an image is a NoneType: give arrays of one shape, or bytes of files"),
        ([b"a file", "text"], 0, "an image is a bytes: give arrays of one shape, or bytes of files"),
        ([Image.new("CMYK", (8, 8))] * 2, None, "in Pillow's mode CMYK: convert it"),
        ([Tensor(np.zeros((8, 8, 3)))] * 2, None, "an image can't be made an array .*requires grad"),
    ],
    ids=["sizes", "dtypes", "nothing", "bytes and text", "CMYK", "gradients"],
)
def test_a_list_of_unequal_images_is_refused(
    images: list[Any], record: int | None, message: str, tmp_path: Path
) -> None:
    for store in (BACKENDS["npy"].store_many, storage.save):
        with pytest.raises(InvalidInputError, match=message) as caught:
            store(tmp_path / "store", images, [1, 2])
        assert caught.value.record == record
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [np.array, Tensor, list], ids=["array", "tensor", "list"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_that_come_first_are_recognized(channels: int, make: Callable[..., Any], tmp_path: Path) -> None:
    images = np.zeros((2, channels, 8, 9), np.uint8)
    with pytest.raises(InvalidInputError, match=r"seem to be \(N, C, H, W\).*give \(N, H, W, C\): images.transpose"):
        storage.save(tmp_path / "set", make(images), [0, 1])
    with pytest.raises(InvalidInputError, match=r"seem to be \(N, C, H, W\)"):
        BACKENDS["npy"].store_single(tmp_path / "set", images[0], 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(2, 13, 16, 15), (2, 2, 8, 8), (2, 7, 9, 200)], ids=str)
def test_other_channels_that_seem_to_come_first_are_warned_of_and_kept(shape: tuple[int, ...], tmp_path: Path) -> None:
    images = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    taken = f"taken as {shape[1]} pixels high and {shape[2]} wide, with {shape[3]} channels; .* give images.transpose"
    with pytest.warns(UserWarning, match=taken):
        storage.save(tmp_path / "set", images, [0, 1], "npy")
    np.testing.assert_array_equal(storage.load(tmp_path / "set")[0], images)


@pytest.mark.parametrize(
    "shape", [(2, 16, 15, 13), (2, 16, 16, 16), (2, 1, 9, 4), (2, 2, 7, 9), (2, 9, 9, 200)], ids=str
)
def test_nothing_is_said_of_channels_that_come_last(shape: tuple[int, ...], tmp_path: Path) -> None:
    storage.save(tmp_path / "set", np.zeros(shape, np.uint8), [0, 1], "npy")  # warnings are errors
    assert storage.load(tmp_path / "set")[0].shape == shape


@pytest.mark.parametrize("make", [np.array, Tensor, Image.fromarray], ids=["array", "tensor", "picture"])
def test_a_single_image_may_be_an_array_a_tensor_or_a_picture(make: Callable[..., Any], tmp_path: Path) -> None:
    label: Any = make(np.array(7)) if make is Tensor else 7
    BACKENDS["npy"].store_single(tmp_path / "store", make(IMAGES[0]), label)
    assert_same(BACKENDS["npy"].read_single(tmp_path / "store", 0), (IMAGES[0], 7))


MODES = {
    "L": ("u1", ()),
    "LA": ("u1", (2,)),
    "RGB": ("u1", (3,)),
    "RGBA": ("u1", (4,)),
    "I;16": ("<u2", ()),
    "I;16L": ("<u2", ()),
    "I;16B": (">u2", ()),
    "F": ("<f4", ()),
}


@pytest.mark.parametrize("mode", MODES)
def test_a_picture_comes_back_as_all_that_it_holds(mode: str, tmp_path: Path) -> None:
    dtype, channels = MODES[mode]
    picture: Any
    expected = (np.arange(9 * 11 * sum(channels or (1,))) * 5).astype(dtype).reshape(9, 11, *channels)
    picture = Image.frombytes(mode, (11, 9), expected.tobytes())
    BACKENDS["npy"].store_single(tmp_path / "store", picture, 7)
    found = BACKENDS["npy"].read_single(tmp_path / "store", 0)[0]
    assert isinstance(found, np.ndarray)
    assert found.dtype == expected.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, expected)


OTHER_MODES: dict[str, tuple[str, Callable[[Any], Any]]] = {  # the hint, and what it says
    "1": (r'convert\("L"\) makes 0 and 255 .* makes 0 and 1', lambda picture: np.asarray(picture).astype(np.uint8)),
    "P": (r'convert\("RGB"\) makes its colours, and numpy.asarray\(picture\) their numbers', np.asarray),
    "I": (r"numpy.asarray\(picture\).astype\(numpy.uint16\)", lambda picture: np.asarray(picture).astype(np.uint16)),
    "PA": (r'convert\("RGBA"\)', lambda picture: picture.convert("RGBA")),
    "RGBa": (r'convert\("RGBA"\)', lambda picture: picture.convert("RGBA")),
    "La": (r'convert\("LA"\)', lambda picture: picture.convert("LA")),
    **{
        mode: (r'convert\("RGB"\)', lambda picture: picture.convert("RGB")) for mode in ("CMYK", "YCbCr", "HSV", "RGBX")
    },
}


@pytest.mark.parametrize("mode", OTHER_MODES)
def test_any_other_picture_is_refused_until_the_hint_is_followed(mode: str, tmp_path: Path) -> None:
    message, convert = OTHER_MODES[mode]
    picture: Any = Image.new(mode, (11, 9))
    with pytest.raises(InvalidInputError, match=f"image is a picture in Pillow's mode {mode}: .*{message}"):
        BACKENDS["npy"].store_single(tmp_path / "store", picture, 7)
    assert list(tmp_path.iterdir()) == []
    BACKENDS["npy"].store_single(tmp_path / "store", convert(picture), 7)


def test_a_picture_with_a_transparent_colour_is_refused(tmp_path: Path) -> None:
    Image.fromarray(IMAGES[0]).save(tmp_path / "picture.png", transparency=(1, 2, 3))
    picture: Any
    with Image.open(tmp_path / "picture.png") as picture:
        with pytest.raises(InvalidInputError, match=r'a transparent colour.*keep it by convert\("RGBA"\), or forget'):
            BACKENDS["npy"].store_single(tmp_path / "store", picture, 7)
        BACKENDS["npy"].store_single(tmp_path / "store", picture.convert("RGBA"), 7)


@pytest.mark.parametrize("make", [np.array, list, Tensor], ids=["array", "list", "tensor"])
def test_masks_of_truth_values_are_refused_with_what_to_do(make: Callable[..., Any], tmp_path: Path) -> None:
    masks = np.eye(9, dtype=bool)[np.newaxis].repeat(2, axis=0)
    with pytest.raises(InvalidInputError, match=r"dtype bool: give masks as 0 and 1: images.astype\(numpy.uint8\)"):
        storage.save(tmp_path / "set", make(masks), [0, 1])
    assert list(tmp_path.iterdir()) == []
    storage.save(tmp_path / "set", masks.astype(np.uint8), [0, 1], "npy")
    np.testing.assert_array_equal(storage.load(tmp_path / "set")[0], masks)


def test_a_picture_of_a_file_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned clockwise
    Image.fromarray(IMAGES[0]).save(tmp_path / "turned.png", exif=exif)
    picture: Any
    with Image.open(tmp_path / "turned.png") as picture:
        BACKENDS["npy"].store_single(tmp_path / "store", picture, 1)
        expected = np.asarray(ImageOps.exif_transpose(picture))
    assert_same(BACKENDS["npy"].read_single(tmp_path / "store", 0), (expected, 1))
    assert expected.shape == (11, 9, 3)


def test_a_picture_of_several_frames_is_refused(tmp_path: Path) -> None:
    picture: Any
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "two.tif", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "two.tif") as picture, pytest.raises(InvalidInputError, match="several frames: choose"):
        BACKENDS["npy"].store_single(tmp_path / "store", picture, 1)


def test_a_picture_of_a_damaged_file_is_refused(tmp_path: Path) -> None:
    picture: Any
    Image.fromarray(make_set(1, 50, 50)[0][0]).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:2000])
    with Image.open(tmp_path / "cut.png") as picture, pytest.raises(InvalidInputError, match="image can't be made an"):
        BACKENDS["npy"].store_single(tmp_path / "store", picture, 1)


def test_a_list_that_does_not_fit_in_memory_raises_our_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(arrays: list[Any]) -> None:
        raise MemoryError(f"{len(arrays)} arrays")

    monkeypatch.setattr(np, "stack", refuse)
    with pytest.raises(StorageError, match=r"images can't be copied \(3 arrays\): free some memory"):
        BACKENDS["npy"].store_many(tmp_path / "store", list(IMAGES), LABELS)


FILES, FILE_LABELS = make_files()
CONTENTS = [bytes(file) for file in FILES]
BATCHES: dict[str, Callable[[], Any]] = {
    "a list of lists": lambda: [CONTENTS[:4], CONTENTS[4:]],
    "a list of Encoded": lambda: [FILES[:4], FILES[4:]],
    "lists from an iterator": lambda: iter([CONTENTS[:4], CONTENTS[4:]]),
    "files from an iterator": lambda: iter(CONTENTS),
    "files in a list": lambda: CONTENTS,
}


@pytest.mark.parametrize("make", BATCHES.values(), ids=BATCHES)
def test_files_are_saved_from_lists_and_iterators(make: Callable[[], Any], tmp_path: Path) -> None:
    storage.save(tmp_path / "set", make(), FILE_LABELS.tolist(), "npy")
    assert_same_files(storage.load(tmp_path / "set"), (FILES, FILE_LABELS))


PIXELS: dict[str, Callable[[], Any]] = {
    "a list of arrays": lambda: [IMAGES[:2], IMAGES[2:]],
    "tensors from an iterator": lambda: iter([Tensor(IMAGES[:2]), Tensor(IMAGES[2:])]),
    "lists from an iterator": lambda: iter([list(IMAGES[:2]), [Image.fromarray(IMAGES[2])]]),
    "pictures from an iterator": lambda: map(Image.fromarray, IMAGES),
}


@pytest.mark.parametrize("make", PIXELS.values(), ids=PIXELS)
def test_pixels_are_saved_from_batches_of_any_form(make: Callable[[], Any], tmp_path: Path) -> None:
    storage.save(tmp_path / "set", make(), LABELS, "npy")
    assert_same(storage.load(tmp_path / "set"), (IMAGES, LABELS))


SINGLE: dict[str, tuple[Any, Any]] = {
    "an array": (IMAGES[0], IMAGES[:1]),
    "a tensor": (Tensor(IMAGES[0]), IMAGES[:1]),
    "a picture": (Image.fromarray(IMAGES[0]), IMAGES[:1]),
    "a low picture": (Image.fromarray(IMAGES[0][:1]), IMAGES[:1, :1]),
    "a gray array": (IMAGES[0, :, :, 0], IMAGES[:1, :, :, 0]),
    "a gray picture": (Image.fromarray(IMAGES[0, :, :, 0]), IMAGES[:1, :, :, 0]),
    "one gray array of all": (IMAGES[:1, :, :, 0], IMAGES[:1, :, :, 0]),
}


@pytest.mark.parametrize("case", SINGLE)
def test_a_single_image_with_one_label_is_saved_and_appended(case: str, tmp_path: Path) -> None:
    image, expected = SINGLE[case]
    storage.save(tmp_path / "set", image, [7], "npy")
    storage.append(tmp_path / "set", image, [8])
    assert_same(storage.load(tmp_path / "set"), (np.concatenate([expected] * 2), np.array([7, 8])))


def test_a_single_file_with_one_label_is_saved(tmp_path: Path) -> None:
    storage.save(tmp_path / "set", CONTENTS[0], [7], "npy")
    assert_same_files(storage.load(tmp_path / "set"), (FILES[:1], np.array([7])))
    with pytest.raises(InvalidInputError, match="images is a bytes"):
        storage.save(tmp_path / "other", CONTENTS[0], [7, 8], "npy")


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_what_may_be_one_image_or_several_is_refused(channels: int, tmp_path: Path) -> None:
    images = np.zeros((9, 8, channels), np.uint8)
    sets: list[tuple[Any, Any]] = [(images, range(9)), (images[:1], [0]), (Tensor(images), range(9))]
    for given, labels in sets:
        with pytest.raises(InvalidInputError, match=r"may be one image, or \d gray ones: add an axis"):
            storage.save(tmp_path / "set", given, labels, "npy")
    with pytest.raises(InvalidInputError, match="may be one image, or a gray one: add an axis"):
        storage.save(tmp_path / "set", iter([images[:1]]), [0], "npy")
    with pytest.raises(InvalidInputError, match="9 images and 8 labels"):
        storage.save(tmp_path / "set", images, range(8), "npy")
    storage.save(tmp_path / "set", images[..., np.newaxis], range(9), "npy")
    storage.save(tmp_path / "one", images[np.newaxis], [0], "npy")
    assert (len(storage.load(tmp_path / "set")[0]), len(storage.load(tmp_path / "one")[0])) == (9, 1)


def test_many_gray_images_with_one_label_are_no_single_image(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="100 images and 1 labels"):
        storage.save(tmp_path / "set", np.zeros((100, 28, 28), np.uint8), [0], "npy")


def test_single_arrays_are_saved_from_an_iterator(tmp_path: Path) -> None:
    storage.save(tmp_path / "colour", iter(IMAGES), LABELS, "npy")
    assert_same(storage.load(tmp_path / "colour"), (IMAGES, LABELS))
    tensors: Any = (Tensor(image) for image in IMAGES[..., 0])
    storage.save(tmp_path / "gray", tensors, LABELS, "npy")
    assert_same(storage.load(tmp_path / "gray"), (IMAGES[..., 0], LABELS))


def test_a_list_of_gray_batches_is_told_from_a_list_of_images() -> None:
    gray = np.zeros((5, 8, 9), np.uint8)
    assert inputs.is_list_of_batches([gray, gray], 10)
    assert not inputs.is_list_of_batches([gray, gray], 2)
    assert not inputs.is_list_of_batches([gray[0], gray[1]], 2)
    assert not inputs.is_list_of_batches(gray, 5)
    assert inputs.is_list_of_batches([IMAGES], 3)


def test_a_tensor_is_filled_and_returned(module: Backend, store: Path) -> None:
    images, labels = make_set(10)
    out = Tensor(np.zeros_like(images))
    assert module.read_many(store, out)[0] is out  # type: ignore[arg-type] # a tensor, too
    assert_same((out.array, labels), (images, labels))
    some = Tensor(np.zeros_like(images[:2]))
    with module.open_reader(store) as reader:
        found, found_labels = reader.read([7, 2], some)  # type: ignore[arg-type] # likewise
    assert found is some  # type: ignore[comparison-overlap]
    assert_same((some.array, found_labels), (images[[7, 2]], labels[[7, 2]]))


@pytest.mark.parametrize("part", [writer.PART, 1], ids=["one part", "a part per image"])
def test_a_dataset_fills_a_tensor_and_verifies_it(part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PART", part)
    storage.save(tmp_path / "set", iter([IMAGES]), LABELS, "npy")
    out = Tensor(np.zeros_like(IMAGES))
    given: Any = out
    with storage.open(tmp_path / "set") as reader:
        found, labels = reader.read([2, 0, 1], given)
    assert found is given
    assert_same((out.array, labels), (IMAGES[[2, 0, 1]], LABELS[[2, 0, 1]]))


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (Tensor(np.zeros((3, 9, 11, 3))), "out can't be made an array .*requires grad"),
        (Tensor(np.zeros((3, 9, 11, 3), np.int8)), "out has dtype int8"),
        (Tensor(np.broadcast_to(IMAGES[:1], IMAGES.shape)), "out is not C-contiguous, or is read-only"),
        (Arrow(), "out is a Arrow"),
    ],
    ids=["gradients", "signed", "expanded", "a copy"],
)
def test_a_tensor_that_cannot_be_filled_is_refused(out: Any, message: str, tmp_path: Path) -> None:  # noqa: ANN401 - several
    BACKENDS["npy"].store_many(tmp_path / "store", IMAGES, LABELS)
    with pytest.raises(InvalidInputError, match=message):
        BACKENDS["npy"].read_many(tmp_path / "store", out)


def test_neither_pytorch_nor_pillow_is_imported_to_recognize_theirs() -> None:
    code = (
        "import sys, numpy, storage; storage.BACKENDS['npy'].store_many;"
        "storage.inputs.take_images([numpy.zeros((8, 8, 3), numpy.uint8)]); storage.inputs.take_labels([1]);"
        "print({'torch', 'PIL'} & sys.modules.keys())"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "set()\n"


def test_encoded_is_kept_as_it_is() -> None:
    files = Encoded.join([b"a", b"b"])
    assert inputs.take_images(files) is files
