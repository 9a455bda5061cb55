"""The Go bridge: how it is built, and the messages if it isn't."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from storage import BACKENDS, UNAVAILABLE
from storage.errors import BackendUnavailableError, StorageError
from tests.support.suite import ROOT

go_bridge = pytest.importorskip("storage.go_bridge", reason="storage/go_bridge is not here")

from storage.go_bridge import Records, __main__, find_library, read_versions  # noqa: E402 - not before it is known to be here

FAKE_GO = """#!/bin/sh
case "$1" in
  build) echo "$GO111MODULE $GOPATH" > "$ASKED"; [ -f bridge.go ] && [ -f go.mod ] && echo library > "$5" ;;
  env) echo go9.9 ;;
esac
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Name a cache that doesn't exist, and leave no command to be found."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "commands"))
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    (tmp_path / "commands").mkdir()
    return tmp_path / "cache" / "image-storage-benchmarks"


def make_command(folder: Path, name: str, text: str) -> None:
    path = folder.parents[1] / "commands" / name
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def test_without_a_go_toolchain_one_line_says_how_to_get_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main() == 1
    assert capsys.readouterr().err == f"there is no Go toolchain here: {go_bridge.INSTALL}\n"
    assert not folder.exists()


@pytest.mark.usefixtures("folder")
def test_the_command_ends_with_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "storage.go_bridge.__main__")
    with pytest.raises(SystemExit, match="1"):
        runpy.run_module("storage.go_bridge", run_name="__main__")


def test_a_failed_build_shows_the_error_and_leaves_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_command(folder, "go", "#!/bin/sh\necho no such package >&2\nexit 1\n")
    assert __main__.main() == 1
    error = capsys.readouterr().err
    assert error.startswith("no such package\n")
    assert go_bridge.INSTALL in error
    assert not list(folder.iterdir())


def test_a_cache_that_cannot_be_written_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_command(folder, "go", FAKE_GO)
    folder.parent.write_bytes(b"")
    assert __main__.main() == 1
    assert str(folder.parent) in capsys.readouterr().err


def test_it_is_built_from_debian_s_sources(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_command(folder, "go", FAKE_GO)
    make_command(folder, "dpkg-query", "#!/bin/sh\nprintf 1.2.3\n")
    assert __main__.main() == 0
    asked = (folder.parents[1] / "asked").read_text(encoding="utf-8")
    assert asked.startswith("off ")
    assert asked.endswith(f":{__main__.DEBIAN}\n")
    assert capsys.readouterr().out == f"{find_library()}: badger 1.2.3, bbolt 1.2.3, Go 9.9\n"
    names = {find_library().with_suffix(".json").name, find_library().name}
    assert {path.name for path in folder.iterdir()} == names
    assert read_versions("badger") == {"badger": "1.2.3", "Go": "9.9"}


def test_a_library_that_is_not_built_is_reported_with_the_commands(folder: Path) -> None:
    words = r"apt-get install golang-go .*, then python -m storage\.go_bridge"
    with pytest.raises(BackendUnavailableError, match=words):
        read_versions("bbolt")
    folder.mkdir(parents=True)
    find_library().with_suffix(".json").write_text(json.dumps({"bbolt": "1", "Go": "1"}), encoding="utf-8")
    with pytest.raises(BackendUnavailableError, match=words):
        read_versions("bbolt")


def test_other_sources_are_another_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = find_library()
    changed = tmp_path / "bridge.go"
    changed.write_bytes(go_bridge.SOURCES[0].read_bytes() + b"\n")
    monkeypatch.setattr(go_bridge, "SOURCES", [changed, *go_bridge.SOURCES[1:]])
    assert find_library() != built


def test_the_cache_is_in_the_home_folder_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_library().parent == tmp_path / ".cache" / "image-storage-benchmarks"


def test_a_library_that_cannot_be_loaded_is_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr(go_bridge, "_loaded", [])
    monkeypatch.setattr(go_bridge, "_inherited", [])
    monkeypatch.setattr(go_bridge, "find_library", lambda: broken)
    with pytest.raises(StorageError, match=r"can't be loaded .*build it: python -m storage\.go_bridge"):
        Records("bolt", b"nowhere")


@pytest.mark.skipif(shutil.which("gofmt") is None, reason="no Go toolchain is installed")
def test_the_sources_are_formatted() -> None:
    folder = ROOT / "storage" / "go_bridge"
    done = subprocess.run(["gofmt", "-l", str(folder)], capture_output=True, text=True, check=True)  # noqa: S607
    assert not done.stdout


@pytest.mark.slow
@pytest.mark.skipif("bolt" not in BACKENDS, reason=UNAVAILABLE.get("bolt", ""))
@pytest.mark.skipif(shutil.which("go") is None, reason="no Go toolchain is installed")
def test_the_real_thing_is_built(tmp_path: Path) -> None:
    compiled = subprocess.run(["go", "env", "GOCACHE"], capture_output=True, text=True, check=True).stdout  # noqa: S607
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "GOCACHE": compiled.strip()}
    command = [sys.executable, "-m", "storage.go_bridge"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert Path(done.stdout.partition(":")[0]).stat().st_size > 1 << 20
