"""The downloads of a page: the run as it was read, and its cells as CSV."""

import base64
import csv
import gzip
import io
import re

import numpy as np

from reports.run import Run

_COLUMNS = (
    *("cell", "operation", "backend", "images", "store_images", "axes", "rounds"),
    *("median_seconds", "first_quartile_seconds", "third_quartile_seconds", "images_per_second"),
    *("apparent_bytes", "allocated_bytes", "files", "unstable"),
)
# A number that ends its line, as in a list. JSON has no bytes below 32 except for white space.
_NUMBER = re.compile(rb"(?<= )\d{1,5}\.?\d{0,9}(?:e-\d\d)?(?=,?\n)")
MAX_RUN = 700_000  # characters of a packed run: a page is smaller than 1 MB
_MAX_NANOSECONDS = 2**48  # three days, in six bytes
_REPEATED = re.compile(rb"(\n *\0,)\1+")


def pack(content: bytes) -> str:
    """Pack bytes for a page: gzip, the same for the same bytes, then base64."""
    return base64.b64encode(gzip.compress(content, mtime=0)).decode("ascii")


def pack_run(content: bytes) -> str:
    """Pack the JSON of a run so that `page.js` can restore every byte.

    Rounds are whole nanoseconds, and most of a run: as text they take twice as much, even compressed. In the text a
    byte 0 replaces each round. After the text come a byte 1 and all rounds: the lowest bytes of all, then the next, six
    of them. A number that Python would write differently stays text.
    """
    rounds: list[int] = []

    def take(found: re.Match[bytes]) -> bytes:
        nanoseconds = round(1e9 * float(found[0]))
        if nanoseconds >= _MAX_NANOSECONDS or repr(nanoseconds / 1e9).encode() != found[0]:
            return found[0]
        rounds.append(nanoseconds)
        return b"\0"

    text = _NUMBER.sub(take, content)
    text = _REPEATED.sub(lambda lines: b"%b\2%d\2" % (lines[1], len(lines[0]) // len(lines[1])), text)
    return pack(text + b"\1" + np.array(rounds, "<i8").view(np.uint8).reshape(-1, 8)[:, :6].T.tobytes())


def make_csv(run: Run) -> str:
    """Write all cells as CSV; a quote disarms text that a spreadsheet would take for a formula."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for result in (result for results in run.groups.values() for result in results):
        low, middle, high = result.quartiles
        disk = result.disk
        sizes = (disk.apparent_bytes, disk.allocated_bytes, disk.files) if disk else ("", "", "")
        params = " ".join(f"{name}={value}" for name, value in result.params)
        words = map(_disarm, (result.cell, result.operation, result.backend))
        counts = (result.images, result.store_images, _disarm(params), len(result.rounds))
        writer.writerow((*words, *counts, middle, low, high, result.images_per_second, *sizes, result.unstable))
    return text.getvalue()


def _disarm(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def name_file(run: Run) -> str:
    """Name the run's file by letters, digits, dots and dashes only, without its suffix."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", run.path.stem)[:80].strip("-.") or "run"
