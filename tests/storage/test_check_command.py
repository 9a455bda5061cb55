"""`python -m storage check`: what it lists and advises; and what all commands share: usage, streams, exit codes."""

import os
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

import storage
from storage import BACKENDS
from storage.__main__ import main
from tests.support.backends import need_backend
from tests.support.commands import Command
from tests.support.datasets import find_beside, find_part, shorten
from tests.support.image_sets import assert_same, make_set
from tests.support.suite import ROOT

pytest_plugins = ["tests.support.command_fixtures"]

IMAGES, LABELS = make_set(30, 5, 7)
CHANGED = "its image or its label are not those that were saved"


@pytest.fixture(autouse=True)
def _in_the_folder_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def damage(path: Path) -> None:
    """Replace the pixels of a PNG file."""
    Pillow.new("RGB", (7, 5)).save(path)


def follow_advice(run: Command, printed: str) -> str:
    """Run the command that ends what was printed; give what it prints."""
    code, answer, complaints = run(*shlex.split(printed.rpartition("python -m storage ")[2]))
    assert (code, complaints) == (0, "")
    assert storage.check("DESTINATION").is_whole
    return answer


@need_backend("hdf5")
def test_a_whole_dataset_is_one_line_and_exit_code_0(run: Command, saved: Path) -> None:
    assert run("check", saved) == (0, f"{saved}: whole, 30 images in png\n", "")
    storage.save(saved, *make_set(1, 5, 7), "hdf5", overwrite=True)
    assert run("check", saved) == (0, f"{saved}: whole, 1 image in hdf5\n", "")


def test_damaged_records_are_listed_in_runs_and_the_advice_saves_the_others(run: Command, saved: Path) -> None:
    for index in (3, 4, 5, 8, 11):
        damage(find_part(saved, index // 10) / f"{index % 10:08}.png")
    (find_part(saved, 1) / "00000002.png").unlink()
    code, printed, complaints = run("check", saved)
    assert (code, complaints) == (1, "")
    found = [line for line in printed.splitlines() if not line.startswith(f"{saved}: part-0000")]
    assert found[:3] == [f"records 3 to 5: {CHANGED}", f"record 8: {CHANGED}", f"record 11: {CHANGED}"]
    assert shorten(found[3]).startswith("record 12: part-00001: ")
    assert "00000002.png is missing" in found[3]
    assert found[4].startswith("24 of 30 images are whole; save them with all that is known about them: python -m")
    assert len(found) == 5
    answer = "24 images saved in DESTINATION, with a list of what was damaged (reader.skipped)\n"
    assert follow_advice(run, printed) == answer
    whole = [index for index in range(30) if index not in {3, 4, 5, 8, 11, 12}]
    assert_same(storage.load("DESTINATION"), (IMAGES[whole], LABELS[whole]))
    assert storage.check("DESTINATION").backend == "png"


def test_whole_parts_of_a_dataset_that_cannot_be_opened_are_saved(run: Command, saved: Path) -> None:
    saved = saved.rename(saved.with_name("my set; $(photos)"))
    os.truncate(find_part(saved, 1) / "labels.csv", 3)
    code, printed, complaints = run("check", saved)
    file, records, last = shorten(printed).splitlines()
    assert (code, complaints) == (1, "")
    assert file.startswith(f"{saved}: part-00001/labels.csv has 3 bytes instead of ")
    assert records.startswith("records 10 to 19: part-00001: labels.csv has another header")
    assert last.startswith("20 of 30 images are whole; save them with all that is known about them: ")
    follow_advice(run, printed)
    whole = [*range(10), *range(20, 30)]
    assert_same(storage.load("DESTINATION"), (IMAGES[whole], LABELS[whole]))


@need_backend("lmdb")
def test_records_next_to_a_damaged_structure_are_saved_as_check_has_verified_them(run: Command, tmp_path: Path) -> None:
    storage.save(tmp_path / "set", IMAGES[:, :8, :8], LABELS, "lmdb")  # so small that they are in LMDB's tree
    path = find_part(tmp_path / "set") / "data.mdb"
    pixels = IMAGES[7, :8, :8].tobytes()
    path.write_bytes(path.read_bytes().replace(pixels, pixels[::-1]))
    code, printed, _ = run("check", tmp_path / "set")
    assert code == 1
    assert "29 of 30 images are whole; save them" in printed
    follow_advice(run, printed)
    whole = [index for index in range(30) if index != 7]
    assert_same(storage.load("DESTINATION"), (IMAGES[whole][:, :8, :8], LABELS[whole]))


def test_nothing_can_be_saved_of_a_dataset_without_a_whole_image(run: Command, saved: Path) -> None:
    for path in saved.glob("*/labels.csv"):
        path.unlink()
    assert run("check", saved)[1].endswith("0 of 30 images are whole; restore the dataset from a copy\n")
    code, printed, complaints = run("recover", saved, "DESTINATION")
    assert (code, printed) == (1, "")
    assert complaints == f"error: {saved}: none of its images is whole: restore it from a copy\n"
    assert not Path("DESTINATION").exists()


def test_images_without_checksums_are_verified_by_their_sum(run: Command, saved: Path) -> None:
    os.truncate(find_beside(saved, "checksums", 1), 3)
    code, printed, _ = run("check", saved)
    assert code == 1
    assert "30 of 30 images are whole; save them" in printed
    follow_advice(run, printed)
    assert_same(storage.load("DESTINATION"), (IMAGES, LABELS))


@pytest.mark.parametrize("damaged", [1, 3])
def test_images_that_cannot_be_verified_are_saved_if_asked_for(damaged: int, run: Command, saved: Path) -> None:
    for number in range(damaged):
        find_beside(saved, "checksums", number).unlink()
        damage(find_part(saved, number) / "00000004.png")
    code, printed, _ = run("check", saved)
    assert code == 1
    count = 10 * damaged
    assert f"records 0 to {count - 1}: it can be read, but not verified: the checksums are damaged" in printed
    if damaged == 3:
        assert "0 of 30 images are whole; restore the dataset from a copy, or save what can't be verified: " in printed
        assert printed.endswith(" DESTINATION --unverified\n")
    else:
        assert (
            "20 of 30 images are whole; save them with all that is known about them; with --unverified, also 10"
            in printed
        )
        follow_advice(run, printed)
        assert_same(storage.load("DESTINATION"), (IMAGES[10:], LABELS[10:]))
        shutil.rmtree("DESTINATION")
        printed = f"{printed.strip()} --unverified"
    follow_advice(run, printed)
    images, labels = storage.load("DESTINATION")
    wrong = [4, 14, 24][:damaged]
    np.testing.assert_array_equal(labels, LABELS)
    assert [index for index in range(30) if not np.array_equal(images[index], IMAGES[index])] == wrong


@pytest.mark.parametrize("content", ["", "{}", None])
def test_a_damaged_manifest_is_exit_code_1(run: Command, saved: Path, content: str | None) -> None:
    (saved / "manifest.json").unlink()
    if content is not None:
        (saved / "manifest.json").write_text(content)
    code, printed, complaints = run("check", saved)
    assert (code, printed) == (1, "")
    assert complaints.startswith(f"error: {saved}: manifest.json is ")


@need_backend("hdf5")
def test_exit_code_is_2_if_there_is_nothing_that_can_be_checked(
    run: Command, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    BACKENDS["hdf5"].store_many(tmp_path / "plain", IMAGES, LABELS)
    for path, message in ((tmp_path / "nowhere", "it doesn't exist"), (tmp_path / "plain", "it has no manifest.json")):
        code, printed, complaints = run("check", path)
        assert (code, printed) == (2, "")
        assert complaints.startswith(f"error: {path}: {message}")
    monkeypatch.setattr("storage.registry.BACKENDS", {"hdf5": BACKENDS["hdf5"]})
    code, _, complaints = run("check", saved)
    assert code == 2
    assert f"error: {saved}: the backend that wrote this dataset is missing: 'png'" in complaints


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        *[(arguments, 2, "error: ") for arguments in ([], ["unknown"], ["check"], ["convert", "a", "b"])],
        (["convert", "a", "--backend", "png"], 2, "error: "),
        *[([*command, "--help"], 0, "Exit codes: 0 ") for command in ([], ["check"], ["convert"])],
    ],
    ids=str,
)
def test_wrong_usage_is_exit_code_2_and_help_lists_the_exit_codes(
    arguments: list[str], code: int, message: str, run: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    assert stopped.value.code == code
    assert message in "".join(capsys.readouterr())


def test_a_terminal_without_unicode_gets_question_marks(tmp_path: Path) -> None:
    code, printed = run_shell("", "check", tmp_path / "日本")
    assert code == 2
    assert "??: it doesn't exist" in printed


def run_shell(redirection: str, *arguments: object) -> tuple[int, str]:
    """Run the command in a shell; give its exit code and all that it prints."""
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", "storage", *map(str, arguments)]
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    env.pop("PYTHONUNBUFFERED", None)
    pipe, both = subprocess.PIPE, subprocess.STDOUT
    ended = subprocess.run(command, cwd=ROOT, env=env, stdout=pipe, stderr=both, text=True, check=False, timeout=60)
    return ended.returncode, ended.stdout


@pytest.mark.parametrize(
    "redirection",
    [">&-", *(pytest.param(each, marks=pytest.mark.slow) for each in ("2>&-", "<&- >&- 2>&-", "2>/dev/full"))],
)
def test_closed_streams_and_errors_that_cannot_be_printed_change_no_exit_code(saved: Path, redirection: str) -> None:
    new, whole = saved.with_name("new"), f"{saved}: whole, 30 images in png\n"
    shown = redirection.startswith("2>")
    assert run_shell(redirection, "check", saved) == (0, whole if shown else "")
    code, printed = run_shell(redirection, "convert", saved, new, "--backend", "npy")
    assert (code, printed) == (0, f"30 images saved in {new} as npy\n" if shown else "")
    assert_same(storage.load(new), (IMAGES, LABELS))
    assert run_shell(redirection, "check", saved.with_name("nowhere"))[0] == 2


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
def test_a_closed_stream_becomes_the_null_device(saved: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(sys, name, None)
    assert main(["check", str(saved)]) == 0
    assert getattr(sys, name).write("nothing reads this") == 18


def test_a_closed_pipe_changes_no_exit_code(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(["check", str(saved)]) == 0


def test_exit_code_is_2_if_a_report_cannot_be_printed_and_1_if_a_dataset_was_saved(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    new = saved.with_name("new")
    problem = "error: output cannot be written (No space left on device)"
    for arguments, code, message in (
        (["check", str(saved)], 2, f"{problem}\n"),
        (["convert", str(saved), str(new), "--backend", "npy"], 1, f"{problem}, but all was done: 30 images saved in"),
    ):
        with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123 - it isn't a file of ours
            monkeypatch.setattr(sys, "stdout", full)
            assert main(arguments) == code
        assert capsys.readouterr().err.startswith(message)
    code, printed = run_shell(">/dev/full", "convert", saved, new, "--backend", "npy", "--overwrite")
    assert code == 1
    assert printed.startswith(f"{problem}, but all was done: 30 images saved in")
    assert_same(storage.load(new), (IMAGES, LABELS))


def test_the_module_runs_as_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["storage", "check", str(tmp_path)])
    monkeypatch.delitem(sys.modules, "storage.__main__")
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module("storage", run_name="__main__")
    assert stopped.value.code == 2
    assert f"{tmp_path}: it is empty" in capsys.readouterr().err
