"""Runs of datasets in a bucket for tests: the JSON that the suite writes, with times as of one machine and 20 ms."""

from typing import Any

from tests.support.runs import make_cell, run_of

SECONDS = {  # of a backend whose parts are read in ranges, and of one whose parts are fetched whole
    "npy": {"save": 6.0, "load": 1.0, "windowed": 1.0, "shuffled": 5.0, "cache": 0.5},
    "lmdb": {"save": 8.0, "load": 1.5, "windowed": 1.6, "shuffled": 1.6, "cache": 0.6},
}
REQUESTS = {"npy": (40, 30_000), "lmdb": (45, 45)}  # of an epoch: windowed, shuffled
COUNT = 100_000
USED = COUNT * (32 * 32 * 3 + 8)  # bytes


def make_remote_cells(backend: str, *, latency: int = 20, counted: bool = True, **more: str) -> list[dict[str, Any]]:
    """Make all cells of one backend; `more` are params, such as a payload."""
    times, requests = SECONDS[backend], REQUESTS[backend]
    params: dict[str, Any] = {"server": "seaweedfs", "latency": latency, **more}
    epochs = [
        (
            "remote_epoch",
            {"order": order, "source": source},
            COUNT,
            times[order if source == "bucket" else "cache"],
            number,
        )
        for order, number in zip(("windowed", "shuffled"), requests, strict=True)
        for source in ("bucket", "cache", "folder")
    ]
    others: list[tuple[str, dict[str, Any], int, float, int]] = [
        ("remote_save", {}, COUNT, times["save"], 20),
        ("remote_load", {}, COUNT, times["load"], 40),
        ("remote_first_batch", {"order": "windowed"}, 256, 0.5, 20),
        ("remote_first_batch", {"order": "shuffled"}, 256, 0.4, 260),
        ("remote_single", {}, 1, 0.1, 5),
        ("remote_download", {}, COUNT, 0.9, 12),
        ("remote_requests", {"concurrency": 1}, 32, 0.8, 32),
        ("remote_requests", {"concurrency": 32}, 1024, 1.0, 1024),
    ]
    return [_make(backend, *cell, params, counted=counted) for cell in (*epochs, *others)]


def _make(
    backend: str,
    operation: str,
    own: dict[str, Any],
    images: int,
    seconds: float,
    requests: int,
    params: dict[str, Any],
    *,
    counted: bool,
) -> dict[str, Any]:
    cell = make_cell(operation, backend, images, COUNT, **params, **own)
    cell["stats"]["data"] = [seconds * factor for factor in (0.99, 1.0, 1.01)]
    if counted:
        fetched = 0 if own.get("source") in {"cache", "folder"} else int(1.02 * USED * images / COUNT)
        cell["extra_info"] |= {"requests": requests if fetched else 0, "fetched_bytes": fetched}
    return cell


def make_remote_run(*backends: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - as `make_remote_cells` takes
    """Make a run of nothing but datasets in a bucket."""
    return run_of([cell for backend in backends for cell in make_remote_cells(backend, **options)])
