"""Blocks of the gate: fresh processes that measure the chosen cells in one of two trees, a few rounds each."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from reports.errors import NotMeasurableError, WrongInputError
from reports.reading import read_run
from reports.run import BrokenRunError
from reports.text import shorten_text

ROUNDS = ("--benchmark-max-time=0.02", "--benchmark-min-rounds=3")
MEMORY = Path("/dev/shm")  # noqa: S108 - a file system in memory, where there is one
STORES = 64  # that a block may leave until it ends, of the largest cutoff
BYTES_AN_IMAGE = 4_096  # in a store of small images
LONGEST_BLOCK = 600  # seconds
SLOWDOWN = "GATE_SLOWDOWN"  # the variable that benchmarks/block.py reads
NOT_OURS = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_XDIST_WORKER", "PYTHONDONTWRITEBYTECODE", SLOWDOWN)
COLLECTED_NOTHING = 5  # pytest's exit code
ABSENT = re.compile(r"^(?:FAILED|ERROR|SKIPPED) (\S+::\S+) - (.*)$", re.MULTILINE)  # of pytest's summary


@dataclass(frozen=True)
class Arm:
    """One side of the comparison.

    Attributes
    ----------
    name : str
        ``base`` or ``new``.
    tree : Path
        Today's benchmarks, and the `storage` of this arm.
    python : str
        The interpreter.
    slowdown : dict
        What its cells are slowed by, for the self-test; see ``benchmarks/slowdowns.py``.
    """

    name: str
    tree: Path
    python: str = sys.executable
    slowdown: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Selection:
    """Which cells a block runs: ids, or all that a pytest -k expression and cutoffs choose."""

    cutoffs: tuple[int, ...]
    expression: str = ""
    cells: tuple[str, ...] = ()


@dataclass(frozen=True)
class Block:
    """What one process measured.

    Attributes
    ----------
    seconds : dict of str to float
        Id of a cell to the median of its rounds.
    thresholds : dict of str to float
        Of those cells that have one of their own.
    absent : dict of str to str
        Id of a cell that failed or was skipped to the reason, one line.
    libraries : dict of str to str
        Versions, by name.
    """

    seconds: Mapping[str, float]
    thresholds: Mapping[str, float] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def claim_stores(folder: Path | None, cutoff: int) -> Iterator[Path]:
    """Make a folder for the stores of all blocks, in `folder`, else in memory, else where temporary files go.

    Memory is chosen if it holds the stores of a block of so many images.
    """
    needed = STORES * cutoff * BYTES_AN_IMAGE
    in_memory = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= needed
    with tempfile.TemporaryDirectory(prefix="gate-stores-", dir=folder or (MEMORY if in_memory else None)) as name:
        yield Path(name)


def run_block(arm: Arm, selection: Selection, stores: Path, seed: int) -> Block:
    """Run one block.

    Parameters
    ----------
    arm : Arm
        Where, and by which interpreter.
    selection : Selection
        Which cells.
    stores : Path
        A folder for its stores; what the block leaves there is deleted.
    seed : int
        Of the hashes of strings; the same for both arms of a pair.

    Raises
    ------
    NotMeasurableError
        The process did not get as far as measuring, or did not come back.
    WrongInputError
        The expression is none.
    """
    report = arm.tree / "block.json"
    report.unlink(missing_ok=True)
    os.sync()  # what others wrote, or the last block, is on the disk before the clock starts
    code, output = _run_process(arm, _make_command(arm, selection, stores / "block", report), seed)
    shutil.rmtree(stores / "block", ignore_errors=True)
    if code == COLLECTED_NOTHING:
        return Block({})
    if "Wrong expression passed to '-k'" in output:
        raise WrongInputError(f"{shorten_text(selection.expression)}: no expression that pytest's -k takes")
    absent = dict(ABSENT.findall(output))
    if not (report.exists() or absent):
        raise NotMeasurableError(f"the {arm.name} arm {_explain(code, output)}")
    return _read_block(report, absent)


def _make_command(arm: Arm, selection: Selection, stores: Path, report: Path) -> list[str]:
    chosen = (*selection.cells, *_choose_backends(selection)) or ("benchmarks", "-k", selection.expression)
    plugins = ("-p", "pytest_benchmark.plugin", "-p", "benchmarks.gate_session", "-p", "no:cacheprovider")
    cutoffs = ",".join(map(str, selection.cutoffs))
    folders = (f"--storage={arm.tree / 'storage'}", f"--basetemp={stores}", f"--benchmark-json={report}")
    shown = ("-v", "-ra", "--no-fold-skipped", "--tb=no", "--color=no")
    return [arm.python, "-m", "pytest", *chosen, *plugins, *ROUNDS, *folders, f"--cutoffs={cutoffs}", *shown]


def _choose_backends(selection: Selection) -> Iterator[str]:
    """Name the backends of the cells, so that no block imports the libraries of the others: half a second."""
    names = dict.fromkeys(re.split(r"[-\]]", cell.partition("[")[2])[0] for cell in selection.cells)
    if all(names) and names:
        yield f"--backends={','.join(names)}"


def _make_environment(arm: Arm, seed: int) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in NOT_OURS}
    own = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONHASHSEED": str(seed), "COLD": "false", "DURABLE": "false"}
    own["COLUMNS"] = "1000"  # reasons are not cut
    if (images := kept.get("CIFAR10", "")) and Path(images).exists():
        own["CIFAR10"] = str(Path(images).absolute())  # the block runs in another folder
    return kept | own | ({SLOWDOWN: json.dumps(arm.slowdown)} if arm.slowdown else {})


def _run_process(arm: Arm, command: Sequence[str], seed: int) -> tuple[int, str]:
    """Run a block to its end; nothing of it outlives this call."""
    with subprocess.Popen(  # noqa: S603 - this suite's own command
        command,
        cwd=arm.tree,
        env=_make_environment(arm, seed),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=LONGEST_BLOCK)
        except subprocess.TimeoutExpired as late:
            message = f"the {arm.name} arm took more than {LONGEST_BLOCK} seconds for one block"
            raise NotMeasurableError(message) from late
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its workers too
    return process.returncode, output.decode(errors="replace")


def _explain(code: int, output: str) -> str:
    """Say in one line why a block measured nothing."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if code < 0:
        running = next((line.split()[0] for line in reversed(lines) if "::" in line), "its start")
        return f"was killed by {signal.Signals(-code).name} in {shorten_text(running)}"
    errors = [line.removeprefix("E ").strip() for line in lines if line.startswith(("E ", "ERROR"))] or lines[-1:]
    return f"cannot run today's benchmarks (exit code {code}): {shorten_text(' '.join(errors[-1:]) or 'no output')}"


def _read_block(report: Path, absent: Mapping[str, str]) -> Block:
    """Read what a block measured; where no cell was measured, there is no run, and the reasons are all there is."""
    try:
        run = read_run(report)
    except BrokenRunError as problem:
        if absent:
            return Block({}, absent=absent)
        raise NotMeasurableError(f"a block measured nothing: {problem}") from problem
    return Block(
        seconds={result.cell: result.median for result in run.results},
        thresholds={result.cell: result.threshold for result in run.results if result.threshold is not None},
        absent={**run.failed, **run.skipped, **dict.fromkeys(run.missing, "the block ended before it")},
        libraries=run.libraries,
    )
