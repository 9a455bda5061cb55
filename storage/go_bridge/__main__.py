"""Build the Go bridge into the user's cache, from the sources in Debian's packages: `python -m storage.go_bridge`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from . import INSTALL, PACKAGES, SOURCES, find_library

DEBIAN = Path("/usr/share/gocode")  # where Debian's packages put the sources of Go libraries


class BuildError(Exception):
    """The bridge can't be built; the message says why."""


def main() -> int:
    """Build the bridge; return the exit code."""
    try:
        library, versions = build()
    except (BuildError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{library}: {', '.join(f'{name} {version}' for name, version in versions.items())}\n")
    return 0


def build() -> tuple[Path, dict[str, str]]:
    """Build the library; return its path, and the versions of what is in it."""
    go = shutil.which("go")
    if go is None:
        raise BuildError(f"there is no Go toolchain here: {INSTALL}")
    library = find_library()
    library.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=library.parent) as folder:  # on the same file system, so the result can be moved
        sources = Path(folder, "src", "bridge")
        sources.mkdir(parents=True)
        for path in SOURCES:
            shutil.copy(path, sources)
        settings = {"GO111MODULE": "off", "GOFLAGS": "", "GOPATH": f"{folder}:{DEBIAN}", "CGO_ENABLED": "1"}
        _run([go, "build", "-buildmode=c-shared", "-ldflags=-s -w", "-o", f"{folder}/library", "."], sources, settings)
        query = ["dpkg-query", "--show", "--showformat=${source:Upstream-Version}"]
        versions = {name: _run([*query, package], sources) for name, package in PACKAGES.items()}
        versions["Go"] = _run([go, "env", "GOVERSION"], sources).strip().removeprefix("go")
        Path(folder, "versions").write_text(json.dumps(versions), encoding="utf-8")
        Path(folder, "versions").replace(library.with_suffix(".json"))
        Path(folder, "library").replace(library)
    return library, versions


def _run(command: list[str], folder: Path, settings: dict[str, str] | None = None) -> str:
    done = subprocess.run(  # noqa: S603 - Go's own command, and Debian's
        command, cwd=folder, env=os.environ | (settings or {}), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BuildError(f"{done.stderr}{' '.join(command)} failed: the Go bridge is not built; {INSTALL}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
