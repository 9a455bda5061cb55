"""Sessions of the gate that nothing measured, and programs that replace Python."""

from collections.abc import Callable, Sequence
from pathlib import Path

from reports.gate.pairs import Session
from reports.gate.session import Selection, Side

READ, STORE = (f"benchmarks/test_many.py::test_{name}_many[hdf5-10]" for name in ("read", "store"))


class FakeSessions:
    """Sessions that take no time: cells of a millisecond, ratios that a test chooses. None measures photos."""

    def __init__(self) -> None:
        self.ratios = {READ: 1.0, STORE: 1.0}
        self.absent: dict[str, str] = {}
        self.libraries = {"baseline": {"h5py": "3.15"}, "candidate": {"h5py": "3.15"}}
        self.unavailable: dict[str, dict[str, str]] = {"baseline": {}, "candidate": {}}
        self.pythons: set[tuple[str, str]] = set()
        self.count = 0
        self.selections: list[Selection] = []
        self.obstacle = "a test traces nothing"
        self.before: Callable[[], object] = lambda: None

    def run_sessions(self, sides: Sequence[Side], selection: Selection, *_: object, **__: object) -> list[Session]:
        """Run a session of each side."""
        return [self._run_session(side, selection) for side in sides]

    def _run_session(self, side: Side, selection: Selection) -> Session:
        self.before()
        self.selections.append(selection)
        if selection.images:
            return Session({})
        self.count += 1
        self.pythons.add((side.name, side.python))
        candidate = side.name == "candidate"
        measured = {cell: ratio for cell, ratio in self.ratios.items() if not (candidate and cell in self.absent)}
        noise = 1 + 0.001 * (self.count % 7)
        return Session(
            {cell: 1e-3 * noise * (ratio if candidate else 1) for cell, ratio in measured.items()},
            backends=dict.fromkeys(measured, "hdf5"),
            absent=self.absent if candidate else {},
            libraries=self.libraries[side.name],
            images={"12ab": "cifar10, 1,000 images"},
            unavailable=self.unavailable[side.name],
        )


def write_interpreter(folder: Path, *lines: str) -> str:
    path = folder / "python"
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return str(path)
