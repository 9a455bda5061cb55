"""What a bucket costs: datasets in an object store, read and written over a network. Part of a run that measured these.

All figures of a payload are about the same number of images, on one server with one latency. Backends compete with the
faster of their two orders of an epoch, windowed or shuffled; a plain download of the same dataset shows what the
connection allows.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from reports.noise import UNKNOWN_SCATTER
from reports.run import ENCODED, Result, Run
from reports.text import format_number

NAMES = {"seaweedfs": "SeaweedFS", "s3": "S3", "gs": "Google Cloud Storage", "az": "Azure"}
COSTED = (1_000_000, 100_000_000)  # images whose costs are shown
WHOLE = 1.1  # times the requests of a windowed epoch, up to which a shuffled one fetches whole parts, too


class Way(NamedTuple):
    """A way to use a bucket: its name, and the operation and parameters that measure it."""

    name: str
    operation: str
    params: Mapping[str, str | int]


WINDOWED = Way("windowed epoch", "remote_epoch", {"order": "windowed", "source": "bucket"})
SHUFFLED = Way("shuffled epoch", "remote_epoch", {"order": "shuffled", "source": "bucket"})
CACHED = Way("second epoch, from the cache", "remote_epoch", {"order": "shuffled", "source": "cache"})
LOCAL = Way("epoch of a local folder", "remote_epoch", {"order": "shuffled", "source": "folder"})
DOWNLOAD = Way("plain download", "remote_download", {})
AT_ONCE = Way("single requests, 32 at once", "remote_requests", {"concurrency": 32})
IN_TURN = Way("single requests, one by one", "remote_requests", {"concurrency": 1})
SAVE = Way("save", "remote_save", {})
LOAD = Way("load", "remote_load", {})
FIRST_WINDOWED = Way("first batch, windowed", "remote_first_batch", {"order": "windowed"})
FIRST_SHUFFLED = Way("first batch, shuffled", "remote_first_batch", {"order": "shuffled"})
SINGLE = Way("one image", "remote_single", {})
EPOCHS = (CACHED, LOCAL, DOWNLOAD, WINDOWED, SHUFFLED, AT_ONCE, IN_TURN)  # that a figure compares
COLUMNS = (SAVE, LOAD, WINDOWED, SHUFFLED, CACHED, FIRST_WINDOWED, FIRST_SHUFFLED, SINGLE)  # of a table
WAYS = (*EPOCHS, SAVE, LOAD, FIRST_WINDOWED, FIRST_SHUFFLED, SINGLE)

Cells = Mapping[str, Result]  # of a backend, by the name of a way


class Cost(NamedTuple):
    """What so many images would take: seconds, and requests and bytes if these were counted."""

    way: Way
    images: int
    seconds: float
    requests: float | None
    fetched: float | None


@dataclass(frozen=True)
class Bucket:
    """The cells of one payload on one server: by backend, the fastest epoch first."""

    server: str
    latency: int  # milliseconds that a request takes in addition
    payload: str  # empty if there is no choice
    images: int
    backends: Mapping[str, Cells]

    @property
    def title(self) -> str:
        """Which bucket, and how many images."""
        payload = f", {'image files' if self.payload == ENCODED else self.payload}" if self.payload else ""
        return f"{self._place}{payload}, {self.images:,} images"

    @property
    def _place(self) -> str:
        latency = f", {self.latency:,} ms a request" if self.latency else ""
        return f"{NAMES.get(self.server, self.server)}{latency}"

    @property
    def best(self) -> Cells:
        """The cells of the backend whose epoch is fastest."""
        return next(iter(self.backends.values()))

    @property
    def sentences(self) -> tuple[str, ...]:
        """What to choose: the backend, how to shuffle, and what a cache is worth."""
        epoch, words = find_epoch(self.best), []
        if epoch is None:
            return ()
        what = {"": "", ENCODED: " for image files"}.get(self.payload, f" for {self.payload}")
        shuffled, windowed = (self.best.get(way.name) for way in (SHUFFLED, WINDOWED))
        how = "shuffle within a window" if epoch is windowed else "shuffle as a whole"
        download = self.best.get(DOWNLOAD.name)
        part = f", {format_number(download.median / epoch.median)} times a plain download's" if download else ""
        words.append(
            f"From a bucket ({self._place}), take {epoch.backend}{what} and {how}: {_write_speed(epoch)}{part}."
        )
        if shuffled and windowed:
            words.append(_compare_orders(shuffled, windowed))
        if cached := self.best.get(CACHED.name):
            words.append(f"From the second epoch on, the local cache gives {_write_speed(cached)}.")
        return tuple(words)

    @property
    def costs(self) -> tuple[Cost, ...]:
        """What `COSTED` images would take in the best backend, in proportion; shuffled as a whole, a request each.

        Of so many images, no two of a batch are neighbours, which a request could fetch together. Where parts are
        fetched whole, each is fetched once, if the local cache holds all.
        """
        return tuple(
            cost
            for images in COSTED
            for way in (SAVE, WINDOWED, SHUFFLED)
            if (cost := self._project(way, images)) is not None
        )

    def _project(self, way: Way, images: int) -> Cost | None:
        result, windowed, single = (self.best.get(each.name) for each in (way, WINDOWED, AT_ONCE))
        if result is None:
            return None
        times = images / result.images
        seconds, requests, fetched = times * result.median, result.requests, result.fetched_bytes
        if way is SHUFFLED and single and not _fetches_parts(result, windowed):
            return Cost(
                way, images, max(seconds, images * single.median / single.images), images, _grow(times, fetched)
            )
        return Cost(way, images, seconds, _grow(times, requests), _grow(times, fetched))


def _grow(times: float, number: int | None) -> float | None:
    return None if number is None else times * number


def _fetches_parts(shuffled: Result, windowed: Result | None) -> bool:
    """Return whether a shuffled epoch makes no more requests than a windowed one, which fetches parts as a whole."""
    if shuffled.requests is None or windowed is None or windowed.requests is None:
        return False
    return shuffled.requests <= WHOLE * windowed.requests


def _write_speed(result: Result) -> str:
    return f"{format_number(float(f'{result.images_per_second:.3g}'))} images/s"


def _compare_orders(shuffled: Result, windowed: Result) -> str:
    """Say what a whole shuffle costs."""
    ratio = shuffled.median / windowed.median
    if _is_close(ratio):
        return "Shuffling within a window is as fast."
    if ratio < 1:
        return f"Shuffling within a window takes {format_number(1 / ratio)} times as long."
    more = ""
    if shuffled.requests and windowed.requests:
        more = f", with {format_number(shuffled.requests / windowed.requests)} times the requests"
    return f"Shuffling as a whole takes {format_number(ratio)} times as long{more}."


def _is_close(ratio: float) -> bool:
    return abs(math.log(ratio)) <= UNKNOWN_SCATTER


def find_epoch(cells: Cells) -> Result | None:
    """Find the faster epoch of a backend; if they are as fast, the one that is shuffled as a whole."""
    shuffled, windowed = (cells.get(way.name) for way in (SHUFFLED, WINDOWED))
    if shuffled is None or windowed is None:
        return shuffled or windowed
    ratio = shuffled.median / windowed.median
    return shuffled if ratio < 1 or _is_close(ratio) else windowed


def find_buckets(run: Run) -> tuple[Bucket, ...]:
    """Find the cells of datasets in buckets: one `Bucket` for each server, latency and payload."""
    found: dict[tuple[str, int, str], list[Result]] = {}
    for result in run.results:
        params = dict(result.params)
        if result.operation in {way.operation for way in WAYS} and "server" in params:
            latency = params.get("latency", 0)
            key = str(params["server"]), latency if isinstance(latency, int) else 0, result.payload
            found.setdefault(key, []).append(result)
    return tuple(_make_bucket(*key, results) for key, results in sorted(found.items()))


def _make_bucket(server: str, latency: int, payload: str, results: Sequence[Result]) -> Bucket:
    images = max(result.store_images for result in results)
    backends: dict[str, dict[str, Result]] = {}
    for result in results:
        params = set(result.params)
        for way in WAYS:
            if result.store_images == images and result.operation == way.operation and way.params.items() <= params:
                backends.setdefault(result.backend, {})[way.name] = result
    order = sorted(backends, key=lambda name: (_rank(backends[name]), name))
    return Bucket(server, latency, payload, images, {name: backends[name] for name in order})


def _rank(cells: Cells) -> float:
    epoch = find_epoch(cells)
    return math.inf if epoch is None else epoch.median
