"""`python -m storage check`: what it lists, what it advises, how it ends; and what all commands share."""

import os
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image as Pillow

import storage
from storage import BACKENDS, Images
from storage.__main__ import main
from tests.support.backends import need_backend
from tests.support.commands import Command
from tests.support.image_sets import assert_same, make_set
from tests.support.suite import ROOT

pytest_plugins = ["tests.support.command_fixtures"]

IMAGES, LABELS = make_set(30, 5, 7)


def damage(path: Path) -> None:
    """Replace the pixels of a PNG file."""
    Pillow.new("RGB", (7, 5)).save(path)


@need_backend("hdf5")
def test_a_whole_dataset_is_one_line_and_exit_code_0(run: Command, saved: Path) -> None:
    assert run("check", saved) == (0, f"{saved}: whole, 30 images in png\n", "")
    storage.save(saved, *make_set(1, 5, 7), "hdf5", overwrite=True)
    assert run("check", saved) == (0, f"{saved}: whole, 1 image in hdf5\n", "")


def test_damaged_records_are_listed_in_runs_and_the_last_line_saves_the_others(
    run: Command, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in (3, 4, 5, 8, 11):
        damage(saved / f"part-{index // 10:05}" / f"{index % 10:08}.png")
    (saved / "part-00001" / "00000002.png").unlink()
    code, printed, complaints = run("check", saved)
    assert (code, complaints) == (1, "")
    changed = "its pixels or its label are not those that were saved"
    *found, last = [line for line in printed.splitlines() if not line.startswith(f"{saved}: part-0000")]
    assert found[:3] == [f"records 3 to 5: {changed}", f"record 8: {changed}", f"record 11: {changed}"]
    assert found[3].startswith("record 12: ")
    assert "00000002.png is missing" in found[3]
    assert len(found) == 4
    assert last.startswith("24 of 30 images are whole; save them elsewhere, in Python: ")
    monkeypatch.chdir(tmp_path)
    exec(last.partition("in Python: ")[2], {})  # noqa: S102 - what the user is told to type
    whole = [index for index in range(30) if index not in {3, 4, 5, 8, 11, 12}]
    assert_same(storage.load("DESTINATION"), (IMAGES[whole], LABELS[whole]))
    assert storage.check("DESTINATION").backend == "png"


def test_a_dataset_that_cannot_be_opened_is_saved_by_its_parts(
    run: Command, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = saved.rename(tmp_path / "my set; $(photos)")
    os.truncate(saved / "part-00001" / "labels.csv", 3)
    code, printed, complaints = run("check", saved)
    file, records, last = printed.splitlines()
    assert (code, complaints) == (1, "")
    assert file.startswith(f"{saved}: part-00001/labels.csv has 3 bytes instead of ")
    assert records.startswith(f"records 10 to 19: {saved}/part-00001: labels.csv has no header of ours")
    said, _, told = last.partition("python -m storage ")
    assert said == (
        "20 of 30 images are whole; the dataset cannot be opened, and whole are part-00000, part-00002, plain stores: "
    )
    monkeypatch.chdir(tmp_path)
    assert run(*shlex.split(told))[0] == 0
    assert_same(storage.load("DESTINATION"), (IMAGES[:10], LABELS[:10]))


@need_backend("lmdb")
def test_records_behind_a_damaged_structure_are_saved_without_another_look_at_it(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.save(tmp_path / "set", IMAGES[:, :8, :8], LABELS, "lmdb")  # so small that they stand in LMDB's tree
    path = tmp_path / "set" / "part-00000" / "data.mdb"
    pixels = IMAGES[7, :8, :8].tobytes()
    path.write_bytes(path.read_bytes().replace(pixels, pixels[::-1]))
    code, printed, _ = run("check", tmp_path / "set")
    last = printed.splitlines()[-1]
    assert code == 1
    assert last.startswith("29 of 30 images are whole; save them elsewhere, in Python: ")
    assert "verify=False" in last
    monkeypatch.chdir(tmp_path)
    exec(last.partition("in Python: ")[2], {})  # noqa: S102 - our own advice
    whole = [index for index in range(30) if index != 7]
    assert_same(storage.load("DESTINATION"), (IMAGES[whole][:, :8, :8], LABELS[whole]))


def test_only_parts_without_damaged_records_are_named(run: Command, saved: Path) -> None:
    os.truncate(saved / "part-00000" / "labels.csv", 3)
    assert "whole are part-00001 to part-00002, plain stores" in run("check", saved)[1]
    damage(saved / "part-00001" / "00000005.png")
    assert "whole are part-00002, plain stores" in run("check", saved)[1]
    damage(saved / "part-00002" / "00000005.png")
    assert run("check", saved)[1].endswith(
        "; the dataset cannot be opened, and none of its parts is whole: restore it from a copy\n"
    )


def test_nothing_is_promised_where_nothing_is_whole(run: Command, saved: Path) -> None:
    for path in saved.glob("*/labels.csv"):
        path.unlink()
    code, printed, _ = run("check", saved)
    assert code == 1
    assert printed.endswith("0 of 30 images are whole; restore the dataset from a copy\n")


def test_images_without_proof_can_be_read_unproved(run: Command, saved: Path) -> None:
    os.truncate(saved / "checksums", 3)
    code, printed, _ = run("check", saved)
    assert code == 1
    assert "records 0 to 29: it can be read, but nothing proves it" in printed
    last = printed.splitlines()[-1]
    assert last.startswith("0 of 30 images are whole; nothing proves them: ")
    found: dict[str, Images] = {}
    exec(last.partition("in Python: ")[2], found)  # noqa: S102 - what the user is told to type
    assert_same((found["images"], found["labels"]), (IMAGES, LABELS))


@pytest.mark.parametrize("content", ["", "{}", None])
def test_a_damaged_manifest_is_exit_code_1(run: Command, saved: Path, content: str | None) -> None:
    (saved / "manifest.json").unlink()
    if content is not None:
        (saved / "manifest.json").write_text(content)
    code, printed, complaints = run("check", saved)
    assert (code, printed) == (1, "")
    assert complaints.startswith(f"error: {saved}: manifest.json is ")


@need_backend("hdf5")
def test_what_cannot_be_checked_is_exit_code_2(
    run: Command, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    BACKENDS["hdf5"].store_many(tmp_path / "plain", IMAGES, LABELS)
    for path, message in ((tmp_path / "nowhere", "does not exist"), (tmp_path / "plain", "has no manifest.json")):
        code, printed, complaints = run("check", path)
        assert (code, printed) == (2, "")
        assert complaints.startswith(f"error: {path} {message}")
    monkeypatch.setattr("storage.registry.BACKENDS", {"hdf5": BACKENDS["hdf5"]})
    code, _, complaints = run("check", saved)
    assert code == 2
    assert "the backend that wrote this dataset is not here: 'png'" in complaints


@pytest.mark.parametrize(
    "arguments",
    [[], ["unknown"], ["check"], ["convert", "a", "b"], ["convert", "a", "--backend", "png"]],
    ids=["none", "unknown", "no path", "no backend", "no destination"],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], run: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    assert stopped.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["check", "--help"], ["convert", "--help"]])
def test_help_says_what_exit_codes_mean(arguments: list[str], run: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    assert stopped.value.code == 0
    assert "Exit codes: 0 " in capsys.readouterr().out


def test_a_terminal_without_unicode_gets_question_marks(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "storage", "check", tmp_path / "日本"],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 2
    assert b"?? does not exist" in ended.stderr


def test_a_closed_pipe_changes_no_exit_code(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(["check", str(saved)]) == 0


def test_output_that_cannot_be_written_is_exit_code_2(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123 - no file of ours
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["check", str(saved)]) == 2
    assert capsys.readouterr().err == "error: output cannot be written (No space left on device)\n"


def test_the_module_runs_as_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["storage", "check", str(tmp_path)])
    monkeypatch.delitem(sys.modules, "storage.__main__")
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module("storage", run_name="__main__")
    assert stopped.value.code == 2
    assert f"{tmp_path} is empty" in capsys.readouterr().err
