"""Datasets in a bucket, for cells: the server or the bucket of the session, and what requests fetched.

With ``--remote=seaweedfs``, a session starts a server, and a proxy in front of it that adds ``--latency`` and counts.
With a URL, latency is that of the bucket, and nothing is counted. Each cell has a bucket or a prefix for itself, and
leaves nothing; nothing may be below the URL when a session begins.
"""

import secrets
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.cell import Arguments, Cell, Content
from benchmarks.options import SEAWEEDFS, Options
from storage import Labels, Reader, save

if TYPE_CHECKING:
    from benchmarks.proxy import Proxy
    from benchmarks.seaweedfs import SeaweedFS

OPTIONS = pytest.StashKey[Options]()  # of the session
BUCKET = "cells"
CACHE = "cache"
CONCURRENCY = (1, 32)  # requests at once that are measured: one, and as many as `storage` makes

Batch: TypeAlias = "tuple[NDArray[Any], Labels]"


class Remote:
    """Where the cells of a session put datasets: below a URL, or in buckets of a server; its proxy counts requests."""

    def __init__(self, url: str = "", server: "SeaweedFS | None" = None, proxy: "Proxy | None" = None) -> None:
        self._url, self._server, self._proxy = f"{url.removesuffix('/')}/{secrets.token_hex(4)}", server, proxy
        self._number = 0

    def make_place(self) -> str:
        """Make a URL below which nothing is."""
        self._number += 1
        if self._server is None:
            return f"{self._url}/cell-{self._number}"
        self._server.create_bucket(f"{BUCKET}-{self._number}")
        return f"s3://{BUCKET}-{self._number}"

    def remove(self, place: str) -> None:
        """Remove everything below a URL of `make_place`."""
        if self._server is None:
            remove_objects(place)
        else:
            self._server.remove_bucket(place.removeprefix("s3://"))

    def remove_all(self) -> None:
        """Remove what is left of a cell that ended early; what a server has ends with it."""
        if self._server is None:
            remove_objects(self._url)

    @property
    def counts(self) -> bool:
        """Whether requests are counted."""
        return self._proxy is not None

    def count(self) -> Counter[str]:
        """Count requests and bytes until now, if they are counted."""
        return Counter() if self._proxy is None else self._proxy.count()


def refuse_prefix(url: str) -> str:
    """Say why cells can't be measured below a URL; empty if they can."""
    from storage import StorageError  # noqa: PLC0415 - the gate measures older commits, too
    from storage.remote.bucket import Bucket  # noqa: PLC0415 - as above
    from storage.urls import find_location  # noqa: PLC0415 - as above

    place: Any = find_location(url)  # a URL, as was checked
    try:
        found = Bucket(place).find_any()
    except StorageError as error:
        return f"remote: {error}"
    return f"remote: {url} holds {found.name}: give the URL of an empty prefix" if found else ""


def remove_objects(url: str) -> None:
    """Remove all objects below a URL."""
    import obstore  # noqa: PLC0415 - few sessions need it

    store = obstore.store.from_url(url)
    for entries in obstore.list(store):
        obstore.delete(store, [entry["path"] for entry in entries])


@pytest.fixture(scope="session")
def remote(pytestconfig: pytest.Config) -> Iterator[Remote]:
    """Start the server of the session, and let the environment lead to its proxy; or find the bucket."""
    options = pytestconfig.stash[OPTIONS]
    if options.remote != SEAWEEDFS:
        places = Remote(options.remote)
        yield places
        places.remove_all()
        return
    from benchmarks.proxy import Proxy  # noqa: PLC0415 - few sessions need it
    from benchmarks.seaweedfs import SeaweedFS  # noqa: PLC0415 - as above

    with (
        SeaweedFS() as server,
        Proxy(server.port, latency=options.latency / 1_000) as proxy,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in server.describe_access(proxy.port).items():
            patch.setenv(name, value)
        yield Remote("", server, proxy)


class RemoteCell:
    """A cell about a dataset below a URL that it has for itself; local files go to `folder`, the cache included."""

    def __init__(self, cell: Cell, backend: str, remote: Remote, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self._cell, self._remote = cell, remote
        self.save = partial(save, backend=backend, durable=False)

    def fill(self, images: Content, labels: Labels, *, in_folder: bool = False) -> "str | Path":
        """Save the dataset that the cell reads, outside the clock; return its URL, or a folder with the same parts."""
        url = f"{self.url}/set"
        self.save(url, images, labels)
        return self._copy() if in_folder else url

    def _copy(self) -> Path:
        """Copy the dataset into a folder."""
        import obstore  # noqa: PLC0415 - few sessions need it

        for name, _ in self.list_objects():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(obstore.get(self.find_store(), name).bytes())
        return self.folder / "set"

    def measure(
        self,
        function: Callable[..., Any],
        arguments: Iterator[Arguments],
        images: Content,
        check: Callable[..., None],
        *,
        store_images: int,
        keep_cache: bool = False,
    ) -> None:
        """Measure a function, as `Cell.measure_read` does; note what the last round fetched.

        When a round starts, the local cache is empty, unless it is kept.
        """
        before: Counter[str] = Counter()

        def prepare() -> Iterator[Arguments]:
            nonlocal before
            for each in arguments:
                if not keep_cache:
                    shutil.rmtree(self.folder / CACHE, ignore_errors=True)
                before = self._remote.count()
                yield each

        def check_last(result: object, *used: object) -> None:
            fetched = self._remote.count() - before
            if self._remote.counts:
                self._cell.note(requests=fetched["requests"], fetched_bytes=fetched["received"])
            check(result, *used)

        self._cell.note(store_images=store_images)
        self._cell.measure_read(function, prepare(), images, check_last)

    def list_objects(self) -> list[tuple[str, int]]:
        """List the names and sizes of all objects of the cell."""
        import obstore  # noqa: PLC0415 - few sessions need it

        return [(each["path"], each["size"]) for some in obstore.list(self.find_store()) for each in some]

    def find_store(self) -> Any:  # noqa: ANN401 - of a library that few sessions need
        """Find the place of the cell, for the client library."""
        import obstore  # noqa: PLC0415 - as above

        return obstore.store.from_url(self.url)


@pytest.fixture
def remote_cell(
    cell: Cell,
    backend: str,
    server: str,
    latency: int,
    remote: Remote,
    stores: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[RemoteCell]:
    """Prepare a cell about a dataset in a bucket; its id names the server and the latency."""
    del server, latency
    folder, url = Path(tempfile.mkdtemp(prefix="remote-", dir=stores)), remote.make_place()
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / CACHE))
    yield RemoteCell(cell, backend, remote, url, folder)
    remote.remove(url)
    shutil.rmtree(folder)


def open_dataset(place: "str | Path") -> Reader:
    """Open a dataset."""
    from storage import open as open_any  # noqa: PLC0415 - the gate measures older commits, too

    return open_any(place)


class Epoch:
    """Shuffled batches of a dataset as arrays, within a window of parts if there is one, and what is in them."""

    def __init__(
        self, images: NDArray[Any], labels: Labels, batch: int, size: tuple[int, int] | None, window: int | None
    ) -> None:
        self._known = Counter(hash_each(images, labels))
        self.batch = min(batch, len(labels))
        self._options: dict[str, Any] = {"seed": 0, "window": window, "image_size": size}

    def read(self, reader: Any) -> None:  # noqa: ANN401 - an older `Reader` has no batches
        """Read all batches, keeping none."""
        for _ in reader.batches(self.batch, **self._options):
            pass

    def read_first(self, place: "str | Path") -> Batch:
        """Open a dataset and read the first batch."""
        reader: Any
        with open_dataset(place) as reader, reader.batches(self.batch, **self._options) as batches:
            first: Batch = next(batches)
            return first

    def check(self, reader: Any) -> None:  # noqa: ANN401 - as above
        """Read all batches again; fail unless they have each image once, with its label."""
        batches = reader.batches(self.batch, **self._options)
        if Counter(digest for batch in batches for digest in hash_each(*batch)) != self._known:
            pytest.fail("an epoch doesn't have each image once, as it was stored")

    def check_first(self, batch: Batch) -> None:
        """Fail unless these are images of the dataset, each once, with their labels, as many as a batch has."""
        found = Counter(hash_each(*batch))
        if found.total() != self.batch or not found <= self._known:
            pytest.fail("a batch has other images than were stored")


def hash_each(images: NDArray[Any], labels: Labels) -> list[bytes]:
    """Hash each image with its label."""
    pairs = zip(np.ascontiguousarray(images), labels.tolist(), strict=True)
    return [blake2b(image.data, digest_size=16, key=b"%d" % label).digest() for image, label in pairs]
