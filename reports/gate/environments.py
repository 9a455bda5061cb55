"""Two virtual environments that differ in the version of one library; all others are those of this environment."""

import argparse
import re
import site
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import NamedTuple

from reports.errors import NotMeasurableError
from reports.files import hold_folder
from reports.text import shorten_text


class Library(NamedTuple):
    """A library, and the versions of both sides."""

    name: str
    versions: tuple[str, str]

    def find_modules(self) -> tuple[str, ...]:
        """Find the modules that it installs; if it isn't installed here, guess that it is named like its module."""
        name = normalize(self.name)
        found = [module for module, owners in packages_distributions().items() if name in map(normalize, owners)]
        return tuple(sorted(found)) or (name.replace("-", "_"),)


def normalize(name: str) -> str:
    """Spell the name of a distribution as indexes do."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_library(text: str) -> Library:
    """Read a library and two versions, such as ``h5py==3.15.1,3.16.0``."""
    found = re.fullmatch(r"([\w.-]+)==([\w.!+-]+),([\w.!+-]+)", text, re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} isn't a library with two versions, such as h5py==3.15.1,3.16.0")
    return Library(found[1], (found[2], found[3]))


@contextmanager
def make_pythons(library: Library) -> Iterator[tuple[str, str]]:
    """Make an environment for each version in a temporary folder; yield their interpreters."""
    with hold_folder("gate-environments-") as folder:
        old, new = (
            make_python(folder / side, library.name, version)
            for side, version in zip(("old", "new"), library.versions, strict=True)
        )
        yield old, new


def make_python(folder: Path, name: str, version: str) -> str:
    """Make an environment with this version of a library and what it needs; return its interpreter.

    What this environment has is there, too: pip installs the version in front of it.
    """
    venv.create(folder)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    outer = [f"import site; site.addsitedir({path!r})" for path in site.getsitepackages()]
    (packages / "outer.pth").write_text("\n".join(outer), encoding="utf-8")
    python = str(folder / "bin" / "python")
    done = subprocess.run(  # noqa: S603 - its own interpreter
        [sys.executable, "-m", "pip", "--python", python, "install", "--no-input", f"{name}=={version}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = shorten_text(" ".join(line for line in done.stderr.splitlines() if line.startswith("ERROR")), 400)
        raise NotMeasurableError(f"pip can't install {name} {version}: {reason or shorten_text(done.stderr)}")
    return python
