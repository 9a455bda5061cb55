"""A run's JSON as checked, typed values: the one module of this room that opens a run.

A run is what pytest-benchmark 5 saves of one session of the suite, plus a key `run` of the suite's own. The file
may come from anywhere: every field that is used is checked, and statistics are computed from the raw rounds.
"""

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from reports.noise import MAX_THRESHOLD
from reports.run import Axes, BrokenRunError, Disk, Machine, Result, Run
from reports.text import shorten_text

FORMAT = 1  # the layout of the key `run` that this module reads

_NO_AXES = {"operation", "backend", "cutoff", "images"}
_AXES_OF_EXTRA_INFO = ("cache", "durability", "workers")  # its other fields are measurements
_WORDS = {bool: "true or false", dict: "an object", float: "seconds", int: "a count", list: "a list", str: "text"}
RANGES = {float: (1e-12, 1e9), int: (0, 2**63 - 1)}  # no timer sees a picosecond, no session lasts 30 years


def read_run(path: Path) -> Run:
    """Read and check the JSON of one run.

    Raises
    ------
    BrokenRunError
        The file cannot be read, or `parse_run` refuses what is in it. The message names the file.
    """
    return parse_run(path, read_content(path))


def read_content(path: Path) -> bytes:
    """Read the bytes of a run's file, for `parse_run`: a pipe gives them once only.

    Raises
    ------
    BrokenRunError
        The file is missing or cannot be read. The message names it.
    """
    try:
        return path.read_bytes()
    except OSError as problem:
        words = f"cannot be read ({problem.strerror}); name the JSON file of a run"
        raise BrokenRunError(f"{_shorten_path(path)}: {words}") from problem


def parse_run(path: Path, content: bytes) -> Run:
    """Check the JSON of one run, which was read from a path.

    Raises
    ------
    BrokenRunError
        The content is empty, no JSON, cut off, of another suite or an unknown format, without results or raw rounds,
        or a field has a wrong type or a value that cannot be. The message names the file and the field.
    """
    try:
        return _make_run(path, _parse(content))
    except BrokenRunError as problem:
        raise BrokenRunError(f"{_shorten_path(path)}: {problem}") from problem


def _shorten_path(path: Path) -> str:
    return shorten_text(str(path), 1000)


def _parse(content: bytes) -> Any:  # noqa: ANN401 - JSON can be anything until it is checked
    try:
        text = content.decode("utf-8-sig")
        return json.loads(text)
    except json.JSONDecodeError as problem:
        if not text.strip():
            raise BrokenRunError("the file is empty; repeat the run") from problem
        rest = len(text.rstrip()) - problem.pos
        if problem.msg.startswith("Unterminated string") or rest <= len("-Infinity"):
            raise BrokenRunError("the file was cut off; copy it again or repeat the run") from problem
        raise BrokenRunError(f"not JSON (line {problem.lineno}); name the JSON file of a run") from problem
    except (ValueError, RecursionError) as problem:
        raise BrokenRunError("not JSON; name the JSON file of a run") from problem


def _make_run(path: Path, document: Any) -> Run:  # noqa: ANN401 - likewise
    if not isinstance(document, dict) or "benchmarks" not in document:
        raise BrokenRunError("JSON, but no run; name a file that this suite saved")
    if "run" not in document:
        raise BrokenRunError("a run of another suite (it has no 'run'); name a file that this suite saved")
    own = _check_type(dict, document["run"], "run")
    number = _check_type(int, own.get("format"), "format")
    if number != FORMAT:
        raise BrokenRunError(f"a run of format {number}, this version reads {FORMAT}; update the suite or repeat it")
    results = _make_results(_check_type(list, document["benchmarks"], "benchmarks"))
    machine = make_machine(document.get("machine_info"))
    own |= {"commit": document.get("commit_info"), "datetime": document.get("datetime")}
    run: Run = _make(Run, own, "", path=path, results=results, machine=machine)
    return run


def make_machine(info: object) -> Machine:
    """Make a machine out of what pytest-benchmark says of it, its `machine_info`.

    Raises
    ------
    BrokenRunError
        A field is missing or has a wrong type.
    """
    facts = _check_type(dict, info, "machine_info")
    cpu = facts.get("cpu")
    model = cpu.get("brand_raw") if isinstance(cpu, dict) else None  # pytest-benchmark cannot always tell
    machine: Machine = _make(Machine, facts | {"cpu": model or facts.get("machine")}, "machine.")
    return machine


def _make_results(entries: list[Any]) -> tuple[Result, ...]:
    if not entries:
        raise BrokenRunError("the run has no results; repeat it and let at least one cell finish")
    results: dict[str, Result] = {}
    for place, entry in enumerate(entries):
        result = _make_result(_check_type(dict, entry, f"benchmarks[{place}]"), f"benchmarks[{place}].")
        if result.cell in results:
            raise _report_damage(f"cell {shorten_text(result.cell, 80)} is there twice")
        results[result.cell] = result
    return tuple(results.values())


def _make_result(entry: dict[str, Any], where: str) -> Result:
    cell = _check_type(str, entry.get("fullname"), f"{where}fullname")
    where = f"cell {shorten_text(cell, 80)}: "
    extra = _check_type(dict, entry.get("extra_info"), f"{where}extra_info")
    params = _check_type(dict, entry.get("params") or {}, f"{where}params")
    stats = _check_type(dict, entry.get("stats"), f"{where}stats")
    if "data" not in stats:
        raise BrokenRunError(f"{where}no raw rounds; save with --benchmark-save-data (the default of this suite)")
    axes = _make_axes({name: extra.get(name) for name in _AXES_OF_EXTRA_INFO} | params, where)
    disk = _make(Disk, extra, where) if any(field.name in extra for field in fields(Disk)) else None
    threshold = _check_threshold(extra.get("threshold"), where)
    measured = extra | {"cell": cell, "rounds": stats["data"]}
    result: Result = _make(Result, measured, where, axes=axes, disk=disk, threshold=threshold)
    if not (result.images and result.store_images and result.rounds):
        raise _report_damage(f"{where}there are no images or no rounds")
    return result


def _check_threshold(value: Any, where: str) -> float | None:  # noqa: ANN401 - JSON can be anything until it is checked
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < MAX_THRESHOLD:
        raise _report_damage(f"{where}threshold is not a share between 0 and {MAX_THRESHOLD}")
    return float(value)


def _make_axes(facts: dict[str, Any], where: str) -> Axes:
    axes: list[tuple[str, str | int | float]] = []
    for name, value in sorted(facts.items()):
        if isinstance(value, dict | list):
            raise _report_damage(f"{where}params.{shorten_text(name, 40)} is neither text nor a number")
        if name not in _NO_AXES and value is not None:
            is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < RANGES[int][1]
            axes.append((name, value if is_number else str(value)))
    return tuple(axes)


def _make(kind: Any, holder: Mapping[str, Any], where: str, **given: object) -> Any:  # noqa: ANN401 - one of the classes
    """Make one of the classes above out of a JSON object, beside what is made already."""
    wanted = {field.name: field.type for field in fields(kind) if field.name not in given}
    return kind(
        **given, **{name: _check_type(each, holder.get(name), f"{where}{name}") for name, each in wanted.items()}
    )


def _check_type(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401 - the type decides
    """Check a JSON value against a type of this module, and turn it into that type."""
    if is_dataclass(kind):
        return _make(kind, _check_type(dict, value, where), f"{where}.")
    if get_origin(kind) is UnionType:  # such as `int | None`: a field that not all runs have
        return None if value is None else _check_type(get_args(kind)[0], value, where)
    if get_origin(kind) is tuple:
        (each, _) = get_args(kind)
        return tuple(
            _check_type(each, item, f"{where}[{place}]") for place, item in enumerate(_check_type(list, value, where))
        )
    if get_origin(kind) is Mapping:
        texts = _check_type(dict, value, where)
        return {name: _check_type(str, text, f"{where}.{shorten_text(name, 80)}") for name, text in texts.items()}
    if kind is dt.datetime:
        try:
            return dt.datetime.fromisoformat(_check_type(str, value, where))
        except ValueError as problem:
            raise _report_damage(f"{where} is no date and time") from problem
    fits = isinstance(value, int | float if kind is float else kind) and isinstance(value, bool) == (kind is bool)
    if fits and kind in RANGES:
        least, most = RANGES[kind]
        fits = least <= value <= most
    if not fits:
        raise _report_damage(f"{where} is missing or not {_WORDS[kind]}")
    return value


def _report_damage(problem: str) -> BrokenRunError:
    return BrokenRunError(f"{problem}; the file was changed or damaged, repeat the run")
