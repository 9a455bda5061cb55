"""What tests have workers do; they import nothing else for it."""

import os
import signal
import time
from pathlib import Path

from storage.errors import CorruptStoreError, StorageError
from storage.urls import find_location


def damage(number: int) -> int:
    """Fail as a damaged store does, later if the number is higher."""
    time.sleep(number / 10)
    if number:
        raise CorruptStoreError("it is cut short", store=Path("set"), record=number, name="a.jpg")
    return number


def finish_last(number: int) -> None:
    """Fail at once, except for the first, which takes longer and is fine."""
    time.sleep(0 if number else 0.5)
    if number:
        raise CorruptStoreError("it is cut short", store=Path("set"), record=number)


def fail(_: int) -> int:
    """Fail as a library does."""
    raise ValueError("no reason")


def refuse(url: str) -> None:
    """Fail as a bucket does that the worker may not read."""
    raise StorageError("the server refused access", store=find_location(url), hint="see whether it may do this")


def kill_once(marker: Path) -> int:
    """Kill the worker that is the first to do this."""
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()
