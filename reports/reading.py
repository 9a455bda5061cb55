"""Reads a run's JSON into checked, typed values: the only module that opens a run.

A run is what pytest-benchmark 5 saves of one session, plus the suite's own key `run`. The file may come from anywhere.
So every field that is used is checked, statistics are computed from the raw rounds, and every string is cleaned here,
once: one line, no control or bidi characters, limited in length. Other modules only escape for their format.
Sizes are checked before the work that they cause: bytes before reading, objects before parsing, cells and rounds after.
"""

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from reports.files import MAX_BYTES, read_file
from reports.noise import MAX_THRESHOLD
from reports.run import BrokenRunError, Disk, Floor, ImageSet, Machine, Params, Reference, Result, Run
from reports.sample import Sample, Summary
from reports.text import shorten_text

FORMAT = 1  # the layout of the key `run` that this module reads
RANGES = {float: (1e-12, 1e9), int: (0, 2**63 - 1)}  # no timer sees a picosecond, no session lasts 30 years

MAX_NAME, MAX_TEXT, MAX_CELL = 40, 200, 1000  # characters; cells are compared by their ids, so these stay long
_LENGTHS = {
    **dict.fromkeys(("backend", "operation", "name", "file_system"), MAX_NAME),
    **dict.fromkeys(("cell", "intended", "failed", "skipped", "reasons"), MAX_CELL),
    "command": 2000,
}
MAX_OBJECTS = 1_000_000  # objects and lists, which take 24 times the memory that they have bytes in the file
MAX_CELLS = 20_000
MAX_ROUNDS = 1_000_000  # of a cell
MAX_REPLICATES = 100  # the exact tests of more overflow
_NOT_PARAMS = {"operation", "backend", "cutoff", "images"}
_PARAMS_OF_EXTRA_INFO = ("cache", "durability", "workers")  # its other fields are measurements
_SUMMARY = ("mean", "0", "0.1", "0.5", "0.9", "1")  # the keys of a `Summary`, in its order
_WORDS = {bool: "true or false", dict: "an object", float: "seconds", int: "a count", list: "a list", str: "text"}


def read_run(path: Path, limit: int = MAX_BYTES) -> Run:
    """Read and check the JSON of one run of at most `limit` bytes, or raise `BrokenRunError` that names the file."""
    return parse_run(path, read_content(path, limit))


def read_content(path: Path, limit: int = MAX_BYTES) -> bytes:
    """Read the bytes of a run's file for `parse_run`: a pipe can be read only once."""
    try:
        return read_file(path, limit)
    except (OSError, ValueError) as problem:  # a null character in the path is a ValueError
        words = f"cannot be read ({getattr(problem, 'strerror', problem)}); name the JSON file of a run"
        raise BrokenRunError(f"{shorten_text(str(path), 1000)}: {words}") from problem


def parse_run(path: Path, content: bytes) -> Run:
    """Check the content of a run's file, or raise `BrokenRunError` that names the file and the field."""
    try:
        return _make_run(path, _parse(content))
    except BrokenRunError as problem:
        raise BrokenRunError(f"{shorten_text(str(path), 1000)}: {problem}") from problem
    except MemoryError as problem:
        raise BrokenRunError(f"{shorten_text(str(path), 1000)}: too large for the memory that is free") from problem


def _parse(content: bytes) -> Any:  # noqa: ANN401 - JSON can be anything until it is checked
    objects = content.count(b"{") + content.count(b"[")
    if objects > MAX_OBJECTS:
        raise BrokenRunError(f"up to {objects:,} objects and lists, more than {MAX_OBJECTS:,}; name the JSON of a run")
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
        raise BrokenRunError("JSON, but not a run; name a file that this suite saved")
    if "run" not in document:
        raise BrokenRunError("a run of another suite (it has no 'run'); name a file that this suite saved")
    own = _check(dict, document["run"], "run")
    number = _check(int, own.get("format"), "format")
    if number != FORMAT:
        raise BrokenRunError(f"a run of format {number}, this version reads {FORMAT}; update the suite or repeat it")
    results, references, floors = _make_results(_check(list, document["benchmarks"], "benchmarks"))
    machine = make_machine(document.get("machine_info"))
    replicates = _make_replicates(own.get("replicates", []))
    image_set = _make_image_set(_check(dict, own.get("image_set"), "image_set"))
    own |= {"commit": document.get("commit_info"), "datetime": document.get("datetime")}
    given = {
        "results": results,
        "references": references,
        "floors": floors,
        "replicates": replicates,
        "machine": machine,
        "image_set": image_set,
    }
    run: Run = _make(Run, own, "", path=path, **given)
    return run


def _make_image_set(own: dict[str, Any]) -> ImageSet:
    sample = None
    if "found" in own:
        summaries = {field.name: _make_summary(own, field.name) for field in fields(Sample) if field.type is Summary}
        sample = _make(Sample, own, "image_set.", **summaries)
    image_set: ImageSet = _make(ImageSet, own, "image_set.", sample=sample)
    return image_set


def _make_summary(own: dict[str, Any], name: str) -> Summary:
    """Round the numbers of a summary: nobody needs fractions of bytes."""
    numbers = _check(dict, own.get(name), f"image_set.{name}")
    rounded = {key: round(numbers[key]) if _is_finite(numbers[key]) else None for key in _SUMMARY if key in numbers}
    return Summary(*(_check(int, rounded.get(key), f"image_set.{name}.{key}") for key in _SUMMARY))


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < RANGES[int][1]


def make_machine(info: object) -> Machine:
    """Make a machine from pytest-benchmark's `machine_info`, or raise `BrokenRunError` that names the field."""
    facts = _check(dict, info, "machine_info")
    cpu = facts.get("cpu")
    model = cpu.get("brand_raw") if isinstance(cpu, dict) else None  # pytest-benchmark doesn't always find it
    machine: Machine = _make(Machine, facts | {"cpu": model or facts.get("machine")}, "machine.")
    return machine


def _make_results(entries: list[Any]) -> tuple[tuple[Result, ...], tuple[Reference, ...], tuple[Floor, ...]]:
    if len(entries) > MAX_CELLS:
        raise BrokenRunError(f"{len(entries):,} cells, more than {MAX_CELLS:,}; measure fewer in one run")
    cells: dict[str, Result | Reference | Floor] = {}
    backends: dict[str, str] = {}  # as shown -> as written
    for number, entry in enumerate(entries):
        made = _make_cell(_check(dict, entry, f"benchmarks[{number}]"), f"benchmarks[{number}].")
        if made.cell in cells:
            raise _report_damage(f"cell {shorten_text(made.cell, 80)} is there twice")
        cells[made.cell] = made
        if isinstance(made, Result):
            written = entry["extra_info"]["backend"]
            if backends.setdefault(made.backend, written) != written:
                raise _report_damage(f"two backends are both shown as {made.backend}")
    results = tuple(each for each in cells.values() if isinstance(each, Result))
    if not results:
        raise BrokenRunError("the run has no results; repeat it and let at least one cell finish")
    references = tuple(each for each in cells.values() if isinstance(each, Reference))
    return results, references, tuple(each for each in cells.values() if isinstance(each, Floor))


def _make_cell(entry: dict[str, Any], where: str) -> Result | Reference | Floor:
    cell = _check(str, entry.get("fullname"), f"{where}fullname", MAX_CELL)
    where = f"cell {shorten_text(cell, 80)}: "
    extra = _check(dict, entry.get("extra_info"), f"{where}extra_info")
    stats = _check(dict, entry.get("stats"), f"{where}stats")
    if "data" not in stats:
        raise BrokenRunError(f"{where}no raw rounds; save with --benchmark-save-data (the default of this suite)")
    if extra.get("reference") is True:
        reference: Reference = _make(
            Reference, extra | {"cell": cell}, where, rounds=_check_rounds(stats["data"], where)
        )
        return reference
    if extra.get("floor") is True:
        return _make_floor(cell, extra, entry, where)
    return _make_result(cell, extra, entry, where)


def _make_floor(cell: str, extra: dict[str, Any], entry: dict[str, Any], where: str) -> Floor:
    params = _make_params(_check(dict, entry.get("params") or {}, f"{where}params"), where)
    rounds = _check_rounds(entry["stats"]["data"], where)
    floor: Floor = _make(Floor, extra | {"cell": cell}, where, params=params, rounds=rounds)
    return floor


def _make_result(cell: str, extra: dict[str, Any], entry: dict[str, Any], where: str) -> Result:
    stats, params = entry["stats"], _check(dict, entry.get("params") or {}, f"{where}params")
    params = _make_params({name: extra.get(name) for name in _PARAMS_OF_EXTRA_INFO} | params, where)
    disk = _make(Disk, extra, where) if any(field.name in extra for field in fields(Disk)) else None
    threshold = _check_threshold(extra.get("threshold"), where)
    rounds = _check_rounds(stats["data"], where)
    result: Result = _make(
        Result, extra | {"cell": cell}, where, params=params, disk=disk, threshold=threshold, rounds=rounds
    )
    if not (result.images and result.store_images):
        raise _report_damage(f"{where}there are no images")
    return result


def _make_replicates(value: Any) -> tuple[Mapping[str, tuple[float, ...]], ...]:  # noqa: ANN401 - likewise
    processes = _check(list, value, "replicates")
    if len(processes) > MAX_REPLICATES:
        raise BrokenRunError(f"{len(processes):,} replicates, more than {MAX_REPLICATES:,}; measure fewer in one run")
    made = []
    for place, process in enumerate(processes):
        where = f"replicates[{place}]"
        cells = {shorten_text(name, MAX_CELL): rounds for name, rounds in _check(dict, process, where).items()}
        made.append({cell: _check_rounds(rounds, f"{where}.{cell[:80]}: ") for cell, rounds in cells.items()})
    return tuple(made)


def _check_rounds(value: Any, where: str) -> tuple[float, ...]:  # noqa: ANN401 - likewise
    rounds = _check(list, value, f"{where}rounds")
    if not rounds:
        raise _report_damage(f"{where}there are no rounds")
    if len(rounds) > MAX_ROUNDS:
        raise BrokenRunError(f"{where}{len(rounds):,} rounds, more than {MAX_ROUNDS:,}; measure with fewer")
    low, high = RANGES[float]
    for place, seconds in enumerate(rounds):
        if type(seconds) not in {int, float} or not low <= seconds <= high:  # not a bool
            raise _report_damage(f"{where}rounds[{place}] is missing or not seconds")
    return tuple(rounds)


def _check_threshold(value: Any, where: str) -> float | None:  # noqa: ANN401 - JSON can be anything until it is checked
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < MAX_THRESHOLD:
        raise _report_damage(f"{where}threshold isn't a fraction between 0 and {MAX_THRESHOLD}")
    return float(value)


def _make_params(facts: dict[str, Any], where: str) -> Params:
    params: list[tuple[str, str | int | float]] = []
    for name, value in sorted(facts.items()):
        clean = shorten_text(name, MAX_NAME)
        if isinstance(value, dict | list):
            raise _report_damage(f"{where}params.{clean} is neither text nor a number")
        if name not in _NOT_PARAMS and value is not None:
            params.append((clean, value if _is_finite(value) else shorten_text(str(value), MAX_NAME)))
    return tuple(params)


def _make(kind: Any, holder: Mapping[str, Any], where: str, **given: object) -> Any:  # noqa: ANN401 - a dataclass
    """Make a dataclass from a JSON object and from fields that are given already."""
    wanted = {field.name: field.type for field in fields(kind) if field.name not in given}
    checked = {
        name: _check(each, holder.get(name), f"{where}{name}", _LENGTHS.get(name, MAX_TEXT))
        for name, each in wanted.items()
    }
    return kind(**given, **checked)


def _check(kind: Any, value: Any, where: str, longest: int = MAX_TEXT) -> Any:  # noqa: ANN401 - the type decides
    """Turn a JSON value into a type; text is cleaned, and cut to `longest` characters."""
    if is_dataclass(kind):
        return _make(kind, _check(dict, value, where), f"{where}.")
    if get_origin(kind) is UnionType:  # such as `int | None`: a field that not all runs have
        return None if value is None else _check(get_args(kind)[0], value, where, longest)
    if get_origin(kind) is tuple:
        items = enumerate(_check(list, value, where))
        return tuple(_check(get_args(kind)[0], item, f"{where}[{place}]", longest) for place, item in items)
    if get_origin(kind) is Mapping:  # from cells, if long, or from names
        longest_key = MAX_CELL if longest == MAX_CELL else MAX_NAME
        names = {name: shorten_text(name, longest_key) for name in _check(dict, value, where)}
        return {
            clean: _check(get_args(kind)[1], value[name], f"{where}.{clean[:80]}", longest)
            for name, clean in names.items()
        }
    if kind is dt.datetime:
        try:
            return dt.datetime.fromisoformat(_check(str, value, where))
        except ValueError as problem:
            raise _report_damage(f"{where} isn't a date and time") from problem
    fits = isinstance(value, int | float if kind is float else kind) and isinstance(value, bool) == (kind is bool)
    if fits and kind in RANGES:
        least, most = RANGES[kind]
        fits = least <= value <= most
    if not fits:
        raise _report_damage(f"{where} is missing or not {_WORDS[kind]}")
    return shorten_text(value, longest) if kind is str else value


def _report_damage(problem: str) -> BrokenRunError:
    return BrokenRunError(f"{problem}; the file was changed or damaged, repeat the run")
