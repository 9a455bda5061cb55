"""The wheel of `storage/` is complete, and works in a new environment outside the repository."""

import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.cifar import ALL_LABELS, META, write_folder
from tests.support.environments import run_pip, run_python
from tests.support.suite import ROOT

pytestmark = pytest.mark.slow

SAVE = """
import numpy as np
import image_storage

images = np.random.default_rng(1).integers(0, 256, (20, 5, 7, 3), np.uint8)
labels = np.arange(20) - 10
image_storage.save("photos", images, labels, backend="npy")
found = image_storage.load("photos")
assert np.array_equal(found[0], images) and np.array_equal(found[1], labels)
with image_storage.open("photos") as reader:
    assert reader[-1][1] == 9 and np.array_equal(reader.read([3, 1])[0], images[[3, 1]])
assert image_storage.check("photos").is_whole
assert "site-packages" in image_storage.__file__, image_storage.__file__
"""


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    assert re.fullmatch(r"image_storage-0\.2\.0-py3-none-any\.whl", wheel.name)
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    kinds = ("*.py", "*.go", "go.mod")
    files = {path.relative_to(ROOT / "storage") for kind in kinds for path in (ROOT / "storage").rglob(kind)}
    expected = {f"image_storage/{path}" for path in files if "build" not in path.parts}
    assert found == expected | {"image_storage/README.md", "image_storage/py.typed"}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in zipfile.ZipFile(wheel).namelist())


def test_without_extras_the_package_saves_loads_and_checks(python: Path, tmp_path: Path) -> None:
    ended = run_python(python, "-c", SAVE, folder=tmp_path)
    assert ended.returncode == 0, ended.stderr


def test_without_extras_the_command_converts_cifar10_and_checks_it(python: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "batches")
    (tmp_path / "batches" / "batches.meta").write_bytes(META)
    command = ("-m", "image_storage", "convert", "batches", "set", "--backend", "npy")
    converted = run_python(python, *command, folder=tmp_path)
    assert (converted.returncode, converted.stdout) == (0, "12 images of 2 classes saved in set as npy\n"), (
        converted.stderr
    )
    program = "import image_storage as s; print(s.load('set')[1].tolist(), s.open('set').classes)"
    loaded = run_python(python, "-c", program, folder=tmp_path)
    assert loaded.stdout == f"{ALL_LABELS} ('airplane', 'cat')\n", loaded.stderr
    assert run_python(python, "-m", "image_storage", "check", "set", folder=tmp_path).returncode == 0


def test_messages_name_the_package_as_it_was_imported(python: Path, tmp_path: Path) -> None:
    help_text = run_python(python, "-m", "image_storage", "--help", folder=tmp_path).stdout
    assert "usage: python -m image_storage" in help_text
    assert "python -m image_storage convert photos" in help_text
    wrong = run_python(python, "-m", "image_storage", "convert", "only-one", folder=tmp_path).stderr
    assert "usage: python -m image_storage convert" in wrong
    damage = """
import pathlib, image_storage, numpy as np
image_storage.save("set", np.zeros((3, 5, 7, 3), np.uint8), np.arange(3), backend="npy")
file = next(pathlib.Path("set").glob("part-*/images.npy"))
file.write_bytes(file.read_bytes()[:-1] + bytes([1]))
try:
    image_storage.load("set")
except image_storage.CorruptStoreError as error:
    print(error)
print(*image_storage.UNAVAILABLE.values(), sep="\\n")
"""
    printed = run_python(python, "-c", damage, folder=tmp_path)
    assert "record 2" in printed.stdout, printed.stderr
    assert "python -m image_storage.go_bridge" in printed.stdout
    report = run_python(python, "-m", "image_storage", "check", "set", folder=tmp_path)
    assert report.returncode == 1
    for text in (help_text, wrong, printed.stdout, report.stdout, report.stderr):
        assert not re.search(r"(?<!image_)storage[. ](check|convert|go_bridge|load|save|salvage)", text), text


def test_extras_add_backends_and_folders_of_images(python: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (2, 5, 7, 3), np.uint8)
    for name, image in zip(("cat", "dog"), pixels, strict=True):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / "photos" / name / "1.png")
    convert = ("-m", "image_storage", "convert", "photos", "set", "--backend", "hdf5")
    refused = run_python(python, *convert, folder=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert 'python -m pip install "image-storage[hdf5]"' in refused.stderr
    run_pip(python, "install", "image-storage[hdf5,images]", folder=tmp_path)
    converted = run_python(python, *convert, folder=tmp_path)
    assert converted.returncode == 0, converted.stderr
    program = """import image_storage as s
files, _ = s.load("set")
print([s.decode(file).tolist() for file in files], s.open("set").classes)"""
    assert run_python(python, "-c", program, folder=tmp_path).stdout == f"{pixels.tolist()} ('cat', 'dog')\n"
