"""Fixtures of the gate's tests: a project, and sessions that nothing measured."""

from pathlib import Path

import pytest

from reports.gate import command, session
from tests.support.repositories import make_repository
from tests.support.sessions import FakeSessions


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a repository of one commit, and have the gate work in it."""
    folder = tmp_path / "project"
    make_repository(folder, {"__init__.py": b""})
    monkeypatch.setattr(command, "PROJECT", folder)
    for name in ("GITHUB_ACTIONS", "IMAGES"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def sessions(project: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSessions:
    """Replace the sessions of the gate in this project."""
    assert project.exists()
    fake = FakeSessions()
    monkeypatch.setattr(session, "run_sessions", fake.run_sessions)
    monkeypatch.setattr(session, "list_processors", lambda: [0])  # one pair at a time
    monkeypatch.setattr(command, "find_obstacle", lambda: fake.obstacle)
    return fake


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    """Make a folder for stores."""
    (tmp_path / "stores").mkdir()
    return tmp_path / "stores"
