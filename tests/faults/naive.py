"""Saving without any care, as programs do that were never killed: what each harness must find guilty."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import pytest

import storage
from storage import BACKENDS, Images, Labels, Reader

LEFT: list[BinaryIO] = []
NAME, PART = "manifest.json", "part-00000"


def save(
    path: Path, images: Images, labels: Labels, backend: str, *, overwrite: bool = False, durable: bool = True
) -> None:
    """Write in place."""
    assert durable in {True, False}
    if overwrite:
        shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    (path / NAME).write_text(f'{{"backend": "{backend}"}}', encoding="utf-8")
    BACKENDS[backend].store_many(path / PART, images, labels)


def load(path: Path, *, verify: bool = True) -> tuple[Images, Labels]:
    """Believe what is there."""
    assert verify in {True, False}
    return BACKENDS[_read(path)].read_many(path / PART)


def open_reader(path: Path, *, verify: bool = True) -> Reader:
    """Believe what is there; each failure leaves a file open."""
    assert verify in {True, False}
    LEFT.append(Path(os.devnull).open("rb"))  # noqa: SIM115 - careless
    reader = BACKENDS[_read(path)].open_reader(path / PART)
    LEFT.pop().close()
    return reader


def check(path: Path) -> SimpleNamespace:
    """Find nothing."""
    return SimpleNamespace(path=path, is_whole=True, records={})


def _read(path: Path) -> str:
    try:
        found = re.fullmatch(r'\{"backend": "(\w+)"\}', (path / NAME).read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError as error:
        raise storage.StoreNotFoundError(f"{path}: nothing there") from error
    if found is None or found[1] not in BACKENDS:
        raise storage.CorruptStoreError(f"{path}: {NAME} is damaged")
    return found[1]


@pytest.fixture
def careless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the naive functions in the place of ours."""
    functions: dict[str, Callable[..., object]] = {"save": save, "load": load, "open": open_reader, "check": check}
    for name, function in functions.items():
        monkeypatch.setattr(storage, name, function, raising=False)
