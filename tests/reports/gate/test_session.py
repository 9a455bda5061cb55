"""Sessions of the gate: what a process measures, what it must not see, and how it ends; pairs of them, and stores."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks import options
from reports.errors import NotMeasurableError, WrongInputError
from reports.gate import session
from reports.gate.affected import Affected
from reports.gate.pairs import Pair, Session
from reports.gate.session import (
    AT_ONCE,
    Place,
    Plan,
    Running,
    Selection,
    Side,
    Sides,
    Slowdown,
    average_faster_half,
    choose_selections,
    claim_stores,
    describe_images,
    list_processors,
    prepare_sides,
    run_at_once,
    run_sessions,
    take_turns,
)
from reports.gate.worktrees import WORKING_TREE, Code, make_worktree
from reports.reading import read_run
from tests.support.backends import need_backend
from tests.support.photo_runs import make_photo_run
from tests.support.runs import make_cell, make_run, run_of, save
from tests.support.sessions import READ, write_interpreter
from tests.support.suite import ROOT

QUICK = Selection((10,), cells=(READ,))
PLACE = Place(0, list_processors()[0], threading.Event())


@pytest.fixture
def worktree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a worktree of the suite as it is."""
    monkeypatch.setenv("CIFAR10", "standin")
    make_worktree(ROOT, Code(ROOT), WORKING_TREE, tmp_path / "a tree")
    return tmp_path / "a tree"


def fake_side(folder: Path, *lines: str) -> Side:
    """Make a candidate whose interpreter is a shell script."""
    return Side("candidate", folder, write_interpreter(folder, *lines))


def run_session(side: Side, selection: Selection, stores: Path, seed: int) -> Session:
    """Run a session that waits for no other."""
    (found,) = run_sessions([side], selection, stores, seed, PLACE)
    return found


def spoil_reading(worktree: Path, statement: str) -> None:
    """Replace the function that reads many images from HDF5 by a statement."""
    with (worktree / "storage" / "backends" / "hdf5.py").open("a") as file:
        file.write(f"\n\ndef read_many(*_, **__):\n    {statement}\n")


@need_backend("hdf5")
def test_a_session_measures_the_chosen_cells_and_leaves_no_store(worktree: Path, stores: Path) -> None:
    slowed = Side("candidate", worktree, slowdown=Slowdown((READ,), 2.0, "memory"))
    measured = run_session(slowed, QUICK, stores, seed=1)
    assert list(measured.seconds) == [READ]
    assert 0 < measured.seconds[READ] < 60
    assert (measured.absent, measured.backends) == ({}, {READ: "hdf5"})
    assert {"python", "numpy", "h5py", "HDF5"} <= measured.libraries.keys()
    assert list(stores.iterdir()) == []


@pytest.mark.slow
def test_a_session_refuses_another_storage(worktree: Path, stores: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(worktree, other)
    python = write_interpreter(tmp_path, f'cd "{other}" && exec "{sys.executable}" "$@"')
    with pytest.raises(NotMeasurableError) as caught:
        run_session(Side("baseline", worktree, python), QUICK, stores, seed=1)
    assert f"storage comes from {other}/storage" in str(caught.value)  # the rest is cut if paths are long
    assert str(caught.value).startswith("the baseline can't run today's benchmarks (exit code 4)")


@pytest.mark.slow
@need_backend("hdf5")
def test_a_cell_that_kills_its_process_is_named_with_the_signal(worktree: Path, stores: Path) -> None:
    spoil_reading(worktree, "import os; os.kill(os.getpid(), 11)")
    with pytest.raises(NotMeasurableError) as caught:
        run_session(Side("candidate", worktree), QUICK, stores, seed=1)
    assert str(caught.value) == f"the candidate was killed by SIGSEGV in {READ}"
    assert list(stores.iterdir()) == []


@pytest.mark.slow
@need_backend("hdf5")
def test_the_reasons_are_known_even_if_all_cells_fail(worktree: Path, stores: Path) -> None:
    spoil_reading(worktree, 'raise OSError("no " + "luck " * 30 + "today")')
    measured = run_session(Side("candidate", worktree), QUICK, stores, seed=1)
    assert measured == Session({}, absent={READ: f"OSError: no {'luck ' * 30}today"})


@pytest.mark.slow
def test_a_storage_without_what_the_benchmarks_import_is_one_line(worktree: Path, stores: Path) -> None:
    path = worktree / "storage" / "__init__.py"
    path.write_text(f"{path.read_text()}\ndel Labels\n")
    with pytest.raises(NotMeasurableError) as caught:
        run_session(Side("baseline", worktree), QUICK, stores, seed=1)
    assert str(caught.value).startswith("the baseline can't run today's benchmarks (exit code ")
    assert "ImportError: cannot import name 'Labels' from 'storage'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_expression_is_wrong_input(worktree: Path, stores: Path) -> None:
    with pytest.raises(WrongInputError, match=r"^and and: pytest's -k doesn't accept this expression"):
        run_session(Side("candidate", worktree), Selection((10,), "and and"), stores, seed=1)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 1", "the candidate can't run today's benchmarks (exit code 1): no output"),
        ("echo one; echo; echo two; exit 2", "the candidate can't run today's benchmarks (exit code 2): two"),
        ("kill -9 $$", "the candidate was killed by SIGKILL in its start"),
        ("echo ERROR: bad option; echo bye; exit 4", "(exit code 4): ERROR: bad option"),
        ("echo {} > run-0.json", "(exit code 0): no output"),
    ],
)
def test_a_process_that_measures_nothing_is_one_line(script: str, message: str, tmp_path: Path, stores: Path) -> None:
    with pytest.raises(NotMeasurableError) as caught:
        run_session(fake_side(tmp_path, script), QUICK, stores, seed=1)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_session_without_matching_cells_is_empty_whatever_ran_before(tmp_path: Path, stores: Path) -> None:
    save(run_of([make_cell("read_many", "hdf5", 10)]), tmp_path).rename(tmp_path / "run-0.json")
    assert run_session(fake_side(tmp_path, "exit 5"), QUICK, stores, seed=1) == Session({})
    assert not (tmp_path / "run-0.json").exists()
    (tmp_path / "noted").write_text(json.dumps({"backend": "tiledb", "reason": "not here"}) + "\n")
    found = run_session(fake_side(tmp_path, "cp noted journal-0.jsonl; exit 5"), QUICK, stores, seed=1)
    assert found == Session({}, unavailable={"tiledb": "not here"})


def test_a_session_of_which_no_cell_was_measured_has_their_reasons(tmp_path: Path, stores: Path) -> None:
    (tmp_path / "noted").write_text(json.dumps({"absent": READ, "reason": "OSError: disk"}) + "\n")
    side = fake_side(tmp_path, "cp noted journal-0.jsonl; exit 1")
    assert run_session(side, QUICK, stores, seed=1) == Session({}, absent={READ: "OSError: disk"})


def test_own_thresholds_and_the_reasons_of_unmeasured_cells_are_read(tmp_path: Path, stores: Path) -> None:
    run = run_of([make_cell("read_many", name, 10) for name in ("hdf5", "lmdb")])
    first, second = run["benchmarks"]
    first["extra_info"]["threshold"] = 0.3
    run["run"]["intended"] += ["failed", "skipped", "late"]
    run["run"] |= {"failed": {"failed": "OSError: disk"}, "skipped": {"skipped": "Skipped: no room"}}
    save(run, tmp_path).rename(tmp_path / "saved.json")
    measured = run_session(fake_side(tmp_path, "cp saved.json run-0.json; exit 2"), QUICK, stores, 1)
    assert measured.thresholds == {first["fullname"]: 0.3}
    assert list(measured.seconds) == [first["fullname"], second["fullname"]]
    reasons = {"failed": "OSError: disk", "skipped": "Skipped: no room", "late": "the session ended before it"}
    assert measured.absent == reasons


def test_the_processes_of_a_session_end_with_it(tmp_path: Path, stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_session(fake_side(tmp_path, "sleep 600 &", "echo $! > started", "exit 5"), QUICK, stores, 1)
    await_end(int((tmp_path / "started").read_text()))
    monkeypatch.setattr(session, "TIMEOUT", 0.3)
    with pytest.raises(NotMeasurableError, match=r"the candidate took more than 0\.3 seconds for one cell"):
        run_session(fake_side(tmp_path, "sleep 600 &", "echo $$ $! > started", "wait"), QUICK, stores, seed=1)
    await_end(*map(int, (tmp_path / "started").read_text().split()))


def await_end(*processes: int) -> None:
    """Wait until none of these processes runs; a zombie doesn't."""
    for process in processes:
        status = Path(f"/proc/{process}/stat")
        for _ in range(200):
            if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
                break
            time.sleep(0.05)
        else:
            pytest.fail(f"process {process} is still there")


def test_a_session_sees_only_variables_that_do_not_change_it(
    tmp_path: Path, stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = {"PYTHONHASHSEED": "42", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    for name in (*session.REMOVED, *ours, "OTHER"):
        monkeypatch.setenv(name, "7")
    (tmp_path / "images").mkdir()
    monkeypatch.chdir(tmp_path)
    for images, absolute in (("images", str(tmp_path / "images")), ("standin", "standin"), ("", "")):
        monkeypatch.setenv("CIFAR10", images)
        run_session(fake_side(tmp_path, "env > noted", "exit 5"), QUICK, stores, seed=42)
        seen = dict(line.split("=", 1) for line in (tmp_path / "noted").read_text().splitlines() if "=" in line)
        assert not seen.keys() & set(session.REMOVED)
        assert seen | ours | {"OTHER": "7", "CIFAR10": absolute} == seen


def test_only_the_gate_chooses_the_options_of_its_sessions() -> None:
    assert {*session.OPTIONS, "cifar10"} == options.HELP.keys()


@pytest.mark.slow
def test_a_session_measures_what_the_gate_chose_whatever_environment_and_ini_file_say(
    worktree: Path, stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {"backends": "npy", "cutoffs": "5", "cold": "true", "latency": "20", "images": "standin", "size": "0"}
    path = worktree / "pyproject.toml"
    lines = [f'{name} = "{value}"' for name, value in others.items()]
    path.write_text(path.read_text().replace("[tool.pytest]\n", "\n".join(["[tool.pytest]", *lines, ""])))
    for name, value in others.items():
        monkeypatch.setenv(name.upper(), value)
    chosen = Selection((10,), "test_read_many and (npy or tar)")
    measured = run_session(Side("candidate", worktree), chosen, stores, seed=1)
    assert {cell.partition("::")[2] for cell in measured.seconds} == {
        f"test_read_many[{name}-10]" for name in ("npy", "tar")
    }


def test_the_command_names_cells_or_an_expression_and_a_slowdown(tmp_path: Path, stores: Path) -> None:
    lines = 'printf "%s\\n" "$@" "$IMAGE_STORAGE_SLOWDOWN" > noted', "exit 5"
    side = replace(fake_side(tmp_path, *lines), slowdown=Slowdown((READ,), 1.2, "cpu"))
    run_session(side, Selection((10, 100), "read and not png", (READ,), ("hdf5", "png")), stores, seed=1)
    asked = (tmp_path / "noted").read_text().splitlines()
    assert asked[:3] == ["-m", "pytest", READ]
    slowdown = f'[["{READ}"], 1.2, "cpu"]'
    assert {"--cutoffs=10,100", "--backends=hdf5,png", "-pbenchmarks.slowdown", slowdown} <= set(asked)
    assert "-k" not in asked
    run_session(fake_side(tmp_path, *lines), Selection((10, 100), "read and not png"), stores, seed=1)
    asked = (tmp_path / "noted").read_text().splitlines()
    assert asked[2:5] == ["benchmarks", "-k", "read and not png"]
    assert asked[-1] == '[[], 1.0, "cpu"]'
    assert not any(each.startswith(("--backends", "--images", "--payloads")) for each in asked)
    run_session(fake_side(tmp_path, *lines), Selection((10,), images="some", payloads=("a", "b")), stores, seed=1)
    assert {"--images=some", "--payloads=a,b"} <= set((tmp_path / "noted").read_text().splitlines())


TURNS = """
import json, os, signal, sys
turns, processor = json.loads(os.environ["IMAGE_STORAGE_TURNS"])
assert processor in os.sched_getaffinity(0)
for ready in "{ready}":
    os.write(turns, ready.lower().encode())
    if ready == "R":
        os.kill(os.getpid(), 9)
    os.read(turns, 1)
    print("{name}", ready, file=open("{noted}", "a"))
"""


def test_rounds_of_two_sides_are_measured_in_turns_and_cells_start_together(tmp_path: Path) -> None:
    for old, new, expected in (
        ("crc", "crrc", ["old c", "new c", "old r", "new r", "new r", "old c", "new c"]),
        ("crR", "crrc", ["old c", "new c", "old r", "new r", "new r", "new c"]),
        ("", "crc", ["new c", "new r", "new c"]),
    ):
        noted, sides = tmp_path / f"noted {old}", []
        for name, ready in (("old", old), ("new", new)):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "turns.py").write_text(TURNS.format(ready=ready, name=name, noted=noted))
            python = write_interpreter(tmp_path / name, f'"{sys.executable}" turns.py', "exit 5")
            sides.append(Side("baseline" if name == "old" else "candidate", tmp_path / name, python))
        assert run_sessions(sides, QUICK, tmp_path, 1, PLACE) == [Session({})] * 2
        assert noted.read_text().splitlines() == expected


@pytest.mark.parametrize(("rounds", "expected"), [([3.0], 3.0), ([9.0, 1.0], 1.0), ([5.0, 2.0, 1.0], 1.5)])
def test_seconds_are_the_average_of_the_faster_half_of_the_rounds(rounds: list[float], expected: float) -> None:
    assert average_faster_half(rounds) == expected


def run_noting(jobs: Sequence[Callable[[], object]], first: int) -> list[Place]:
    """Run jobs at once; return the place of each."""
    places: list[Place | None] = [None] * len(jobs)

    def run(number: int, place: Place) -> Pair:
        places[number] = place
        jobs[number]()
        return Pair(Session({str(number): 1.0}), Session({}))

    pairs = run_at_once([partial(run, number) for number in range(len(jobs))], first)
    assert [[*pair.baseline.seconds] for pair in pairs] == [[str(number)] for number in range(len(jobs))]
    return [place for place in places if place is not None]


def test_jobs_that_run_at_once_have_processors_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "list_processors", lambda: [4, 6])
    together = threading.Barrier(2, timeout=60)
    places = run_noting([together.wait] * 2, first=0)
    assert sorted(place[:2] for place in places) == [(0, 4), (1, 6)]


def test_a_single_job_has_the_next_processor_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "list_processors", lambda: [4, 6])
    assert [run_noting([bool], first)[0].processor for first in range(4)] == [4, 6, 4, 6]


def test_a_job_that_fails_stops_the_others_and_those_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "list_processors", lambda: [0, 1])
    together = threading.Barrier(2, timeout=60)

    def wait(place: Place) -> Pair:
        together.wait()
        assert place.stopped.wait(60)
        raise CancelledError

    def fail(_: Place) -> Pair:
        together.wait()
        raise NotMeasurableError("a reason")

    def start(_: Place) -> Pair:
        pytest.fail("it started though all were stopped")

    with pytest.raises(NotMeasurableError, match="a reason"):
        run_at_once([wait, fail, start], 0)


def test_the_number_of_pairs_at_once_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert list_processors() == list(range(AT_ONCE))


def test_a_session_that_is_stopped_ends_at_once(tmp_path: Path, stores: Path) -> None:
    place = Place(0, list_processors()[0], threading.Event())
    side = fake_side(tmp_path, "sleep 600 &", "echo $$ $! > started", "wait")

    def stop() -> None:
        while not (tmp_path / "started").exists() or not (tmp_path / "started").read_text().endswith("\n"):
            time.sleep(0.01)
        place.stopped.set()

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(CancelledError):
        run_sessions([side], QUICK, stores, 1, place)
    thread.join()
    await_end(*map(int, (tmp_path / "started").read_text().split()))


@pytest.mark.parametrize("unread", [b"", b"1"])
def test_a_process_that_ended_before_its_turn_is_not_waited_for(unread: bytes, tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, subprocess.Popen(["true"]) as process:  # noqa: S607 - a command that ends at once
        theirs.send(b"c")
        ours.send(unread)
        running = Running(Side("candidate", tmp_path), process, ours, threading.Event())
        threading.Timer(0.1, theirs.close).start()
        take_turns([running])
        assert running.wait() == b""


def make_plan(tmp_path: Path, python: str = "python", affected: Affected | None = None) -> Plan:
    selection = Selection((10,), "read")
    versions = WORKING_TREE, WORKING_TREE
    affected = affected or Affected(everything="a test")
    return Plan(ROOT, Code(ROOT), *versions, (python, python), selection, tmp_path / "stores", lambda *_: affected)


def test_sides_share_a_seed_within_a_pair_and_leave_no_folder(
    tmp_path: Path, stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    python = write_interpreter(tmp_path, f'echo "${{PWD##*/}} $PYTHONHASHSEED" >> "{tmp_path}/noted"', "exit 5")
    with prepare_sides(make_plan(tmp_path, python)) as sides:
        assert sides.stores.parent == stores
        for _ in range(3):
            sides.measure([READ], 1)
        assert len(list(temporary.iterdir())) == len(list(stores.iterdir())) == 1
        write_interpreter(tmp_path, "exit 1")
        with pytest.raises(NotMeasurableError):
            sides.measure([READ], 1)
    assert list(temporary.iterdir()) == list(stores.iterdir()) == []
    lines = (tmp_path / "noted").read_text().splitlines()
    assert sorted(lines) == [f"{name} {seed}" for name in ("new", "old") for seed in (1, 2, 3)]


def test_later_pairs_import_only_the_backends_of_their_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Selection] = []

    def run(_: Sequence[Side], selection: Selection, *__: object, **___: object) -> list[Session]:
        asked.append(selection)
        return [Session({"a": 1.0}, backends={"a": "png", "b": "lmdb", "c": "png"})] * 2

    monkeypatch.setattr(session, "run_sessions", run)
    sides = Sides(Side("baseline", tmp_path), Side("candidate", tmp_path), make_plan(tmp_path), tmp_path)
    for cells in ((), ("c", "a"), ("a", "unknown")):
        sides.measure(cells, 1)
    expected = [((), ()), (("c", "a"), ("png",)), (("a", "unknown"), ())]
    assert [(each.cells, each.backends) for each in asked] == expected


class TwoSets:
    """Sessions that measure `seconds`: cells of photos, or others; the same on both sides but for `changes`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[Selection] = []
        self.seconds = {"standin": {"photo": 1.0}, "": {READ: 1.0}}
        self.changes: dict[str, dict[str, Any]] = {"baseline": {}, "candidate": {}}
        monkeypatch.setattr(session, "run_sessions", self.run)

    def run(self, sides: Sequence[Side], selection: Selection, *_: object, **__: object) -> list[Session]:
        """Measure one of the sets."""
        self.asked.append(selection)
        seconds = self.seconds[selection.images]
        digest = selection.images or "cifar10"
        made = Session(seconds, backends=dict.fromkeys(seconds, "npy"), images={digest: f"{digest}, 10 images"})
        return [replace(made, **self.changes[side.name]) if selection.images else made for side in sides]

    def measure(self, tmp_path: Path, affected: Affected, *cells: Sequence[str]) -> list[list[Selection]]:
        """Measure pairs; return what the sides were asked for in each."""
        sides = Sides(
            Side("baseline", tmp_path), Side("candidate", tmp_path), make_plan(tmp_path, "", affected), tmp_path
        )
        self.sides, asked = sides, list[list[Selection]]()
        for each in cells:
            self.asked.clear()
            (self.pair,) = sides.measure(each, 1)
            asked.append(self.asked.copy())
        return asked


@pytest.fixture
def sets(monkeypatch: pytest.MonkeyPatch) -> TwoSets:
    """Replace the sessions."""
    return TwoSets(monkeypatch)


NPY = Affected(("npy",), encoded="npy.py differs")


@pytest.mark.parametrize(
    ("affected", "images"),
    [(NPY, ["", "standin"]), (replace(NPY, pixels=False), ["standin"]), (replace(NPY, encoded=""), [""])],
)
def test_each_kind_of_images_that_a_change_affects_has_its_own_sessions(
    affected: Affected, images: list[str], sets: TwoSets, tmp_path: Path
) -> None:
    (asked,) = sets.measure(tmp_path, affected, ())
    assert [each.images for each in asked] == images
    assert list(sets.pair.baseline.seconds) == [{"": READ, "standin": "photo"}[each] for each in images]
    if "standin" in images:
        assert (asked[-1].cutoffs, asked[-1].payloads, asked[-1].backends) == ((10,), ("encoded",), ("npy", "tar"))
        assert asked[-1].expression.startswith("((read) and (not decoded)) and (")
        assert asked[-1].expression.endswith("or test_store_many[tar-10-encoded] or test_read_many[tar-10-encoded]")


def test_decoding_is_measured_if_all_benchmarks_use_what_differs(sets: TwoSets, tmp_path: Path) -> None:
    (asked,) = sets.measure(tmp_path, Affected.all_for("a test"), ())
    assert [each.expression for each in asked] == ["read", "read"]


def test_images_that_were_asked_for_are_the_only_ones(sets: TwoSets) -> None:
    assert sets.asked == []
    asked = Selection((5,), images="mine", payloads=("pixels", "encoded"))
    assert choose_selections(asked, NPY) == [asked]
    assert NPY.choose_controls(asked.cutoffs, asked.payloads[0])[0].endswith("[tar-5-pixels]")


def test_suspects_are_measured_next_to_the_controls_of_their_images_only(sets: TwoSets, tmp_path: Path) -> None:
    control = "benchmarks/test_many.py::test_read_many[tar-10"
    sets.seconds["standin"][f"{control}-encoded]"] = sets.seconds[""][f"{control}]"] = 1.0
    both = [f"{control}-encoded]", f"{control}]"]
    _, photo, other = sets.measure(tmp_path, NPY, (), ["photo", *both], [READ, *both])
    assert [(each.images, each.cells) for each in photo] == [("standin", ("photo", both[0]))]
    assert [(each.images, each.cells) for each in other] == [("", (READ, both[1]))]


def test_images_of_which_one_side_has_no_cell_are_screened_once(sets: TwoSets, tmp_path: Path) -> None:
    sets.changes["baseline"] = {"seconds": {}, "images": {}}
    first, second = sets.measure(tmp_path, NPY, (), ())
    assert [each.images for each in first] == ["", "standin"]
    assert [each.images for each in second] == [""]
    assert sets.sides.images == {"cifar10": "cifar10, 10 images", "standin": "standin, 10 images"}


def test_sides_that_read_different_images_are_not_compared(sets: TwoSets, tmp_path: Path) -> None:
    sets.changes["candidate"] = {"images": {"34cd": "standin, 11 images"}}
    with pytest.raises(NotMeasurableError, match="one side can read more images of standin than the other"):
        sets.measure(tmp_path, NPY, ())


def test_only_the_candidate_is_slowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slowed: dict[str, Slowdown | None] = {}

    def run(sides: Sequence[Side], *_: object, **__: object) -> list[Session]:
        slowed.update({side.name: side.slowdown for side in sides})
        return [Session({})] * 2

    monkeypatch.setattr(session, "run_sessions", run)
    sides = Sides(Side("baseline", tmp_path), Side("candidate", tmp_path), make_plan(tmp_path), tmp_path)
    sides.slow_down(Slowdown((READ,), 1.2, "cpu"))
    sides.measure((), 1)
    assert slowed == {"baseline": Slowdown(), "candidate": Slowdown((READ,), 1.2, "cpu")}


@pytest.mark.parametrize(
    ("named", "memory", "store_bytes", "used"),
    [
        ("named", "memory", 1, "named"),
        (None, "memory", 1, "memory"),
        (None, "memory", 1 << 40, "disk"),
        (None, "missing", 1, "disk"),
    ],
)
def test_stores_are_in_the_named_folder_or_in_memory_if_they_fit(
    named: str | None, memory: str, store_bytes: int, used: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("memory", "disk", "named"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "disk"))
    monkeypatch.setattr(session, "MEMORY", tmp_path / memory)
    with claim_stores(tmp_path / named if named else None, store_bytes) as stores:
        assert stores.parent == tmp_path / used
        (stores / "store").mkdir()
    assert list((tmp_path / used).iterdir()) == []


def test_images_are_described_as_files_if_they_are(tmp_path: Path) -> None:
    arrays = read_run(save(make_run(), tmp_path)).image_set
    files = read_run(save(make_photo_run(), tmp_path)).image_set
    assert describe_images(arrays) == f"{arrays.name}, {arrays.count:,} images"
    assert describe_images(files) == f"photos/, {files.count:,} image files"
    assert files.sample is not None
    pixels = replace(files, sample=replace(files.sample, side=None))
    assert describe_images(pixels) == f"photos/, {files.count:,} images"
