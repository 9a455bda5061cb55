"""`python -m reports` with runs, names and links that somebody planted: a result or one line, within bounds."""

import io
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import pytest

from reports import reading
from reports.__main__ import main
from reports.figures.plan import plan_figures
from reports.files import read_file
from reports.reading import read_run
from reports.run import BrokenRunError
from tests.support.hostile_names import HOSTILE_NAMES, find_unescaped
from tests.support.photo_runs import make_photo_run
from tests.support.properties import example, given, settings, st
from tests.support.runs import make_cell, make_run, run_of, save
from tests.support.suite import ROOT

GIGABYTE = 1 << 30


def _make_page(run: Path) -> tuple[int, str]:
    """Make a page in a process that has a gigabyte of memory; return its exit code and its errors."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (GIGABYTE, GIGABYTE))

    ended = subprocess.run(
        [sys.executable, "-m", "reports", "page", str(run), "--out", str(run.with_name("out.html"))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=limit,
        check=False,
    )
    return ended.returncode, ended.stderr


# --- the file


def _link_to_zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _make_hole(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def _write_nesting(path: Path) -> None:
    path.write_text('{"benchmarks":' * 100_000)


def _write_objects(path: Path) -> None:
    path.write_text(f"[{'[],' * 2_000_000}1]")


HOSTILE_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "link to a device": (_link_to_zero, "it isn't an ordinary file"),
    "named pipe": (os.mkfifo, "it isn't an ordinary file"),
    "link to itself": (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    "hole of a terabyte": (_make_hole, "it has more than 268,435,456 bytes"),
    "nesting": (_write_nesting, "not JSON"),
    "objects": (_write_objects, "2,000,001 objects and lists, more than 1,000,000"),
}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(*case, marks=[pytest.mark.slow] if name in {"link to itself", "named pipe", "nesting"} else [])
        for name, case in HOSTILE_FILES.items()
    ],
    ids=HOSTILE_FILES.keys(),
)
def test_a_file_that_is_no_run_is_refused_in_little_memory(
    make: Callable[[Path], object], words: str, tmp_path: Path
) -> None:
    make(tmp_path / "run.json")
    code, complaint = _make_page(tmp_path / "run.json")
    assert code == 2
    assert words in complaint
    assert complaint.count("\n") == 1


def test_a_caller_can_raise_and_lower_the_limit(tmp_path: Path) -> None:
    path = save(make_run(["png"], [10]), tmp_path)
    size = path.stat().st_size
    assert read_run(path, limit=size).results
    with pytest.raises(BrokenRunError, match=f"more than {size - 1:,} bytes"):
        read_run(path, limit=size - 1)


def test_a_pipe_has_the_same_limit() -> None:
    ours, theirs = os.pipe()
    with os.fdopen(ours), os.fdopen(theirs, "wb") as end:
        end.write(bytes(11))
        end.close()
        with pytest.raises(OSError, match="more than 10 bytes"):
            read_file(Path(f"/dev/fd/{ours}"), 10)


def test_without_proc_a_pipe_counts_as_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> Path:
        raise OSError

    monkeypatch.setattr(Path, "readlink", fail)
    ours, theirs = os.pipe()
    with os.fdopen(ours), os.fdopen(theirs), pytest.raises(OSError, match="isn't an ordinary file"):
        read_file(Path(f"/dev/fd/{ours}"))


def test_too_many_rounds_of_a_cell_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_ROUNDS", 4)
    with pytest.raises(BrokenRunError, match="5 rounds, more than 4"):
        read_run(save(make_run(["png"], [10]), tmp_path))


def test_too_many_cells_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_CELLS", 2)
    with pytest.raises(BrokenRunError, match="13 cells, more than 2"):
        read_run(save(make_run(["png"]), tmp_path))


def test_too_many_objects_are_refused_before_they_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_OBJECTS", 4)
    with pytest.raises(BrokenRunError, match="objects and lists, more than 4"):
        read_run(save(make_run(["png"]), tmp_path))


@pytest.mark.parametrize("place", ["reports.reading.json.loads", "reports.__main__.make_table"])
def test_too_little_memory_is_one_line(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    path = save(make_run(["png"], [10]), tmp_path)
    monkeypatch.setattr(place, fail)
    assert main(["table", str(path)]) == 2
    complaint = capsys.readouterr().err
    assert "memory" in complaint
    assert complaint.count("\n") == 1


# --- the fields


ABSURD: dict[str, Any] = {
    "2**63 - 1": 2**63 - 1,
    "2**70": 2**70,
    "10**400": 10**400,
    "1e400": float("inf"),
    "not a number": float("nan"),
    "1e-320": 1e-320,
    "-1": -1,
    "0": 0,
    "true": True,
    "null": None,
    "surrogate": "\udcff\x1b[2J\n\u202e",
    "long": "W" * 100_000,
    "list": [[]],
    "object": {"": {}},
    "date": "9999-12-31T23:59:59.999999-23:59",
}


def _list_places(part: Any, *keys: str | int) -> list[tuple[str | int, ...]]:  # noqa: ANN401 - JSON
    """List the places of all fields of a run; of a list, only those of its first two items."""
    items = part.items() if isinstance(part, dict) else enumerate(part[:2]) if isinstance(part, list) else ()
    return [place for key, inner in items for place in ((*keys, key), *_list_places(inner, *keys, key))]


WHOLE = make_run(["png", "lmdb"], [10]), make_photo_run([10])
SHOWN: dict[str, Callable[[Path, Path], int]] = {
    "table": lambda path, _: main(["table", str(path)]),
    "page": lambda path, base: main(["page", str(path), "--base", str(base), "--out", str(path.with_suffix(".html"))]),
    "compare": lambda path, base: main(["compare", str(base), str(path)]),
    "base": lambda path, base: main(["compare", str(path), str(base)]),
    "figures": lambda path, _: len(plan_figures(read_run(path))) * 0,
}


@given(
    place=st.sampled_from([(run, *place) for run in range(len(WHOLE)) for place in _list_places(WHOLE[run])]),
    name=st.sampled_from(sorted(ABSURD)),
    shown=st.sampled_from(sorted(SHOWN)),
)
@example(place=(1, "benchmarks", 0, "params", "payload"), name="-1", shown="figures")
@settings(max_examples=50)
def test_an_absurd_value_in_any_field_is_shown_or_one_line(
    place: tuple[str | int, ...], name: str, shown: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("absurd")
    run, *keys = place
    document = part = json.loads(json.dumps(WHOLE[int(run)]))
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = ABSURD[name]
    (folder / "base.json").write_text(json.dumps(WHOLE[int(run)]))
    with redirect_stdout(io.StringIO()) as output, redirect_stderr(io.StringIO()) as errors:
        try:
            code = SHOWN[shown](save(document, folder), folder / "base.json")
        except BrokenRunError as problem:  # of plan_figures, which isn't a command
            code = main(["table", str(problem).partition(":")[0]])
    complaint = errors.getvalue()
    assert (code, complaint) in {(0, ""), (1, "")} or (code in {2, 3} and complaint.count("\n") == 1)
    assert find_unescaped(output.getvalue() + complaint) == set()


# --- what is written


@pytest.mark.parametrize(
    ("command", "out", "made"),
    [("figures", "out", ["read_epoch.svg", "shuffled.png"]), ("page", "out/report.html", ["report.html"])],
    ids=["figures", "page"],
)
def test_outputs_replace_links_and_never_write_through_them(
    command: str, out: str, made: list[str], tmp_path: Path
) -> None:
    run, precious = save(run_of([make_cell("read_epoch", "png", 10)]), tmp_path), tmp_path / "precious.html"
    precious.write_text("<!doctype html>precious")
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")  # the folder itself may be a link
    for name in made:
        (tmp_path / "real" / name).symlink_to(precious)
    assert main([command, str(run), "--out", str(tmp_path / out)]) == 0
    assert precious.read_text() == "<!doctype html>precious"
    assert all((tmp_path / "real" / name).lstat().st_size > 1_000 for name in made)


@pytest.mark.parametrize("option", ["--json", "--markdown"])
@pytest.mark.parametrize("target", ["/dev/full", "link"])
def test_the_gate_refuses_devices_and_links_before_it_measures(
    option: str, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("scipy", reason="SciPy is not installed: python -m pip install -e '.[gate]'")
    path = Path(target)
    if target == "link":
        path = tmp_path / "link"
        path.symlink_to("/dev/full" if option == "--json" else tmp_path / "precious")
    assert main(["gate", option, str(path)]) == 2
    complaint = capsys.readouterr().err
    assert "isn't an ordinary file" in complaint or "is a link" in complaint


# --- names


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=ascii)
@pytest.mark.parametrize("command", ["table", "page", "compare", "gate"])
def test_names_are_printed_escaped(command: str, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run, path = save(make_run(["png"], [10]), tmp_path), tmp_path / name
    words: dict[str, list[object]] = {
        "table": [path],
        "page": [run, "--out", path],
        "compare": [run, path],
        "gate": [name, name],
    }
    with suppress(SystemExit):  # one argument too many
        main([command, *map(str, words[command])])
    output, complaint = capfd.readouterr()
    assert output + complaint
    assert find_unescaped(output + complaint) == set()
