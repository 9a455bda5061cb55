"""The Go bridge: what crosses it, and forks, signals and threads around it."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from storage import BACKENDS, UNAVAILABLE

go_bridge = pytest.importorskip("storage.go_bridge", reason="storage/go_bridge is not here")

from storage.go_bridge import BridgeError, Records  # noqa: E402 - not before it is known to be here

if "bolt" not in BACKENDS:
    pytest.skip(UNAVAILABLE.get("bolt", "storage/backends/bolt.py is not here"), allow_module_level=True)

ENGINES = ("badger", "bolt")
KEYS = np.arange(3, dtype=np.uint64).astype(">u8")
HEADS, TAILS = np.arange(12, dtype=np.uint8).reshape(3, 4), np.arange(3, dtype="<i8")


@pytest.fixture(params=ENGINES)
def records(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "records"
    if request.param == "badger":
        path.mkdir()
    with Records(request.param, os.fsencode(path), 1 << 20) as written:
        written.put(KEYS, HEADS, TAILS)
    return path


def open_records(path: Path) -> Records:
    return Records("badger" if path.is_dir() else "bolt", os.fsencode(path))


def test_records_come_back_in_any_order_and_tails_alone(records: Path) -> None:
    heads, tails, alone = np.empty_like(HEADS), np.empty_like(TAILS), np.empty_like(TAILS)
    with open_records(records) as opened:
        opened.get(KEYS[::-1].copy(), heads, tails)
        opened.scan_tails(KEYS, HEADS.nbytes, alone)
    for found, expected in ((heads, HEADS[::-1]), (tails, TAILS[::-1]), (alone, TAILS)):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["get", "scan"])
def test_wrong_keys_and_sizes_are_refused(records: Path, name: str) -> None:
    later = (KEYS.astype(np.uint64) + 1).astype(">u8")
    with open_records(records) as opened:
        for keys, heads, words in (
            (later, np.empty_like(HEADS), "record 0000000000000003 is missing"),
            (KEYS, np.empty((3, 5), np.uint8), "has 12 bytes, not 13"),
            (KEYS, np.empty(13, np.uint8), "24 bytes of keys, 13 of heads.*: no batch"),
        ):
            with pytest.raises(BridgeError, match=words):
                getattr(opened, name)(keys, heads, np.empty_like(TAILS))


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


def test_a_store_that_is_open_for_reading_cannot_be_written(records: Path) -> None:
    with open_records(records) as opened, pytest.raises(BridgeError, match=r"panic|read-only"):
        opened.put(KEYS, HEADS, TAILS)


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(BridgeError, match='there is no engine "tape"'):
        Records("tape", b"nowhere")


def test_a_new_process_loads_a_copy_of_the_library_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    def note(path: str) -> bytes:  # children in other tests load it: Go runs once in this process
        assert path.startswith(f"/proc/{os.getpid()}/fd/"), "another process may have loaded a file of this name"
        loaded.append(Path(path).read_bytes())
        return loaded[-1]

    first = go_bridge._load()  # noqa: SLF001 - a fork changes it
    assert go_bridge._load() is first  # noqa: SLF001 - likewise
    monkeypatch.setattr(go_bridge, "_load_file", note)
    for name in ("_loaded", "_inherited"):
        monkeypatch.setattr(go_bridge, name, getattr(go_bridge, name).copy())
    go_bridge._begin_child()  # noqa: SLF001 - likewise
    copy = go_bridge._load()  # noqa: SLF001 - likewise
    assert copy == go_bridge.find_library().read_bytes()
    assert go_bridge._load() is copy  # noqa: SLF001 - likewise
    assert len(loaded) == 1


def test_an_interrupt_still_raises_keyboard_interrupt(records: Path) -> None:
    with open_records(records), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_broken_pipe_is_still_an_error(records: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open_records(records), os.fdopen(writing, "wb", buffering=0) as pipe, pytest.raises(BrokenPipeError):
        pipe.write(b"x")
