"""`storage.Encoded`: image files in one buffer, as a sequence of views."""

import copy
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from storage import Encoded
from storage.errors import InvalidInputError

FILES = [b"one", b"", b"another", b"\0\xff"]


@pytest.fixture
def images() -> Encoded:
    return Encoded.join(FILES)


def listed(images: Sequence[memoryview]) -> list[bytes]:
    return [bytes(image) for image in images]


def test_joined_files_are_a_sequence_of_their_bytes(images: Encoded) -> None:
    assert len(images) == 4
    assert listed(images) == FILES
    assert listed(list(reversed(images))) == FILES[::-1]
    assert b"another" in images
    assert images.index(b"another") == 2
    assert isinstance(images, Sequence)


def test_joined_files_lie_one_after_the_other(images: Encoded) -> None:
    assert images.content.tobytes() == b"".join(FILES)
    assert [str(array.dtype) for array in (images.content, images.offsets)] == ["uint8", "int64"]
    assert images.offsets.tolist() == [0, 3, 3, 10, 12]
    assert images.lengths.tolist() == [3, 0, 7, 2]
    assert images.nbytes == 12 + 5 * 8
    assert repr(images) == "<Encoded: 4 files, 12 bytes>"


@pytest.mark.parametrize(
    "make",
    [
        bytearray,
        memoryview,
        lambda file: np.frombuffer(file, np.uint8).data,
        lambda file: np.frombuffer(file, np.uint16).reshape(1, -1).data,
    ],
    ids=["bytearray", "memoryview", "array", "two axes of two bytes"],
)
def test_anything_like_bytes_is_joined_by_its_bytes(make: Callable[[bytes], Any]) -> None:
    assert listed(Encoded.join(make(file) for file in (b"even", b"longer"))) == [b"even", b"longer"]
    assert Encoded.join([make(b"even")]).lengths.tolist() == [4]


def test_no_files_and_empty_files_can_be_joined() -> None:
    none, empty = Encoded.join([]), Encoded.join([b"", np.empty((0, 3), np.uint8).data])
    assert (len(none), none.content.size, none.offsets.tolist()) == (0, 0, [0])
    assert listed(empty) == [b"", b""]
    assert len(none[:]) == len(none.take([])) == 0


@pytest.mark.parametrize("file", ["text", None, 7, np.zeros(3, np.uint8), [1, 2]], ids=lambda file: type(file).__name__)
def test_what_is_not_bytes_is_refused_by_its_number(file: Any) -> None:  # noqa: ANN401 - that is the test
    with pytest.raises(InvalidInputError, match=f"record 1: it is a {type(file).__name__}") as caught:
        Encoded.join([b"one", file])
    assert caught.value.record == 1


def test_a_view_with_gaps_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="record 0: it is a memoryview with gaps"):
        Encoded.join([memoryview(b"abcdef")[::2]])


def test_arrays_are_not_copied() -> None:
    content, offsets = np.arange(6, dtype=np.uint8), np.array([0, 2, 6])
    images = Encoded(content, offsets)
    assert images.content is content
    assert images.offsets is offsets
    content[3] = 99
    assert bytes(images[1]) == bytes([2, 99, 4, 5])


def test_a_file_is_a_read_only_view_even_if_the_array_is_not() -> None:
    image = Encoded(np.zeros(4, np.uint8), np.array([0, 4]))[0]
    assert image.readonly
    with pytest.raises(TypeError, match="read-only"):
        image[0] = 1


@pytest.mark.parametrize("index", [0, 3, -1, -4, np.int64(2), np.uint8(1)])
def test_an_index_may_be_negative_or_of_numpy(images: Encoded, index: int) -> None:
    assert bytes(images[index]) == FILES[index]


@pytest.mark.parametrize("index", [4, -5, 2**70])
def test_an_index_out_of_range_raises_index_error(images: Encoded, index: int) -> None:
    with pytest.raises(IndexError):
        images[index]
    with pytest.raises((IndexError, TypeError)):  # NumPy makes an array of objects of what is over 64 bits
        images.take([0, index])


@pytest.mark.parametrize(
    "bounds", [(0, 2), (1, 4), (2, 2), (3, 1), (None, None), (-2, None), (0, 99), (9, 12), (-9, 1)]
)
def test_a_slice_shares_the_buffer(images: Encoded, bounds: tuple[int | None, int | None]) -> None:
    part = images[slice(*bounds)]
    assert listed(part) == FILES[slice(*bounds)]
    assert part.offsets[0] == 0
    assert not part.content.flags.owndata


@pytest.mark.parametrize("step", [-1, 2])
def test_a_slice_with_a_step_is_refused(images: Encoded, step: int) -> None:
    with pytest.raises(InvalidInputError, match=f"step {step}: select files with `take`"):
        images[::step]


@pytest.mark.parametrize("make", [list, tuple, np.array, lambda indices: np.array(indices, np.int8)])
def test_files_are_taken_in_any_order_with_repeats(images: Encoded, make: Callable[[list[int]], Any]) -> None:
    taken = images.take(make([3, 0, -2, 0]))
    assert listed(taken) == [FILES[3], FILES[0], FILES[2], FILES[0]]
    assert not np.shares_memory(taken.content, images.content)


@pytest.mark.parametrize("indices", [[0.5], [True, False, True, True], [[0]], 1, ["0"], np.array([1.0])])
def test_indices_that_are_not_integers_are_refused(images: Encoded, indices: Any) -> None:  # noqa: ANN401 - likewise
    with pytest.raises(TypeError, match="give a sequence of integers"):
        images.take(indices)


@pytest.mark.parametrize("offsets", [[], [0], [0, 3], [0, 5], [1, 4], [-1, 4], [0, 3, 2, 4], [0, 5, 4]])
def test_offsets_that_do_not_rise_from_0_to_the_end_are_refused(offsets: list[int]) -> None:
    with pytest.raises(InvalidInputError, match="offsets don't go from 0 up to 4"):
        Encoded(np.zeros(4, np.uint8), np.array(offsets, np.int64))


@pytest.mark.parametrize(
    ("content", "offsets", "name"),
    [
        (b"1234", np.array([0, 4]), "content is a bytes"),
        (np.zeros(4, np.int8), np.array([0, 4]), "content has dtype int8"),
        (np.zeros((2, 2), np.uint8), np.array([0, 4]), r"content has dtype uint8 and shape \(2, 2\)"),
        (np.zeros(8, np.uint8)[::2], np.array([0, 4]), "content has dtype"),
        (np.ma.zeros(4, np.uint8), np.array([0, 4]), "content is a MaskedArray"),
        (np.zeros(4, np.uint8), [0, 4], "offsets is a list"),
        (np.zeros(4, np.uint8), np.array([0, 4], np.int32), "offsets has dtype int32"),
        (np.zeros(4, np.uint8), np.array([0, 4], ">i8"), "offsets has dtype >i8"),
        (np.zeros(4, np.uint8), np.array([[0, 4]]), "offsets has dtype"),
    ],
)
def test_other_arrays_are_refused(content: Any, offsets: Any, name: str) -> None:  # noqa: ANN401 - likewise
    with pytest.raises(InvalidInputError, match=f"{name}.*give a C-contiguous NumPy array"):
        Encoded(content, offsets)


@pytest.mark.parametrize("duplicate", [lambda images: pickle.loads(pickle.dumps(images)), copy.deepcopy])  # noqa: S301
def test_a_copy_has_the_same_files(images: Encoded, duplicate: Callable[[Encoded], Encoded]) -> None:
    assert listed(duplicate(images)) == FILES


@pytest.mark.parametrize("seed", range(30))
def test_any_files_come_back_by_index_slice_and_take(seed: int) -> None:
    random = np.random.default_rng(seed)
    files = [random.bytes(int(random.integers(20))) for _ in range(random.integers(1, 9))]
    start, stop = random.integers(-10, 11, 2).tolist()
    indices = random.integers(-len(files), len(files), 9).tolist()
    images = Encoded.join(files)
    assert listed(images) == files
    assert listed(images[start:stop]) == files[start:stop]
    assert listed(images.take(indices)) == [files[index] for index in indices]
