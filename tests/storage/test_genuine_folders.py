"""Folders of genuine photos and of odd files become datasets.

The files are no part of the repository; without them these tests are skipped.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from storage import Backend
from tests.support.commands import Command
from tests.support.encoded_sets import need_files
from tests.support.genuine import NEEDS_GENUINE, ODD, PHOTOS, describe, is_refused, read_odd
from tests.support.image_files import DECODERS, choose_decoder

pytest_plugins = ["tests.support.command_fixtures"]
pytestmark = NEEDS_GENUINE

IGNORED = {".DS_Store", "plain/Thumbs.db", "plain/desktop.ini"}
BESIDE = "expected.json"  # in no class
EVERYTHING = "--allow=transparency,frames,depth"


def divide(decoder: str) -> tuple[dict[str, dict[str, Any]], set[str]]:
    """Divide the odd files by our rules: what Pillow makes of those that are images, and the names of the others."""
    facts = {name: facts for name, (_, facts) in read_odd().items() if name not in IGNORED}
    refused = {name for name in facts if is_refused(name, facts[name], decoder)}
    return {name: facts[name] for name in facts if name not in refused}, refused | {BESIDE}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("options", [(), ("--payload=pixels", "--size=24x20")], ids=["files", "pixels"])
def test_every_odd_file_that_is_no_image_is_listed_and_nothing_is_written(
    run: Command, tmp_path: Path, decoder: str, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    choose_decoder(decoder, monkeypatch)
    code, printed, _ = run("convert", ODD, tmp_path / "set", "--backend", "npy", *options)
    images, refused = divide(decoder)
    assert code == 1
    assert {line.partition(": ")[0] for line in printed.splitlines()[: len(refused)]} == refused
    assert f"\n{len(refused)} of {len(refused) + len(images)} files can't be used:\n" in printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_other_odd_files_are_saved_and_decoded_by_the_rules(
    run: Command, tmp_path: Path, decoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose_decoder(decoder, monkeypatch)
    command = ("convert", ODD, tmp_path / "files", "--backend", "npy", "--on-error=skip")
    assert run(*command)[0] == 0
    images, refused = divide(decoder)
    with storage.open(tmp_path / "files") as reader:
        assert set(reader.names) == images.keys()
        assert {problem.name for problem in reader.skipped} == refused
        for index, name in enumerate(reader.names):
            image, label = reader[index]
            assert describe(image) == (images[name]["upright_hw"], images[name]["sha256_upright_rgb"]), name
            assert reader.classes[label] == name.partition("/")[0]
        scaled = reader.read(range(len(reader)), size=(24, 20))
    pixels = ("convert", ODD, tmp_path / "pixels", *command[3:], "--payload=pixels", "--size=24x20")
    assert run(*pixels)[0] == 0
    for found, expected in zip(storage.load(tmp_path / "pixels"), scaled, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_odd_files_that_lose_something_are_saved_if_that_is_allowed(run: Command, tmp_path: Path) -> None:
    command = ("convert", ODD, tmp_path / "set", "--backend", "npy", "--on-error=skip", EVERYTHING)
    assert run(*command)[0] == 0
    decoded = {name: facts for name, (_, facts) in read_odd().items() if "mode" in facts}
    lossy = {name: facts for name, facts in decoded.items() if is_refused(name, facts, "Pillow")}
    assert len(lossy) == 5
    with storage.open(tmp_path / "set") as reader:
        for name, facts in lossy.items():
            image, _ = reader[reader.index(name)]
            if "sha256_upright_rgb" in facts:
                assert describe(image) == (facts["upright_hw"], facts["sha256_upright_rgb"]), name
            else:  # Pillow doesn't reduce 16 bits to 8
                assert image.dtype == np.uint8
                assert 100 < np.ptp(image) < 256


def test_odd_files_are_the_same_in_every_backend(run: Command, module: Backend, tmp_path: Path) -> None:
    need_files(module)
    name = module.__name__.rpartition(".")[2]
    assert run("convert", ODD, tmp_path / "set", "--backend", name, "--on-error=skip")[0] == 0
    with storage.open(tmp_path / "set") as reader:
        files, _ = reader.read_encoded(range(len(reader)))
        assert len(reader) >= 30
        assert [bytes(file) for file in files] == [read_odd()[name][0] for name in reader.names]


def test_photos_are_saved_byte_for_byte(run: Command, tmp_path: Path) -> None:
    assert run("convert", PHOTOS, tmp_path / "set", "--backend", "npy")[0] == 0
    with storage.open(tmp_path / "set") as reader:
        assert (len(reader), len(reader.classes)) == (300, 8)
        files, labels = reader.read_encoded(range(300))
        for name, file, label in zip(reader.names, files, labels, strict=True):
            assert reader.classes[label] == name.partition("/")[0]
            assert file == (PHOTOS / name).read_bytes()
