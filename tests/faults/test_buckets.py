"""Faults of a bucket, with a real server: killed writers, two writers, a server that is killed, refuses or is full.

Whatever happens, readers find the old dataset or the new one, whole; and whoever is told that it saved has saved.
"""

import multiprocessing
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import storage
from benchmarks.proxy import Proxy
from benchmarks.seaweedfs import PACKAGE, SeaweedFS, find_program
from storage import StorageError, StoreExistsError, StoreLockedError
from storage.dataset import writer as writing
from storage.urls import Url, find_location
from tests.faults.findings import GUILTY, Findings, Record, count_findings
from tests.support.backends import need_backend

pytest.importorskip("obstore", reason="obstore is not installed")
from storage.remote import bucket as objects
from storage.remote import prefix
from storage.remote.bucket import Bucket

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("own_cache"), need_backend("npy")]

BACKEND = "npy"
COUNT, PARTS = 40, 4
IMAGES = np.random.default_rng(1).integers(0, 256, (COUNT, 32, 32, 3), np.uint8)
KILLS, RACES, TRIES, RESTARTS = 40, 50, 20, 6


@pytest.fixture
def url(bucket: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the URL of a dataset of four parts that isn't there yet."""
    monkeypatch.setattr(writing, "PART", IMAGES.nbytes // PARTS)
    return f"{bucket}/set"


def save(url: str, number: int) -> None:
    """Save a dataset whose labels are a number."""
    storage.save(url, IMAGES, np.full(COUNT, number), BACKEND, overwrite=True)


def find_number(url: str, folder: Path) -> int | None:
    """Find which dataset is there, None if none is; raise unless all of it is what was saved."""
    location = find_location(url)
    assert isinstance(location, Url)
    bucket = Bucket(location)
    if bucket.find("manifest.json") is None:
        return None
    for entry in bucket.list_objects():
        (folder / entry.name).parent.mkdir(parents=True, exist_ok=True)
        (folder / entry.name).write_bytes(bucket.read(entry.name)[0])
    images, labels = storage.load(folder)
    assert np.array_equal(images, IMAGES), "other images than any writer saved"
    assert len(set(labels.tolist())) == 1, "labels of several writers"
    assert storage.check(folder).outcome == "whole"
    return int(labels[0])


def judge(url: str, folder: Path, allowed: dict[int | None, str]) -> str:
    """Say which of the datasets that may be there is there."""
    folder.mkdir()
    try:
        return allowed[find_number(url, folder)]
    except (StorageError, AssertionError, KeyError) as error:
        return f"{GUILTY}{error!r}"


def count_parts(url: str) -> int:
    location = find_location(url)
    assert isinstance(location, Url)
    return len({entry.name.partition("/")[0] for entry in Bucket(location).list_objects() if "/" in entry.name})


def test_a_writer_that_is_killed_leaves_the_old_dataset_or_the_new_one(
    url: str, tmp_path: Path, record_property: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: Findings = []
    chance, context = random.Random(1), multiprocessing.get_context("fork")  # noqa: S311 - repeatable
    save(url, 0)
    started = time.monotonic()
    save(url, 1)
    usual, last = time.monotonic() - started, 1
    for number in range(2, KILLS + 2):
        child = context.Process(target=save, args=(url, number))
        child.start()
        child.join(chance.random() * usual * 1.5)
        killed = child.exitcode is None
        child.kill()
        child.join()
        allowed: dict[int | None, str] = {number: "new"} if not killed else {last: "old", number: "new"}
        outcome = judge(url, tmp_path / f"{number}", allowed)
        last = number if outcome == "new" else last
        found.append((f"killed {number}", f"{outcome}, {'killed' if killed else 'it had ended'}"))
    monkeypatch.setattr(prefix, "GRACE", timedelta(days=-1))
    save(url, -1)
    if count_parts(url) != 2 * PARTS:
        found.append(("what killed writers left", f"{GUILTY}{count_parts(url)} parts are left"))
    count_findings(record_property, BACKEND, {"bucket, a writer killed": found})


def test_of_two_writers_one_saves_and_the_other_is_told(url: str, tmp_path: Path, record_property: Record) -> None:
    found: Findings = []
    for race in range(RACES):
        place, barrier = f"{url}{race}", threading.Barrier(2)

        def write(number: int, place: str = place, barrier: threading.Barrier = barrier) -> str:
            barrier.wait()
            try:
                storage.save(place, IMAGES, np.full(COUNT, number), BACKEND)
            except (StoreLockedError, StoreExistsError) as error:
                return type(error).__name__
            return "saved"

        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(write, range(2)))
        allowed: dict[int | None, str] = {number: "one saved" for number in (0, 1) if answers[number] == "saved"}
        outcome = judge(place, tmp_path / f"{race}", allowed)
        if answers.count("saved") != 1 or count_parts(place) != PARTS:
            outcome = f"{GUILTY}{answers}, {count_parts(place)} parts"
        found.append((f"race {race}", f"{outcome}, the other got {min(answers)}"))
    count_findings(record_property, BACKEND, {"bucket, two writers": found})


def test_a_server_that_refuses_and_cuts_off_changes_nothing_that_is_saved(
    url: str, bucket_proxy: Proxy, tmp_path: Path, record_property: Record
) -> None:
    found: Findings = []
    for number in range(TRIES):
        bucket_proxy.behave(refuse=0.05, cut=0.01, seed=number)
        outcome = attempt(save_and_read, url, number)
        bucket_proxy.behave()
        allowed: dict[int | None, str] = {number: "new", **({number - 1: "old"} if outcome != "saved" else {})}
        found.append((f"try {number}", f"{judge(url, tmp_path / f'{number}', allowed)}, {outcome}"))
    assert bucket_proxy.count()["refuse"] > 0
    count_findings(record_property, BACKEND, {"bucket, 5 % refused and 1 % cut off": found})


def save_and_read(url: str, number: int) -> None:
    """Write a dataset, and read an epoch of it."""
    save(url, number)
    read_epoch(url, number)


def read_epoch(url: str, number: int) -> None:
    """Read all images in random order; refuse others than those that were saved."""
    with storage.open(url) as reader:
        batches = [(images.copy(), labels.copy()) for images, labels in reader.batches(8, seed=number)]
    images = np.concatenate([images for images, _ in batches])
    assert {image.tobytes() for image in images} == {image.tobytes() for image in IMAGES}
    assert all((labels == number).all() for _, labels in batches)


def attempt(work: Callable[..., None], *arguments: object) -> str:
    """Do something; say how it ended."""
    try:
        work(*arguments)
    except StorageError as error:
        return type(error).__name__
    return "saved"


@pytest.fixture
def own_server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[SeaweedFS]:
    """Start a server that a test may kill, with as many volumes as its parameter says."""
    if find_program() is None:
        pytest.skip(f"{PACKAGE} is not installed")
    with SeaweedFS(volumes=getattr(request, "param", 0)) as server:
        server.create_bucket("faults")
        for name, value in server.describe_access().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(writing, "PART", IMAGES.nbytes // PARTS)
        yield server


def test_a_server_that_is_killed_during_a_save_has_the_old_dataset_or_the_new_one(
    own_server: SeaweedFS, tmp_path: Path, record_property: Record
) -> None:
    url, found, chance = "s3://faults/set", Findings(), random.Random(1)  # noqa: S311 - repeatable
    save(url, 0)
    started = time.monotonic()
    save(url, 1)
    usual, last = time.monotonic() - started, 1
    for number in range(2, RESTARTS + 2):
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(attempt, save, url, number)
            time.sleep(chance.random() * usual)
            own_server.kill()
            own_server.start()
        told = answer.result()
        allowed: dict[int | None, str] = {number: "new", **({last: "old"} if told != "saved" else {})}
        outcome = judge(url, tmp_path / f"{number}", allowed)
        last = number if outcome == "new" else last
        found.append((f"restart {number}", f"{outcome}, {told}"))
    count_findings(record_property, BACKEND, {"bucket, the server killed": found})


def test_an_epoch_goes_on_after_the_server_was_killed(
    own_server: SeaweedFS, tmp_path: Path, record_property: Record
) -> None:
    url, found, chance = "s3://faults/set", Findings(), random.Random(1)  # noqa: S311 - repeatable
    save(url, 1)
    started = time.monotonic()
    read_epoch(url, 1)
    usual = time.monotonic() - started
    for number in range(RESTARTS):
        storage.cache(tmp_path / f"{number}")
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(attempt, read_epoch, url, 1)
            time.sleep(chance.random() * usual)
            own_server.kill()
            own_server.start()
        told = answer.exception() or answer.result().replace("saved", "all read")
        found.append((f"restart {number}", told if isinstance(told, str) else f"{GUILTY}{told!r}"))
    count_findings(record_property, BACKEND, {"bucket, the server killed during an epoch": found})


@pytest.mark.parametrize("own_server", [3], indirect=True)
def test_a_full_server_keeps_the_old_dataset(
    own_server: SeaweedFS, tmp_path: Path, record_property: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    del own_server
    monkeypatch.setattr(objects, "RETRIES", {"max_retries": 2, "retry_timeout": timedelta(seconds=5)})
    url, found = "s3://faults/set", Findings()
    save(url, 1)
    large = (np.random.default_rng(number).integers(0, 256, (5_000, 32, 32, 3), np.uint8) for number in range(40))
    monkeypatch.setattr(writing, "PART", 16 << 20)
    told = attempt(partial(storage.save, overwrite=True), url, large, np.zeros(200_000, np.int64), BACKEND)
    outcome = judge(url, tmp_path / "copy", {1: "old"})
    found.append(("full", outcome if told != "saved" else f"{GUILTY}nothing was full"))
    count_findings(record_property, BACKEND, {"bucket, full": found})
