"""`python -m storage convert`: what it accepts and refuses, and its exit codes."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image as Pillow

import storage
from storage import arrays
from tests.support.backends import need_backend
from tests.support.cifar import ALL_LABELS, FOLDER, META, PIXELS, arrange, honest, pack, regular, write_folder
from tests.support.commands import Command
from tests.support.datasets import find_part
from tests.support.image_sets import assert_same, make_set
from tests.support.source_files import WRITERS, write_parquet
from tests.support.suite import ROOT

pytestmark = need_backend("hdf5")

pytest_plugins = ["tests.support.command_fixtures"]

IMAGES, LABELS = make_set(30, 5, 7)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make a folder tree of five images."""
    for index, image in enumerate(make_set(5, 5, 7)[0]):
        folder = tmp_path / "tree" / ("cat" if index < 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(image).save(folder / f"{index}.png")
    return tmp_path / "tree"


@need_backend("lmdb")
def test_any_store_becomes_a_dataset_of_any_backend(run: Command, module: storage.Backend, tmp_path: Path) -> None:
    module.store_many(tmp_path / "plain", IMAGES, LABELS)
    for source, backend in (("plain", "lmdb"), ("lmdb", "png_stored"), ("png_stored", "hdf5")):
        code, printed, complaints = run("convert", tmp_path / source, tmp_path / backend, "--backend", backend)
        assert (code, complaints) == (0, "")
        assert printed == f"30 images saved in {tmp_path / backend} as {backend}\n"
        assert_same(storage.load(tmp_path / backend), (IMAGES, LABELS))


@need_backend("lmdb_packed")
def test_a_folder_tree_becomes_a_dataset_with_classes(run: Command, tree: Path, tmp_path: Path) -> None:
    storage.save(tmp_path / "set", IMAGES, LABELS)
    pixels = "--payload=pixels"
    assert run("convert", tree, tmp_path / "set", "--backend", "lmdb_packed", pixels, "--overwrite")[0] == 0
    assert run("convert", tmp_path / "set", tmp_path / "again", "--backend", "png")[0] == 0
    for name in ("set", "again"):
        assert_same(storage.load(tmp_path / name), (make_set(5, 5, 7)[0], np.array([0, 0, 1, 1, 1])))
        with storage.open(tmp_path / name) as reader:
            assert reader.classes == ("cat", "dog")


@pytest.mark.parametrize("source", ["in", f"in/{FOLDER}", "mine.tar.gz"])
def test_cifar10_becomes_a_dataset_with_classes(run: Command, source: str, tmp_path: Path) -> None:
    write_folder(tmp_path / "in" / FOLDER)
    (tmp_path / "in" / FOLDER / "batches.meta").write_bytes(META)
    pack(tmp_path / "mine.tar.gz", [*honest(), regular(f"{FOLDER}/batches.meta", META)])
    destination = tmp_path / "set"
    code, printed, _ = run("convert", tmp_path / source, destination, "--backend", "hdf5")
    assert (code, printed) == (0, f"12 images of 2 classes saved in {destination} as hdf5\n")
    assert_same(storage.load(destination), (arrange(b"".join(PIXELS)), np.array(ALL_LABELS)))
    with storage.open(destination) as reader:
        assert reader.classes == ("airplane", "cat")


def test_without_tqdm_there_is_no_progress_bar(run: Command, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert run("convert", tree, tree.with_name("set"), "--backend", "hdf5")[0] == 0
    assert len(storage.load(tree.with_name("set"))[1]) == 5


@pytest.mark.parametrize("hostile", ["data_batch_3", "batches.meta"])
def test_a_hostile_batch_is_exit_code_2_and_writes_nothing(run: Command, hostile: str, tmp_path: Path) -> None:
    write_folder(tmp_path / "in")
    (tmp_path / "in" / hostile).write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    code, printed, complaints = run("convert", tmp_path / "in", tmp_path / "set", "--backend", "hdf5")
    assert (code, printed) == (2, "")
    assert hostile in complaints
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_storage_imports_nothing_of_the_suite(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "storage", tmp_path / "storage", ignore=shutil.ignore_patterns("__pycache__"))
    write_folder(tmp_path / "in")
    ended = subprocess.run(
        [sys.executable, "-m", "storage", "convert", "in", "set", "--backend", "hdf5"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "12 images saved in set as hdf5\n")


@need_backend("lmdb_packed")
@pytest.mark.parametrize(
    ("source", "destination", "name", "message"),
    [
        ("nowhere", "new", "png", "nowhere: it doesn't exist"),
        ("set/manifest.json", "new", "png", "manifest.json: it is a text file, which can't be converted"),
        ("empty", "new", "png", "empty: it holds no files: name the folder that holds the images"),
        ("set", "new", "tape", "'tape' isn't a backend: choose one of "),
        ("set", "other", "png", "replace it with --overwrite"),
        ("set", "empty/no/new", "png", "there is no such folder: create it"),
        ("set", "set/new", "png", "is inside the other"),
        ("set/part-00000", "set", "png", "is inside the other"),
        ("set", "null\0", "png", "null character"),
        ("sizes", "new", "png", "png can't store image files: choose another backend, or --payload=pixels"),
        ("set", "round", "png", "round: it is a link that leads back to itself: choose another destination"),
    ],
)
def test_wrong_input_is_exit_code_2_and_writes_nothing(
    run: Command, saved: Path, source: str, destination: str, name: str, message: str
) -> None:
    folder = saved.parent
    (folder / "empty").mkdir()
    (folder / "sizes" / "cat").mkdir(parents=True)
    for size in (8, 9):
        Pillow.new("RGB", (size, size)).save(folder / "sizes" / "cat" / f"{size - 7}.png")
    (folder / "round").symlink_to("turn")
    (folder / "turn").symlink_to("round")
    storage.save(folder / "other", IMAGES, LABELS, durable=False)
    before = sorted(folder.rglob("*"))
    code, printed, complaints = run("convert", folder / source, folder / destination, "--backend", name)
    assert (code, printed) == (2, "")
    assert message in complaints
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("destination", ["s3://bucket/set/new", "s3://bucket"])
def test_a_prefix_inside_the_source_or_around_it_is_refused(run: Command, destination: str) -> None:
    code, printed, complaints = run("convert", "s3://bucket/set", destination, "--backend", "npy")
    assert (code, printed) == (2, "")
    assert f"{destination}: one of it and s3://bucket/set is inside the other" in complaints


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", ["npy", "npz", "hdf5"])
def test_channels_that_seem_to_come_first_are_noticed(run: Command, name: str, tmp_path: Path) -> None:
    path = WRITERS[name](tmp_path, np.zeros((2, 13, 40, 41), np.uint8), np.arange(2))
    code, _, complaints = run("convert", path, tmp_path / "set", "--backend", "npy")
    assert code == 0
    assert complaints.startswith("warning: images are taken as 13 pixels high and 40 wide, with 41 channels; if they")
    assert complaints.count("\n") == 1


@need_backend("png")
def test_pixels_that_a_backend_cannot_store_are_exit_code_2(run: Command, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES.astype(np.float32))
    code, printed, complaints = run("convert", tmp_path / "images.npy", tmp_path / "set", "--backend", "png")
    assert (code, printed) == (2, "")
    assert "can't store images of float32" in complaints
    assert not (tmp_path / "set").exists()


def test_a_destination_that_is_being_written_is_exit_code_2(run: Command, saved: Path) -> None:
    with FileLock(saved.with_name(".new.lock")):
        code, _, complaints = run("convert", saved, saved.with_name("new"), "--backend", "png")
    assert code == 2
    assert "another writer is saving there" in complaints


def test_a_damaged_source_is_exit_code_1_and_resumes_after_repair(
    run: Command, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "BATCH_BYTES", 4 * IMAGES[0].nbytes)
    file = find_part(saved, 2) / "00000001.png"
    healthy = file.read_bytes()
    Pillow.new("RGB", (7, 5)).save(file)
    new = saved.with_name("new")
    code, printed, complaints = run("convert", saved, new, "--backend", "hdf5")
    assert (code, printed) == (1, "")
    assert complaints.startswith(f"error: {saved}: record 21: it is damaged")
    assert not new.exists()
    file.write_bytes(healthy)
    code, printed, _ = run("convert", saved, new, "--backend", "hdf5")
    assert code == 0
    assert printed == f"30 images saved in {new} as hdf5; an earlier conversion had saved the first 20\n"
    assert_same(storage.load(new), (IMAGES, LABELS))


@pytest.mark.parametrize(
    ("count", "classes", "printed"),
    [
        (30, (), "30 images without classes, all with label 0, saved in"),
        (1, ("cat",), "1 image of 1 class saved in"),
        (0, (), "0 images saved in"),
    ],
)
def test_the_last_line_says_what_the_labels_are(
    count: int, classes: tuple[str, ...], printed: str, run: Command, tmp_path: Path
) -> None:
    storage.save(tmp_path / "set", IMAGES[:count], np.zeros(count, np.int64), "npy", classes=classes)
    assert run("convert", tmp_path / "set", tmp_path / "new", "--backend=npy")[1].startswith(printed)


def test_annotations_that_cannot_be_saved_say_of_which_source_they_are(run: Command, tmp_path: Path) -> None:
    features = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["cat", "cat"]}}}}
    buffer = io.BytesIO()
    Pillow.new("RGB", (7, 5)).save(buffer, "PNG")
    path = write_parquet(tmp_path / "a.parquet", {"image": [buffer.getvalue()], "label": [0]}, features)
    code, _, complaints = run("convert", path, tmp_path / "new", "--backend=npy")
    assert (code, complaints.startswith(f"error: {path}: two classes have one name")) == (2, True)


def test_a_dangling_link_is_followed(run: Command, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (saved.parent / "disk").mkdir()
    link = saved.with_name("link")
    link.symlink_to("disk/new")
    assert run("convert", saved, link, "--backend", "hdf5") == (0, f"30 images saved in {link} as hdf5\n", "")
    assert link.is_symlink()
    assert_same(storage.load(saved.parent / "disk" / "new"), (IMAGES, LABELS))
    monkeypatch.setattr(arrays, "BATCH_BYTES", 4 * IMAGES[0].nbytes)
    Pillow.new("RGB", (7, 5)).save(find_part(saved, 2) / "00000001.png")
    assert "kept in .new.tmp-* next" in run("convert", saved, link, "--backend", "hdf5", "--overwrite")[2]


def test_an_interrupted_conversion_is_exit_code_130(run: Command, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.__main__.convert", Mock(side_effect=KeyboardInterrupt))
    code, printed, complaints = run("convert", saved, saved.with_name("new"), "--backend", "png")
    assert (code, printed) == (130, "")
    assert complaints.startswith("error: interrupted; the same command resumes the conversion")


def test_an_interrupted_check_has_nothing_to_resume(run: Command, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.__main__.check", Mock(side_effect=KeyboardInterrupt))
    assert run("check", saved) == (130, "", "error: interrupted\n")


def test_a_terminal_shows_the_progress_of_a_conversion(
    run: Command, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    complaints = run("convert", saved, saved.with_name("new"), "--backend", "png")[2]
    assert "100%" in complaints
    assert "30.0/30.0" in complaints
