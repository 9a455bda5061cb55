"""The HDF5 backend: h5py reads its files, files of other programs are read where possible, others are refused."""

import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from storage import StorageError, StoreFullError
from tests.support.backends import take_backend
from tests.support.encoded_sets import check_file_reads, make_files
from tests.support.foreign import Case, Change, cut
from tests.support.image_sets import check_reads, make_set

hdf5 = take_backend("hdf5")
FILE = "images.h5"
IMAGES, LABELS = make_set(10)
INDICES = [3, 9, 3, 0]
FILES, FILE_LABELS = make_files(10)


def create(images: NDArray[Any] = IMAGES, labels: NDArray[Any] = LABELS, **options: object) -> Change:
    def fill(file: h5py.File) -> None:
        file.create_dataset("images", data=images, **options)
        file.create_dataset("labels", data=labels)

    return replace(fill)


def replace(fill: Callable[[h5py.File], object]) -> Change:
    """Replace the file by one that h5py fills, beside a whole one."""

    def change(store: Path) -> None:
        if (store / FILE).exists():
            (store / FILE).rename(store / "other.h5")
        with h5py.File(store / FILE, "w") as file:
            fill(file)

    return change


def create_files(**datasets: Any) -> Change:  # noqa: ANN401 - an array, or the options of h5py; None: no dataset
    """Replace the file by one with the image files, and other datasets."""
    arrays = {"content": FILES.content, "offsets": FILES.offsets, "labels": FILE_LABELS}

    def fill(file: h5py.File) -> None:
        for name, other in ({name: {} for name in arrays} | datasets).items():
            if other is not None:
                file.create_dataset(
                    name, **{"data": arrays[name], **(other if isinstance(other, dict) else {"data": other})}
                )

    return replace(fill)


def spoil(place: int, value: int) -> Change:
    """Have an offset of the files be another one."""
    offsets = FILES.offsets.copy()
    offsets[place] = value
    return create_files(offsets=offsets)


def create_group(file: h5py.File) -> None:
    file.create_group("images")
    file["labels"] = LABELS


def link_outside(file: h5py.File) -> None:
    file["images"] = h5py.ExternalLink("other.h5", "images")
    file["labels"] = h5py.ExternalLink("other.h5", "labels")


def keep_outside(file: h5py.File) -> None:
    file.create_dataset("images", IMAGES.shape, np.uint8, external=[("/etc/passwd", 0, IMAGES.nbytes)])
    file["labels"] = LABELS


def map_outside(file: h5py.File) -> None:
    layout = h5py.VirtualLayout(IMAGES.shape, np.uint8)
    layout[...] = h5py.VirtualSource("other.h5", "images", IMAGES.shape)
    file.create_virtual_dataset("images", layout)
    file["labels"] = LABELS


def move_values(store: Path) -> None:
    content = (store / FILE).read_bytes()
    with h5py.File(store / FILE) as file:
        start = file["images"].id.get_offset().to_bytes(8, "little")
    assert content.count(start) == 1
    (store / FILE).write_bytes(content.replace(start, len(content).to_bytes(8, "little")))


FOREIGN = {
    "empty": Case(replace(lambda _: None), "images"),
    "no labels": Case(replace(lambda file: file.create_dataset("images", data=IMAGES)), "labels"),
    "a group": Case(replace(create_group)),
    "rank 2": Case(create(IMAGES[:, 0, :, 0]), "not images"),
    "rank 5": Case(create(IMAGES[..., np.newaxis]), "not images"),
    "0 channels": Case(create(IMAGES[..., :0])),
    **{
        f"labels {kind}": Case(create(labels=LABELS.astype(kind)), "labels of type")
        for kind in ("u1", "i4", "u8", ">i8")
    },
    **{
        f"images {kind}": Case(create(IMAGES.astype(kind)), "images of type") for kind in ("i1", ">u2", "u4", "f8", "?")
    },
    "fewer labels": Case(create(labels=LABELS[:-1]), "labels of shape"),
    "linked": Case(replace(link_outside), "other files"),
    "external": Case(replace(keep_outside), "other files"),
    "virtual": Case(replace(map_outside), "other files"),
    "values after the end": Case(move_values),
    "no offsets": Case(create_files(offsets=None), "offsets"),
    "no labels of files": Case(create_files(labels=None), "labels"),
    "fewer labels of files": Case(create_files(labels=FILE_LABELS[:-1]), "labels of shape"),
    "files in two axes": Case(create_files(content=FILES.content[:70_000].reshape(2, -1)), "aren't image files"),
    "offsets in two axes": Case(create_files(offsets=FILES.offsets[:, np.newaxis]), "aren't image files"),
    "offsets of 32 bits": Case(create_files(offsets=FILES.offsets.astype("<i4")), "offsets of type"),
    "no offset at all": Case(create_files(offsets=FILES.offsets[:0], labels=FILE_LABELS[:0]), "labels of shape"),
    "offsets that go down": Case(spoil(4, 0)),
    "a negative offset": Case(spoil(4, -1)),
    "an offset of 63 bits": Case(spoil(4, 2**63 - 1)),
    "offsets beyond the end": Case(spoil(10, len(FILES.content) + 1)),
    **{f"cut to {size} bytes": Case(cut(FILE, size)) for size in (0, 5, 97, 970, 9700, -81, -1)},
}


def test_the_datasets_are_contiguous_and_record_no_time(tmp_path: Path) -> None:
    hdf5.store_many(tmp_path, IMAGES, LABELS)
    with h5py.File(tmp_path / FILE) as file:
        for name, dtype in (("images", "uint8"), ("labels", "<i8")):
            assert file[name].chunks is None
            assert file[name].dtype == np.dtype(dtype)
            assert file[name].id.get_offset() is not None
        assert [h5py.h5o.get_info(file[name].id).mtime for name in ("/", "images", "labels")] == [0] * 3


def test_h5py_reads_image_files_between_the_offsets(tmp_path: Path) -> None:
    hdf5.store_many(tmp_path, FILES, FILE_LABELS)
    with h5py.File(tmp_path / FILE) as file:
        content, offsets = file["content"], file["offsets"][...]
        assert (content.chunks, content.dtype, file["offsets"].dtype) == (None, np.dtype("u1"), np.dtype("<i8"))
        assert [content[offsets[i] : offsets[i + 1]].tobytes() for i in range(10)] == [bytes(image) for image in FILES]
        np.testing.assert_array_equal(file["labels"], FILE_LABELS)
        found = [
            range(start := file[name].id.get_offset(), start + file[name].nbytes) for name in ("content", "labels")
        ]
    assert hdf5.find_pixels(tmp_path) == {FILE: found}


FILE_LAYOUTS: dict[str, dict[str, dict[str, object]]] = {
    "offsets and labels in chunks": {"offsets": {"chunks": (3,)}, "labels": {"chunks": (3,)}},
    "chunks smaller than a file": {"content": {"chunks": (100,)}},
    "chunks larger than all": {"content": {"chunks": (100_000,), "maxshape": (None,)}},
    "compressed": {"content": {"chunks": (1000,), "compression": "gzip"}},
    "more chunks than are read at once": {"content": {"chunks": (50,), "shuffle": True}},
}


@pytest.mark.parametrize("options", FILE_LAYOUTS.values(), ids=FILE_LAYOUTS)
def test_image_files_in_chunks_are_read(tmp_path: Path, options: dict[str, dict[str, object]]) -> None:
    create_files(**options)(tmp_path)
    check_file_reads(hdf5, tmp_path, (FILES, FILE_LABELS))


def test_an_image_file_that_was_never_written_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / FILE, "w") as file:
        file.create_dataset("content", (1 << 30,), np.uint8, chunks=(1000,))
        file["offsets"], file["labels"] = np.array([0, 1 << 30]), np.zeros(1, np.int64)
    for read in (hdf5.read_many, hdf5.open_reader, lambda store: hdf5.read_single(store, 0)):
        with pytest.raises(StorageError, match="bytes of memory"):
            read(tmp_path)


LAYOUTS: dict[str, dict[str, object]] = {
    "chunked": {"chunks": (4, 32, 32, 3)},
    "compressed": {"compression": "gzip"},
    "shuffled and checked": {"shuffle": True, "fletcher32": True},
    "resizable": {"maxshape": (None, 32, 32, 3)},
}


@pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS)
def test_a_file_that_is_not_contiguous_is_read_but_not_viewed(tmp_path: Path, options: dict[str, object]) -> None:
    create(**options)(tmp_path)  # type: ignore[arg-type] # options of h5py
    check_reads(hdf5, tmp_path, (IMAGES, LABELS))
    out = np.zeros_like(IMAGES)
    assert hdf5.read_many(tmp_path, out)[0] is out
    with hdf5.open_reader(tmp_path) as reader:
        reader.read(INDICES, out[:4])
        np.testing.assert_array_equal(out, np.concatenate([IMAGES[INDICES], IMAGES[4:]]))
        assert len(reader.read([])[0]) == 0
        with pytest.raises(StorageError, match="contiguous"):
            reader.view()


def test_labels_may_be_in_chunks(tmp_path: Path) -> None:
    with h5py.File(tmp_path / FILE, "w") as file:
        file.create_dataset("images", data=IMAGES)
        file.create_dataset("labels", data=LABELS, chunks=(4,))
    check_reads(hdf5, tmp_path, (IMAGES, LABELS))


def test_a_contiguous_file_of_another_program_is_read_right(tmp_path: Path) -> None:
    with h5py.File(tmp_path / FILE, "w", userblock_size=512, libver="latest") as file:
        file["more"] = np.arange(1000)
        file.create_dataset("labels", data=LABELS)
        file.create_dataset("images", data=IMAGES)
    (tmp_path / "notes.txt").write_text("mine")
    check_reads(hdf5, tmp_path, (IMAGES, LABELS))
    with hdf5.open_reader(tmp_path) as reader:
        np.testing.assert_array_equal(reader.view(), IMAGES)


def test_a_file_that_was_never_filled_has_zeros(tmp_path: Path) -> None:
    with h5py.File(tmp_path / FILE, "w") as file:
        file.create_dataset("images", (3, 5, 7, 3), np.uint8)
        file.create_dataset("labels", (3,), "<i8")
    out = np.full((3, 5, 7, 3), 7, np.uint8)
    assert hdf5.read_many(tmp_path, out)[0] is out
    assert not out.any()
    with hdf5.open_reader(tmp_path) as reader:
        out[...] = 7
        assert reader.read([2, 0, 2], out)[0] is out
        assert not out.any()
        assert not reader[1][0].any()


def test_one_image_is_read_of_a_set_that_is_larger_than_memory(tmp_path: Path) -> None:
    with h5py.File(tmp_path / FILE, "w") as file:
        file.create_dataset("images", (10**12, 32, 32, 3), np.uint8, chunks=(1, 32, 32, 3))
        file.create_dataset("labels", (10**12,), "<i8", chunks=(1000,))
    with pytest.raises(StorageError, match="reading everything takes"):
        hdf5.read_many(tmp_path)
    with hdf5.open_reader(tmp_path) as reader:
        assert not reader.read([10**11])[0].any()


def test_a_store_can_be_read_while_h5py_has_it_open(tmp_path: Path) -> None:
    hdf5.store_many(tmp_path, IMAGES, LABELS)
    with h5py.File(tmp_path / FILE) as file, hdf5.open_reader(tmp_path) as reader:
        np.testing.assert_array_equal(hdf5.read_many(tmp_path)[0], file["images"])
        reader.close()
        np.testing.assert_array_equal(file["labels"], LABELS)


@pytest.mark.parametrize(("code", "kind"), [(28, StoreFullError), (5, StorageError)])
def test_an_error_of_the_system_that_hdf5_reports_in_words_is_recognised(
    code: int, kind: type[StorageError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(f"Unable to close (file write failed: errno = {code}, error message = 'some')")

    monkeypatch.setattr("h5py.h5d.create", fail)
    with pytest.raises(StorageError, match=f"errno = {code}") as caught:
        hdf5.store_many(tmp_path, IMAGES, LABELS)
    assert type(caught.value) is kind


def test_a_writer_holds_no_lock_that_a_child_could_keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_range = hdf5.write_range

    def lock_and_write(descriptor: int, *arguments: Any) -> None:  # noqa: ANN401 - as it is called
        with (tmp_path / FILE).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        write_range(descriptor, *arguments)

    monkeypatch.setattr(hdf5, "write_range", lock_and_write)
    hdf5.store_many(tmp_path, IMAGES, LABELS)
    np.testing.assert_array_equal(hdf5.read_many(tmp_path)[0], IMAGES)


def test_a_file_that_another_program_has_locked_is_read_through_two_readers(tmp_path: Path) -> None:
    hdf5.store_many(tmp_path, IMAGES, LABELS)
    with (tmp_path / FILE).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with hdf5.open_reader(tmp_path), hdf5.open_reader(tmp_path) as reader:
            np.testing.assert_array_equal(reader.read(INDICES)[0], IMAGES[INDICES])
