"""`python -m storage.go_bridge`: build the Go bridge into the user's cache."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from . import INSTALL, PACKAGES, SOURCES, find_library

DEBIAN = Path("/usr/share/gocode")  # where Debian's packages have the sources of Go libraries
LIBRARIES = ("src/github.com/dgraph-io/badger", "src/go.etcd.io/bbolt")


class BuildError(Exception):
    """The bridge cannot be built; the message says why."""


def main() -> int:
    """Build the bridge; return the exit code: 0 built, 1 not built, and why is said."""
    try:
        library, versions = build()
    except (BuildError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{library}: {', '.join(f'{name} {version}' for name, version in versions.items())}\n")
    return 0


def build() -> tuple[Path, dict[str, str]]:
    """Build the bridge from Debian's sources where they are installed, else from modules that Go downloads.

    Returns
    -------
    library : Path
    versions : dict of str to str
        Of the libraries in it, and of Go.

    Raises
    ------
    BuildError
        There is no Go toolchain, or it cannot compile the sources.
    """
    go = shutil.which("go")
    if go is None:
        raise BuildError(f"there is no Go toolchain here: {INSTALL}")
    library = find_library()
    library.parent.mkdir(parents=True, exist_ok=True)
    packaged = all((DEBIAN / name).is_dir() for name in LIBRARIES)
    with TemporaryDirectory(dir=library.parent) as folder:  # the same file system: what is built there is moved
        sources = Path(folder, "src", "bridge")
        sources.mkdir(parents=True)
        for path in SOURCES:
            shutil.copy(path, sources)
        settings = {"GO111MODULE": "on", "GOFLAGS": "-mod=mod"}  # the checksums of what is downloaded are filled in
        if packaged:
            settings = {"GO111MODULE": "off", "GOFLAGS": "", "GOPATH": f"{folder}:{DEBIAN}"}
        command = [go, "build", "-buildmode=c-shared", "-ldflags=-s -w", "-o", f"{folder}/library", "."]
        _run(command, sources, CGO_ENABLED="1", **settings)
        versions = _ask_debian() if packaged else _read_modules()
        versions["Go"] = _run([go, "env", "GOVERSION"], sources).strip().removeprefix("go")
        Path(folder, "versions").write_text(json.dumps(versions), encoding="utf-8")
        Path(folder, "versions").replace(library.with_suffix(".json"))
        Path(folder, "library").replace(library)
    return library, versions


def _ask_debian() -> dict[str, str]:
    command = ["dpkg-query", "--show", "--showformat=${source:Upstream-Version}"]
    return {name: _run([*command, package], DEBIAN) for name, package in PACKAGES.items()}


def _read_modules() -> dict[str, str]:
    text = next(path for path in SOURCES if path.name == "go.mod").read_text(encoding="utf-8")
    return {name: re.findall(rf"/{name}(?:/v\d+)? v(\S+)", text)[0] for name in PACKAGES}


def _run(command: list[str], folder: Path, **environment: str) -> str:
    done = subprocess.run(  # noqa: S603 - Go's own command, and Debian's
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BuildError(f"{done.stderr}{' '.join(command)} failed: the Go bridge is not built")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
