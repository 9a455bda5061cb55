"""The JSON of a run describes the machine, the backends, and how each cell is defined."""

from collections.abc import Callable
from importlib.metadata import distributions, version
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest

from benchmarks import run_info
from benchmarks.run_info import SHARED, Outcomes, hash_definition, measure_memory, read_facts, read_threshold
from storage import BACKENDS
from tests.support.backends import EXAMPLE

MOUNTS = """22 27 0:20 / /proc rw,nosuid shared:5 - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 27 0:25 / {}/with\\040blank rw - tmpfs tmpfs rw
31 27 0:26 / {}/other rw shared:7 master:2 - btrfs /dev/vdb rw
"""
CODE = '''"""Measure."""
import gc

class Cell:
    """A cell."""

    limit = 5

def measure(call):
    """Call it."""
    gc.collect()  # before
    return call(), "text"
'''

Make = Callable[..., pytest.Function]


@pytest.mark.parametrize(
    ("outcomes", "measured", "complete"),
    [
        (Outcomes(["a", "b"]), ["b", "a"], True),
        (Outcomes(["a", "b"]), ["a"], False),
        (Outcomes(["a"], failed={"a": "in its teardown"}), ["a"], False),
        (Outcomes(["a", "b"], skipped={"b": "no space"}), ["a"], False),
    ],
    ids=["all measured", "cut off", "failed", "skipped"],
)
def test_run_is_complete_if_every_cell_was_measured(outcomes: Outcomes, measured: list[str], *, complete: bool) -> None:
    cells = [{"fullname": name, "extra_info": {"backend": EXAMPLE}} for name in measured]
    described = run_info.describe_run(
        outcomes, cells, {"name": "standin"}, Path(), "pytest benchmarks", {"tape": "no drive"}
    )
    assert described["complete"] is complete
    assert described["licences"] == {EXAMPLE: BACKENDS[EXAMPLE].INFO.licence}
    assert described["unavailable"] == {"tape": "no drive"}
    assert described["memory_bytes"] == measure_memory()


@pytest.mark.parametrize("name", list(BACKENDS))
def test_measured_backends_contribute_their_libraries(name: str) -> None:
    libraries = run_info.list_libraries([name], ["read_many"])
    assert read_facts(BACKENDS[name]).versions.items() <= libraries.items()
    assert libraries.keys() == {"python", "numpy", "pytest", "pytest-benchmark", *read_facts(BACKENDS[name]).versions}


def test_an_operation_that_decodes_contributes_the_decoders_that_are_installed() -> None:
    names = {"pillow", "simplejpeg", "opencv-python-headless", "opencv-python"}
    installed = {name: version(name) for name in names if list(distributions(name=name))}
    assert run_info.list_libraries([], ["read_epoch_decoded"]).items() >= installed.items()
    assert "pillow" not in run_info.list_libraries([], ["read_many", None])


def test_facts_of_older_backends_are_read_from_constants() -> None:
    older = SimpleNamespace(VERSIONS={"reel": "1"}, MAINTAINER="us", LICENCE="MIT")
    assert read_facts(older) == ({"reel": "1"}, "us", "MIT")
    assert read_facts(SimpleNamespace()) == ({}, "", "")


@pytest.mark.parametrize(
    ("text", "line"),
    [("Tape: slow.\n\nOn disk: it.", "Tape: slow."), ("\nTape.\n", "Tape."), ("", ""), (None, "")],
)
def test_layout_is_the_first_line_of_the_docstring(text: str | None, line: str) -> None:
    assert run_info.describe_layout(ModuleType("tape", text)) == line


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make a stand-in for a cell that pytest has collected."""

    def make_item(source: str = "pass", mark: pytest.Mark | None = None, **params: str | int) -> pytest.Function:
        path = tmp_path / f"test_{len(list(tmp_path.iterdir()))}.py"
        path.write_text(source, encoding="ascii")
        callspec = SimpleNamespace(params=params)
        item = SimpleNamespace(path=path, nodeid="a", callspec=callspec, get_closest_marker={"threshold": mark}.get)
        return cast("pytest.Function", item)

    return make_item


def test_definition_depends_on_the_benchmark_and_its_parameters(make: Make) -> None:
    items = [make(cutoff=10), make("return", cutoff=10), make(cutoff=100), make(cutoff="10"), make(count=10)]
    digests = {hash_definition(item) for item in items}
    assert len(digests) == len(items)
    assert all(len(digest) == 16 and int(digest, 16) for digest in digests)
    assert hash_definition(make(a=1, b=2)) == hash_definition(make(b=2, a=1)), "neither order nor file name count"


def test_definition_depends_on_every_module_that_measures_cells(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = hash_definition(make(cutoff=10))
    for place, path in enumerate(SHARED):
        changed = tmp_path / path.name
        changed.write_bytes(path.read_bytes() + b"\nx = 1\n")
        monkeypatch.setattr("benchmarks.run_info.SHARED", (*SHARED[:place], changed, *SHARED[place + 1 :]))
        assert hash_definition(make(cutoff=10)) != before


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("  # before", "  # so that the clock sees none of it", True),
        ("  # before", "", True),
        ('"""Call it."""', '"""Call it once."""', True),
        ('    """A cell."""\n', "", True),
        ('"""Measure."""', '"""Measure.\n\nTwice."""', True),
        ("\ndef", "\n\n\ndef", True),
        ('call(), "text"', "(call(), 'text')", True),
        ("limit = 5", "limit = 6", False),
        ("    gc.collect()", "    gc.freeze()", False),
        ('"text"', '"texts"', False),
        ("return ", "", False),
    ],
)
def test_code_changes_a_definition_but_comments_docstrings_and_formatting_do_not(
    make: Make, old: str, new: str, *, same: bool
) -> None:
    assert old in CODE
    assert (hash_definition(make(CODE.replace(old, new))) == hash_definition(make(CODE))) == same


def test_file_that_is_edited_during_the_session_keeps_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "test_x.py"
    path.write_text("x = 1", encoding="ascii")
    before = run_info.hash_code(path)
    path.write_text("x = 2", encoding="ascii")
    assert run_info.hash_code(path) == before


def test_threshold_is_read_from_the_marker(make: Make) -> None:
    assert read_threshold(make()) == {}
    for threshold in (0.25, 1):
        assert read_threshold(make(mark=pytest.mark.threshold(threshold).mark)) == {"threshold": threshold}


@pytest.mark.parametrize("values", [(), (0,), (10,), ("0.1",), (0.1, 0.2), (float("nan"),)], ids=repr)
def test_marker_without_one_valid_threshold_is_rejected(values: tuple[object, ...], make: Make) -> None:
    with pytest.raises(pytest.UsageError, match=r"^a: threshold takes a fraction between 0 and 10, such as 0\.2$"):
        read_threshold(make(mark=pytest.mark.threshold(*values).mark))


@pytest.mark.parametrize(
    ("measure", "limits"),
    [
        (run_info.count_processors, {"100000 100000\n": 1, "150000 100000\n": 2, "10000 100000": 1, "max 1\n": None}),
        (measure_memory, {"1048576\n": 1048576, "max\n": None, f"{2**62}\n": None}),
    ],
    ids=["processors", "memory"],
)
def test_processors_and_memory_are_limited_by_the_control_group(
    tmp_path: Path, measure: Callable[[Path], int], limits: dict[str, int | None]
) -> None:
    unlimited = measure(tmp_path / "missing")
    assert unlimited >= 1
    for text, limit in limits.items():
        (tmp_path / "limit").write_text(text)
        assert measure(tmp_path / "limit") == min(limit or unlimited, unlimited)


def test_file_system_is_that_of_the_nearest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS.format(tmp_path, tmp_path))
    assert run_info.find_file_system(tmp_path, mounts) == "ext4"
    assert run_info.find_file_system(tmp_path / "with blank" / "store", mounts) == "tmpfs"
    assert run_info.find_file_system(tmp_path / "other", mounts) == "btrfs"
    assert run_info.find_file_system(tmp_path, tmp_path / "missing") == "unknown"


def test_rounds_are_rounded_to_nanoseconds_and_never_to_zero() -> None:
    rounds = [0.00012345678901234567, 12.345678901249, 0.25, 2e-05]
    assert repr(run_info.round_to_clock(rounds)) == "[0.000123457, 12.345678901, 0.25, 2e-05]"
    assert rounds[0] == 0.00012345678901234567, "the session's tables use this list"
    assert run_info.round_to_clock([4e-10, 6e-10, 1.4e-9, 0.0]) == [1e-9] * 4
