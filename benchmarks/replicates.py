"""Further processes that measure cells again: rounds of one process aren't replicates, processes are.

This module is also the plugin of these processes (``-p benchmarks.replicates``).
"""

import fcntl
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks.children import start_child
from benchmarks.directories import STORES
from benchmarks.gate_session import pytest_benchmark_generate_commit_info, pytest_benchmark_generate_machine_info
from benchmarks.options import Options

__all__ = ["pytest_benchmark_generate_commit_info", "pytest_benchmark_generate_machine_info"]  # hooks

REMOVED = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_XDIST_WORKER")
OPTIONAL = ("COLD", "DURABLE", "LATENCY", "REMOTE")  # options that the session may have overruled
PASSES = 3  # over all cells of a process: what else runs on the processor slows one pass, but hardly all of a cell's
FOLDER = "replicate"
STARTED = "IMAGE_STORAGE_STARTED"  # names the file in which a replicate says which cell has started


class Replicate(NamedTuple):
    """What one process measured: rounds by cell, and why cells have none."""

    rounds: dict[str, list[float]]
    failed: dict[str, str]


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Divide the time of cells that have their own, as that of the others is divided."""
    for item in items:
        marker = item.get_closest_marker("benchmark")
        if marker is not None and "max_time" in marker.kwargs:
            seconds = marker.kwargs["max_time"] / PASSES
            rounds = math.ceil(marker.kwargs.get("min_rounds", 1) / PASSES)
            options = {**marker.kwargs, "max_time": seconds, "min_rounds": rounds}
            item.add_marker(pytest.mark.benchmark(**options), append=False)


def pytest_runtestloop(session: pytest.Session) -> bool:
    """Measure all cells once, then again. A cell that follows itself is torn down in between."""
    items = session.items * PASSES
    for item, following in zip(items, [*items[1:], None], strict=True):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None if following is item else following)
    return True


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note which cell starts, in case it kills the process."""
    Path(os.environ[STARTED]).write_text(item.nodeid, encoding="utf-8")


def measure_replicate(config: pytest.Config, options: Options, cells: Sequence[str]) -> Replicate:
    """Measure cells in a fresh process, on the disk of this session."""
    with _hold_folder(config.stash[STORES]) as folder:
        os.sync()  # so that no earlier write reaches the disk while the clock runs
        code = _run_process(_make_command(config, options, cells, folder), config.rootpath, folder / "started")
        return _read(folder, code, cells)


@contextmanager
def _hold_folder(parent: Path) -> Iterator[Path]:
    """Make the folder of a replicate. It is locked meanwhile: the next session deletes it if this one was killed."""
    unnamed = Path(tempfile.mkdtemp(prefix="new-", dir=parent))
    descriptor = os.open(unnamed, os.O_RDONLY)
    with suppress(OSError):  # not every file system has locks
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    folder = unnamed.rename(parent / FOLDER)  # only now can another session find it
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _make_command(config: pytest.Config, options: Options, cells: Sequence[str], folder: Path) -> list[str]:
    names = folder / "cells"
    names.write_text("\n".join(cells), encoding="utf-8")
    plugins = ("pytest_benchmark.plugin", "benchmarks.replicates", "benchmarks.slowdown", "no:cacheprovider")
    chosen = {
        "cutoffs": ",".join(map(str, options.cutoffs or ())),
        "backends": ",".join(options.backends),
        **choose_images(options),
        "remote": options.remote,
        "latency": str(options.latency or ""),
        "benchmark-json": str(folder / "run.json"),
        "basetemp": str(folder / "stores"),
        "benchmark-timer": str(config.option.benchmark_timer),
        "benchmark-max-time": str(float(config.option.benchmark_max_time) / PASSES),
        "benchmark-min-rounds": str(math.ceil(config.option.benchmark_min_rounds / PASSES)),
    }
    entries = (  # addopts might name replicates, too
        "addopts=",
        f"durable={'durable' in options.durabilities}",
        f"cold={'cold' in options.caches}",
    )
    flags = ["--benchmark-disable-gc"] if config.option.benchmark_disable_gc else []
    command = [sys.executable, "-m", "pytest", f"@{names}", *flags, *(f"-p{name}" for name in plugins)]
    command += [f"--{name}={value}" for name, value in chosen.items() if value]
    return [*command, *(word for entry in entries for word in ("-o", entry))]


def choose_images(options: Options) -> dict[str, str]:
    """Choose the same images, whatever the folder of the process."""
    if options.images:
        sizes = {"payloads": ",".join(options.payloads), "size": str(options.size)}
        return {"images": make_absolute(options.images), **sizes}
    return {"cifar10": options.cifar10 if options.cifar10 == "auto" else make_absolute(options.cifar10)}


def make_absolute(setting: str) -> str:
    """Make a path absolute, also one that starts with ``~``; leave the name of a generated set as it is."""
    expanded = os.path.expanduser(setting)  # noqa: PTH111 - Path's own fails at an unknown ~name
    return setting if setting == "standin" else str(Path(expanded).absolute())


def _run_process(command: Sequence[str], folder: Path, started: Path) -> int:
    """Run a process to its end; neither it nor one of its own outlives this call, nor it this process."""
    kept = {name: value for name, value in os.environ.items() if name not in {*REMOVED, *OPTIONAL}}
    environment = kept | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", STARTED: str(started)}
    with (
        started.with_name("output").open("wb") as output,
        start_child(
            command, folder=folder, environment=environment, stdout=output, stderr=subprocess.STDOUT, new_session=True
        ) as process,
    ):
        try:
            return process.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _read(folder: Path, code: int, cells: Sequence[str]) -> Replicate:
    """Read what a process measured, and explain what it didn't."""
    document = folder / "run.json"
    if not document.exists():
        started = folder / "started"
        last = started.read_text(encoding="utf-8") if started.exists() else cells[0]
        lines = (folder / "output").read_text(encoding="utf-8", errors="replace").split("\n")
        words = next((line for line in reversed(lines) if line.strip()), "no output")
        return Replicate({}, {last: signal.Signals(-code).name if code < 0 else f"exit code {code}: {words.strip()}"})
    run = json.loads(document.read_bytes())
    rounds: dict[str, list[float]] = {}
    for measured in run["benchmarks"]:
        rounds.setdefault(measured["fullname"], []).extend(measured["stats"]["data"])
    reasons = {**run["run"]["failed"], **run["run"]["skipped"]}
    failed = {cell: reasons.get(cell, "not measured") for cell in cells if cell in reasons or cell not in rounds}
    return Replicate(rounds, failed)
