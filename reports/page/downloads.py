"""What a reader can take from the page: the run as it was read, and its cells as CSV."""

import base64
import csv
import gzip
import io
import re

from reports.groups import group_results
from reports.results import Run

_COLUMNS = (
    "cell",
    "operation",
    "backend",
    "images",
    "store_images",
    "axes",
    "rounds",
    "median_seconds",
    "first_quartile_seconds",
    "third_quartile_seconds",
    "images_per_second",
    "apparent_bytes",
    "allocated_bytes",
    "files",
    "unstable",
)


def pack(content: bytes) -> str:
    """Pack bytes for a page: gzip, the same for the same bytes, then base64."""
    return base64.b64encode(gzip.compress(content, mtime=0)).decode("ascii")


def make_csv(run: Run) -> str:
    """Make a table of all cells for other programs; a quote disarms what a spreadsheet would take for a formula."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for results in group_results(run.results).values():
        for result in results:
            low, middle, high = result.quartiles
            disk = result.disk
            sizes = (disk.apparent_bytes, disk.allocated_bytes, disk.files) if disk else ("", "", "")
            axes = " ".join(f"{name}={value}" for name, value in result.axes)
            words = (_disarm(text) for text in (result.cell, result.operation, result.backend))
            counts = (result.images, result.store_images, _disarm(axes), len(result.rounds))
            writer.writerow((*words, *counts, middle, low, high, result.images_per_second, *sizes, result.unstable))
    return text.getvalue()


def _disarm(text: str) -> str:
    clean = text.encode("utf-8", "replace").decode()
    return f"'{clean}" if clean[:1] in set("=+-@\t\r") else clean


def name_file(run: Run) -> str:
    """Name the run's file by letters, digits, dots and dashes only, without its suffix."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", run.path.stem)[:80].strip("-.") or "run"
