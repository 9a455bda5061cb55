"""Zip files: damage that zipfile doesn't notice."""

import zipfile
from pathlib import Path

import pytest

from storage.sources.archives import Member
from storage.sources.zips import ZipArchive, open_zip


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


@pytest.mark.parametrize(
    ("system", "names"), [(0, ["cat/1.jpg"]), (3, ["cat\\1.jpg", "cat\\"])], ids=["Windows", "Unix"]
)
def test_backslashes_are_separators_in_archives_of_windows(system: int, names: list[str], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("cat\\1.jpg", "cat\\"):
            member = zipfile.ZipInfo(name)
            member.create_system = system
            archive.writestr(member, b"content")
    archive_file = ZipArchive(tmp_path / "a.zip")
    members = [member for member in archive_file.list_members() if isinstance(member, Member)]
    assert [member.name for member in members] == names
    assert list(archive_file.read_members(members[:1])) == [b"content"]
