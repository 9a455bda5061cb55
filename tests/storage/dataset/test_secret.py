"""The secret of a user: made once, private, and never one that another user could know or make."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.dataset.annotations import Annotations
from storage.dataset.secret import BYTES, read_secret
from storage.dataset.writer import Writer
from tests.support.image_sets import make_set
from tests.support.open_files import list_names

IMAGES, LABELS = make_set(4, 5, 7)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Name the file of the secret, which isn't there yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "image-storage" / "secret"


def test_the_secret_is_made_once_and_is_private(file: Path) -> None:
    secret = read_secret()
    assert len(secret) == BYTES
    assert file.read_bytes() == secret == read_secret()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert list_names(file.parent) == ["secret"]


def test_two_processes_that_make_the_secret_at_once_have_the_same(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_secret()
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: path != file and exists(path))
    assert read_secret() == first


def test_without_a_state_folder_the_secret_is_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("relative", ""):
        monkeypatch.setenv("XDG_STATE_HOME", value)
        assert (tmp_path / ".local/state/image-storage/secret").exists() is (value == "")
        assert read_secret()


def replace_by_pipe(file: Path) -> None:
    """Have the secret be a named pipe."""
    file.unlink()
    os.mkfifo(file)


def replace_by_link(file: Path) -> None:
    """Have the secret be a link to a file that holds as much."""
    file.rename(file.with_name("other"))
    file.symlink_to("other")


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.chmod(0o640),
        lambda file: file.write_bytes(b"short"),
        replace_by_pipe,
        replace_by_link,
    ],
    ids=["readable", "short", "pipe", "link"],
)
def test_a_secret_that_is_not_private_is_not_used(file: Path, change: Callable[[Path], object]) -> None:
    read_secret()
    change(file)
    assert read_secret() == b""


def test_the_secret_of_another_user_is_not_used(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_secret()
    assert file.exists()
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert read_secret() == b""


def fail(*_: object) -> Path:
    """Have no home."""
    raise RuntimeError("Could not determine home directory.")


def test_where_no_secret_can_be_kept_nothing_is_kept_or_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", fail)
    with Writer(
        tmp_path / "set", Annotations.check(LABELS), "npy", durable=False, overwrite=False, source="mine"
    ) as writer:
        writer.write_part(IMAGES[:2])
        assert (writer.finished, writer.kept) == (2, 0)
    assert list_names(tmp_path) == []
