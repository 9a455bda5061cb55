"""How much work a JPEG file asks for: its pixels, once for each of its scans.

A progressive file has about ten scans, each of which refines all pixels. A hostile one has thousands that hold nothing:
libjpeg visits every block for each of them.
"""

import re

from .errors import DecodingError

EXPANSION = 512  # pixels that a byte can hold: a bit for each block of 8 x 8
BASE = 1 << 24  # pixels that are decoded even if the file seems too small
SCANNED_EXPANSION = 4 * EXPANSION  # pixels of all scans; all but the first of a plain picture take hardly a byte
SCANNED_BASE = 16 * BASE
START = 2  # bytes before the first marker
MARKER = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])")  # one that has a length behind it, or ends the file
SEQUENTIAL = {b"\xc0", b"\xc1", b"\xc3", b"\xc9"}  # frames that aren't progressive
SCAN, END = b"\xda", b"\xd9"
FRAME_COMPONENTS, SCAN_COMPONENTS = 7, 2  # places of their numbers behind the marker


def check_work(pixels: int, content: memoryview) -> None:
    """Refuse more pixels, or pixels of all scans together, than the content of a JPEG file can hold."""
    if pixels > BASE + EXPANSION * len(content):
        raise DecodingError(f"it claims {pixels:,} pixels, more than a JPEG file of {len(content):,} bytes can hold")
    scans = count_scans(content)
    if scans * pixels > SCANNED_BASE + SCANNED_EXPANSION * len(content):
        raise DecodingError(
            f"it has {scans:,} scans of {pixels:,} pixels, too many for a JPEG file of {len(content):,} bytes",
            hint="save it as a baseline JPEG, or leave it out",
        )


def count_scans(content: memoryview) -> int:
    """Count the scans that libjpeg would read; a first one of all components is the only one, unless more refine it."""
    count, place, components = 0, START, memoryview(b"")
    while (found := MARKER.search(content, place)) is not None and found[1] != END:
        place = found.end()
        if found[1] in SEQUENTIAL:
            components = content[place + FRAME_COMPONENTS :][:1]
        elif found[1] == SCAN:
            count += 1
            if content[place + SCAN_COMPONENTS :][:1] == components:
                break
        place += int.from_bytes(content[place : place + 2], "big")
    return count
