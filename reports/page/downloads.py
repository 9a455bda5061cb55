"""What a reader can take from the page: the run as it was read, and its cells as CSV."""

import base64
import csv
import gzip
import io
import re

import numpy as np

from reports.run import Run, group_results

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
# A number that ends its line, as those of a list do. No JSON has bytes below 32, but for white space.
_NUMBER = re.compile(rb"(?<= )\d{1,5}\.?\d{0,9}(?:e-\d\d)?(?=,?\n)")
_LONGEST = 2**48  # nanoseconds, three days: what six bytes hold
_ALIKE = re.compile(rb"(\n *\0,)\1+")


def pack(content: bytes) -> str:
    """Pack bytes for a page: gzip, the same for the same bytes, then base64."""
    return base64.b64encode(gzip.compress(content, mtime=0)).decode("ascii")


def pack_run(content: bytes) -> str:
    """Pack the JSON of a run, so that `page.js` can unpack each of its bytes.

    Rounds are whole nanoseconds, and most of a run: as text they take twice as much, however they are compressed. In
    the text a byte 0 stands for each. Behind the text are a byte 1 and all rounds: the lowest bytes of all, then the
    next, six of them. What Python would write in another way stays text.
    """
    rounds: list[int] = []

    def take(found: re.Match[bytes]) -> bytes:
        nanoseconds = round(1e9 * float(found[0]))
        if nanoseconds >= _LONGEST or repr(nanoseconds / 1e9).encode() != found[0]:
            return found[0]
        rounds.append(nanoseconds)
        return b"\0"

    text = _NUMBER.sub(take, content)
    text = _ALIKE.sub(lambda lines: b"%b\2%d\2" % (lines[1], len(lines[0]) // len(lines[1])), text)
    return pack(text + b"\1" + np.array(rounds, "<i8").view(np.uint8).reshape(-1, 8)[:, :6].T.tobytes())


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
