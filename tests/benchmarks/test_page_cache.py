"""How a store leaves the page cache, and how much of it is in there."""

import mmap
import shutil
import time
from collections.abc import Iterable
from itertools import cycle
from pathlib import Path

import pytest

from benchmarks.page_cache import ColdStore, evict_store, measure_residency
from storage import Backend
from storage.durability import make_durable
from tests.support.disk import need_disk

FAILED = pytest.fail.Exception


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Write files of one byte, of many pages, and an empty one, in two directories."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "small").write_bytes(b"1")
    (tmp_path / "large").write_bytes(bytes(1_000_000))
    (tmp_path / "empty").touch()
    return tmp_path


def test_written_store_is_in_memory_until_it_is_evicted(files: Path) -> None:
    need_disk(files)
    make_durable(files)
    assert measure_residency(files) == 1
    evict_store(files)
    assert measure_residency(files) < 0.01
    (files / "inner" / "small").read_bytes()
    assert measure_residency(files) == pytest.approx(1 / 246), "pages count, not files"
    shutil.rmtree(files / "inner")
    (files / "large").unlink()
    assert measure_residency(files) == 0, "no page is left"


def test_store_of_every_backend_can_be_made_cold(store: Path, module: Backend) -> None:
    need_disk(store)
    cold = ColdStore(store)
    cold.evict()
    module.read_many(store)
    with module.open_reader(store) as reader:
        reader.read(range(10))
    cold.evict()
    assert cold.resident_fraction < 0.01


def fake_fractions(monkeypatch: pytest.MonkeyPatch, fractions: Iterable[float]) -> list[str]:
    """Replace the fractions that are found in memory; return a list that each step of an eviction is added to."""
    steps: list[str] = []
    left = iter(fractions)

    def measure(_: Path) -> float:
        steps.append("measure")
        return next(left)

    monkeypatch.setattr("benchmarks.page_cache.evict_store", lambda _: steps.append("evict"))
    monkeypatch.setattr("benchmarks.page_cache.measure_residency", measure)
    monkeypatch.setattr(time, "sleep", lambda seconds: steps.append(f"pause {seconds}"))
    return steps


def test_store_that_is_still_being_read_ahead_is_evicted_again_and_the_largest_fraction_is_kept(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cold = ColdStore(files)
    steps = fake_fractions(monkeypatch, [0.5, 0.0, 0.01, 0.0, 0.002, 0.0, 0.001])
    cold.evict()
    assert steps == ["evict", "measure", *["pause 0.03", "evict", "measure"] * 4], "two checks in a row found it cold"
    cold.evict()
    assert cold.resident_fraction == 0.002


def test_store_that_is_cold_only_now_and_then_fails_the_cell(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cold = ColdStore(files)
    steps = fake_fractions(monkeypatch, cycle([0.0, 0.5]))
    with pytest.raises(FAILED, match=r"^not cold: 50\.0% of "):
        cold.evict()
    assert steps.count("pause 0.03") < 33, "less than a second"


def test_mapped_store_fails_the_cell(files: Path) -> None:
    cold = ColdStore(files)
    with (files / "large").open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert mapped[0] == mapped[-1] == 0
        with pytest.raises(FAILED, match=rf"^not cold: .*% of {files} is still in memory: .*--basetemp"):
            cold.evict()
