"""Machines whose blocks are made up, and programs that stand for Python: what a gate finds, a test has chosen."""

from collections.abc import Callable
from pathlib import Path

from reports.gate.session import Arm, Block

READ, STORE = (f"benchmarks/test_many.py::test_{name}_many[hdf5-10]" for name in ("read", "store"))


class Machine:
    """A machine whose blocks are made up: cells of a millisecond, ratios that a test chooses."""

    def __init__(self) -> None:
        self.ratios = {READ: 1.0, STORE: 1.0}
        self.absent: dict[str, str] = {}
        self.libraries = {"base": {"h5py": "3.15"}, "new": {"h5py": "3.15"}}
        self.pythons: set[tuple[str, str]] = set()
        self.blocks = 0
        self.before: Callable[[], object] = lambda: None

    def run_block(self, arm: Arm, *_: object, **__: object) -> Block:
        """Run a block that takes no time."""
        self.before()
        self.blocks += 1
        self.pythons.add((arm.name, arm.python))
        new = arm.name == "new"
        measured = {cell: ratio for cell, ratio in self.ratios.items() if not (new and cell in self.absent)}
        noise = 1 + 0.001 * (self.blocks % 7)
        return Block(
            {cell: 1e-3 * noise * (ratio if new else 1) for cell, ratio in measured.items()},
            absent=self.absent if new else {},
            libraries=self.libraries[arm.name],
        )


def write_interpreter(folder: Path, *lines: str) -> str:
    """Write a program that stands for Python and does what these lines of shell say."""
    path = folder / "python"
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return str(path)
