"""Datasets in a bucket are read through a cache, which is verified, bounded, and shared by many processes."""

import errno
import fcntl
import os
import pickle
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest

import storage
from storage import CorruptStoreError, InvalidInputError, StorageError, StoreLockedError, StoreNotFoundError
from storage.__main__ import main
from storage.dataset import writer
from storage.dataset.files import read_beside
from storage.dataset.opening import open_dataset
from storage.remote import cache as caching
from storage.remote.cache import Cache
from storage.urls import find_location
from tests.faults.children import Ending, run_child
from tests.faults.mounts import find_obstacle, mount_memory, resize_memory
from tests.support.backends import need_backend
from tests.support.datasets import find_part, flip_bit, list_details, list_parts, rewrite_details
from tests.support.image_sets import assert_same, make_set

pytestmark = need_backend("npy")

PARTS, EACH = 4, 30
COUNT = PARTS * EACH
IMAGES, LABELS = make_set(COUNT, 40, 40)
NAMES = [f"folder/{index}.png" for index in range(COUNT)]
METADATA = {"number": list(range(COUNT))}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    """Have a cache of this test alone."""
    storage.cache(tmp_path / "cache")
    yield tmp_path / "cache"
    storage.cache()


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Save images in four parts of npy."""
    monkeypatch.setattr(writer, "PART", EACH * IMAGES[0].nbytes)
    storage.save(tmp_path / "set", [IMAGES], LABELS, "npy", names=NAMES, metadata=METADATA)
    return tmp_path / "set"


def upload(folder: Path, url: str) -> Any:  # noqa: ANN401 - obstore may not be there
    """Copy a dataset into a bucket, as any tool may."""
    from storage.remote.bucket import Bucket  # noqa: PLC0415 - needs obstore

    bucket = Bucket(find_location(url))  # type: ignore[arg-type]
    paths = [path for path in folder.rglob("*") if path.is_file()]
    bucket.upload_all((path, path.relative_to(folder).as_posix()) for path in paths)
    return bucket


def find_datasets(folder: Path) -> list[Path]:
    """List the datasets in the cache."""
    return [path for path in (folder / caching.NAME).iterdir() if path.name != caching.TAG]


def find_cached(folder: Path) -> list[Path]:
    """List the parts in the cache."""
    return [part for dataset in find_datasets(folder) for part in list_parts(dataset)]


def test_what_is_beside_many_parts_is_asked_for_at_once_and_not_again(
    local: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = upload(local, bucket)
    find, together = type(objects).find, {"labels": threading.Barrier(PARTS), "names": threading.Barrier(PARTS)}

    def find_together(self: Any, name: str) -> Any:  # noqa: ANN401 - a Bucket
        with suppress(KeyError):
            together[name.rpartition(".")[2]].wait(20)  # breaks if fewer are asked for at once
        return find(self, name)

    monkeypatch.setattr(type(objects), "find", find_together)
    with storage.open(bucket) as reader:
        for _ in range(2):
            assert (reader.read_labels() == LABELS).all()
            assert (list(reader.names), reader.skipped) == (NAMES, ())
            for barrier in together.values():
                barrier.abort()


def test_a_dataset_that_was_copied_to_a_bucket_is_read_as_on_a_disk(local: Path, bucket: str) -> None:
    upload(local, bucket)
    for _ in range(2):
        with storage.open(bucket) as reader:
            assert_same(reader.read([5, 119, 5, 60]), (IMAGES[[5, 119, 5, 60]], LABELS[[5, 119, 5, 60]]))
            assert_same(reader[31], (IMAGES[31], LABELS[31]))
            assert (list(reader.names), reader.index(NAMES[77])) == (NAMES, 77)
            assert reader.metadata == METADATA
            assert (reader.read_labels() == LABELS).all()
            assert (str(reader.store), reader.is_current()) == (bucket, True)
            found = np.concatenate([labels for _, labels in reader.batches(16, seed=0)])
            assert sorted(found) == sorted(LABELS)
            found = np.concatenate([labels for _, labels in reader.batches(16, seed=0, window=2)])
            assert sorted(found) == sorted(LABELS)
    assert_same(storage.load(bucket), (IMAGES, LABELS))
    assert storage.check(bucket).is_whole


def test_ctrl_c_ends_a_read_of_several_parts(local: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    released, late = threading.Event(), list[bool]()

    def hang(_: object, number: int, positions: object, *, whole_requests: bool) -> None:
        del positions, whole_requests
        if number == PARTS - 1:
            time.sleep(0.1)  # until the reader waits
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        late.append(not released.wait(20))

    upload(local, bucket)
    monkeypatch.setattr("storage.dataset.reading.DatasetReader._fetch", hang)
    with storage.open(bucket) as reader, pytest.raises(KeyboardInterrupt):
        reader.read(range(COUNT))
    assert late == []
    released.set()


def test_only_what_is_read_is_fetched_and_once(local: Path, bucket: str, folder: Path) -> None:
    objects = upload(local, bucket)
    with storage.open(bucket) as reader:
        reader.read([3, 4])
        assert [part.name[:10] for part in find_cached(folder)] == ["part-00000"]
    objects.remove(entry.name for entry in objects.list_objects() if "images" in entry.name)
    with storage.open(bucket) as reader:
        assert_same(reader.read([3, 4]), (IMAGES[[3, 4]], LABELS[[3, 4]]))


def test_a_damaged_file_of_the_cache_is_fetched_once_more(local: Path, bucket: str, folder: Path) -> None:
    upload(local, bucket)
    assert_same(storage.load(bucket), (IMAGES, LABELS))
    (dataset,) = find_datasets(folder)
    for read in (storage.load, lambda url: storage.open(url).read(range(COUNT))):
        for part in list_parts(dataset):
            flip_bit(part / "images.npy", 9)
            flip_bit(part / "images.npy", 128 + IMAGES[0].nbytes)
            for suffix in ("json", "checksums"):
                flip_bit(part.with_name(f"{part.name}.{suffix}"), 20)
        assert_same(read(bucket), (IMAGES, LABELS))


def test_threads_that_find_the_same_damage_all_read_what_is_fetched_once_more(local: Path, bucket: str) -> None:
    upload(local, bucket)
    found_by_all = Barrier(2, timeout=30)
    with open_dataset(bucket, verify=True) as held:
        held.read_labels(verify=True)
        part = held.manifest.parts[0]
        name = f"{part.name}.labels"
        flip_bit(held.folder / name, 3)

        def read_labels() -> bytes:
            held.origin.bring(name)
            try:
                return read_beside(held.folder, name, 8 * part.count, held.read_details(0).beside["labels"].checksum)
            except CorruptStoreError:
                found_by_all.wait()
                raise

        with ThreadPoolExecutor(2) as threads:
            tasks = [threads.submit(held.try_again, name, read_labels) for _ in range(2)]
        assert [task.result() for task in tasks] == [LABELS[: part.count].tobytes()] * 2


def test_damage_in_the_bucket_is_found_and_listed(local: Path, bucket: str) -> None:
    first, second, *_ = list_parts(local)
    flip_bit(first / "images.npy", 128 + 3 * IMAGES[0].nbytes)
    flip_bit(second / "images.npy", 9)
    upload(local, bucket)
    with storage.open(bucket) as reader:
        with pytest.raises(CorruptStoreError, match=rf"^{bucket}: record 3 \(folder/3.png\): it is damaged"):
            reader.read(range(5))
        with pytest.raises(CorruptStoreError, match=rf"^{bucket}: part-00001-\w+/images.npy is damaged outside"):
            reader[EACH]
        assert_same(reader[5], (IMAGES[5], LABELS[5]))
    with pytest.raises(CorruptStoreError, match=rf"^{bucket}: record 3 "):
        storage.load(bucket)
    report = storage.check(bucket)
    assert (str(report.path), 3 in report.records, 5 in report.records) == (bucket, True, False)
    assert list(report.files) == [f"{second.name}/images.npy"]


def test_of_a_part_that_lacks_a_file_no_other_is_listed(local: Path, bucket: str) -> None:
    objects = upload(local, bucket)
    name = list_parts(local)[1].name
    objects.remove([f"{name}/images.npy"])
    report = storage.check(bucket)
    assert [text.partition(": ")[0] for text in report.files.values()] == [f"{bucket}/{name}/images.npy"]
    assert list(report.records) == list(range(EACH, 2 * EACH))


def test_a_part_that_comes_only_later_is_not_opened_unverified(
    local: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(local, bucket)
    hold, failed = caching.Cached.hold, list[int]()

    def fail_once(origin: Any, number: int, dataset: Any) -> Any:  # noqa: ANN401 - as hold
        if number == 1 and not failed:
            failed.append(number)
            raise StorageError("no answer")
        return hold(origin, number, dataset)

    monkeypatch.setattr(caching.Cached, "hold", fail_once)
    report = storage.check(bucket)
    name = list_parts(local)[1].name
    assert (report.outcome, list(report.unread_files)) == ("unreadable", [name])
    assert set(report.unread_records.values()) == {f"{name} can't be read"}


def test_check_reads_the_bucket_and_not_the_cache(local: Path, bucket: str, folder: Path) -> None:
    upload(local, bucket)
    storage.load(bucket)
    for part in list_parts(local):
        flip_bit(part / "images.npy", 128)
    upload(local, bucket)
    assert_same(storage.load(bucket), (IMAGES, LABELS))
    assert list(storage.check(bucket).records) == [number * EACH for number in range(PARTS)]
    assert len(find_datasets(folder)) == 1


def test_a_web_page_in_place_of_the_manifest_is_no_damage_of_it(bucket: str, tmp_path: Path) -> None:
    """Some proxies call theirs something else than a page."""
    (tmp_path / "set").mkdir()
    (tmp_path / "set/manifest.json").write_bytes(b"\xef\xbb\xbf\n<!DOCTYPE html>")
    upload(tmp_path / "set", bucket)
    with pytest.raises(StorageError, match=f"{bucket}: a web page came in place of manifest.json: see what") as caught:
        storage.check(bucket)
    assert not isinstance(caught.value, CorruptStoreError)


def test_a_missing_object_is_damage_unless_the_dataset_was_replaced(local: Path, bucket: str) -> None:
    objects = upload(local, bucket)
    first, second, *_ = [part.name for part in list_parts(local)]
    with storage.open(bucket) as reader:
        objects.remove([f"{first}/images.npy", f"{second}.json"])
        with pytest.raises(CorruptStoreError, match=rf"^{bucket}/{first}/images.npy: it is missing"):
            reader[0]
        for _ in range(2):
            with pytest.raises(CorruptStoreError, match=rf"^{bucket}: {second}.json is missing"):
                reader[EACH]
        objects.write("manifest.json", b"another")
        for index in (0, EACH):
            with pytest.raises(StoreNotFoundError, match=f"^{bucket}: it was replaced or deleted.*: open it again"):
                reader[index]
    with pytest.raises(CorruptStoreError, match=r"manifest\.json is damaged"):
        storage.open(bucket)
    objects.remove(["manifest.json"])
    with pytest.raises(StoreNotFoundError, match=f"^{bucket}: it has no manifest.json: correct the URL"):
        storage.open(bucket)


def test_a_missing_object_is_damage_also_where_a_proxy_changes_versions(
    local: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from storage.remote.bucket import Bucket, Version  # noqa: PLC0415 - needs obstore

    objects = upload(local, bucket)
    first = list_parts(local)[0].name
    monkeypatch.setattr(Bucket, "find_version", lambda *_: Version("another"))
    with storage.open(bucket) as reader:
        objects.remove([f"{first}/images.npy"])
        with pytest.raises(CorruptStoreError, match=rf"{first}/images.npy: it is missing"):
            reader[0]
        objects.write("manifest.json", b"another")
        with pytest.raises(StoreNotFoundError, match="it was replaced or deleted"):
            reader[0]


def test_the_manifest_is_read_once_however_many_objects_are_missing(
    local: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from storage.remote.bucket import Bucket, Version  # noqa: PLC0415 - needs obstore

    objects = upload(local, bucket)
    objects.remove([f"{part.name}.json" for part in list_parts(local)])
    read, asked = Bucket.read, []

    def remember(self: Bucket, name: str) -> tuple[bytes, Version]:
        asked.append(name)
        return read(self, name)

    monkeypatch.setattr(Bucket, "read", remember)
    report = storage.check(bucket)
    assert (len(report.records), asked.count("manifest.json")) == (COUNT, 1), f"it read {asked}"


def test_no_memory_is_taken_for_sizes_that_the_objects_have_not(local: Path, bucket: str, folder: Path) -> None:
    _, details = next(list_details(local))
    rewrite_details(local, sizes={**details.sizes, "images.npy": 1 << 61})
    upload(local, bucket)
    with storage.open(bucket) as reader:
        with pytest.raises(CorruptStoreError, match=rf"images.npy: it has [\d,]+ bytes instead of {1 << 61:,}"):
            reader[0]
        assert_same(reader[EACH], (IMAGES[EACH], LABELS[EACH]))
    assert not list(folder.rglob("part-00000*.blocks"))


def test_the_least_recently_used_parts_make_room(
    local: Path, bucket: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(local, bucket)
    size = EACH * IMAGES[0].nbytes
    monkeypatch.setattr(caching, "STEP", 1)
    storage.cache(folder, max_bytes=3 * size)
    with storage.open(bucket) as reader:
        for number in range(PARTS):
            reader.read(range(number * EACH, (number + 1) * EACH))
            assert sum(path.stat().st_blocks * 512 for path in folder.rglob("*.npy")) <= 3 * size
            os.utime(next((folder).rglob(f"part-{number:05}-*.blocks")), (number, number))
        assert "part-00000" not in {part.name[:10] for part in find_cached(folder)}
        assert_same(reader.read(range(COUNT)), (IMAGES, LABELS))


def test_no_part_that_is_read_is_deleted(local: Path, bucket: str, folder: Path) -> None:
    upload(local, bucket)
    with storage.open(bucket) as reader:
        reader.read(range(COUNT))
        (dataset,) = find_datasets(folder)
        Cache(folder, 1).make_room(0)
        assert len(list_parts(dataset)) == PARTS
        assert_same(reader.read(range(COUNT)), (IMAGES, LABELS))
    Cache(folder, 1).make_room(0)
    assert not list(dataset.iterdir())


def test_a_part_that_a_reader_begins_to_hold_while_it_is_deleted_stays(
    local: Path, bucket: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(local, bucket)
    with storage.open(bucket) as reader:
        reader.read_labels()  # of all parts, there are only files beside them
        (dataset,) = find_datasets(folder)
        glob, readers = Path.glob, list[threading.Thread]()

        def begin_to_read(path: Path, pattern: str) -> Iterator[Path]:
            monkeypatch.setattr(Path, "glob", glob)
            number = int(pattern.removeprefix("part-")[:5])
            readers.append(threading.Thread(target=reader.__getitem__, args=(number * EACH,)))
            readers[0].start()
            readers[0].join(0.5)
            return glob(path, pattern)

        monkeypatch.setattr(Path, "glob", begin_to_read)
        Cache(folder, 1).make_room(0)
        readers[0].join(20)
        assert len(list_parts(dataset)) == 1
        assert_same(reader.read(range(COUNT)), (IMAGES, LABELS))


def test_a_part_that_another_process_made_anew_is_left_there(
    local: Path, bucket: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(local, bucket)
    with storage.open(bucket) as reader:
        reader.read(range(COUNT))
    parts, lock = [part for dataset in find_datasets(folder) for part in list_parts(dataset)], fcntl.flock

    def come_late(descriptor: int, operation: int) -> None:
        for part in parts:
            part.rename(part.with_name(f"old-{part.name}"))
            part.mkdir()
        parts.clear()
        lock(descriptor, operation)

    before = len(parts)
    monkeypatch.setattr(fcntl, "flock", come_late)
    Cache(folder, 1).make_room(0)
    assert len(list((folder).rglob("*.blocks"))) == 1, f"one of {before}: the first that it wanted to delete"


def test_a_part_that_is_no_folder_is_left_there(local: Path, bucket: str, folder: Path) -> None:
    upload(local, bucket)
    with storage.open(bucket) as reader:
        reader.read_labels()
    (dataset,) = find_datasets(folder)
    for part in list_parts(local):
        (dataset / part.name).write_text("mine")
    Cache(folder, 1).make_room(0)
    assert {path.read_text() for path in dataset.iterdir() if not path.suffix} == {"mine"}


def test_forked_and_pickled_readers_use_the_same_cache(local: Path, bucket: str, folder: Path) -> None:
    upload(local, bucket)

    def read() -> str:
        assert_same(reader.read(range(COUNT)), (IMAGES, LABELS))
        return ""

    with storage.open(bucket) as reader:
        reader[0]
        assert run_child(read) == Ending(0, "")
        pickled = pickle.dumps(reader)
    storage.cache(folder.parent / "other")
    with pickle.loads(pickled) as reader:  # noqa: S301 - written a few lines above
        read()
    assert not (folder.parent / "other").exists()


def test_a_cache_to_which_others_can_write_is_refused(local: Path, bucket: str, folder: Path) -> None:
    upload(local, bucket)
    own = folder / caching.NAME
    own.mkdir(parents=True)
    for open_to_all in (own, folder):
        open_to_all.chmod(0o777)
        with pytest.raises(StorageError, match=rf"^{open_to_all}: another user could write to this cache"):
            storage.open(bucket)
        open_to_all.chmod(0o700)
    shutil.rmtree(folder)
    storage.open(bucket).close()
    assert (folder.stat().st_mode & 0o777, own.stat().st_mode & 0o777) == (0o700, 0o700)


@pytest.mark.parametrize(
    ("code", "problem", "hint"),
    [
        (errno.ENOSPC, "no room left for the cache", "free some space, have it keep less with .*, or choose another"),
        (errno.EIO, "the operating system refused", "choose another folder with .*--cache"),
        (errno.EEXIST, "a file is where a folder should be", "choose another folder with .*--cache"),
    ],
)
def test_what_fails_in_the_cache_is_not_said_of_the_dataset(
    local: Path, bucket: str, folder: Path, monkeypatch: pytest.MonkeyPatch, code: int, problem: str, hint: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    upload(local, bucket)
    with storage.open(bucket) as reader:
        monkeypatch.setattr("storage.remote.ranges.os.posix_fallocate", fail)
        with pytest.raises(StorageError, match=rf"^{folder}/{caching.NAME}: {problem} \(.*\): {hint}"):
            reader[0]


def test_the_default_cache_is_that_of_the_user(
    local: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(local, bucket)
    storage.cache()
    for name, value, place in [("XDG_CACHE_HOME", "x", "x"), ("HOME", "home", "home/.cache")]:
        monkeypatch.setenv(name, str(tmp_path / value))
        storage.open(bucket)[0]
        assert find_cached(tmp_path / place)
        monkeypatch.delenv(name)

    def fail() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", fail)
    with pytest.raises(StorageError, match="this user has no home for a cache: choose another folder"):
        storage.open(bucket)


def test_a_full_cache_is_named_and_not_the_dataset(bucket: str, folder: Path, tmp_path: Path) -> None:
    if obstacle := find_obstacle():
        pytest.skip(obstacle)
    storage.save(bucket, IMAGES, LABELS, "npy")
    folder.mkdir(0o700)
    expected = rf"^{folder}/{caching.NAME}: no room left for the cache \(.*\): free some space, .* --cache$"

    def fill() -> str:
        mount_memory(folder, 1 << 20)
        folder.chmod(0o700)
        storage.open(bucket).close()
        for left in (0, 8192, 24 << 10):
            resize_memory(folder, left)
            for read in (storage.load, lambda url: storage.open(url).read(range(COUNT))):
                with pytest.raises(StorageError, match=expected):
                    read(bucket)
            report = storage.check(bucket)
            assert report.outcome == "unreadable"
            assert all(re.match(expected, reason) for reason in report.unread_files.values()), report
            assert main(["convert", bucket, str(tmp_path / "copy"), "--backend", "npy"]) == 2
        return "refused"

    assert run_child(fill) == Ending(0, "refused")


@pytest.mark.parametrize("most", [0, -1, True, 1.5, "9"])
def test_a_limit_that_is_no_number_of_bytes_is_refused(most: Any) -> None:  # noqa: ANN401 - several
    with pytest.raises(InvalidInputError, match=r"max_bytes is .*: give a number above 0"):
        storage.cache(max_bytes=most)


@pytest.mark.parametrize(
    "url",
    ["s3://user:word@bucket/set", Path("s3://user:word@bucket/set"), "s3://bucket/set", "http://user:word@host/set"],
)
def test_a_url_is_no_folder_for_a_cache_and_not_repeated(url: Path | str) -> None:
    with pytest.raises(InvalidInputError, match=r"can't be at a URL.*: give the path of a folder$") as caught:
        storage.cache(url)
    assert "word" not in str(caught.value)


def test_the_folder_of_a_cache_may_be_relative_or_in_a_home_or_a_url_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    places = {
        "cache": Path("cache").absolute(),
        f"file://{tmp_path}": tmp_path,
        "~/cache": tmp_path / "cache",
        "~nobody-has-this-name/cache": Path("~nobody-has-this-name/cache").absolute(),
    }
    for given, place in places.items():
        storage.cache(given)
        assert Cache.chosen.given == place


@pytest.mark.parametrize(("path", "problem"), [("", "it is empty"), ("a\0b", "a null character")])
def test_an_impossible_folder_of_a_cache_is_refused(path: str, problem: str) -> None:
    with pytest.raises(StorageError, match=problem):
        storage.cache(path)


def test_commands_read_a_dataset_in_a_bucket(
    local: Path, bucket: str, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--cache", str(folder)]
    upload(local, bucket)
    assert main(["check", bucket, *options]) == 0
    assert main(["convert", bucket, str(tmp_path / "copy"), "--backend", "npy", *options]) == 0
    assert_same(storage.load(tmp_path / "copy"), (IMAGES, LABELS))
    with storage.open(tmp_path / "copy") as reader:
        assert (list(reader.names), reader.metadata) == (NAMES, METADATA)
    flip_bit(find_part(local) / "images.npy", 128)
    upload(local, bucket)
    assert main(["check", bucket, *options]) == 1
    assert main(["recover", bucket, str(tmp_path / "saved"), *options]) == 0
    assert_same(storage.load(tmp_path / "saved"), (IMAGES[1:], LABELS[1:]))
    output = capsys.readouterr()
    assert (output.out.splitlines()[0], output.err) == (f"{bucket}: whole, {COUNT} images in npy", "")
    assert main(["check", "s3://user:word@bucket/set"]) == 2
    assert "word" not in capsys.readouterr().err


def test_what_dead_processes_left_is_deleted(local: Path, bucket: str, folder: Path) -> None:
    upload(local, bucket)
    storage.load(bucket)
    (dataset,) = find_datasets(folder)
    shutil.rmtree(list_parts(dataset)[0])
    old, new = (dataset.with_name(f"{caching.FRESH}{number:08}") for number in range(2))
    for place in (dataset / f"{caching.TRASH}{0:016}", old, new):
        (place / "part").mkdir(parents=True)
    os.utime(old, (0, 0))
    Cache(folder, 1).make_room(0)
    assert not list(dataset.iterdir())
    assert sorted(find_datasets(folder)) == sorted([dataset, new])


def test_other_files_in_the_chosen_folder_stay(local: Path, bucket: str, tmp_path: Path) -> None:
    upload(local, bucket)
    folder, link = tmp_path / "user", tmp_path / "link"
    shutil.copytree(local, folder / "0123456789abcdef")
    for place in ("", "thesis", "fresh-results", "image-storage", "image-storage/src", "image-storage/fresh-results"):
        (folder / place).mkdir(exist_ok=True)
        (folder / place / "README").write_text("mine")
        os.utime(folder / place, (0, 0))
    (folder / "image-storage" / "abcdef0123456789").symlink_to(folder / "0123456789abcdef")
    before = {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}
    link.symlink_to(folder)
    storage.cache(link, max_bytes=1)
    assert_same(storage.load(bucket), (IMAGES, LABELS))
    Cache(link, 1).make_room(0)
    assert {path: path.is_file() and path.read_bytes() for path in before} == before
    assert (folder / "image-storage" / caching.TAG).read_bytes().startswith(b"Signature: ")


def test_what_another_process_deletes_meanwhile_is_no_error(
    local: Path, bucket: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(local, bucket)
    storage.load(bucket)
    fresh = folder / caching.NAME / f"{caching.FRESH}{0:08}"
    fresh.mkdir()
    list_folder = caching._list_folder  # noqa: SLF001 - between it and the look at each, all may vanish

    def list_and_delete(path: Path) -> list[os.DirEntry[str]]:
        found = list_folder(path)
        for entry in found:
            if entry.is_dir() and (entry.name == fresh.name or path.name != caching.NAME):
                shutil.rmtree(entry)
            elif path.name != caching.NAME:
                Path(entry).unlink()
        if path.name != caching.NAME:
            path.rmdir()
        return found

    monkeypatch.setattr(caching, "_list_folder", list_and_delete)
    Cache(folder).make_room(0)
    assert not find_datasets(folder)
    assert not list_folder(fresh)
    assert_same(storage.load(bucket), (IMAGES, LABELS))


def test_a_part_that_another_process_is_deleting_is_waited_for(
    local: Path, bucket: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(local, bucket)
    storage.load(bucket)
    (dataset,) = find_datasets(folder)
    part = list_parts(dataset)[0]
    descriptor = os.open(part, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    monkeypatch.setattr(caching, "TIMEOUT", 0.0)
    with storage.open(bucket) as reader:
        with pytest.raises(StoreLockedError, match="another program holds a lock on this folder"):
            reader[0]
        monkeypatch.setattr(caching, "TIMEOUT", 60.0)
        monkeypatch.setattr("storage.remote.cache.time.sleep", lambda _: os.close(descriptor))
        assert_same(reader[0], (IMAGES[0], LABELS[0]))
