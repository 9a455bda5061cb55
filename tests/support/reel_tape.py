"""A library in two versions, the second one slower, and a suite whose `npy` uses it."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

CODE = "__version__ = '{version}'\ndef wind():\n    return {work}\n"
WORK: Mapping[str, str] = {"1.0": "0", "2.0": "sum(range(60_000))"}


def write_wheel(folder: Path, version: str, content: str) -> None:
    """Write a wheel of the library `reel-tape`, whose module is `reel_tape`."""
    folder.mkdir(exist_ok=True)
    info = f"reel_tape-{version}.dist-info"
    with zipfile.ZipFile(folder / f"reel_tape-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("reel_tape.py", content)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: reel-tape\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def write_wheels(folder: Path) -> None:
    """Write the wheels of both versions."""
    for version, work in WORK.items():
        write_wheel(folder, version, CODE.format(version=version, work=work))


def use_library(suite: Path) -> None:
    """Make `npy` of a copy of the suite use the library whenever it stores images."""
    path = suite / "storage" / "backends" / "npy.py"
    text = path.read_text(encoding="utf-8")
    before = "    folder = claim_store(store)\n"
    assert text.count(before) == 1, "npy.py has changed: adapt this module"
    text = text.replace(before, f"{before}    reel_tape.wind()\n")
    path.write_text(text.replace("import numpy", "import reel_tape\nimport numpy", 1), encoding="utf-8")
