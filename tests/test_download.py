"""Archives from elsewhere: downloaded whole or not at all, read member by member, refused where they are dishonest."""

import gc
import gzip
import hashlib
import io
import runpy
import socket
import sys
import tarfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pooch
import pytest

from fixtures import cifar10
from fixtures.cifar10 import DownloadError, ImageSetNotFoundError, UnsafeInputError, describe, download
from tests.test_cifar10 import FOLDER, MEMBERS, WHOLE, check_loads, honest, join, pack, regular

NAME = "cifar-10-python.tar.gz"


class Server(ThreadingHTTPServer):
    """Serves one archive on 127.0.0.1, each time as the next word of a script says; then whole."""

    def __init__(self, archive: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.archive = archive
        self.sha256 = hashlib.sha256(archive).hexdigest()
        self.script: list[str] = []
        self.requests: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/{NAME}"


class Handler(BaseHTTPRequestHandler):
    """Answers as the script of its server says."""

    server: Server

    def do_GET(self) -> None:
        """Send the archive whole, other bytes of its size, half of it, or no archive."""
        how = self.server.script.pop(0) if self.server.script else "whole"
        self.server.requests.append(how)
        body = {"other": self.server.archive[::-1], "missing": b""}.get(how, self.server.archive)
        self.send_response(404 if how == "missing" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if how == "half" else body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serve an honest archive as the official one, and give the user an empty cache."""
    made = Server(pack(tmp_path / "served.tar.gz", honest()).read_bytes())
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "caches" / project)
    monkeypatch.setattr(cifar10, "URL", made.url)
    monkeypatch.setattr(cifar10, "SHA256", made.sha256)
    with made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let pooch note the seconds that it would wait between two attempts, and talk to 127.0.0.1 directly."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    seconds: list[float] = []
    monkeypatch.setattr("pooch.core.time", SimpleNamespace(sleep=seconds.append))
    return seconds


def test_the_right_archive_is_downloaded_and_is_the_official_set(server: Server, tmp_path: Path) -> None:
    path = download(server.url, server.sha256, tmp_path / "new" / "folder")
    assert (path, path.read_bytes()) == (tmp_path / "new" / "folder" / NAME, server.archive)
    assert describe(path).name == "cifar10"


@pytest.mark.parametrize(("script", "seconds"), [(["half"], [1]), (["other", "half", "half"], [1, 2, 3])])
def test_a_broken_download_starts_again(
    server: Server, tmp_path: Path, waits: list[float], script: list[str], seconds: list[float]
) -> None:
    server.script = script.copy()
    assert download(server.url, server.sha256, tmp_path / "in").read_bytes() == server.archive
    assert server.requests == [*script, "whole"]
    assert waits == seconds


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # pooch leaves the answer to a failure open
@pytest.mark.parametrize(
    ("how", "cause"), [("half", "IncompleteRead"), ("missing", "404"), ("other", "expected {} but got {}")]
)
def test_a_download_that_stays_broken_is_one_clear_error_and_leaves_nothing(
    server: Server, tmp_path: Path, how: str, cause: str
) -> None:
    server.script = [how] * 9
    with pytest.raises(DownloadError) as caught:
        download(server.url, server.sha256, tmp_path / "in")
    message = str(caught.value)
    del caught
    gc.collect()  # while the warning is expected
    found = hashlib.sha256(server.archive[::-1]).hexdigest()
    for part in (server.url, cause.format(server.sha256, found), "Try again", str(tmp_path / "in" / NAME), "by hand"):
        assert part in message
    assert "\n" not in message
    assert ".." not in message
    assert server.requests == [how] * 4
    assert list((tmp_path / "in").iterdir()) == [], "something was left behind"


def test_no_server_is_a_clear_error(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/x"  # bound, and nobody listens
        with pytest.raises(DownloadError, match=rf"cannot download {url}: .*refused.*Try again"):
            download(url, "0" * 64, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_clear_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match=r"cannot download [^\n]*$"):
        download(server.url, server.sha256, tmp_path / "file" / "in")
    assert server.requests == []


def test_an_archive_that_is_there_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    first = download(server.url, server.sha256, tmp_path)
    assert download(server.url, server.sha256, tmp_path) == first
    assert server.requests == ["whole"]


def test_a_damaged_archive_is_downloaded_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(server.archive[:-1])
    assert download(server.url, server.sha256, tmp_path).read_bytes() == server.archive


def test_the_command_says_where_the_archive_is_and_what_to_type_next(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    for how in ("is downloaded", "is already there, and right"):
        assert cifar10.main([]) == 0
        lines = f"CIFAR-10 {how}: {cifar10.find('auto')}\nNext: python -m pytest benchmarks --benchmark-only\n"
        assert capsys.readouterr() == (lines, "")
    assert server.requests == ["whole"]


def test_the_command_fails_with_one_line(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooch.get_logger(), "disabled", False)
    server.script = ["half"] * 4
    assert cifar10.main([]) == 1
    assert pooch.get_logger().disabled, "pooch adds lines of its own"
    output, errors = capsys.readouterr()
    assert (output, errors.count("\n")) == ("", 1)
    assert errors.startswith(f"cannot download {server.url}: ")


def test_a_terminal_shows_the_progress(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", terminal)
    download(server.url, server.sha256)
    assert f"{NAME}: 100%" in terminal.getvalue()


@pytest.mark.parametrize(("argument", "status", "words"), [("--help", 0, "170 MB"), ("--nonsense", 2, "--nonsense")])
def test_the_command_explains_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argument: str, status: int, words: str
) -> None:
    monkeypatch.setattr("sys.argv", ["cifar10", argument])
    monkeypatch.delitem(sys.modules, "fixtures.cifar10")
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("fixtures.cifar10", run_name="__main__")
    assert caught.value.code == status
    text = "".join(capsys.readouterr())
    assert "python -m fixtures.cifar10" in text
    assert words in text


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    """Make a member that is no regular file."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


EXTRAS = [
    regular("../outside", b"x"),
    regular("../../data_batch_1", b"x"),
    regular(f"{FOLDER}/../{FOLDER}/data_batch_1", b"x"),
    regular(f"./{FOLDER}/data_batch_1", b"x"),
    regular("data_batch_1", b"x"),
    regular(f"{FOLDER}/test_batch", b"no pickle"),
    regular(f"{FOLDER}/{'long' * 60}", b"x"),
    special(FOLDER, tarfile.DIRTYPE),
    special(f"{FOLDER}/link", tarfile.SYMTYPE, "/etc/passwd"),
    special(f"{FOLDER}/hard", tarfile.LNKTYPE, "../outside"),
    special("device", tarfile.CHRTYPE),
    special("pipe", tarfile.FIFOTYPE),
]


def test_extra_members_of_any_kind_and_name_are_neither_opened_nor_written(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "a" / "b"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    extras = [*EXTRAS, regular(str(tmp_path / "absolute"), b"x")]
    server.archive = gzip.compress(join(*extras, *honest(), *extras))
    before = set(tmp_path.rglob("*"))
    archive = download(server.url, hashlib.sha256(server.archive).hexdigest(), here)
    check_loads(archive)
    assert set(tmp_path.rglob("*")) - before == {archive}, "something was written"


def forge(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """Make a header that claims a size."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


LARGE = 65 * 2**20
SPARSE = tarfile.TarInfo(MEMBERS[0])
SPARSE.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,0", "GNU.sparse.size": "9"}


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(lambda: join(*honest(), *honest((3,))), "data_batch_3 is there twice", id="duplicate"),
        pytest.param(
            lambda: join(special(MEMBERS[0], tarfile.SYMTYPE, "data_batch_2"), *honest()),
            "data_batch_1 is no regular file",
            id="link",
        ),
        pytest.param(
            lambda: join(special(MEMBERS[0], tarfile.LNKTYPE, MEMBERS[1]), *honest()), "no regular", id="hard-link"
        ),
        pytest.param(lambda: join((SPARSE, b"")), "data_batch_1 is no regular file", id="holes"),
        pytest.param(lambda: forge(MEMBERS[0], LARGE), "at most 67,108,864 bytes", id="large-batch"),
        pytest.param(lambda: forge("bomb", 8 * LARGE), "more than 1,000 members or 402,653,184", id="large-other"),
        pytest.param(lambda: forge("x", 8 * LARGE, tarfile.XHDTYPE) + bytes(LARGE), "no next member", id="long-header"),
        pytest.param(lambda: forge("x", 8 * LARGE, b"L") + bytes(LARGE), "no next member", id="long-name"),
        pytest.param(lambda: forge(MEMBERS[0], -512), "no regular file", id="negative-size"),
        pytest.param(lambda: join(*(regular("many", b"") for _ in range(1001))), "1,000 members", id="many"),
        pytest.param(lambda: forge(MEMBERS[0], 10**6) + bytes(5000), "unexpected end of data", id="cut-off"),
        pytest.param(lambda: b"no tar" * 1000, "", id="no-tar"),
    ],
)
def test_a_dishonest_archive_is_refused_early(tmp_path: Path, make: Callable[[], bytes], reason: str) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(make(), 1))
    tracemalloc.start()
    with pytest.raises(UnsafeInputError, match=f"{path} is not an honest .tar.gz of batches: .*{reason}"):
        describe(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 2**20, "a few bytes of archive took much memory"


@pytest.mark.parametrize("order", [(1, 2, 3, 4), ()], ids=["one", "all"])
def test_an_archive_that_lacks_batches_names_the_first_missing_one(tmp_path: Path, order: Sequence[int]) -> None:
    archive = pack(tmp_path / "a.tar.gz", honest(order))
    with pytest.raises(ImageSetNotFoundError, match=f"{archive} has no {MEMBERS[len(order)]}"):
        describe(archive)


def test_an_archive_cut_off_anywhere_is_refused_or_whole(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar.gz", honest())
    whole = path.read_bytes()
    refused = 0
    for end in (*range(0, len(whole), 701), *range(len(whole) - 40, len(whole))):
        path.write_bytes(whole[:end])
        try:
            assert describe(path).sha256 == WHOLE
        except UnsafeInputError:
            refused += 1
    assert refused >= len(whole) // 701, "a cut inside the batches went unnoticed"


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.zip").write_bytes(b"PK\3\4")
    with pytest.raises(UnsafeInputError, match=r"mine.zip is not an honest .tar.gz of batches: Not a gzipped file"):
        describe(tmp_path / "mine.zip")
