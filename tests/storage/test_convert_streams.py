"""The commands of `storage` without a terminal: closed and full streams; the exit code stays true."""

import subprocess
import sys
from pathlib import Path

import pytest

import storage
from storage.__main__ import main
from tests.support.backends import need_backend
from tests.support.image_sets import assert_same, make_set
from tests.support.suite import ROOT

pytestmark = need_backend("hdf5")

IMAGES, LABELS = make_set(5, 5, 7)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Save five images."""
    storage.save(tmp_path / "set", IMAGES, LABELS, "png", durable=False)
    return tmp_path / "set"


def run_shell(redirection: str, *arguments: object) -> tuple[int, str]:
    """Run the command in a shell; give its exit code and all that it prints."""
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", "storage", *map(str, arguments)]
    ended = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60
    )
    return ended.returncode, ended.stdout


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error(saved: Path, redirection: str) -> None:
    new, whole = saved.with_name("new"), f"{saved}: whole, 5 images in png\n"
    shown = redirection == "2>&-"
    assert run_shell(redirection, "check", saved) == (0, whole if shown else "")
    code, printed = run_shell(redirection, "convert", saved, new, "--backend", "hdf5")
    assert (code, printed) == (0, f"5 images saved in {new} as hdf5\n" if shown else "")
    assert_same(storage.load(new), (IMAGES, LABELS))
    assert run_shell(redirection, "check", saved.with_name("nowhere"))[0] == 2


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
def test_a_closed_stream_becomes_the_null_device(saved: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(sys, name, None)
    assert main(["check", str(saved)]) == 0
    assert getattr(sys, name).write("nobody reads this") == 17


def test_a_dataset_whose_success_cannot_be_told_is_saved_and_exit_code_1_says_so(saved: Path) -> None:
    new = saved.with_name("new")
    code, printed = run_shell(">/dev/full", "convert", saved, new, "--backend", "hdf5")
    assert code == 1
    assert printed == (
        "error: output cannot be written (No space left on device), but all was done: 5 images saved in "
        f"{new} as hdf5\n"
    )
    assert_same(storage.load(new), (IMAGES, LABELS))


def test_a_saved_dataset_that_cannot_be_told_of_is_exit_code_1(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123 - no file of ours
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["convert", str(saved), str(saved.with_name("new")), "--backend", "hdf5"]) == 1
    assert "but all was done: 5 images saved" in capsys.readouterr().err


@pytest.mark.parametrize(("place", "code"), [("set", 0), ("nowhere", 2)])
def test_complaints_that_cannot_be_written_change_no_exit_code(saved: Path, place: str, code: int) -> None:
    assert run_shell("2>/dev/full", "check", saved.with_name(place))[0] == code
