"""Opening sources: datasets, plain stores, arrays, and anything else."""

import os
import re
import shutil
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image as Pillow

import storage
from storage import Backend, CorruptStoreError, Images, Labels, StoreNotFoundError, arrays
from storage.dataset import writer
from storage.dataset.conversion import ImageSource
from storage.errors import InvalidInputError, reading
from storage.paths import walk_files
from storage.sources.memory import ArraySource
from storage.sources.opening import open_source
from tests.support.backends import need_backend
from tests.support.cifar import ALL_LABELS, PIXELS, arrange, write_folder
from tests.support.datasets import find_part
from tests.support.image_sets import assert_same, make_set

COUNT = 30


@pytest.fixture
def saved(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    images, labels = make_set(COUNT, 5, 7)
    monkeypatch.setattr(writer, "PART", 10 * images[0].nbytes)
    monkeypatch.setattr(arrays, "BATCH_BYTES", 4 * images[0].nbytes)
    storage.save(tmp_path / "set", [images], labels, backend, durable=False)
    return tmp_path / "set"


def read_all(source: ImageSource, start: int = 0) -> tuple[Images, Labels]:
    return np.concatenate(list(source.read(start))), source.labels[start:]


def identify(path: Path) -> str:
    with open_source(path) as source:
        return str(source.identity)


@pytest.mark.parametrize("first", [0, 3, 17, 29])
def test_a_dataset_is_read_from_any_image_to_the_end(saved: Path, first: int) -> None:
    images, labels = make_set(COUNT, 5, 7)
    with open_source(saved) as source:
        assert_same(read_all(source, first), (images[first:], labels[first:]))
    with open_source(saved) as source:
        assert list(source.read(COUNT)) == []


@pytest.mark.parametrize("first", [0, 3, 9])
def test_a_plain_store_is_read_by_the_backend_that_accepts_it(store: Path, first: int) -> None:
    images, labels = make_set(10)
    with open_source(store) as source:
        assert source.classes == ()
        assert_same(read_all(source, first), (images[first:], labels[first:]))


def test_batches_have_at_most_the_size_of_the_limit(saved: Path) -> None:
    with open_source(saved) as source:
        assert [len(images) for images in source.read(3)] == [4, 4, 4, 4, 4, 4, 3]


@pytest.mark.parametrize("plain", [False, True], ids=["dataset", "plain store"])
def test_a_set_without_images_yields_one_batch_that_says_their_size(
    backend: str, tmp_path: Path, *, plain: bool
) -> None:
    storage.save(tmp_path / "set", *make_set(0, 5, 7), backend)
    with open_source(find_part(tmp_path / "set") if plain else tmp_path / "set") as source:
        assert [getattr(images, "shape", None) for images in source.read(0)] == [(0, 5, 7, 3)]


def test_a_closed_source_holds_no_file(saved: Path) -> None:
    with open_source(saved) as source:
        read_all(source)
        source.close()
        assert not [link for link in Path("/proc/self/fd").iterdir() if str(saved) in os.path.realpath(link)]


@need_backend("hdf5")
def test_the_identity_of_a_dataset_depends_on_its_images_alone(tmp_path: Path) -> None:
    images, labels = make_set(COUNT, 5, 7)
    storage.save(tmp_path / "one", images, labels, "png")
    storage.save(tmp_path / "two", images, labels, "hdf5")
    assert identify(tmp_path / "one") == identify(tmp_path / "two")
    labels[3] += 1
    storage.save(tmp_path / "two", images, labels, "hdf5", overwrite=True)
    assert identify(tmp_path / "one") != identify(tmp_path / "two")


def test_the_identity_of_a_plain_store_changes_with_its_files(backend: str, store: Path) -> None:
    before = identify(store)
    assert identify(store) == before
    os.utime(max(path for path in store.rglob("*") if path.is_file()), ns=(0, 0))
    assert identify(store) != before
    (store / "another").touch()
    try:
        assert identify(store) != before
    except InvalidInputError as refusal:
        assert f"{backend}: {store}: the files are not those" in str(refusal)  # noqa: PT017 - or it is one store less


@need_backend("hdf5")
def test_records_of_a_dataset_are_verified(tmp_path: Path) -> None:
    images, labels = make_set(COUNT, 5, 7)
    storage.save(tmp_path / "set", images, labels, "hdf5")
    file = find_part(tmp_path / "set") / "images.h5"
    content = bytearray(file.read_bytes())
    content[content.index(images[11].tobytes())] ^= 1
    file.write_bytes(content)
    with open_source(tmp_path / "set") as source, pytest.raises(CorruptStoreError, match="record 11: it is damaged"):
        read_all(source)


def test_labels_that_change_between_two_reads_are_noticed(module: Backend, tmp_path: Path) -> None:
    images, labels = make_set(10)
    module.store_many(tmp_path / "store", images, labels)
    with open_source(tmp_path / "store") as source:
        source.labels[3] += 1
        with pytest.raises(CorruptStoreError, match="record 3: its label isn't the one that was read before"):
            read_all(source)


def test_a_dataset_without_its_manifest_is_not_a_plain_store(saved: Path) -> None:
    (saved / "manifest.json").unlink()
    with pytest.raises(CorruptStoreError, match=r"manifest\.json is missing"):
        identify(saved)


def test_a_damaged_store_is_explained_by_the_backends_whose_files_it_has(store: Path, backend: str) -> None:
    for folder, names in walk_files(store):
        for name in names:
            os.truncate(folder / name, 3)
    reason = rf"as a store of {backend}: {store}|images.parquet: it is a Parquet file, and can't be read"
    with pytest.raises(storage.StorageError) as caught:
        identify(store)
    assert re.search(reason, "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())]))
    assert len(getattr(caught.value, "__notes__", ())) <= 3  # those of one family have files of the same names


FOLDERS: dict[str, tuple[list[str], str]] = {
    "empty": ([], "it holds no files: name the folder that holds the images"),
    "one": (["a.txt"], "it holds 1 file, and none is an image that can be read: 1 .txt: name the folder"),
    "several": (
        ["x/a.TXT", "x/b.txt", "x/y/c.csv", "d"],
        "it holds 4 files, and none is an image that can be read: 2 .txt, ",
    ),
    "many kinds": ([f"a.{number}" for number in range(7)], "1 .0, 1 .1, 1 .2, 1 .3, 1 .4, 2 others: "),
    "an archive": (["a.txt", "b.zip"], "1 .txt, 1 .zip: if the images are in b.zip, name that, or its folder"),
    "a link": (["link"], "it holds 1 entry that can't be read, such as link: it is a link to nothing"),
    "both": (["a/link", "a/link 2", "b.txt"], "1 .txt; and 2 entries that can't be read, such as a/link: it is"),
}


@pytest.mark.parametrize(("names", "message"), FOLDERS.values(), ids=FOLDERS)
def test_a_folder_without_images_is_explained_by_what_is_in_it(names: list[str], message: str, tmp_path: Path) -> None:
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to("nowhere") if path.name.startswith("link") else path.touch()
    with pytest.raises(InvalidInputError) as caught:
        identify(tmp_path)
    assert message in str(caught.value)
    assert not hasattr(caught.value, "__notes__")


def test_a_folder_that_the_system_refuses_is_not_called_another_thing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(store: Path) -> None:
        with reading(store):
            raise PermissionError(13, "Permission denied", str(store))

    (tmp_path / "file").touch()
    for module in storage.BACKENDS.values():
        monkeypatch.setattr(module, "open_reader", refuse)
    with pytest.raises(storage.StorageError, match="the operating system refused to read it") as caught:
        open_source(tmp_path).__enter__()
    assert type(caught.value) is storage.StorageError
    assert len(caught.value.__notes__) == len(storage.BACKENDS)


def test_a_folder_of_folders_is_opened_without_importing_backends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        pytest.fail("backends are imported")

    (tmp_path / "cats").mkdir()
    Pillow.new("RGB", (2, 2)).save(tmp_path / "cats" / "a.png")
    monkeypatch.setattr("storage.sources.opening.BACKENDS", Mock(items=refuse))
    with open_source(tmp_path) as source:
        assert (source.kind, len(source.sizes)) == ("encoded", 1)


@need_backend("npy")
def test_a_link_that_leads_back_to_itself_hides_no_store(tmp_path: Path) -> None:
    storage.BACKENDS["npy"].store_many(tmp_path / "store", *make_set(3, 5, 7))
    for number in range(9):  # some are listed before the files of the store
        (tmp_path / "store" / f"loop{number}").symlink_to(f"loop{number}")
    with open_source(tmp_path / "store") as source:
        assert (source.kind, len(source.labels)) == ("pixels", 3)


def test_the_labels_of_a_store_may_not_take_far_more_memory_than_its_files(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.Reader, "__len__", lambda _: 1 << 40)
    with (
        pytest.raises(storage.StorageError, match="list of its labels has 8,796,093,022,208 bytes"),
        open_source(store),
    ):
        pass


def test_a_folder_that_cannot_be_listed_is_an_error(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def walk(_: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("storage.sources.opening.walk_files", walk)
    with pytest.raises(storage.StorageError, match="Input/output error"):
        identify(store)


def test_arrays_are_read_from_any_image_to_the_end() -> None:
    images, labels = make_set(5)
    assert_same(read_all(ArraySource(images, labels, ("cat",), "mine"), 2), (images[2:], labels[2:]))


def test_cifar10_is_opened_with_its_labels(tmp_path: Path) -> None:
    with open_source(write_folder(tmp_path / "batches")) as source:
        assert source.identify() == source.identity
        assert_same(read_all(source), (arrange(b"".join(PIXELS)), np.array(ALL_LABELS)))


def test_a_path_that_holds_no_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="null: it is neither a file nor a folder"):
        identify(Path(os.devnull))
    with pytest.raises(StoreNotFoundError, match="nowhere: it doesn't exist"):
        identify(tmp_path / "nowhere")


def test_a_source_estimates_the_bytes_of_its_images(tmp_path: Path) -> None:
    images, labels = make_set(4, 5, 7)
    np.save(tmp_path / "images.npy", images)
    with open_source(tmp_path / "images.npy") as source:
        assert source.sizes.tolist() == [images[0].nbytes] * 4
    assert ArraySource(images, labels, (), "").sizes.tolist() == [images[0].nbytes] * 4
    folder = tmp_path / "folder"
    folder.mkdir()
    for number, image in enumerate(images):
        Pillow.fromarray(image).save(folder / f"{number}.png")
    with open_source(folder) as source:
        assert source.sizes.tolist() == [path.stat().st_size for path in sorted(folder.iterdir())]
    shutil.make_archive(str(tmp_path / "photos"), "tar", folder)
    with open_source(tmp_path / "photos.tar") as source:
        assert sorted(source.sizes) == sorted(path.stat().st_size for path in folder.iterdir())
