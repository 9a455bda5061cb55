"""What of a store is in memory, and how it gets out."""

import mmap
import time
from itertools import cycle
from pathlib import Path

import pytest

from benchmarks.page_cache import ColdStore, evict_store, measure_residency
from storage import Backend
from storage.durability import make_durable


def fill(folder: Path) -> Path:
    """Write files of one byte, of many pages, and of nothing, in two directories."""
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "small").write_bytes(b"1")
    (folder / "large").write_bytes(bytes(1_000_000))
    (folder / "empty").touch()
    return folder


def test_a_store_that_was_written_is_in_memory_until_it_is_evicted(tmp_path: Path) -> None:
    store = fill(tmp_path / "store")
    make_durable(store)
    assert measure_residency(store) == 1
    evict_store(store)
    assert measure_residency(store) < 0.01


def test_the_share_counts_pages_not_files(tmp_path: Path) -> None:
    store = fill(tmp_path / "store")
    make_durable(store)
    evict_store(store)
    (store / "inner" / "small").read_bytes()
    assert measure_residency(store) == pytest.approx(1 / 246)


def test_a_store_without_a_page_has_none_in_memory(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert measure_residency(tmp_path) == 0


def test_a_store_of_any_backend_can_be_made_cold(store: Path, module: Backend) -> None:
    cold = ColdStore(store)
    cold.evict()
    module.read_many(store)
    with module.open_reader(store) as reader:
        reader.read(range(10))
    cold.evict()
    assert cold.resident_fraction < 0.01


def test_the_largest_share_of_all_rounds_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cold = ColdStore(fill(tmp_path / "store"))
    fractions = iter([0.0, 0.001, 0.0, 0.009, 0.0, 0.0])
    monkeypatch.setattr("benchmarks.page_cache.measure_residency", lambda _: next(fractions))
    for _ in range(3):
        cold.evict()
    assert cold.resident_fraction == 0.009


def test_a_store_that_is_still_read_ahead_is_evicted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cold = ColdStore(fill(tmp_path / "store"))
    done: list[str] = []
    fractions = iter([0.5, 0.0, 0.01, 0.0, 0.002])

    def check(_: Path) -> float:
        done.append("check")
        return next(fractions)

    monkeypatch.setattr("benchmarks.page_cache.evict_store", lambda _: done.append("evict"))
    monkeypatch.setattr("benchmarks.page_cache.measure_residency", check)
    monkeypatch.setattr(time, "sleep", lambda seconds: done.append(f"pause {seconds}"))
    cold.evict()
    assert done == ["evict", "check", *["pause 0.03", "evict", "check"] * 4]
    assert not list(fractions), "two checks in a row found it cold"
    assert cold.resident_fraction == 0.002


def test_a_store_that_is_cold_only_now_and_then_is_not_cold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cold = ColdStore(fill(tmp_path / "store"))
    fractions = cycle([0.0, 0.5])
    pauses: list[float] = []
    monkeypatch.setattr("benchmarks.page_cache.measure_residency", lambda _: next(fractions))
    monkeypatch.setattr(time, "sleep", pauses.append)
    with pytest.raises(pytest.fail.Exception, match=r"^not cold: 50\.0% of "):
        cold.evict()
    assert sum(pauses) < 1


def test_a_store_that_is_mapped_is_not_cold(tmp_path: Path) -> None:
    store = fill(tmp_path / "store")
    cold = ColdStore(store)
    with (store / "large").open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert mapped[0] == mapped[-1] == 0
        with pytest.raises(pytest.fail.Exception, match=rf"^not cold: .*% of {store} is still in memory: .*--basetemp"):
            cold.evict()
