"""The objects of a bucket, on a real server."""

import importlib.util
import multiprocessing
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest

from benchmarks.proxy import Proxy
from storage import BackendUnavailableError, CorruptStoreError, StorageError, StoreLockedError, StoreNotFoundError
from storage.urls import Url, find_location

pytest.importorskip("obstore", reason="obstore is not installed")
from obstore import _obstore

from storage.remote import bucket as module
from storage.remote import prefix as prefixes
from storage.remote.bucket import CHUNK, Bucket
from storage.remote.prefix import Prefix


@pytest.fixture
def objects(bucket: str) -> Bucket:
    """Give the objects of a folder that no other test has."""
    return Bucket(find_url(bucket))


def find_url(text: str) -> Url:
    url = find_location(text)
    assert isinstance(url, Url)
    return url


def list_names(objects: Bucket) -> list[str]:
    return sorted(entry.name for entry in objects.list_objects())


def test_what_is_written_is_listed_and_read_back(objects: Bucket) -> None:
    objects.write("manifest.json", b"{}")
    objects.write("part-1/images", b"abc")
    assert sorted((entry.name, entry.size) for entry in objects.list_objects()) == [
        ("manifest.json", 2),
        ("part-1/images", 3),
    ]
    assert [entry.name for entry in objects.list_objects("part-1")] == ["part-1/images"]
    found, folders = objects.list_folder()
    assert ([entry.name for entry in found], folders) == (["manifest.json"], ["part-1"])
    content, version = objects.read("manifest.json")
    assert (content, version) == (b"{}", found[0].version)


def test_any_object_is_found_and_a_folder_without_one_is_none(objects: Bucket) -> None:
    assert objects.find_any() is None
    objects.write("part-1/images", b"abc")
    found = objects.find_any()
    assert found is not None
    assert (found.name, found.size) == ("part-1/images", 3)
    objects.remove(["part-1/images"])
    assert objects.find_any() is None


def test_names_may_have_any_characters_that_files_have(objects: Bucket) -> None:
    names = ["a b%20c+&#?.png", "ü/漢字.png", "it's~(1)=@:.png"]
    for name in names:
        objects.write(name, name.encode())
    assert list_names(objects) == sorted(names)
    assert [objects.read(name)[0].decode() for name in names] == names


def test_an_object_that_is_not_there_is_an_error_that_names_it(objects: Bucket) -> None:
    for missing in (lambda: objects.read("nothing"), lambda: objects.read_ranges("nothing", [(0, 1)], 1)):
        with pytest.raises(StoreNotFoundError, match="/nothing: there is no such object or bucket"):
            missing()
    assert objects.find("nothing") is None


def test_a_bucket_that_is_not_there_is_an_error(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    del bucket
    monkeypatch.setattr(module, "PAUSE", 0)
    with pytest.raises(StoreNotFoundError, match=r"s3://missing-bucket/photos: there is no such object or bucket"):
        Bucket(find_url("s3://missing-bucket/photos")).list_folder()


def test_ranges_of_a_file_are_read_in_the_order_in_which_they_were_asked_for(objects: Bucket) -> None:
    content = bytes(range(256)) * 100
    objects.write("images", content)
    ranges = [(500, 600), (0, 10), (25_000, 25_600), (500, 600)]
    found = objects.read_ranges("images", ranges, len(content))
    assert [bytes(each) for each in found] == [content[start:stop] for start, stop in ranges]


def test_an_object_of_another_size_is_corrupt(objects: Bucket, tmp_path: Path) -> None:
    objects.write("images", b"abcdef")
    with pytest.raises(CorruptStoreError, match="/images: it has 6 bytes instead of 8"):
        objects.read_ranges("images", [(0, 2)], 8)
    objects.write("empty", b"x")
    with pytest.raises(CorruptStoreError, match="/empty: it has 1 bytes instead of 0"):
        objects.download("empty", tmp_path / "empty", 0)
    with pytest.raises(CorruptStoreError, match="/images: it has 6 bytes, and at most 5 are read"):
        objects.read("images", limit=5)


def test_files_are_uploaded_and_downloaded_in_several_requests(objects: Bucket, tmp_path: Path) -> None:
    large, empty = tmp_path / "large", tmp_path / "empty"
    large.write_bytes(os.urandom(CHUNK + 5))
    empty.write_bytes(b"")
    objects.upload_all([(large, "part/large"), (empty, "part/empty")])
    copies = tmp_path / "copy", tmp_path / "nothing"
    objects.download_all([("part/large", copies[0], CHUNK + 5), ("part/empty", copies[1], 0)])
    assert copies[0].read_bytes() == large.read_bytes()
    assert copies[1].read_bytes() == b""


UPLOADS = """\
import sys
from pathlib import Path
from storage.remote.bucket import MAX_REQUESTS, Bucket
from storage.urls import find_location

def measure():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) << 10

objects, path = Bucket(find_location(sys.argv[1])), Path(sys.argv[2])
objects.upload(path, "images")
before = measure()
for _ in range(MAX_REQUESTS):
    objects.upload_all([(path, "images")])
print(measure() - before)
"""


def test_threads_that_upload_keep_no_memory(bucket: str, tmp_path: Path) -> None:
    size = 1 << 20
    (tmp_path / "images").write_bytes(bytes(size))
    ended = subprocess.run(
        [sys.executable, "-c", UPLOADS, bucket, tmp_path / "images"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) < module.MAX_REQUESTS * size // 4, "memory that was freed isn't given back"


def test_more_files_are_downloaded_than_may_be_open_at_once(objects: Bucket, tmp_path: Path) -> None:
    objects.write("images", b"abc")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    objects.download("images", tmp_path / "first", 3)
    files = [("images", tmp_path / f"{number}", 3) for number in range(400)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (len([*Path("/proc/self/fd").iterdir()]) + 300, hard))
    try:
        objects.download_all(files)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert {path.read_bytes() for _, path, _ in files} == {b"abc"}


@pytest.mark.parametrize("is_encrypted", [False, True], ids=["etag", "read-back"])
def test_a_large_file_is_uploaded_in_pieces_and_verified(
    objects: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_encrypted: bool
) -> None:
    monkeypatch.setattr(module, "MAX_SINGLE", 0)
    monkeypatch.setattr(module, "PIECE", 5 << 20)
    if is_encrypted:  # then an ETag isn't a hash of the content
        monkeypatch.setattr(module, "_hash_pieces", lambda *_: "")
    file = tmp_path / "large"
    file.write_bytes(os.urandom((10 << 20) + 1))
    objects.upload(file, "large")
    (content,) = objects.read_ranges("large", [(0, file.stat().st_size)], file.stat().st_size)
    assert content == file.read_bytes()


def test_an_upload_whose_etag_says_nothing_is_read_back(objects: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_hash", lambda _: "")
    objects.write("images", b"abc")
    assert objects.read("images")[0] == b"abc"


def test_what_the_server_keeps_differently_is_an_error(
    objects: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_hash", lambda _: "")
    monkeypatch.setattr(module, "PAUSE", 0)
    monkeypatch.setattr(Bucket, "read", lambda *_: (b"other", None))
    with pytest.raises(StorageError, match="/images: the server's answer is wrong: what was written there isn't"):
        objects.write("images", b"abc")
    monkeypatch.setattr(module, "MAX_SINGLE", 0)
    monkeypatch.setattr(Bucket, "read_ranges", lambda *_: [memoryview(b"other")])
    (tmp_path / "file").write_bytes(b"abc")
    with pytest.raises(StorageError, match="/file: the server's answer is wrong: what was written there isn't"):
        objects.upload(tmp_path / "file", "file")


def test_an_object_is_created_once_and_replaced_by_who_has_its_version(objects: Bucket) -> None:
    first = objects.create("manifest.json", b"one")
    with pytest.raises(StoreLockedError, match="another writer has saved there meanwhile"):
        objects.create("manifest.json", b"two")
    second = objects.replace("manifest.json", b"three", first)
    with pytest.raises(StoreLockedError):
        objects.replace("manifest.json", b"four", first)
    assert objects.read("manifest.json") == (b"three", second)
    objects.remove(["manifest.json"])
    with pytest.raises(StoreLockedError):
        objects.replace("manifest.json", b"five", second)
    assert list_names(objects) == []


def test_of_writers_at_once_one_creates_the_object(objects: Bucket) -> None:
    def create(number: int) -> bool:
        try:
            objects.create("manifest.json", f"{number}".encode())
        except StoreLockedError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, range(8)))
    assert sum(won) == 1
    assert objects.read("manifest.json")[0] == f"{won.index(True)}".encode()


def test_objects_are_removed_and_those_that_are_not_there_ignored(objects: Bucket) -> None:
    for name in ("a", "b/c", "d"):
        objects.write(name, b"x")
    objects.remove(["a", "b/c", "nothing"])
    assert list_names(objects) == ["d"]


def test_where_a_missing_object_stops_a_removal_the_others_are_removed(
    objects: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in Google Cloud Storage, which removes them one by one."""
    for name in ("a", "b"):
        objects.write(name, b"x")
    repeat, calls = Bucket._repeat, []  # noqa: SLF001

    def fail_first(self: Bucket, name: str, call: object) -> object:
        calls.append(name)
        if len(calls) == 1:
            raise StoreNotFoundError("there is no such object")
        return repeat(self, name, call)  # type: ignore[arg-type]

    monkeypatch.setattr(Bucket, "_repeat", fail_first)
    objects.remove(["a", "b"])
    assert len(calls) == 3
    calls.clear()
    objects.remove(["nothing"])
    assert len(calls) == 1


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat requests after milliseconds."""
    pause = {"init_backoff": timedelta(milliseconds=1), "max_backoff": timedelta(milliseconds=10), "base": 2}
    monkeypatch.setattr(module, "PAUSE", 0.001)
    monkeypatch.setattr(module, "RETRIES", module.RETRIES | {"backoff": pause})


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", ["refuse", "cut", "page", "mislabel"])
def test_requests_that_fail_now_and_then_are_repeated(
    bucket: str, bucket_proxy: Proxy, tmp_path: Path, fault: str
) -> None:
    objects = Bucket(find_url(bucket))
    content = os.urandom(100_000)
    (tmp_path / "file").write_bytes(content)
    bucket_proxy.behave(seed=3, **{fault: 0.2})
    for number in range(8):
        name = f"{number}/images"
        objects.upload(tmp_path / "file", name)
        (found,) = objects.read_ranges(name, [(0, len(content))], len(content))
        assert found == content
        assert objects.read(name)[0] == content
    assert bucket_proxy.count()[fault] > 0


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", ["refuse", "cut", "page"])
def test_a_conditional_write_whose_answer_was_lost_is_known_to_have_succeeded(
    bucket: str, bucket_proxy: Proxy, fault: str
) -> None:
    objects = Bucket(find_url(bucket))
    bucket_proxy.behave(seed=5, **{fault: 0.3})
    for number in range(6):
        name = f"{number}.json"
        objects.replace(name, b"two", objects.create(name, b"one"))
        assert objects.read(name)[0] == b"two"
    assert bucket_proxy.count()[fault] > 0


def test_an_answer_that_is_always_wrong_is_an_error_that_names_the_object(
    bucket: str, bucket_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE", 0)
    objects = Bucket(find_url(bucket))
    objects.write("manifest.json", b"{}")
    bucket_proxy.behave(page=1)
    with pytest.raises(StorageError, match=r"/manifest.json: the server's answer is wrong: a web page came in place"):
        objects.read("manifest.json")
    with pytest.raises(StorageError, match=r"/manifest.json: no answer came, or a wrong one"):
        objects.read_ranges("manifest.json", [(0, 1)], 2)


@pytest.mark.parametrize("kind", ["text/html", "Text/HTML; charset=utf-8", "application/xhtml+xml ;x=y"])
def test_a_web_page_is_recognised_however_its_type_is_written(
    objects: Bucket, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(module, "PAUSE", 0)
    store = objects._open(module._Engine.find(), module.TIMEOUT)  # noqa: SLF001
    _obstore.put(store, "manifest.json", b"<html>", attributes={"Content-Type": kind})
    with pytest.raises(StorageError, match=r"/manifest.json: the server's answer is wrong: a web page came in place"):
        objects.read("manifest.json")


def test_errors_repeat_neither_endpoints_nor_credentials(objects: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = [os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    secrets.append(os.environ["AWS_ENDPOINT_URL"].removeprefix("http://"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "WRONG")
    errors = []
    with pytest.raises(StorageError, match=r"the server refused access \(403 SignatureDoesNotMatch\)") as caught:
        Bucket(objects.url).read("manifest.json")
    errors.append(caught.value)
    monkeypatch.setattr(module, "PAUSE", 0)
    with pytest.raises(StorageError, match=r"the server refused access \(403 SignatureDoesNotMatch\)"):
        Bucket(objects.url).list_objects()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(module, "RETRIES", {"max_retries": 0})
    with pytest.raises(StorageError, match="no answer came, or a wrong one: see whether the server runs") as caught:
        Bucket(objects.url).read("manifest.json")
    errors.append(caught.value)
    assert "ALLOW_HTTP" not in str(caught.value), "that is set"
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    with pytest.raises(StorageError, match="an endpoint that begins with http:// also needs AWS_ALLOW_HTTP=true"):
        Bucket(objects.url).read("manifest.json")
    for error in errors:
        assert error.store == objects.url / "manifest.json"
        assert error.__cause__ is None
        assert not any(secret in str(error) for secret in [*secrets, "WRONG", "127.0.0.1"]), str(error)


def test_settings_that_the_library_refuses_are_an_error_without_their_value(
    objects: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ALLOW_HTTP", "SECRET")
    monkeypatch.setattr(module, "PAUSE", 1000)  # it isn't tried again
    with pytest.raises(StorageError, match=r"manifest\.json: the library can't use what the environment has") as caught:
        Bucket(objects.url).read("manifest.json")
    assert "SECRET" not in str(caught.value)


def test_settings_at_which_the_library_panics_are_an_error_without_their_value(
    objects: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "SECRET\n")
    with pytest.raises(StorageError, match=f"{objects.url}: the library can't use what the environment has") as caught:
        Bucket(objects.url).list_objects()
    assert "SECRET" not in str(caught.value)
    with pytest.raises(StorageError, match="images: the library can't use what the environment has"):
        Bucket(objects.url).read_ranges("images", [(0, 1)], 1)


@pytest.mark.parametrize("url", ["gs://bucket/photos", "az://container/photos"])
def test_other_stores_are_found_by_their_scheme(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_SKIP_SIGNATURE", "true")
    found = Bucket(find_url(url))._open(module._Engine.find(), module.TIMEOUT)  # noqa: SLF001
    assert type(found).__name__ == module.STORES[url[:2]][0]
    assert found.prefix == "photos"


def test_a_bucket_is_pickled_without_credentials(objects: Bucket) -> None:
    objects.write("images", b"abc")
    pickled = pickle.dumps(objects)
    assert os.environ["AWS_SECRET_ACCESS_KEY"].encode() not in pickled
    copy = pickle.loads(pickled)  # noqa: S301 - our own
    assert copy.read("images")[0] == b"abc"


def test_a_forked_process_reads_too(objects: Bucket) -> None:
    """The library's threads don't survive a fork: its calls would hang."""
    objects.write("images", b"abc")
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def read() -> None:
        found = objects.read("images")[0], [bytes(each) for each in objects.read_ranges("images", [(0, 1), (1, 3)], 3)]
        sender.send(found)

    def fork_again() -> None:
        objects.read("images")
        child = context.Process(target=read)
        child.start()
        child.join()

    child = context.Process(target=fork_again)
    child.start()
    assert receiver.poll(60), "the forked process didn't answer"
    assert receiver.recv() == (b"abc", [b"a", b"bc"])
    child.join()


def test_after_an_error_requests_that_have_not_begun_are_left_out(
    objects: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects.write("images", b"abc")
    files = [("nothing", tmp_path / "nothing", 3), *(("images", tmp_path / f"{number}", 3) for number in range(100))]
    pool = module._Pool(1)  # noqa: SLF001
    monkeypatch.setattr(module._Engine.find(), "pool", pool)  # noqa: SLF001
    with pytest.raises(StoreNotFoundError, match="/nothing"):
        objects.download_all(files)
    assert pool.submit(lambda: 7).result() == 7
    assert (tmp_path / "99").read_bytes() == b""


@pytest.fixture
def hung_server(objects: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Have a server in place of the other one that never answers."""
    del objects
    monkeypatch.setattr(module._Engine, "current", None)  # noqa: SLF001 - whose threads will wait for the server
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        yield server


@pytest.fixture
def slow_server(hung_server: socket.socket, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Have the server answer once, with a byte every 0.2 s; with none after the event was set."""
    monkeypatch.setattr(module, "RETRIES", {"max_retries": 0})
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    stopped, ended = threading.Event(), threading.Event()
    head = b'HTTP/1.1 200 OK\r\nContent-Length: 6\r\nETag: "1"\r\nLast-Modified: Mon, 30 Nov 2026 18:00:00 GMT\r\n\r\n'

    def answer() -> None:
        connection, _ = hung_server.accept()
        with suppress(BrokenPipeError, ConnectionResetError), connection:
            connection.recv(1 << 16)
            connection.sendall(head)
            for _ in range(6):
                ended.wait(60 if stopped.is_set() else 0.2)
                connection.sendall(b"x")

    thread = threading.Thread(target=answer)
    thread.start()
    yield stopped
    ended.set()
    thread.join()


def read_slowly(bucket: str) -> bytes:
    """Read an object whose bytes may take a second each."""
    objects, second = Bucket(find_url(bucket)), timedelta(seconds=1)
    return objects._repeat("images", lambda to: bytes(to.library.get(to.store, "images").bytes()), second)  # noqa: SLF001


@pytest.mark.usefixtures("slow_server")
def test_a_body_that_comes_slowly_is_waited_for(bucket: str) -> None:
    assert read_slowly(bucket) == b"xxxxxx"


def test_a_body_that_does_not_go_on_is_an_error(bucket: str, slow_server: threading.Event) -> None:
    slow_server.set()
    with pytest.raises(StorageError, match="/images: no answer came, or a wrong one"):
        read_slowly(bucket)


@pytest.mark.parametrize("kind", ["whole", "ranges", "file"])
def test_a_key_ends_the_wait_for_a_server_that_hangs(
    bucket: str, hung_server: socket.socket, tmp_path: Path, kind: str
) -> None:
    def interrupt() -> None:
        connection, _ = hung_server.accept()
        with connection:
            os.kill(os.getpid(), signal.SIGINT)
            late.append(not ended.wait(20))

    hung, ended, late = Bucket(find_url(bucket)), threading.Event(), list[bool]()
    calls: dict[str, Callable[[], object]] = {
        "whole": lambda: hung.read("images"),
        "ranges": lambda: hung.read_ranges("images", [(0, 1)], 1),
        "file": lambda: hung.download("images", tmp_path / "images", 1),
    }
    key = threading.Thread(target=interrupt)
    key.start()
    with pytest.raises(KeyboardInterrupt):
        calls[kind]()
    ended.set()
    key.join()
    assert late == [False], "it waited until the server closed the connection"


@pytest.mark.parametrize("step", ["upload", "withdraw"])
def test_a_key_ends_a_save_to_a_server_that_hangs(
    bucket: str, hung_server: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    for place in (module, prefixes):
        monkeypatch.setattr(place, "LINGER", 0.1)
    (tmp_path / "images").write_bytes(b"abc")
    prefix = Prefix(find_url(bucket), lock=False)
    prefix.adopt_part("part-00000-5d1c0a9e")
    ended, late = threading.Event(), list[bool]()

    def save() -> None:
        with ExitStack() as stack:
            stack.callback(prefix.withdraw)
            if step == "withdraw":
                raise KeyboardInterrupt
            prefix.bucket.upload_all([(tmp_path / "images", "images")])

    def interrupt() -> None:
        connection, _ = hung_server.accept()
        with connection:
            if step == "upload":
                os.kill(os.getpid(), signal.SIGINT)
            late.append(not ended.wait(20))

    key = threading.Thread(target=interrupt)
    key.start()
    with pytest.raises(KeyboardInterrupt):
        save()
    ended.set()
    key.join()
    assert late == [False], "it waited until the server closed the connection"


@pytest.mark.slow
def test_a_process_ends_while_a_server_hangs(bucket: str, hung_server: socket.socket) -> None:
    code = f"import storage; storage.open({bucket!r})"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:
        connection, _ = hung_server.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            assert "KeyboardInterrupt" in process.communicate(timeout=20)[1]


def test_another_copy_of_the_library_reads_the_same(objects: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a forked process, whose coverage isn't measured."""
    objects.write("images", b"abc")
    monkeypatch.setattr(module._Engine, "current", module._Engine(_obstore))  # noqa: SLF001
    monkeypatch.setattr(module._Engine.current, "process", -1)  # noqa: SLF001
    assert Bucket(objects.url).read("images")[0] == b"abc"
    with pytest.raises(StoreNotFoundError):
        Bucket(objects.url).read("nothing")


def test_without_the_library_an_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    spec = importlib.util.spec_from_file_location("storage.remote.copy", module.__file__)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(BackendUnavailableError, match=r"obstore is not installed: python -m pip"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


@pytest.mark.parametrize("read", ["whole", "range"])
def test_a_body_that_the_library_passes_on_short_is_an_error(
    objects: Bucket, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    class Answer:
        """An answer without its body."""

        meta: ClassVar = {"size": 3, "e_tag": "x", "version": None}
        attributes: ClassVar[dict[str, str]] = {}

        def bytes(self) -> bytes:
            """Return less than the size."""
            return b"ab"

    class Library:
        """The library, but for one function."""

        exceptions = _obstore.exceptions  # type: ignore[attr-defined]  # the library has it
        _store = _obstore._store  # noqa: SLF001

        @staticmethod
        def get(*_: object, **__: object) -> Answer:
            """Answer."""
            return Answer()

    monkeypatch.setattr(module, "PAUSE", 0)
    monkeypatch.setattr(module._Engine, "current", module._Engine(Library))  # noqa: SLF001
    with pytest.raises(StorageError, match="the server's answer is wrong: it was cut short"):
        objects.read("images") if read == "whole" else objects.read_ranges("images", [(0, 3)], 3)


def test_an_answer_without_an_etag_is_an_error() -> None:
    with pytest.raises(module._WrongAnswerError, match="it has no ETag"):  # noqa: SLF001
        module._find_version({"e_tag": None})  # noqa: SLF001


def test_a_version_may_have_a_number() -> None:
    """As in Google Cloud Storage."""
    assert module._format_version(module.Version("x", "7")) == {"e_tag": "x", "version": "7"}  # noqa: SLF001


def test_a_conditional_write_that_the_server_contradicts_is_an_error(
    objects: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that the object has changed, and the object hasn't."""
    version = objects.create("manifest.json", b"one")
    monkeypatch.setattr(module, "_format_version", lambda _: {"e_tag": '"other"'})
    with pytest.raises(module.ContradictionError, match="the server says that it was changed meanwhile, which it was"):
        objects.replace("manifest.json", b"two", version)


def test_what_is_there_already_counts_as_written(objects: Bucket) -> None:
    """The answer to an earlier attempt may have been lost."""
    objects.create("manifest.json", b"one")
    assert objects.create("manifest.json", b"one") == objects.read("manifest.json")[1]
