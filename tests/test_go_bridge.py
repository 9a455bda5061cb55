"""The Go bridge: how it is built, what crosses it, and that it survives what a process goes through."""

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from storage import BACKENDS, UNAVAILABLE
from storage.errors import BackendUnavailableError, StorageError
from tests.suite import ROOT

go_bridge = pytest.importorskip("storage.go_bridge", reason="storage/go_bridge is not here")

from storage.go_bridge import BridgeError, Records, __main__, find_library, read_versions  # noqa: E402 - not before it is known to be here

ENGINES = ("badger", "bolt")
KEYS = np.arange(3, dtype=np.uint64).astype(">u8")
HEADS, TAILS = np.arange(12, dtype=np.uint8).reshape(3, 4), np.arange(3, dtype="<i8")
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


@pytest.fixture(params=[pytest.param(engine, marks=needs_bridge) for engine in ENGINES])
def records(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Write three records with the engine of the test; return the path."""
    path = tmp_path / "records"
    if request.param == "badger":
        path.mkdir()
    with Records(request.param, os.fsencode(path), 1 << 20) as written:
        written.put(KEYS, HEADS, TAILS)
    return path


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


def open_records(path: Path) -> Records:
    """Open what the fixture wrote."""
    return Records("badger" if path.is_dir() else "bolt", os.fsencode(path))


def test_records_come_back_in_any_order(records: Path) -> None:
    heads, tails = np.empty_like(HEADS), np.empty_like(TAILS)
    with open_records(records) as opened:
        opened.get(KEYS[::-1].copy(), heads, tails)
    np.testing.assert_array_equal(heads, HEADS[::-1])
    np.testing.assert_array_equal(tails, TAILS[::-1])


def test_tails_come_back_alone(records: Path) -> None:
    tails = np.empty_like(TAILS)
    with open_records(records) as opened:
        opened.scan_tails(KEYS, HEADS.shape[1], tails)
    np.testing.assert_array_equal(tails, TAILS)


@pytest.mark.parametrize("name", ["get", "scan"])
def test_a_record_that_is_missing_is_named(records: Path, name: str) -> None:
    with open_records(records) as opened, pytest.raises(BridgeError, match="record 0000000000000003 is missing"):
        getattr(opened, name)((KEYS.astype(np.uint64) + 1).astype(">u8"), np.empty_like(HEADS), np.empty_like(TAILS))


@pytest.mark.parametrize("name", ["get", "scan"])
def test_a_record_of_another_size_is_refused(records: Path, name: str) -> None:
    with open_records(records) as opened, pytest.raises(BridgeError, match="has 12 bytes, not 13"):
        getattr(opened, name)(KEYS, np.empty((3, 5), np.uint8), np.empty_like(TAILS))


def test_sizes_that_do_not_fit_are_refused(records: Path) -> None:
    with (
        open_records(records) as opened,
        pytest.raises(BridgeError, match=r"24 bytes of keys, 13 of heads.*: no batch"),
    ):
        opened.get(KEYS, np.empty(13, np.uint8), np.empty_like(TAILS))


def test_a_handle_of_a_closed_store_is_refused(records: Path) -> None:
    with open_records(records) as opened:
        pass
    opened.close()
    with pytest.raises(BridgeError, match="no open store has the number"):
        opened.get(KEYS, HEADS.copy(), TAILS.copy())


def test_a_store_that_is_forgotten_is_closed(records: Path) -> None:
    open_records(records).close()
    before = sorted(Path("/proc/self/fd").iterdir())
    opened = open_records(records)
    assert sorted(Path("/proc/self/fd").iterdir()) != before
    del opened
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_a_child_forgets_nothing_of_its_parent_s() -> None:
    calls: list[object] = []
    library = SimpleNamespace(bridge_close=calls.append, bridge_free=calls.append)
    go_bridge._forget(library, 1, os.getpid() + 1)  # noqa: SLF001 - what a fork changes
    assert not calls
    go_bridge._forget(library, 1, os.getpid())  # noqa: SLF001 - likewise
    assert calls == [1, None]


def test_a_store_that_is_read_cannot_be_written(records: Path) -> None:
    with open_records(records) as opened, pytest.raises(BridgeError, match=r"panic|read-only"):
        opened.put(KEYS, HEADS, TAILS)


def test_a_store_is_left_to_the_process_that_opened_it(records: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tails = np.empty_like(TAILS)
    with open_records(records) as opened:
        with monkeypatch.context() as patch:
            patch.setattr(opened, "_process", 0)
            opened.close()
            with pytest.raises(BridgeError, match="before a fork"):
                opened.get(KEYS, HEADS, tails)
        opened.scan_tails(KEYS, HEADS.shape[1], tails)


def test_a_new_process_has_a_runtime_of_its_own(records: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_records(records) as opened:
        monkeypatch.setattr(go_bridge, "_loaded", go_bridge._loaded.copy())  # noqa: SLF001 - as a fork does
        monkeypatch.setattr(go_bridge, "_foreign", 0)
        go_bridge._begin_child()  # noqa: SLF001 - likewise
        with open_records(records) as other:
            assert other._library is not opened._library  # noqa: SLF001 - what a fork changes
            other.scan_tails(KEYS, HEADS.shape[1], np.empty_like(TAILS))


def test_forked_processes_read_with_threads(records: Path) -> None:
    def read(_: int) -> int:
        tails = np.zeros_like(TAILS)
        with open_records(records) as opened:
            opened.get(KEYS, np.empty_like(HEADS), tails)
        return int(tails.sum())

    with open_records(records):
        for _ in range(5):
            process = os.fork()
            if not process:
                try:
                    with ThreadPoolExecutor(4) as pool:
                        os._exit(sum(pool.map(read, range(8))))
                finally:
                    os._exit(99)
            assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 8 * TAILS.sum()


def test_an_interrupt_is_still_python_s(records: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it in the background
    try:
        with open_records(records), pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_broken_pipe_is_still_an_error(records: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open_records(records), os.fdopen(writing, "wb", buffering=0) as pipe, pytest.raises(BrokenPipeError):
        pipe.write(b"x")


@needs_bridge
def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(BridgeError, match='there is no engine "tape"'):
        Records("tape", b"nowhere")
