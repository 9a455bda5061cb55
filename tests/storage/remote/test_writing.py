"""Datasets are written to a bucket in one step, by one of several writers, and what is left of others is removed."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xxhash import xxh3_64_hexdigest

import storage
from storage import (
    CorruptStoreError,
    Encoded,
    InvalidInputError,
    Labels,
    StorageError,
    StoreExistsError,
    StoreLockedError,
    StoreNotFoundError,
)
from storage.__main__ import main
from storage.dataset import planning
from storage.dataset import writer as writing
from storage.dataset.annotations import Annotations, Problem
from storage.dataset.conversion import convert
from storage.dataset.manifest import Manifest, format_manifest, parse_manifest
from storage.dataset.planning import Job, Written
from storage.errors import UnfinishedConversionError
from storage.urls import Url, find_location
from tests.support.backends import need_backend

pytest.importorskip("obstore", reason="obstore is not installed")
from obstore import _obstore

from storage.cluster import workers
from storage.remote import bucket as objects
from storage.remote import prefix
from storage.remote.bucket import Bucket
from storage.remote.writing import BucketRangeWriter, BucketWriter
from tests.support.here import Here
from tests.support.image_sets import assert_same

pytestmark = [pytest.mark.usefixtures("own_cache"), need_backend("npy")]

IMAGES = np.random.default_rng(1).integers(0, 256, (20, 8, 8, 3), np.uint8)
LABELS = np.arange(20)


@pytest.fixture
def url(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Url:
    """Give the URL of a dataset that isn't there yet; parts have five images."""
    monkeypatch.setattr(writing, "PART", 5 * IMAGES[0].nbytes)
    url = find_location(f"{bucket}/set")
    assert isinstance(url, Url)
    return url


def copy_objects(url: Url, folder: Path) -> Path:
    """Copy all objects to a new folder, as any tool does."""
    bucket = Bucket(url)
    for entry in bucket.list_objects():
        (folder / entry.name).parent.mkdir(parents=True, exist_ok=True)
        (folder / entry.name).write_bytes(bucket.read(entry.name)[0])
    return folder


def list_parts(url: Url) -> list[str]:
    return sorted({name.partition("/")[0] for name in list_names(url) if "/" in name})


def list_names(url: Url) -> list[str]:
    return [entry.name for entry in Bucket(url).list_objects()]


def check_saved(url: Url, folder: Path, labels: Labels = LABELS) -> None:
    """Refuse a dataset that isn't whole, or has other labels or images."""
    copy = copy_objects(url, folder)
    assert storage.check(copy).outcome == "whole"
    images, found = storage.load(copy)
    np.testing.assert_array_equal(found, labels)
    np.testing.assert_array_equal(images, IMAGES[: len(found)])


def test_a_dataset_in_a_bucket_is_a_dataset_folder_in_parts_of_the_usual_size(url: Url, tmp_path: Path) -> None:
    storage.save(str(url), IMAGES, LABELS, "npy")
    assert len(list_parts(url)) == 4
    check_saved(url, tmp_path / "copy")


def test_batches_of_image_files_are_saved_with_all_that_is_known_about_them(url: Url, tmp_path: Path) -> None:
    files = [bytes([number]) * 300 for number in range(6)]
    known: dict[str, Any] = {
        "names": [f"{n}.jpg" for n in range(6)],
        "classes": ["a", "b"],
        "metadata": {"x": [*range(6)]},
    }
    storage.save(url, (Encoded.join([file]) for file in files), [0, 1] * 3, "npy", losses=["depth"], **known)
    with storage.open(copy_objects(url, tmp_path / "copy")) as reader:
        found = list(reader.names), list(reader.classes), {name: list(each) for name, each in reader.metadata.items()}
        assert found == (known["names"], known["classes"], known["metadata"])
        assert [bytes(each) for each in reader.read_encoded(range(6))[0]] == files
        assert list(reader.losses) == ["depth"]


def test_a_set_without_images_is_saved(url: Url, tmp_path: Path) -> None:
    storage.save(url, IMAGES[:0], [], "npy")
    assert storage.load(copy_objects(url, tmp_path / "copy"))[0].shape == (0, 8, 8, 3)


def test_a_dataset_is_replaced_only_if_that_was_asked_for(url: Url, tmp_path: Path) -> None:
    storage.save(url, IMAGES, LABELS, "npy", names=[f"{n}" for n in range(20)], classes=[f"c{n}" for n in range(21)])
    with pytest.raises(StoreExistsError, match=f"{url}: it holds a dataset"):
        storage.save(url, IMAGES, LABELS, "npy")
    storage.save(url, IMAGES, LABELS + 1, "npy", overwrite=True)
    check_saved(url, tmp_path / "copy", LABELS + 1)
    with storage.open(tmp_path / "copy") as reader:
        assert (reader.names[7], len(reader.classes)) == ("7", 21)


@pytest.mark.parametrize(
    "name",
    ["notes.txt", "folder/notes.txt", "manifest.json", "part-00000", "checksums", "part-00001/manifest.json"],
)
def test_nothing_is_saved_over_what_another_program_wrote(url: Url, name: str) -> None:
    Bucket(url).write(name, b"{}")
    for overwrite in (False, True):
        with pytest.raises(
            StoreExistsError, match=f"{url}: it holds {name.partition('/')[0]}, which storage.save did not"
        ):
            storage.save(url, IMAGES, LABELS, "npy", overwrite=overwrite)
    assert list_names(url) == [name]


def test_a_damaged_dataset_is_not_replaced_while_something_would_be_kept_of_it(url: Url, tmp_path: Path) -> None:
    storage.save(url, IMAGES, LABELS, "npy")
    content, _ = Bucket(url).read("manifest.json")
    Bucket(url).write("manifest.json", content[:-1] + b" ")
    with pytest.raises(CorruptStoreError, match="what a replacement keeps of it can't be read"):
        storage.save(url, IMAGES, LABELS, "npy", overwrite=True)
    batches = (IMAGES[start : start + 4] for start in range(0, 20, 4))
    storage.save(url, batches, LABELS, "npy", overwrite=True, classes=[f"c{n}" for n in range(20)])
    check_saved(url, tmp_path / "copy")


def test_images_are_appended_in_one_step(url: Url, tmp_path: Path) -> None:
    storage.save(url, IMAGES[:8], LABELS[:8], "npy", names=[f"{n}" for n in range(8)])
    with pytest.raises(InvalidInputError, match="it has an image named '7'"):
        storage.append(url, IMAGES[8:10], [8, 9], names=["7", "9"])
    storage.append(url, IMAGES[8:], LABELS[8:], names=[f"{n}" for n in range(8, 20)])
    storage.append(url, IMAGES[:0], [], names=[])
    check_saved(url, tmp_path / "copy")
    with storage.open(tmp_path / "copy") as reader:
        assert reader.index("13") == 13


def test_nothing_can_be_appended_where_there_is_no_dataset(url: Url) -> None:
    with pytest.raises(StoreNotFoundError, match=f"{url}: it has no manifest.json"):
        storage.append(url, IMAGES, LABELS)


def test_many_small_parts_are_compacted(url: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.save(url, IMAGES, LABELS, "npy")
    monkeypatch.setattr(writing, "PART", IMAGES.nbytes)
    storage.compact(url)
    assert len(list_parts(url)) == 5  # the four old ones stay for those who read them
    check_saved(url, tmp_path / "copy")


def test_a_dataset_that_was_changed_meanwhile_is_not_compacted(url: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.save(url, IMAGES[:5], LABELS[:5], "npy")
    monkeypatch.setattr(BucketWriter, "replaces", lambda *_: False)
    with pytest.raises(StorageError, match="another program changed it meanwhile"):
        storage.compact(url)


def test_of_two_writers_the_later_one_is_told_and_leaves_nothing(url: Url, tmp_path: Path) -> None:
    def save_meanwhile() -> Iterator[Any]:
        yield IMAGES[:10]
        storage.save(url, IMAGES, LABELS, "npy")
        yield IMAGES[10:]

    with pytest.raises(StoreLockedError, match=f"{url}: another writer has saved there meanwhile"):
        storage.save(url, save_meanwhile(), LABELS + 1, "npy")
    assert len(list_parts(url)) == 4
    check_saved(url, tmp_path / "copy")


def test_of_two_appends_the_later_one_is_told_and_leaves_nothing(url: Url, tmp_path: Path) -> None:
    def append_meanwhile() -> Iterator[Any]:
        yield IMAGES[:10]
        storage.append(url, IMAGES[5:], LABELS[5:])
        yield IMAGES[10:]

    storage.save(url, IMAGES[:5], LABELS[:5], "npy")
    with pytest.raises(StoreLockedError):
        storage.append(url, append_meanwhile(), LABELS)
    assert len(list_parts(url)) == 4
    check_saved(url, tmp_path / "copy")


def test_a_dataset_that_is_replaced_before_an_append_begins_is_an_error(
    url: Url, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.save(url, IMAGES[:5], LABELS[:5], "npy")
    check = prefix.Prefix.check

    def replace_first(self: prefix.Prefix, *, overwrite: bool) -> bool:
        monkeypatch.setattr(prefix.Prefix, "check", check)
        storage.save(url, IMAGES, LABELS, "npy", overwrite=True)
        return self.check(overwrite=overwrite)

    monkeypatch.setattr(prefix.Prefix, "check", replace_first)
    with pytest.raises(StoreLockedError, match="another program replaced it meanwhile"):
        storage.append(url, IMAGES, LABELS)


def test_nothing_can_be_appended_to_a_damaged_dataset(url: Url) -> None:
    storage.save(url, IMAGES[:5], LABELS[:5], "npy")
    flip_bit(url, "manifest.json")
    with pytest.raises(CorruptStoreError, match=r"manifest\.json is damaged.*restore it from a copy"):
        storage.append(url, IMAGES, LABELS)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_save_that_fails_leaves_nothing(url: Url, error: type[BaseException]) -> None:
    def fail() -> Iterator[Any]:
        yield IMAGES[:15]
        assert list_parts(url)
        raise error

    with pytest.raises(error):
        storage.save(url, fail(), LABELS, "npy")
    assert list_names(url) == []


def test_what_dead_writers_left_is_removed_when_it_and_the_manifest_are_old(
    url: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_parts(url)
    Bucket(url).write(".DS_Store", b"x")
    storage.save(url, IMAGES, LABELS, "npy")
    assert len(list_parts(url)) == 5, "what may be that of a living writer was removed"
    storage.save(url, IMAGES, LABELS, "npy", overwrite=True)
    assert len(list_parts(url)) == 9, "a young manifest was replaced, so somebody may read what it named"
    monkeypatch.setattr(prefix, "GRACE", timedelta(days=-1))
    storage.save(url, IMAGES, LABELS, "npy", overwrite=True)
    assert len(list_parts(url)) == 8, "the parts of the last two manifests should be left"
    check_saved(url, tmp_path / "copy")
    assert ".DS_Store" in list_names(url)


def test_what_others_wrote_below_a_dataset_is_left_however_old_it_is(url: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.save(url, IMAGES, LABELS, "npy")
    inner = url / "part-00007-5d1c0a9e"
    storage.save(inner, IMAGES[:5], LABELS[:5], "npy")
    others = {"part-00000", "checksums", "part-00001/notes.txt"}
    for name in others:
        Bucket(url).write(name, b"x")
    monkeypatch.setattr(prefix, "GRACE", timedelta(days=-1))
    for _ in range(3):
        storage.save(url, IMAGES, LABELS, "npy", overwrite=True)
    assert others <= {*list_names(url)}, "another program's object was removed"
    assert_same(storage.load(inner), (IMAGES[:5], LABELS[:5]))


class OldListing:
    """Listings in which objects are two days old; the manifest is young in all but the first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object] | None = None) -> None:
        self._meanwhile, self._calls = meanwhile, 0
        self._list_objects, self._list_folder = Bucket.list_objects, Bucket.list_folder
        monkeypatch.setattr(Bucket, "list_objects", lambda bucket, name="": self._age(self._list_objects(bucket, name)))
        monkeypatch.setattr(Bucket, "list_folder", lambda bucket, *_: self.list_folder(bucket))

    def _age(self, entries: list[objects.Entry]) -> list[objects.Entry]:
        days = timedelta(days=2)
        young = {"manifest.json"} if self._calls > 1 else set()
        return [entry if entry.name in young else entry._replace(modified=entry.modified - days) for entry in entries]

    def list_folder(self, bucket: Bucket) -> tuple[list[objects.Entry], list[str]]:
        """List a folder; the writer does that when it begins, to check the server, and to remove what is old."""
        self._calls += 1
        number = self._calls
        entries, folders = self._list_folder(bucket)
        if number == 3 and self._meanwhile:
            self._meanwhile()
        return self._age(entries), folders


def test_a_manifest_that_was_young_when_it_was_read_is_not_old(url: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another writer may have replaced the one that was listed."""
    storage.save(url, IMAGES, LABELS, "npy")
    leave_parts(url)
    OldListing(monkeypatch)
    storage.save(url, IMAGES, LABELS, "npy", overwrite=True)
    assert len(list_parts(url)) == 9


def test_parts_of_an_unfinished_conversion_are_left_as_long_as_its_note_is(
    url: Url, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnfinishedConversionError):
        convert_to(url, 12)
    with monkeypatch.context() as listing:
        OldListing(listing)
        storage.save(url, IMAGES, LABELS, "npy")
    assert len(list_parts(url)) == 6
    assert [name for name in list_names(url) if name.startswith("progress")], "a note that is young by now was removed"
    monkeypatch.setattr(prefix, "GRACE", timedelta(days=-1))
    storage.save(url, IMAGES[:5], LABELS[:5], "npy", overwrite=True)
    assert len(list_parts(url)) == 2 + 4 + 1
    assert not [name for name in list_names(url) if name.startswith("progress")]
    storage.save(url, IMAGES[:5], LABELS[:5], "npy", overwrite=True)
    assert len(list_parts(url)) == 2


def test_parts_that_a_resumed_conversion_published_during_a_cleanup_are_left(
    url: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnfinishedConversionError):
        convert_to(url, 12)
    kept = []

    def resume() -> None:
        kept.append(convert(Source(), url, "npy", overwrite=True, progress=lambda *_: None))  # type: ignore[arg-type]

    OldListing(monkeypatch, resume)
    storage.save(url, IMAGES[:5], LABELS[:5], "npy")
    assert kept == [10]
    check_saved(url, tmp_path / "copy")


def test_what_a_resumed_conversion_found_must_still_be_there_when_it_ends(url: Url, tmp_path: Path) -> None:
    class Late(Source):
        def identify(self) -> str:
            Bucket(url).remove(name for name in list_names(url) if name.startswith("part-00000"))
            return self.identity

    with pytest.raises(UnfinishedConversionError):
        convert_to(url, 12)
    with pytest.raises(StorageError, match="objects that were there when this conversion resumed are gone"):
        convert(Late(), url, "npy", overwrite=False, progress=lambda *_: None)  # type: ignore[arg-type]
    assert "manifest.json" not in list_names(url)
    assert convert_to(url) == 0
    check_saved(url, tmp_path / "copy")


def leave_parts(url: Url) -> None:
    """Leave a part, as a writer does that is killed."""
    for name in ("part-00000-00000000/images.npy", "part-00000-00000000.labels"):
        Bucket(url).write(name, b"x")


def test_that_nothing_could_be_cleaned_up_is_no_error(
    url: Url, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise StorageError("no answer came")

    monkeypatch.setattr(prefix.Prefix, "_remove_old", fail)
    storage.save(url, IMAGES, LABELS, "npy")
    check_saved(url, tmp_path / "copy")


def test_if_the_answer_about_the_manifest_is_lost_nothing_is_removed(
    url: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = prefix.Prefix.put

    def lose(self: prefix.Prefix, name: str, *rest: object) -> None:
        put(self, name, *rest)  # type: ignore[arg-type]
        raise StorageError("no answer came", store=url)

    monkeypatch.setattr(prefix.Prefix, "put", lose)
    with pytest.raises(
        StorageError, match=f"{url}: whether it was saved isn't known .no answer came.: open it to find"
    ):
        storage.save(url, IMAGES, LABELS, "npy")
    check_saved(url, tmp_path / "copy")


class LossyLibrary:
    """The library; the answer to the first request for a manifest is lost, and something happens meanwhile."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self._meanwhile: Callable[[], object] | None = meanwhile

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the library has it
        """Take everything else from the library."""
        return getattr(_obstore, name)

    def put(self, store: Any, name: str, content: bytes, **options: Any) -> object:  # noqa: ANN401 - likewise
        """Put an object."""
        found = _obstore.put(store, name, content, **options)
        meanwhile = self._meanwhile
        if name == "manifest.json" and meanwhile:
            self._meanwhile = None
            meanwhile()
            raise _obstore.exceptions.GenericError("connection reset")  # type: ignore[attr-defined]
        return found


@pytest.fixture
def lose_answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Give a function that has the answer to the next request for a manifest lost, and something happen meanwhile."""
    monkeypatch.setattr(objects, "PAUSE", 0)
    engine = objects._Engine.find()  # noqa: SLF001
    return lambda meanwhile: monkeypatch.setattr(engine, "library", LossyLibrary(meanwhile))


@pytest.mark.parametrize("kind", ["save", "append", "convert"])
def test_what_another_writer_appended_to_before_the_answer_came_was_saved(
    url: Url, tmp_path: Path, lose_answer: Callable[[Callable[[], object]], None], kind: str
) -> None:
    if kind == "append":
        storage.save(url, IMAGES[:5], LABELS[:5], "npy")
    first = 20 if kind == "convert" else 15
    lose_answer(lambda: storage.append(url, IMAGES[15:], LABELS[15:]))
    if kind == "save":
        storage.save(url, IMAGES[:first], LABELS[:first], "npy")
    elif kind == "append":
        storage.append(url, IMAGES[5:first], LABELS[5:first])
    else:
        convert_to(url)
    copy = copy_objects(url, tmp_path / "copy")
    assert storage.check(copy).outcome == "whole"
    assert [*storage.load(copy)[1]] == [*range(first), *range(15, 20)]


def test_what_another_writer_replaced_before_the_answer_came_is_removed(
    url: Url, tmp_path: Path, lose_answer: Callable[[Callable[[], object]], None]
) -> None:
    lose_answer(lambda: storage.save(url, IMAGES, LABELS, "npy", overwrite=True))
    with pytest.raises(StoreLockedError, match="another writer has saved there meanwhile"):
        storage.save(url, IMAGES[:5], LABELS[:5], "npy")
    assert len(list_parts(url)) == 4
    check_saved(url, tmp_path / "copy")


def test_parts_are_left_if_the_answer_was_lost_and_the_manifest_cannot_be_read(
    url: Url, lose_answer: Callable[[Callable[[], object]], None]
) -> None:
    lose_answer(lambda: Bucket(url).write("manifest.json", b"{}"))
    with pytest.raises(StorageError, match=f"{url}: whether it was saved isn't known .*: open it to find out"):
        storage.save(url, IMAGES, LABELS, "npy")
    assert len(list_parts(url)) == 4


@pytest.fixture
def _weak_etags(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a proxy call ETags weak."""
    read = Bucket.read_entry

    def read_entry(bucket: Bucket, name: str, limit: int = objects.MAX_SINGLE) -> tuple[bytes, objects.Entry]:
        content, entry = read(bucket, name, limit)
        return content, entry._replace(version=objects.Version(f"W/{entry.version.etag}"))

    monkeypatch.setattr(Bucket, "read_entry", read_entry)


@pytest.mark.usefixtures("_weak_etags")
@pytest.mark.parametrize("kind", ["save", "append", "convert"])
def test_where_etags_change_on_the_way_nothing_is_replaced_and_what_was_added_removed(
    url: Url, tmp_path: Path, kind: str
) -> None:
    storage.save(url, IMAGES, LABELS, "npy")
    write: dict[str, Callable[[], object]] = {
        "save": lambda: storage.save(url, IMAGES, LABELS + 1, "npy", overwrite=True),
        "append": lambda: storage.append(url, IMAGES, LABELS),
        "convert": lambda: convert(Source(), url, "npy", overwrite=True, progress=lambda *_: None),  # type: ignore[arg-type]
    }
    with pytest.raises(StorageError, match=r"nothing was saved: the server says .*: see whether .* changes ETags"):
        write[kind]()
    kept = 4 if kind == "convert" else 0
    assert len(list_parts(url)) == 4 + kept
    check_saved(url, tmp_path / "copy")
    storage.append(url, IMAGES[:0], [], lock=False)


@pytest.mark.usefixtures("_weak_etags")
def test_where_etags_change_on_the_way_a_manifest_that_another_writer_replaced_leaves_all(
    url: Url, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read may have been kept by a proxy."""
    storage.save(url, IMAGES, LABELS, "npy")
    put = prefix.Prefix.put

    def replace_first(self: prefix.Prefix, *rest: Any) -> objects.Version:  # noqa: ANN401 - its own
        old = Bucket(url).find("manifest.json")
        monkeypatch.setattr(prefix.Prefix, "put", put)
        storage.append(url, IMAGES[:5], LABELS[:5], lock=False)
        monkeypatch.setattr(Bucket, "find", lambda *_: old)
        return self.put(*rest)

    monkeypatch.setattr(prefix.Prefix, "put", replace_first)
    with pytest.raises(StorageError, match=r"whether it was saved isn't known .the server says that it was changed"):
        storage.append(url, IMAGES[5:10], LABELS[5:10])
    assert len(list_parts(url)) == 6


def test_a_server_that_ignores_conditions_is_refused_unless_nothing_else_writes(
    url: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bucket, "create", Bucket.write)
    with pytest.raises(StorageError, match="this server has no conditional writes"):
        storage.save(url, IMAGES, LABELS, "npy")
    assert list_names(url) == []
    storage.save(url, IMAGES, LABELS, "npy", lock=False)
    storage.append(url, IMAGES[:0], [], lock=False)
    check_saved(url, tmp_path / "copy")


def test_a_list_of_objects_that_lacks_some_is_an_error(url: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bucket, "list_folder", lambda _: ([], []))
    with pytest.raises(StorageError, match="what was just written isn't in the list of objects"):
        storage.save(url, IMAGES, LABELS, "npy")


def test_a_manifest_that_is_removed_meanwhile_is_not_there(url: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.save(url, IMAGES, LABELS, "npy")

    def find_nothing(*_: object) -> None:
        raise StoreNotFoundError("there is no such object")

    monkeypatch.setattr(Bucket, "read_entry", find_nothing)
    assert prefix.check_prefix(url) is False


def test_a_forked_process_leaves_what_its_parent_saves(url: Url) -> None:
    with BucketWriter(url, Annotations(LABELS), "npy", overwrite=False) as writer:
        writer.add(IMAGES[:5])
        writer._process = -1  # noqa: SLF001
        writer.__exit__()
        assert len(list_parts(url)) == 1
        writer._process = os.getpid()  # noqa: SLF001
    assert list_names(url) == []


def test_names_that_a_server_would_change_are_refused(url: Url) -> None:
    with pytest.raises(InvalidInputError, match="not every bucket can hold an object named"):
        storage.save(url, [b"a"], [0], "files", names=["a\\b.png"])
    assert list_names(url) == []


class Source:
    """A source that fails after some images."""

    names = classes = metadata = None
    losses = ()
    skipped = (Problem("a", "b"),)
    kind = "pixels"
    identity = "source"
    sizes = np.full(20, IMAGES[0].nbytes)

    def __init__(self, stop: int | None = None) -> None:
        self.labels, self._stop = LABELS, stop
        self.classes = ()

    def identify(self) -> str:
        """Return what identifies it."""
        return self.identity

    def close(self) -> None:
        """Have nothing open."""

    def check_in_place(self, destination: Url) -> None:
        """Be no dataset."""

    def read(self, start: int) -> Iterator[Any]:
        """Read images one by one."""
        for position in range(start, 20):
            if position == self._stop:
                raise CorruptStoreError("a file is damaged")
            yield IMAGES[position : position + 1]


def convert_to(url: Url, stop: int | None = None) -> int:
    return convert(Source(stop), url, "npy", overwrite=False, progress=lambda *_: None)  # type: ignore[arg-type]


def test_a_conversion_resumes_after_its_last_finished_part(url: Url, tmp_path: Path) -> None:
    with pytest.raises(
        UnfinishedConversionError, match="10 images are kept in the bucket; the same conversion resumes"
    ):
        convert_to(url, 12)
    assert len(list_parts(url)) == 2
    assert convert_to(url) == 10
    assert len(list_parts(url)) == 4
    check_saved(url, tmp_path / "copy")
    assert not [name for name in list_names(url) if name.startswith("progress")]


def flip_bit(url: Url, name: str) -> None:
    """Flip a bit of the last byte of an object."""
    *content, last = Bucket(url).read(name)[0]
    Bucket(url).write(name, bytes([*content, last ^ 1]))


@pytest.mark.parametrize(
    "damage", ["missing", "cut", "details", "progress", "no-details", "images", "labels", "checksums"]
)
def test_a_conversion_starts_again_if_what_it_finished_is_not_whole(url: Url, tmp_path: Path, damage: str) -> None:
    with pytest.raises(UnfinishedConversionError):
        convert_to(url, 12)
    bucket = Bucket(url)
    ends = {"missing": ".npy", "cut": ".npy", "details": ".json", "progress": ".json", "no-details": ".json"}
    ends |= {"images": "/images.npy", "labels": ".labels", "checksums": ".checksums"}
    begin = "progress" if damage == "progress" else "part"
    name = next(name for name in list_names(url) if name.endswith(ends[damage]) and name.startswith(begin))
    if damage in {"missing", "no-details"}:
        bucket.remove([name])
    elif damage in {"images", "labels", "checksums"}:
        flip_bit(url, name)
    else:
        bucket.write(name, bucket.read(name)[0][:-1])
    assert convert_to(url) == 0
    check_saved(url, tmp_path / "copy")


def change_note(url: Url, change: Callable[[Manifest], Manifest]) -> None:
    """Write another note of an unfinished conversion, as anybody can who may write to the bucket."""
    (name,) = (name for name in list_names(url) if name.startswith("progress"))
    Bucket(url).write(name, format_manifest(change(parse_manifest(Bucket(url).read(name)[0], None, name)), name))


def count_more(manifest: Manifest) -> Manifest:
    """Change a manifest so that its first part has too many images."""
    return replace(manifest, parts=(replace(manifest.parts[0], count=10**9), *manifest.parts[1:]))


CHANGES: dict[str, Callable[[Manifest], Manifest]] = {
    "count": count_more,
    "backend": lambda manifest: replace(manifest, backend="png"),
    "unknown": lambda manifest: replace(manifest, backend="nothing"),
    "shape": lambda manifest: replace(manifest, shape=(8, 9, 3)),
    "kind": lambda manifest: replace(manifest, kind="encoded", shape=None),
    "dtype": lambda manifest: replace(manifest, dtype="uint16"),
    "classes": lambda manifest: replace(manifest, classes=("a",)),
    "losses": lambda manifest: replace(manifest, losses=("depth",)),
}


@pytest.mark.parametrize("change", [*CHANGES, "pending"])
def test_a_conversion_starts_again_if_what_was_noted_is_not_what_it_writes(
    url: Url, tmp_path: Path, change: str
) -> None:
    with pytest.raises(UnfinishedConversionError):
        convert_to(url, 12)
    pending = (planning.make_pending(0, range(5)),)
    changes = CHANGES | {"pending": lambda manifest: replace(manifest, parts=pending + manifest.parts[1:])}
    change_note(url, changes[change])
    assert convert_to(url) == 0
    check_saved(url, tmp_path / "copy")


def test_a_conversion_starts_again_if_it_does_not_understand_what_was_noted(url: Url, tmp_path: Path) -> None:
    with pytest.raises(UnfinishedConversionError):
        convert_to(url, 12)
    (name,) = (name for name in list_names(url) if name.startswith("progress"))
    content = Bucket(url).read(name)[0].partition(b"\n")[2].replace(b'"format": 2', b'"format": 9')
    line = f'{{"manifest_checksum": "{xxh3_64_hexdigest(content)}",\n'
    Bucket(url).write(name, line.encode() + content)
    assert convert_to(url) == 0
    check_saved(url, tmp_path / "copy")


def test_a_conversion_that_another_one_has_taken_over_ends_and_leaves_it_what_it_did(url: Url, tmp_path: Path) -> None:
    class Slow(Source):
        def read(self, start: int) -> Iterator[Any]:
            for position in range(start, 20, 5):
                if position == 10:
                    with pytest.raises(UnfinishedConversionError):
                        convert_to(url, 17)
                yield IMAGES[position : position + 5]

    with pytest.raises(
        UnfinishedConversionError, match="another conversion of the same source has taken it over"
    ) as lost:
        convert(Slow(), url, "npy", overwrite=False, progress=lambda *_: None)  # type: ignore[arg-type]
    assert "are kept" not in str(lost.value), "what the other conversion has is no longer this one's"
    assert len(list_parts(url)) == 3, "a part that nobody can resume was left"
    assert convert_to(url) == 15
    check_saved(url, tmp_path / "copy")


def test_a_conversion_whose_source_was_changed_leaves_nothing(url: Url) -> None:
    class Changed(Source):
        def identify(self) -> str:
            return "another source"

    with pytest.raises(UnfinishedConversionError, match="convert it again, from the beginning"):
        convert(Changed(), url, "npy", overwrite=False, progress=lambda *_: None)  # type: ignore[arg-type]
    assert list_names(url) == []


def test_a_conversion_that_lost_against_another_writer_leaves_nothing(url: Url, tmp_path: Path) -> None:
    class Late(Source):
        def identify(self) -> str:
            storage.save(url, IMAGES, LABELS, "npy")
            return self.identity

    with pytest.raises(UnfinishedConversionError, match="another writer has saved there meanwhile"):
        convert(Late(), url, "npy", overwrite=False, progress=lambda *_: None)  # type: ignore[arg-type]
    assert len(list_parts(url)) == 4
    check_saved(url, tmp_path / "copy")
    assert not [name for name in list_names(url) if name.startswith("progress")]


def test_the_command_converts_into_a_bucket(url: Url, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "images.npz"
    np.savez(source, images=IMAGES, labels=LABELS)
    command = ["convert", str(source), str(url), "--backend", "npy"]
    assert main(command) == 0
    assert f"saved in {url} as npy" in capsys.readouterr().out
    check_saved(url, tmp_path / "copy")
    assert main(command) == 2
    assert f"error: {url}: it holds a dataset: choose another destination" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0


def write_ranges(jobs: Iterable[Job], stop: int | None = None) -> Iterator[tuple[int, Written]]:
    """Do what workers do: write each range alone, in another order; die at `stop`."""
    for job in sorted(jobs, key=lambda job: -job.number):
        if job.number == stop:
            raise StorageError("the last worker died")
        with BucketRangeWriter.open(job) as worker:
            yield job.number, worker.write(Source().read(job.images.start))


def convert_ranges(url: Url, stop: int | None = None) -> int:
    """Convert the source into a bucket as several workers do."""
    write = partial(write_ranges, stop=stop)
    return convert(Source(), url, "npy", overwrite=False, progress=lambda *_: None, write=write)  # type: ignore[arg-type]


@pytest.fixture
def _ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "MIN_PART", 3 * IMAGES[0].nbytes)


@pytest.mark.usefixtures("_ranges")
def test_several_workers_upload_what_one_process_does(url: Url, tmp_path: Path) -> None:
    convert_ranges(url)
    assert len(list_parts(url)) == 7
    check_saved(url, tmp_path / "copy")


@pytest.mark.usefixtures("_ranges")
def test_what_workers_uploaded_is_kept_for_the_same_conversion(url: Url, tmp_path: Path) -> None:
    with pytest.raises(UnfinishedConversionError, match="images are kept in the bucket"):
        convert_ranges(url, stop=1)
    assert convert_ranges(url) > 0
    assert len(list_parts(url)) == 7
    check_saved(url, tmp_path / "copy")


def fill_range(manifest: Manifest) -> Manifest:
    """Change a manifest so that a range begins with a part that isn't written, and has another one."""
    first = manifest.parts[0]
    pending = planning.make_pending(9, range(first.count - 1))
    return replace(manifest, parts=(pending, replace(first, count=1), *manifest.parts[1:]))


RANGES = CHANGES | {
    "fewer": lambda manifest: replace(manifest, parts=manifest.parts[:4]),
    "more": lambda manifest: replace(manifest, parts=(*manifest.parts, planning.make_pending(9, range(1)))),
    "filled": fill_range,
}


@pytest.mark.usefixtures("_ranges")
@pytest.mark.parametrize("change", [*RANGES, "images"])
def test_workers_start_again_if_what_was_noted_is_not_what_they_write(url: Url, tmp_path: Path, change: str) -> None:
    with pytest.raises(UnfinishedConversionError):
        convert_ranges(url, stop=1)
    if change == "images":
        flip_bit(url, next(name for name in list_names(url) if name.endswith("/images.npy")))
    else:
        change_note(url, RANGES[change])
    assert convert_ranges(url) == 0
    check_saved(url, tmp_path / "copy")


@pytest.mark.usefixtures("_ranges")
def test_parts_of_workers_are_removed_if_another_writer_was_first(url: Url) -> None:
    def write(jobs: Iterable[Job]) -> Iterator[tuple[int, Written]]:
        yield from write_ranges(jobs)
        storage.save(url, IMAGES[:1], LABELS[:1], "npy")

    with pytest.raises(UnfinishedConversionError, match="another writer has saved there meanwhile"):
        convert(Source(), url, "npy", overwrite=False, progress=lambda *_: None, write=write)  # type: ignore[arg-type]
    assert len(list_parts(url)) == 1


@pytest.mark.usefixtures("_ranges")
def test_a_worker_that_fails_removes_what_it_uploaded(url: Url) -> None:
    def write(jobs: Iterable[Job]) -> Iterator[tuple[int, Written]]:
        with BucketRangeWriter.open(next(iter(jobs))) as worker:
            worker.write(iter([IMAGES[:1]]))
        yield from ()

    with pytest.raises(StorageError, match="1 images and 3 labels; nothing was saved"):
        convert(Source(), url, "npy", overwrite=False, progress=lambda *_: None, write=write)  # type: ignore[arg-type]
    assert not list_names(url)


@pytest.mark.usefixtures("_ranges")
def test_the_command_has_workers_upload(url: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "start_workers", lambda *_: nullcontext(Here()))
    np.savez(tmp_path / "images.npz", images=IMAGES, labels=LABELS)
    assert main(["convert", str(tmp_path / "images.npz"), str(url), "--backend", "npy", "--workers", "2"]) == 0
    assert len(list_parts(url)) == 7
    check_saved(url, tmp_path / "copy")


def test_the_command_does_not_repeat_what_may_be_a_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "images.npz", images=IMAGES, labels=LABELS)
    assert main(["convert", str(tmp_path / "images.npz"), "s3://key:SECRET@bucket/set", "--backend", "npy"]) == 2
    assert "SECRET" not in capsys.readouterr().err
