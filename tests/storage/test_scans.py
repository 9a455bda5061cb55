"""How many scans a JPEG file has, and how many are too many."""

import re

import pytest
from PIL import Image as Pillow

import storage
from storage import DecodingError
from storage.scans import count_scans
from tests.support.image_files import DECODERS, choose_decoder, make_exif, make_picture, save

SCAN, END = b"\xff\xda", b"\xff\xd9"
PROGRESSIVE = save(make_picture(), "JPEG", progressive=True)
GRAY = save(Pillow.new("L", (2048, 2048)), "JPEG", progressive=True)


def add_scans(content: bytes, count: int) -> bytes:
    """Repeat the last scan of a file."""
    last = content[content.rindex(SCAN) : -len(END)]
    return content[: -len(END)] + count * last + END


@pytest.mark.parametrize(
    ("content", "count"),
    [
        (save(make_picture(), "JPEG"), 1),
        (save(make_picture(), "JPEG") + SCAN, 1),
        (PROGRESSIVE, 10),
        (save(make_picture(), "JPEG", progressive=True, restart_marker_blocks=1), 10),
        (save(Pillow.fromarray(make_picture()).convert("L"), "JPEG", progressive=True), 6),
        (add_scans(PROGRESSIVE, 7), 17),
        (PROGRESSIVE + PROGRESSIVE, 10),
        (PROGRESSIVE.replace(SCAN, b"\xff\xff" + SCAN), 10),
        (save(make_picture(), "JPEG", progressive=True, exif=make_exif(1) + SCAN), 10),
        (PROGRESSIVE[: PROGRESSIVE.rindex(SCAN) + 2], 10),
        (b"", 0),
    ],
    ids=["one", "behind one", "usual", "restarts", "gray", "more", "two files", "filled", "metadata", "cut", "empty"],
)
def test_the_scans_that_libjpeg_would_read_are_counted(content: bytes, count: int) -> None:
    assert count_scans(memoryview(content)) == count


def test_a_first_scan_of_one_component_is_followed_by_others() -> None:
    content = save(make_picture(), "JPEG")
    place = content.index(SCAN)
    changed = content[: place + 4] + b"\1" + content[place + 5 :]
    assert count_scans(memoryview(changed.replace(END, changed[place:]))) == 2


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_small_jpeg_of_many_scans_is_refused_before_it_is_decoded(
    decoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose_decoder(decoder, monkeypatch)
    assert storage.decode(GRAY).shape == (2048, 2048, 3)
    content = add_scans(GRAY, 80)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    with pytest.raises(DecodingError, match=re.escape("it has 86 scans of 4,194,304 pixels, too many for a JPEG file")):
        storage.decode(content)
