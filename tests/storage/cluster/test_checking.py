"""A check that is shared: it reports what one process reports."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from storage.cluster import workers
from storage.cluster.checking import InspectTask, inspect_parts
from storage.dataset import writer
from storage.dataset.opening import Dataset, hold_dataset
from storage.dataset.report import Finding, inspect_group
from tests.support.backends import need_backend
from tests.support.commands import Command
from tests.support.datasets import find_beside, find_part, flip_bit
from tests.support.here import Here
from tests.support.image_sets import make_set

pytest_plugins = ["tests.support.command_fixtures"]
pytestmark = need_backend("npy")

IMAGES, LABELS = make_set(40, 5, 7)
NAMES = [f"{number}.jpg" for number in range(40)]


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def start(*_: object) -> Iterator[Here]:
        yield Here(reversed)

    monkeypatch.setattr(workers, "start_workers", start)


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Save four parts."""
    monkeypatch.setattr(writer, "PART", 10 * IMAGES[0].nbytes)
    storage.save(tmp_path / "set", [IMAGES], LABELS, "npy", names=NAMES)
    return tmp_path / "set"


def flip(dataset: Path, numbers: tuple[int, ...], place: int) -> None:
    """Change a byte of some parts."""
    for number in numbers:
        flip_bit(find_part(dataset, number) / "images.npy", place)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "none": lambda path: path,
    "records": lambda path: flip(path, (0, 2), 300),
    "structure": lambda path: flip(path, (1, 3), 1),
    "details": lambda path: flip_bit(find_beside(path, "json", 1), 9),
    "checksums": lambda path: flip_bit(find_beside(path, "checksums", 3), 9),
    "names": lambda path: flip_bit(find_beside(path, "names", 2), 1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_shared_check_prints_what_one_process_prints(damage: str, run: Command, parts: Path) -> None:
    DAMAGES[damage](parts)
    alone = run("check", parts)
    assert run("check", parts, "--workers", 2) == alone
    assert alone[0] == (damage != "none")


def test_a_part_that_may_kill_its_reader_is_left_to_the_caller(parts: Path) -> None:
    flip_bit(find_part(parts, 1) / "images.npy", 1)
    with storage.open(parts) as reader:
        checksum = reader.checksum
    assert inspect_parts(InspectTask(parts, checksum, range(1, 2))) is None
    found = inspect_parts(InspectTask(parts, checksum, range(2, 3)))
    assert found is not None
    assert not found.findings


def test_a_worker_that_finds_another_dataset_says_so(parts: Path) -> None:
    with pytest.raises(storage.StorageError, match="a worker finds another dataset there: check it again"):
        inspect_parts(InspectTask(parts, "0" * 16, range(1)))


def test_what_reads_a_damaged_part_can_be_chosen(parts: Path) -> None:
    flip_bit(find_part(parts, 1) / "images.npy", 1)
    asked = list[int]()

    def isolate(dataset: Dataset, number: int) -> list[Finding]:
        asked.append(number)
        return [Finding(dataset.manifest.starts[number], dataset.manifest.starts[number + 1], "lost", is_damage=True)]

    with hold_dataset(parts) as held:
        found = inspect_group(held, range(1, 2), isolate)
    assert (asked, found.findings) == ([1], [Finding(10, 20, "lost", is_damage=True)])


def test_images_of_a_shared_check_are_counted_once(run: Command, tmp_path: Path) -> None:
    storage.save(tmp_path / "none", np.zeros((0, 5, 7, 3), np.uint8), np.zeros(0, np.int64), "npy")
    assert run("check", tmp_path / "none", "--workers", 2) == (0, f"{tmp_path / 'none'}: whole, 0 images in npy\n", "")


def test_a_check_takes_workers_or_an_address_not_both(run: Command, parts: Path, capsys: Any) -> None:  # noqa: ANN401 - a fixture
    with pytest.raises(SystemExit):
        run("check", parts, "--workers", 2, "--dask", "tcp://127.0.0.1:9")
    assert "not allowed with" in capsys.readouterr().err
