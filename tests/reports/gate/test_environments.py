"""Environments with two versions of a library."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from reports.__main__ import main
from reports.errors import NotMeasurableError
from reports.gate import command, environments
from reports.gate.environments import Library, make_python, make_pythons, read_library
from tests.support.reel_tape import use_library, write_wheel, write_wheels
from tests.support.repositories import commit_all
from tests.support.suite import copy_suite


def test_a_library_and_two_versions_are_read() -> None:
    assert read_library("h5py==3.15.1,3.16.0") == Library("h5py", ("3.15.1", "3.16.0"))
    for text in ("h5py", "h5py==3.15", "h5py==1,2,3", "h5py>=1,2", "-h==1,2;x", "--index-url x==1,2"):
        with pytest.raises(argparse.ArgumentTypeError, match="isn't a library with two versions"):
            read_library(text)


def test_the_modules_of_a_library_are_those_that_it_installs_or_named_like_it(monkeypatch: pytest.MonkeyPatch) -> None:
    owners = {"PIL": ["Pillow"], "lmdb": ["lmdb"], "_lmdb": ["LMDB", "other"]}
    monkeypatch.setattr(environments, "packages_distributions", lambda: owners)
    versions = ("1", "2")
    assert Library("pillow", versions).find_modules() == ("PIL",)
    assert Library("lmdb", versions).find_modules() == ("_lmdb", "lmdb")
    assert Library("Reel.Tape", versions).find_modules() == ("reel_tape",)


def test_both_environments_are_deleted_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def make(folder: Path, name: str, version: str) -> str:
        folder.mkdir()
        made.append(folder)
        return f"{name} {version}"

    monkeypatch.setattr(environments, "make_python", make)
    with make_pythons(Library("tape", ("1", "2"))) as pythons:
        assert pythons == ("tape 1", "tape 2")
        assert [folder.is_dir() for folder in made] == [True, True]
    assert [folder.exists() for folder in made] == [False, False]


def test_an_environment_has_the_version_in_front_of_what_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    write_wheel(tmp_path / "wheels", "2.0", "version = 2")
    python = make_python(tmp_path / "made", "reel-tape", "2.0")
    code = "import reel_tape, numpy; print(reel_tape.version, numpy.__file__)"
    ended = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    import numpy as np  # noqa: PLC0415 - this one

    assert ended.stdout == f"2 {np.__file__}\n"
    with pytest.raises(NotMeasurableError, match=r"^pip can't install reel-tape 3\.0: ERROR: .*reel-tape==3\.0"):
        make_python(tmp_path / "other", "reel-tape", "3.0")


@pytest.mark.slow
def test_the_gate_finds_the_slower_version_of_a_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("scipy", reason="the gate needs SciPy")
    write_wheels(tmp_path / "wheels")
    folder = copy_suite(tmp_path / "suite")
    use_library(folder)
    commit_all(folder)
    monkeypatch.setattr(command, "PROJECT", folder)
    for name, value in (("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", str(tmp_path / "wheels")), ("CIFAR10", "standin")):
        monkeypatch.setenv(name, value)
    out = tmp_path / "gate.json"
    options = ["--library=reel-tape==1.0,2.0", "--cells=test_many", "--cutoffs=10", f"--json={out}"]
    assert main(["gate", *options]) == 1, capsys.readouterr()
    document = json.loads(out.read_text())
    scope = "the change can affect npy; cells of image files, too: storage.backends.npy can handle them"
    assert scope in document["notes"]
    verdicts = {each["cell"].partition("::")[2]: each["verdict"] for each in document["outcome"]["verdicts"]}
    titles = "npy-10", "npy-10-encoded"
    assert verdicts.keys() == {f"test_{name}_many[{title}]" for name in ("read", "store") for title in titles}
    slower = {cell for cell, verdict in verdicts.items() if verdict == "regression"}
    assert slower == {f"test_store_many[{title}]" for title in titles}
    assert sys.executable not in document["notes"]
