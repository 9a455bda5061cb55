"""`python -m reports gate`: wrong usage, what it compares, what it prints and writes. Nothing is measured."""

import importlib.util
import io
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from reports.__main__ import main
from reports.errors import NotMeasurableError
from reports.gate import command, session
from reports.gate.pairs import SCREEN_PAIRS
from reports.gate.session import Selection, Sides
from tests.support.photo_runs import make_photo_run
from tests.support.repositories import commit_all, run_git, write_files
from tests.support.runs import make_run, save
from tests.support.sessions import READ, STORE, FakeSessions

pytest.importorskip("scipy", reason="SciPy is not installed: python -m pip install -e '.[test]'")

Gate = Callable[..., str]


@pytest.fixture
def gate(capsys: pytest.CaptureFixture[str]) -> Gate:
    """Run a gate that must end with this code; return what it printed, or the one line of its error."""

    def run(code: int, *arguments: str) -> str:
        assert main(["gate", "--all", *arguments]) == code
        printed, complaint = capsys.readouterr()
        if code > 1:
            assert (printed, complaint[:7], complaint.count("\n")) == ("", "error: ", 1)
        else:
            assert complaint == ""
        return complaint or printed

    return run


@pytest.mark.parametrize(
    "option",
    [
        "--cutoffs=10,x",
        "--budget=0",
        "--alpha=1",
        "--threshold=10%",
        "--missing=maybe",
        "--images=no/such",
        "--payloads=files",
        "--payloads=,",
        "--backends= , ",
    ],
)
def test_an_impossible_value_is_wrong_usage(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["gate", "HEAD", option])
    assert f"argument {option.partition('=')[0]}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no/such"], "no/such: neither a file nor a commit here"),
        (["HEAD", "--ref=no/such"], "no/such: neither a file nor a commit here"),
        *((["HEAD", f"--{side}-python=no/such"], "no/such: no such interpreter") for side in ("base", "new")),
        *((["HEAD", f"--{kind}=no/such"], "no/such can't be written; name a file") for kind in ("json", "markdown")),
        (["HEAD", "--payloads=encoded"], "--payloads is for --images"),
        *(
            (["HEAD", "--library=tape==1,2", f"{option}={value}"], f"two versions of a library; leave {option} out")
            for option, value in {"--ref": "HEAD", "--base-python": "python3", "--new-python": "python3"}.items()
        ),
        (["HEAD", "--json=out", "--markdown=./out"], "--json and --markdown name the same file"),
        *((["HEAD", f"--stores={name}"], "isn't a writable folder; name one") for name in ("no/such", __file__)),
    ],
)
@pytest.mark.usefixtures("project")
def test_a_wrong_name_is_wrong_input(arguments: list[str], message: str, gate: Gate) -> None:
    assert message in gate(2, *arguments)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("commit", "code", "message"),
    [(None, 2, "run.json"), ("1" * 40, 2, "neither a file nor a commit here"), ("unversioned", 3, "doesn't say which")],
    ids=["broken", "unknown commit", "no commit"],
)
def test_a_run_without_a_commit_of_this_repository_is_refused(
    commit: str | None, code: int, message: str, tmp_path: Path, gate: Gate
) -> None:
    run = make_run() | {"commit_info": commit and {"id": commit, "dirty": False}}
    assert message in gate(code, str(save(run, tmp_path)))


def test_without_scipy_the_gate_says_how_to_install_it(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "scipy" else pytest.fail(name))
    assert 'python -m pip install -e ".[gate]"' in gate(3, "HEAD")


def test_identical_versions_pass(sessions: FakeSessions, gate: Gate, tmp_path: Path) -> None:
    printed = gate(0, "HEAD", f"--stores={tmp_path}")
    assert printed.startswith("## Gate: 2 ok\n\nthe working tree against HEAD (")
    assert "- storage/ is the same in both: every difference is noise\n" in printed
    assert "- images: cifar10, 1,000 images\n" in printed
    assert f"- stores were in {tmp_path}, on a disk" in printed
    assert sessions.count == 2 * SCREEN_PAIRS


@pytest.mark.parametrize(
    ("ratio", "options", "code", "expected"),
    [
        (1.3, [], 1, "| test_read_many[hdf5-10] | 1.00 ms | 1.30x | 2.4e-04 |    12 | regression |"),
        (0.7, [], 0, "## Gate: 1 improvement, 1 ok\n"),
        (1.3, ["--budget=1e-9"], 0, "## Gate: 1 inconclusive, 1 ok\n"),
        (1.3, ["--budget=1e-9", "--strict"], 1, "## Gate: 1 inconclusive, 1 ok\n"),
        (1.3, ["--threshold=0.5"], 0, "## Gate: 2 ok\n"),
        (1.3, ["--alpha=0.00001"], 1, "|    24 | regression |"),  # 2 ** -12 isn't below a fifth of it
    ],
    ids=["regression", "improvement", "no time", "strict", "threshold", "alpha"],
)
def test_the_exit_code_and_the_summary_follow_the_verdicts(
    ratio: float, options: list[str], code: int, expected: str, sessions: FakeSessions, gate: Gate
) -> None:
    sessions.ratios[READ] = ratio
    assert expected in gate(code, "HEAD", *options)


def test_only_the_cells_that_a_change_can_affect_are_measured(
    project: Path, sessions: FakeSessions, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(project, {"storage/backends/hdf5.py": b"", "storage/backends/npy.py": b""})
    commit_all(project)
    assert main(["gate"]) == 0
    assert "- no cell uses what differs; --all measures them anyway\n" in capsys.readouterr().out
    assert sessions.selections == []
    write_files(project, {"storage/backends/hdf5.py": b"x = 1"})
    assert main(["gate", "--cells=read"]) == 0
    assert "- the change can affect hdf5\n" in capsys.readouterr().out
    assert {each.backends for each in sessions.selections} == {("hdf5", "npy", "tar")}
    assert sessions.selections[0].expression.startswith("(read) and ([hdf5- or [hdf5]) or test_store_many[npy-1000]")
    assert main(["gate", "--backends=npy"]) == 0
    assert "- none of the named backends is affected, only hdf5; --all measures" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--images=standin"], Selection((10,), images="standin", payloads=("encoded", "pixels"))),
        (
            ["--images=photos", "--payloads=pixels", "--cutoffs=5"],
            Selection((5,), images="{}/photos", payloads=("pixels",)),
        ),
        ([], Selection((10, 1_000))),
    ],
)
def test_photos_are_measured_if_they_are_asked_for(
    options: list[str], expected: Selection, sessions: FakeSessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["gate", "--all", "--budget=1e-9", *options]) == (2 if options else 0), "these sessions have no photos"
    asked, images = sessions.selections[0], expected.images.format(tmp_path)
    assert replace(asked, expression="") == replace(expected, images=images)


@pytest.mark.parametrize(("name", "images"), [("standin", "standin"), ("photos/", "")])
def test_a_run_of_photos_stands_for_them_if_they_can_be_made_again(
    name: str, images: str, project: Path, sessions: FakeSessions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_photo_run() | {"commit_info": {"id": run_git(project, "rev-parse", "HEAD"), "dirty": False}}
    run["run"]["image_set"]["name"] = name
    main(["gate", "--all", str(save(run, tmp_path))])
    assert sessions.selections[0].images == images
    note = "- the run measured photos/; --images=FOLDER measures them here\n"
    assert (note in capsys.readouterr().out) == (name == "photos/")


def test_photos_may_be_chosen_by_the_environment(sessions: FakeSessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGES", "standin")
    assert main(["gate", "--all"]) == 2
    assert {each.images for each in sessions.selections} == {"standin"}


@pytest.mark.parametrize(("name", "images"), [("decoding", ["standin"]), ("encoded", ["", "standin"]), ("png", [""])])
def test_photos_are_measured_if_code_of_image_files_differs(
    name: str, images: list[str], project: Path, sessions: FakeSessions
) -> None:
    files = {"encoded": b"", "decoding": b"from .encoded import Encoded", "png": b""}
    write_files(project, {f"storage/{each}.py": content for each, content in files.items()})
    write_files(
        project, {"benchmarks/test_x.py": b"from storage.decoding import decode\nimport storage.encoded, storage.png"}
    )
    commit_all(project)
    write_files(project, {f"storage/{name}.py": files[name] + b"\nx = 1"})
    main(["gate"])
    assert list(dict.fromkeys(each.images for each in sessions.selections)) == images


@pytest.mark.usefixtures("sessions")
def test_another_interpreter_affects_all_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_files(tmp_path, {"old/python": b""})
    (tmp_path / "old" / "python").chmod(0o755)
    assert main(["gate", f"--base-python={tmp_path}/old/python"]) == 0
    assert "- all cells are measured, those of image files, too: the interpreters differ\n" in capsys.readouterr().out


def test_a_library_affects_the_backends_that_import_it(
    project: Path, sessions: FakeSessions, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "make_pythons", lambda library: nullcontext((f"old {library.name}", "new")))
    write_files(project, {"storage/backends/hdf5.py": b"def f():\n    import tape.reel"})
    commit_all(project)
    for library, scope in (("tape", "the change can affect hdf5"), ("reel", "no backend imports reel itself")):
        sessions.pythons.clear()
        assert main(["gate", f"--library={library}==1,2"]) == 0
        assert sessions.pythons == {("baseline", f"old {library}"), ("candidate", "new")}
        printed = capsys.readouterr().out
        assert scope in printed
        assert "is the same" not in printed


def test_the_backends_of_another_package_are_compared(
    sessions: FakeSessions, tmp_path: Path, gate: Gate, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(tmp_path / "other", {"reel/__init__.py": b"", "reel/bench.py": b""})
    commit = commit_all(tmp_path / "other")
    write_files(tmp_path / "other", {"reel/bench.py": b"x = 1"})
    assert main(["gate", f"--package={tmp_path}/other/reel", "--backends=reel.bench"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"## Gate: 2 ok\n\nthe working tree against HEAD ({commit[:8]})\n")
    assert (
        "- uncommitted changes in 1 file of reel/ are measured\n- the change can affect reel.bench; cells of image"
        in printed
    )
    assert {each.backends for each in sessions.selections} == {("reel.bench", "npy", "tar")}
    assert "--package needs --backends" in gate(2, f"--package={tmp_path}/other/reel")


@pytest.mark.parametrize(
    ("changes", "code", "title"),
    [
        ([("store_many[hdf5]", 0, 3)], 1, "error"),
        ([("store_many[hdf5]", 3, 0)], 0, "notice"),
        ([("durable save[hdf5]", 3, 0)], 1, "error"),
    ],
)
def test_syncs_that_come_or_go_are_named(
    changes: list[tuple[str, int, int]],
    code: int,
    title: str,
    sessions: FakeSessions,
    monkeypatch: pytest.MonkeyPatch,
    gate: Gate,
) -> None:
    assert sessions.obstacle in gate(0)
    sessions.obstacle = ""
    counts = [{name: number[side] for name, *number in changes} for side in (0, 1)]
    monkeypatch.setattr(Sides, "count_syncs", lambda _: counts)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    ((name, base, new),) = changes
    word = "regression" if code else "improvement"
    printed = gate(code)
    assert ("## Gate: 1 regression of durability, 2 ok\n" in printed) == bool(code)
    assert f"\nDurability:\n\n- {word}: {name} syncs {new} times, {base} in the baseline\n" in printed
    assert f"::{title} title=Gate - durability::" in printed


def test_without_a_trace_the_summary_says_that_syncs_were_not_counted(
    sessions: FakeSessions, monkeypatch: pytest.MonkeyPatch, gate: Gate
) -> None:
    def fail(_: Sides) -> None:
        raise NotMeasurableError("strace traced no store")

    sessions.obstacle = ""
    monkeypatch.setattr(Sides, "count_syncs", fail)
    assert "- syncs weren't counted: strace traced no store\n" in gate(0)


def test_a_library_that_no_named_backend_imports_is_said_to_affect_others(
    project: Path, sessions: FakeSessions, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "make_pythons", lambda library: nullcontext((f"old {library.name}", "new")))
    monkeypatch.setattr(session, "check_backends", lambda *_: None)  # these interpreters don't exist
    write_files(project, {"storage/backends/hdf5.py": b"import tape", "storage/backends/npy.py": b""})
    commit_all(project)
    assert main(["gate", "--library=tape==1,2", "--backends=npy"]) == 0
    assert "- none of the named backends is affected, only hdf5; " in capsys.readouterr().out
    assert sessions.selections == []
    assert main(["gate", "--library=tape==1,2", "--backends=reel.bench"]) == 0
    assert "- the change can affect reel.bench" in capsys.readouterr().out


@pytest.mark.usefixtures("sessions")
def test_changes_of_the_working_tree_are_measured_and_mentioned(project: Path, gate: Gate) -> None:
    write_files(project, {"storage/__init__.py": b"x"})
    printed = gate(0, "HEAD")
    assert "- uncommitted changes in 1 file of storage/ are measured\n" in printed
    assert "is the same in both" not in printed


@pytest.mark.usefixtures("sessions")
def test_two_commits_are_compared_without_the_working_tree(project: Path, gate: Gate) -> None:
    first = run_git(project, "rev-parse", "HEAD")
    write_files(project, {"storage/__init__.py": b"second"})
    second = commit_all(project)
    write_files(project, {"storage/__init__.py": b"third"})
    printed = gate(0, "HEAD~1", "--ref", "main")
    assert f"\nmain ({second[:8]}) against HEAD\\~1 ({first[:8]})\n" in printed
    assert "- uncommitted changes in 1 file of storage/ are not measured\n" in printed


@pytest.mark.usefixtures("sessions")
@pytest.mark.parametrize("dirty", [False, True])
def test_a_run_stands_for_its_commit(project: Path, tmp_path: Path, gate: Gate, *, dirty: bool) -> None:
    commit = run_git(project, "rev-parse", "HEAD")
    commit_all(project)
    printed = gate(0, str(save(make_run() | {"commit_info": {"id": commit, "dirty": dirty}}, tmp_path)))
    assert f"against {commit} ({commit[:8]})\n" in printed
    note = f"- the run had uncommitted changes; the base is its commit {commit[:8]} without them\n"
    assert (note in printed) == dirty


def test_each_side_has_its_interpreter_and_other_libraries_are_listed(
    sessions: FakeSessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gate: Gate
) -> None:
    sessions.libraries["candidate"] = {"h5py": "3.16"}
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path, {"old/python": b""})
    (tmp_path / "old" / "python").chmod(0o755)
    printed = gate(0, "HEAD", "--base-python=old/python")
    assert sessions.pythons == {("baseline", str(tmp_path / "old" / "python")), ("candidate", sys.executable)}
    assert "- h5py 3.15 -&gt; 3.16\n" in printed
    assert "noise" not in printed


def test_an_interpreter_that_fails_says_why_instead_of_lacking_backends(
    project: Path, sessions: FakeSessions, gate: Gate
) -> None:
    write_files(project, {"python": b"#!/bin/sh\necho no memory >&2\nexit 9\n"})
    (project / "python").chmod(0o755)
    printed = gate(2, "HEAD", f"--new-python={project / 'python'}", "--backends=reel.bench")
    assert f"{project / 'python'} can't look for backends: no memory" in printed
    assert sessions.selections == []


@pytest.mark.parametrize("name", ["hdf6", "_shared", "no.such", "reel.such"])
def test_a_backend_that_neither_side_has_is_wrong_input(
    name: str, project: Path, sessions: FakeSessions, gate: Gate
) -> None:
    write_files(project, {f"storage/backends/{each}.py": b"" for each in ("npy", "_shared", "tar")})
    assert f"'{name}' isn't a backend of either side; those of storage/ are npy, tar" in gate(
        2, f"--backends=npy,{name}"
    )
    assert sessions.selections == []


def test_a_backend_may_be_of_one_side_or_of_another_package(
    project: Path, sessions: FakeSessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gate: Gate
) -> None:
    write_files(project, {"storage/backends/tar.py": b"", "storage/backends/gone.py": b""})
    commit_all(project)
    (project / "storage/backends/gone.py").unlink()
    entries = b"[image_storage.backends]\ntape = reel.bench\n"
    files = {"broken/__init__.py": b"import no_such", "angry/__init__.py": b"raise SystemExit(3)", "reel/bench.py": b""}
    write_files(tmp_path / "site", files | {"reel-1.0.dist-info/entry_points.txt": entries})
    write_files(
        tmp_path / "site", {"reel-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: reel\nVersion: 1.0\n"}
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    assert gate(0, "--backends=tar, gone,tape, reel.bench,broken.bench,angry.bench,tar").startswith("## Gate: 2 ok\n")
    assert {each.backends for each in sessions.selections if not each.images} == {
        ("tar", "gone", "tape", "reel.bench", "broken.bench", "angry.bench")
    }


def test_a_backend_that_neither_side_can_measure_is_listed(sessions: FakeSessions, tmp_path: Path, gate: Gate) -> None:
    sessions.unavailable = {
        "baseline": {"tiledb": "no", "new": "no"},
        "candidate": {"tiledb": "not <here>", "old": "no"},
    }
    printed = gate(0, f"--json={tmp_path / 'gate.json'}")
    assert printed.startswith("## Gate: 2 ok, 1 backend not measured\n")
    assert "\nNot measured:\n\n- tiledb: not &lt;here&gt;\n\n" in printed
    assert json.loads((tmp_path / "gate.json").read_text())["outcome"]["unavailable"] == {"tiledb": "not <here>"}


def test_files_hold_the_finding(sessions: FakeSessions, tmp_path: Path, gate: Gate) -> None:
    sessions.ratios[READ] = 1.3
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    options = [f"--json={tmp_path / 'gate.json'}", f"--markdown={summary}"]
    assert f"before\n{gate(1, 'HEAD', *options)}" == summary.read_text(encoding="utf-8")
    document = json.loads((tmp_path / "gate.json").read_text())
    assert document["exit_code"] == 1
    verdicts = {each["cell"]: each["verdict"] for each in document["outcome"]["verdicts"]}
    assert verdicts == {READ: "regression", STORE: "ok"}


def test_github_gets_annotations(sessions: FakeSessions, monkeypatch: pytest.MonkeyPatch, gate: Gate) -> None:
    sessions.ratios[READ] = 1.3
    sessions.absent = {STORE: "OSError: 100 %\n::error::mine"}
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert [line for line in gate(1, "HEAD").splitlines() if line.startswith("::")] == [
        "::error title=Gate - regression::test_read_many[hdf5-10] takes 1.30 times as long (12 pairs)",
        "::error title=Gate - not measured::test_store_many[hdf5-10]: candidate: OSError: 100 %25 ::error::mine",
    ]


def test_a_build_is_told_why_nothing_can_be_measured(
    sessions: FakeSessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash() -> None:
        raise NotMeasurableError("the candidate was killed by SIGBUS in <some> cell")

    sessions.before = crash
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert main(["gate", "--all", f"--markdown={tmp_path / 'summary.md'}"]) == 3
    assert (tmp_path / "summary.md").read_text() == (
        "## Gate: not measurable\n\nthe candidate was killed by SIGBUS in &lt;some&gt; cell\n"
    )
    printed, complaint = capsys.readouterr()
    assert printed == "::error title=Gate - not measurable::the candidate was killed by SIGBUS in <some> cell\n"
    assert complaint == "error: the candidate was killed by SIGBUS in <some> cell\n"


def test_progress_is_shown_on_a_terminal_and_cleared(sessions: FakeSessions, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main(["gate", "--all"]) == 0
    shown = terminal.getvalue().split("\r\x1b[K")
    assert shown == ["", *(f"screen: pair {number} of {SCREEN_PAIRS}" for number in range(1, SCREEN_PAIRS + 1)), ""]
    sessions.ratios = {}
    assert main(["gate", "--all"]) == 2
    assert terminal.getvalue().rpartition("\r\x1b[K")[2].startswith("error: no benchmark of an affected backend")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_gate_and_leaves_no_folder(
    name: str, sessions: FakeSessions, stores: Path, monkeypatch: pytest.MonkeyPatch, gate: Gate
) -> None:
    temporary = stores.with_name("temporary")
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    before = signal.getsignal(signal.SIGTERM)
    waiting = [signal.Signals[name]]
    sessions.before = lambda: os.kill(os.getpid(), waiting.pop()) if waiting else None
    assert gate(130, "HEAD", f"--stores={stores}") == "error: interrupted\n"
    assert signal.getsignal(signal.SIGTERM) == before
    assert [*temporary.iterdir(), *stores.iterdir()] == []
