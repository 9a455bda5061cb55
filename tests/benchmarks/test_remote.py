"""How cells of buckets are verified and counted."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from benchmarks import remote
from benchmarks.remote import Epoch, Remote
from benchmarks.seaweedfs import SeaweedFS
from tests.support.backends import EXAMPLE, need_backend
from tests.support.image_sets import make_set
from tests.support.suite import QUICK, copy_suite, run_pytest

FAILED = pytest.fail.Exception
SMALL = ("--cutoffs=10", "--backends=npy")


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[storage.Reader]:
    storage.save(tmp_path / "set", *make_set(10), backend=EXAMPLE, durable=False)
    with storage.open(tmp_path / "set") as reader:
        yield reader


def make_epoch(images: Any, labels: storage.Labels) -> Epoch:  # noqa: ANN401 - pixels
    return Epoch(images, labels, 4, None, None)


def test_an_epoch_with_each_image_once_is_right(reader: storage.Reader) -> None:
    make_epoch(*make_set(10)).check(reader)


def test_another_image_or_label_is_found(reader: storage.Reader) -> None:
    images, labels = make_set(10)
    others = images.copy(), labels.copy()
    others[0][7, 0, 0, 0] ^= 1
    others[1][7] += 1
    for changed in ((others[0], labels), (images, others[1])):
        with pytest.raises(FAILED, match="an epoch doesn't have each image once"):
            make_epoch(*changed).check(reader)


def test_an_image_that_comes_twice_is_found(reader: storage.Reader) -> None:
    images, labels = make_set(10)
    images, labels = np.concatenate([images[:9], images[:1]]), np.append(labels[:9], labels[0])
    with pytest.raises(FAILED):
        make_epoch(images, labels).check(reader)


@pytest.mark.usefixtures("reader")
def test_a_first_batch_has_as_many_images_of_the_set_as_a_batch(tmp_path: Path) -> None:
    images, labels = make_set(10)
    epoch = make_epoch(images, labels)
    batch = epoch.read_first(tmp_path / "set")
    epoch.check_first(batch)
    for wrong in ((batch[0][:3], batch[1][:3]), (batch[0] ^ 1, batch[1])):
        with pytest.raises(FAILED, match="a batch has other images"):
            epoch.check_first(wrong)


def test_as_many_requests_at_once_are_measured_as_storage_makes() -> None:
    pytest.importorskip("obstore")
    from storage.remote.bucket import MAX_REQUESTS  # noqa: PLC0415 - which needs obstore

    assert remote.CONCURRENCY == (1, MAX_REQUESTS)


def test_each_cell_has_a_bucket_that_is_removed_after_it(
    bucket: str, bucket_server: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    del bucket  # which lets the environment lead to the server
    monkeypatch.setattr(remote, "BUCKET", "removed")
    obstore = pytest.importorskip("obstore")
    places = Remote("", bucket_server)
    place, other = places.make_place(), places.make_place()
    assert place != other
    obstore.put(obstore.store.from_url(place), "x", b"x")
    places.remove(place)
    with pytest.raises(obstore.exceptions.GenericError, match="NoSuchBucket"):
        list(obstore.list(obstore.store.from_url(place)))
    places.remove(other)


def test_a_prefix_that_holds_anything_is_refused(bucket: str) -> None:
    obstore = pytest.importorskip("obstore")
    assert not remote.refuse_prefix(f"{bucket}/new")
    for name in ("a.txt", "cell-1/b.txt"):
        obstore.put(obstore.store.from_url(f"{bucket}/used"), name, b"x")
        expected = f"remote: {bucket}/used holds {name}: give the URL of an empty prefix"
        assert remote.refuse_prefix(f"{bucket}/used") == expected
        obstore.delete(obstore.store.from_url(f"{bucket}/used"), [name])
    assert remote.refuse_prefix("s3://no-such-bucket/used").startswith("remote: s3://no-such-bucket/used: ")


def test_a_prefix_can_be_measured_again(bucket: str) -> None:
    obstore = pytest.importorskip("obstore")
    places = Remote(bucket)
    place = places.make_place()
    obstore.put(obstore.store.from_url(place), "set/manifest.json", b"x")
    places.remove(place)
    assert not remote.refuse_prefix(bucket), "an empty folder, which some servers list, is no object"


def test_what_cells_could_not_remove_is_removed_with_the_session(bucket: str) -> None:
    obstore = pytest.importorskip("obstore")
    places = Remote(bucket)
    for each in (places.make_place(), f"{bucket}/other"):
        obstore.put(obstore.store.from_url(each), "a/x", b"x")
    places.remove_all()
    assert [entry["path"] for some in obstore.list(obstore.store.from_url(bucket)) for entry in some] == ["other/a/x"]


@need_backend("npy")
@pytest.mark.parametrize(
    ("chosen", "code"), [("remote_load", pytest.ExitCode.USAGE_ERROR), ("read_many", pytest.ExitCode.OK)]
)
def test_a_session_touches_nothing_below_a_prefix_that_is_not_empty(
    chosen: str, code: pytest.ExitCode, bucket: str, tmp_path: Path
) -> None:
    obstore = pytest.importorskip("obstore")
    store = obstore.store.from_url(bucket)
    obstore.put(store, "cell-1/precious.txt", b"x")
    ended = run_pytest(copy_suite(tmp_path), *QUICK, *SMALL, f"--remote={bucket}", "-k", chosen)
    assert ended.returncode == code, ended.stdout
    refusal = f"remote: {bucket} holds cell-1/precious.txt: give the URL of an empty prefix"
    assert (refusal in ended.stdout) == (chosen == "remote_load"), "only cells of a bucket need it"
    assert [entry["path"] for some in obstore.list(store) for entry in some] == ["cell-1/precious.txt"]


@pytest.mark.slow
@need_backend("npy")
def test_a_session_of_two_processes_leaves_nothing_in_a_bucket(bucket: str, tmp_path: Path) -> None:
    obstore = pytest.importorskip("obstore")
    chosen = "--replicates=2", f"--remote={bucket}/", "-k", "remote_load"
    ended = run_pytest(copy_suite(tmp_path), *QUICK, *SMALL, *chosen)
    assert ended.returncode == pytest.ExitCode.OK, ended.stdout
    assert not list(obstore.list(obstore.store.from_url(bucket)))


def test_two_sessions_below_one_url_do_not_meet(bucket: str) -> None:
    assert Remote(bucket).make_place() != Remote(bucket).make_place()


def test_a_prefix_of_a_bucket_is_emptied_after_its_cell(bucket: str) -> None:
    obstore = pytest.importorskip("obstore")
    places = Remote(bucket)
    place = places.make_place()
    obstore.put(obstore.store.from_url(place), "a/x", b"x")
    obstore.put(obstore.store.from_url(bucket), "kept", b"x")
    places.remove(place)
    assert [entry["path"] for some in obstore.list(obstore.store.from_url(bucket)) for entry in some] == ["kept"]
    assert not places.count()
