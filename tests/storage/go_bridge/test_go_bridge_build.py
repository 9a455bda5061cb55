"""The Go bridge: how it is built, and what is said where it cannot be."""

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
  build) echo "$GO111MODULE $GOPATH" > "$ASKED"; [ -f bridge.go ] && echo library > "$5" ;;
  env) echo go9.9 ;;
esac
"""
needs_bridge = pytest.mark.skipif("bolt" not in BACKENDS, reason=UNAVAILABLE.get("bolt", ""))


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty cache, with no command to be found."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "commands"))
    (tmp_path / "commands").mkdir()
    return tmp_path / "cache" / "image-storage-benchmarks"


def make_command(nowhere: Path, name: str, text: str) -> None:
    """Make a command that is found."""
    path = nowhere.parents[1] / "commands" / name
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def test_without_a_go_toolchain_one_line_says_how_to_get_one(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main() == 1
    assert capsys.readouterr().err == f"there is no Go toolchain here: {go_bridge.INSTALL}\n"
    assert not nowhere.exists()


def test_the_command_ends_with_the_exit_code(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not nowhere.exists()
    monkeypatch.delitem(sys.modules, "storage.go_bridge.__main__")
    with pytest.raises(SystemExit, match="1"):
        runpy.run_module("storage.go_bridge", run_name="__main__")


def test_what_cannot_be_compiled_is_said_and_leaves_nothing(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_command(nowhere, "go", "#!/bin/sh\necho no such package >&2\nexit 1\n")
    assert __main__.main() == 1
    assert capsys.readouterr().err.startswith("no such package\n")
    assert not list(nowhere.iterdir())


def test_a_cache_that_cannot_be_written_is_said(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_command(nowhere, "go", FAKE_GO)
    nowhere.parent.write_bytes(b"")
    assert __main__.main() == 1
    assert "cache" in capsys.readouterr().err


def test_it_is_built_of_modules_where_debian_has_no_sources(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_command(nowhere, "go", FAKE_GO)
    monkeypatch.setenv("ASKED", str(nowhere.parent / "asked"))
    monkeypatch.delenv("GOPATH", raising=False)
    monkeypatch.setattr(__main__, "DEBIAN", nowhere)
    nowhere.mkdir(parents=True)
    assert __main__.main() == 0
    assert (nowhere.parent / "asked").read_text(encoding="utf-8") == "on \n"
    assert read_versions("badger") == {"badger": "2.2007.2", "Go": "9.9"}


def test_it_is_built_of_debian_s_sources_where_they_are(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_command(nowhere, "go", FAKE_GO)
    make_command(nowhere, "dpkg-query", "#!/bin/sh\nprintf 1.2.3\n")
    monkeypatch.setenv("ASKED", str(nowhere.parent / "asked"))
    monkeypatch.setattr(__main__, "DEBIAN", nowhere.parent / "debian")
    for name in __main__.LIBRARIES:
        (nowhere.parent / "debian" / name).mkdir(parents=True)
    assert __main__.main() == 0
    assert (nowhere.parent / "asked").read_text(encoding="utf-8").endswith(f":{nowhere.parent / 'debian'}\n")
    assert capsys.readouterr().out == f"{find_library()}: badger 1.2.3, bbolt 1.2.3, Go 9.9\n"
    assert sorted(path.name for path in nowhere.iterdir()) == [
        find_library().with_suffix(".json").name,
        find_library().name,
    ]


def test_a_library_that_is_not_built_is_said_with_the_commands(nowhere: Path) -> None:
    assert not nowhere.exists()
    with pytest.raises(
        BackendUnavailableError, match=r"apt-get install golang-go .*, then python -m storage.go_bridge"
    ):
        read_versions("bbolt")


def test_versions_without_a_library_are_no_build(nowhere: Path) -> None:
    nowhere.mkdir(parents=True)
    find_library().with_suffix(".json").write_text(json.dumps({"bbolt": "1", "Go": "1"}), encoding="utf-8")
    with pytest.raises(BackendUnavailableError, match="is not built"):
        read_versions("bbolt")


def test_other_sources_are_another_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = find_library()
    changed = tmp_path / "bridge.go"
    changed.write_bytes(go_bridge.SOURCES[0].read_bytes() + b"\n")
    monkeypatch.setattr(go_bridge, "SOURCES", [changed, *go_bridge.SOURCES[1:]])
    assert find_library() != built


def test_the_cache_is_in_the_home_folder_where_none_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_library().parent == tmp_path / ".cache" / "image-storage-benchmarks"


def test_a_library_that_cannot_be_loaded_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr(go_bridge, "_loaded", [])
    monkeypatch.setattr(go_bridge, "_foreign", 0)
    monkeypatch.setattr(go_bridge, "find_library", lambda: broken)
    with pytest.raises(StorageError, match="the Go bridge cannot be loaded"):
        Records("bolt", b"nowhere")


@pytest.mark.skipif(shutil.which("gofmt") is None, reason="no Go toolchain is installed")
def test_the_sources_are_formatted_and_short() -> None:
    folder = ROOT / "storage" / "go_bridge"
    done = subprocess.run(["gofmt", "-l", str(folder)], capture_output=True, text=True, check=True)  # noqa: S607
    assert not done.stdout
    assert all(path.read_text(encoding="utf-8").count("\n") < 300 for path in folder.glob("*.go"))


@pytest.mark.slow
@needs_bridge
def test_the_real_thing_is_built(tmp_path: Path) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "storage.go_bridge"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert Path(done.stdout.partition(":")[0]).stat().st_size > 1 << 20
