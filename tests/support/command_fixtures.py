"""Fixtures for the tests of `python -m storage`."""

from pathlib import Path

import pytest

import storage
from storage.dataset import writer
from tests.support.commands import Command
from tests.support.image_sets import make_set


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    images, labels = make_set(30, 5, 7)
    monkeypatch.setattr(writer, "PART", 10 * images[0].nbytes)
    storage.save(tmp_path / "set", [images], labels, "png", durable=False)
    return tmp_path / "set"
