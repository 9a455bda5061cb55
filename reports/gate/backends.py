"""Backends that were asked for by name: whether a side of the gate has them, before anything is measured."""

import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path

from reports.errors import WrongInputError
from reports.text import shorten_text

# Prints which of its arguments are entry points, or modules that can be found; one that is broken is there, too.
PROGRAM = """
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec

def is_module(name):
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError as error:
        return not f"{name}.".startswith(f"{error.name}.")
    except BaseException:
        return True

entries = {entry.name for entry in entry_points(group="image_storage.backends")}
print(*(name for name in sys.argv[1:] if (is_module(name) if "." in name else name in entries)), sep="\\n")
"""


def check_backends(named: Collection[str], pythons: Sequence[str], folders: Sequence[Path]) -> None:
    """Refuse names of backends that neither side has, each an interpreter and a worktree."""
    paths = [path for folder in folders for path in (folder / "storage" / "backends").glob("*.py")]
    built_in = {path.stem for path in paths if not path.stem.startswith("_")}
    others = [name for name in named if name not in built_in]
    found = [_find_others(*side, others) for side in zip(pythons, folders, strict=True)] if others else []
    if unknown := [name for name in others if not any(name in each for each in found)]:
        known = ", ".join(sorted(built_in)) or "none"
        raise WrongInputError(
            f"{shorten_text(unknown[0])!r} isn't a backend of either side; those of storage/ are {known}"
        )


def _find_others(python: str, folder: Path, names: Sequence[str]) -> list[str]:
    """Find which of these a side has from elsewhere; its worktree comes first on the path, as in a session."""
    command = [python, "-c", PROGRAM, *names]
    done = subprocess.run(  # noqa: S603 - its own interpreter
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise WrongInputError(f"{python} can't look for backends: {shorten_text(done.stderr.strip()[-200:])}")
    return done.stdout.splitlines()
