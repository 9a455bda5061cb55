"""Runs of image files for tests: both payloads, and the floors of each."""

from collections.abc import Sequence
from typing import Any

from tests.support.runs import make_cell, run_of

FILE_BYTES, SIDE = 100_000, 224
_PIXEL_BYTES = 3 * SIDE**2
_DECODING = 1e-3  # seconds an image
_SUMMARY = {"mean": 108146.27, "0": 2265.0, "0.1": 25339.5, "0.5": 99470.5, "0.9": 198955.8, "1": 606460.0}


def make_photo_run(
    cutoffs: Sequence[int] = (10, 100, 1000), payloads: Sequence[str] = ("encoded", "pixels")
) -> dict[str, Any]:
    """Make the JSON of a run of image files: `files` stores no pixels."""
    cells = []
    for payload in payloads:
        for backend in ("lmdb", "npy") if payload == "pixels" else ("files", "lmdb", "npy"):
            for count in cutoffs:
                cells += _make_cells(backend, count, payload)
        cells += [_make_floor("read_epoch", payload, count) for count in cutoffs]
    if "encoded" in payloads:
        cells += [_make_floor("read_epoch_decoded", "encoded", max(cutoffs), threads=threads) for threads in (1, 2)]
        for backend in ("files", "lmdb", "npy"):
            cells += [_decode(backend, max(cutoffs), threads) for threads in (1, 2)]
    run = run_of(cells)
    run["run"]["image_set"] = describe_photos(max(cutoffs))
    return run


def describe_photos(count: int) -> dict[str, Any]:
    """Describe a sample of which two files can't be used."""
    reasons = {"it isn't an image file": 1, "it has transparency": 1}
    files = [["photos/notes.txt", "it isn't an image file"], ["photos/logo.png", "it has transparency"]]
    return {
        "name": "photos/",
        "count": count,
        "sha256": "cd34ab12" * 8,
        "seed": 0,
        "found": 1002,
        "drawn": 1000,
        "classes": 8,
        "payloads": ["encoded", "pixels"],
        "side": SIDE,
        "formats": {"jpg": 990, "webp": 10},
        **{name: dict(_SUMMARY) for name in ("file_bytes", "heights", "widths", "pixels")},
        "unusable": {"count": 2, "reasons": reasons, "files": files},
    }


def _make_cells(backend: str, count: int, payload: str) -> list[dict[str, Any]]:
    size = FILE_BYTES if payload == "encoded" else _PIXEL_BYTES
    cells = [make_cell("store_many", backend, count, payload=payload, durability="buffered")]
    cells += [
        make_cell(operation, backend, count, payload=payload, cache="warm") for operation in ("read_many", "read_epoch")
    ]
    cells.append(make_cell("read_single", backend, 1, store_images=count, payload=payload, cache="warm"))
    cells[0]["extra_info"] |= {"apparent_bytes": size * count, "allocated_bytes": size * count + 4096}
    for cell in cells:
        cell["extra_info"]["bytes"] = cell["extra_info"]["images"] * size
    return cells


def _decode(backend: str, count: int, threads: int) -> dict[str, Any]:
    cell = make_cell("read_epoch_decoded", backend, count, payload="encoded", threads=threads, cache="warm")
    cell["stats"]["data"] = [seconds + count * _DECODING / threads for seconds in cell["stats"]["data"]]
    return cell


def _make_floor(operation: str, payload: str, count: int, **params: int) -> dict[str, Any]:
    cell = make_cell(operation, "memory", count, payload=payload, **params)
    cell["fullname"] = cell["fullname"].replace("test_suite.py", "test_floor.py").replace("memory-", "")
    del cell["params"]["backend"], cell["extra_info"]["backend"]
    cell["extra_info"]["floor"] = True
    seconds = count * (1e-6 + (_DECODING / params["threads"] if params else 0))
    cell["stats"]["data"] = [seconds] * 5
    return cell
