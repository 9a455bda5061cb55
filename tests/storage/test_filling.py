"""What backends report while they read: a dataset verifies it meanwhile."""

import os
from pathlib import Path

import numpy as np
import pytest

from storage import BACKENDS
from storage import arrays as arrays_module
from storage.arrays import find_address, read_result
from storage.filling import report_filled, watching
from tests.support.image_sets import make_set


def test_what_a_backend_reports_is_as_it_stays(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays_module, "PIECE", 500)
    images, labels = make_set(30)
    module = BACKENDS[backend]
    module.store_many(tmp_path / "store", images, labels)
    out, reported = np.zeros_like(images), []
    with watching(lambda piece: reported.append((find_address(piece) - find_address(out), piece.tobytes()))):
        module.read_many(tmp_path / "store", out)
    content = out.tobytes()
    for place, piece in reported:
        if 0 <= place < len(content):  # labels are somewhere else
            assert content[place : place + len(piece)] == piece
    np.testing.assert_array_equal(out, images)


def test_a_result_is_reported_piece_by_piece_to_who_watches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays_module, "PIECE", 4)
    (tmp_path / "file").write_bytes(b"0123456789")
    descriptor, array = os.open(tmp_path / "file", os.O_RDONLY), np.empty(9, np.uint8)
    pieces: list[bytes] = []
    try:
        with watching(lambda piece: pieces.append(piece.tobytes())):
            read_result(Path("store"), descriptor, 1, array)
        report_filled(array)
    finally:
        os.close(descriptor)
    assert pieces == [b"1234", b"5678", b"9"]
