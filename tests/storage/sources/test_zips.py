"""Zip files: damage that zipfile doesn't notice."""

import zipfile
from pathlib import Path

import pytest

from storage.sources.zips import open_zip


def test_a_member_that_damage_hides_is_missed(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("first", b"1")
        archive.writestr("second", b"2")
        archive.comment = b"any"
    with open_zip(path) as archive:
        assert archive.namelist() == ["first", "second"]
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\1\2") + 32  # the length of the comment of the first member
    content[place] = 255
    path.write_bytes(content)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["first"]
    with pytest.raises(zipfile.BadZipFile, match="it lists 1 members, and should have 2"), open_zip(path):
        pass
