"""The action runs in a job of another repository, from a download without history, as on GitHub."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.environments import run_pip
from tests.support.reel_tape import use_library, write_wheels
from tests.support.suite import HERE, ROOT, clean_environment, copy_suite

PROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "mypkg"
version = "1.0"

[tool.setuptools]
packages = ["mypkg"]
"""
GH = """#!/bin/sh
cd "$(dirname "$0")" || exit
echo "$@" >> calls
case "$*" in
  *--paginate*) [ ! -e known ] || cat known;;
  *) [ ! -e forbidden ] && cp "${7#body=@}" comment.md;;
esac
"""
PYTHON = f"""#!/bin/sh
[ "$1" != -c ] || exec "{sys.executable}" "$@"
folder=$(dirname "$0")
echo "$@" >> "$folder/commands"
printf "<%s>" "$@" >> "$folder/words"
case "$*" in
  "-m pytest"*) echo "{{}}" > "$8"; exit "$(cat "$folder/status")";;
  "-m reports gate"*) cp "$folder/tables" "$7"; exit "$(cat "$folder/status")";;
  "-m reports table"*) cat "$folder/tables";;
esac
"""
QUICK = " ".join((*HERE, "-k test_many", "--cutoffs=10", "--benchmark-max-time=0.001", "--benchmark-min-rounds=1"))


class Job(NamedTuple):
    """A job: the interpreter it has set up, the folder of the action, and the folder that `gh` writes to."""

    python: Path
    action: Path
    folder: Path

    def run(self, **inputs: str) -> subprocess.CompletedProcess[str]:
        """Run the action's script; skip the test if there is no package index to download from."""
        environment = clean_environment(
            GITHUB_REPOSITORY="owner/mypkg",
            GITHUB_STEP_SUMMARY=str(self.folder / "summary.md"),
            PULL_REQUEST="7",
            PATH=os.pathsep.join([str(self.python.parent), str(self.folder), os.environ["PATH"]]),
            **{f"INPUT_{name}": inputs.get(name.lower(), "") for name in ("BACKENDS", "LIBRARY", "OPTIONS")},
        )
        command = [str(self.action / ".ci" / "action")]
        ended = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        if "connection" in ended.stderr.lower():
            pytest.skip("no package index can be reached")
        return ended

    def read(self, name: str) -> str:
        """Read what the script wrote."""
        return (self.folder / name).read_text(encoding="utf-8")


def start_job(python: Path, folder: Path) -> Job:
    """Put the script, and what stands in for GitHub's command, into folders of their own."""
    if shutil.which("git") is None:
        pytest.skip("git isn't installed")
    action, workspace = folder / "action", folder / "workspace"
    shutil.copytree(ROOT / ".ci", action / ".ci")
    workspace.mkdir()
    write_program(workspace / "gh", GH)
    return Job(python, action, workspace)


def write_program(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Make a job whose Python only says what it was asked for, and has a table."""
    started = start_job(tmp_path / "workspace" / "python", tmp_path)
    write_program(started.python, PYTHON)
    (started.action / "storage").mkdir()
    (started.action / "storage" / "__init__.py").touch()
    (started.folder / "tables").write_text("| backend |\n", encoding="utf-8")
    (started.folder / "status").write_text("0")
    return started


@pytest.fixture(scope="module")
def mypkg_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install a package with a backend, without `image_storage`; the action adds what the suite needs."""
    folder = tmp_path_factory.mktemp("mypkg")
    text = (ROOT / "tests" / "support" / "raw_backend.py").read_text(encoding="utf-8")
    (folder / "mypkg").mkdir()
    (folder / "mypkg" / "__init__.py").touch()
    (folder / "mypkg" / "bench.py").write_text(text.replace("from storage.", "from image_storage."))
    (folder / "pyproject.toml").write_text(PROJECT)
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    run_pip(python, "install", "--no-deps", ".", folder=folder)
    return python


@pytest.fixture
def real_job(mypkg_python: Path, tmp_path: Path) -> Job:
    started = start_job(mypkg_python, tmp_path)
    copy_suite(started.action)
    for name in ("LICENSE", "README.md", "action.yml"):
        shutil.copy(ROOT / name, started.action)
    return started


def test_the_tables_of_backends_are_a_comment(job: Job) -> None:
    ended = job.run(backends="mypkg.bench,npy", options="--cutoffs=10 --cold")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    install, session, _ = job.read("commands").splitlines()
    assert install == "-m pip install --quiet -e .[gate,mypkg.bench,npy]"
    assert session.startswith("-m pytest benchmarks --benchmark-only --backends mypkg.bench,npy --benchmark-json ")
    assert session.endswith(" --cutoffs=10 --cold")
    assert job.read("summary.md") == "| backend |\n"
    assert job.read("comment.md") == "<!-- image-storage: mypkg.bench,npy -->\n| backend |\n"
    assert "--method POST repos/owner/mypkg/issues/7/comments" in job.read("calls")


def test_options_are_quoted_as_in_a_shell_on_any_number_of_lines_and_never_run(job: Job) -> None:
    options = """--cutoffs=10
      --cells "read_many and lmdb"  '*' a\\ b '' "it's"

      $(touch made) `touch made`; touch made > made
    """
    ended = job.run(backends="npy", options=options)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    words = ["--cutoffs=10", "--cells", "read_many and lmdb", "*", "a b", "", "it's"]
    words += ["$(touch", "made)", "`touch", "made`;", "touch", "made", ">", "made"]
    assert "".join(f"<{word}>" for word in words) in job.read("words")
    assert not list(job.folder.parent.rglob("made*"))


def test_a_quotation_without_an_end_fails_the_job_at_once(job: Job) -> None:
    ended = job.run(backends="npy", options="--cutoffs=10 --cells 'read_many")
    assert (ended.returncode, ended.stdout) == (2, "::error::options: a quotation or an escape has no end\n")
    assert not (job.folder / "commands").exists()


def test_the_next_run_replaces_its_comment(job: Job) -> None:
    (job.folder / "known").write_text("42\n43\n")
    assert job.run(backends="npy").returncode == 0
    assert "--method PATCH repos/owner/mypkg/issues/comments/42" in job.read("calls")


def test_a_gate_that_fails_comments_before_it_fails_the_job(job: Job) -> None:
    (job.folder / "status").write_text("1")
    ended = job.run(library="h5py==3.15.1,3.16.0", options="--budget=60")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    install, gate = job.read("commands").splitlines()
    assert install == "-m pip install --quiet -e .[gate,all]"
    assert gate.startswith("-m reports gate --library h5py==3.15.1,3.16.0 --markdown ")
    assert gate.endswith(" --budget=60")
    assert job.read("comment.md") == "<!-- image-storage: h5py==3.15.1,3.16.0 -->\n| backend |\n"


def test_a_comment_is_no_longer_than_github_accepts(job: Job) -> None:
    (job.folder / "tables").write_text("| a row |\n" * 10_000)
    assert job.run(backends="npy").returncode == 0
    assert 59_000 < len(job.read("comment.md")) < 65_536
    assert job.read("comment.md").endswith("| a row |\n")
    assert len(job.read("summary.md")) == 100_000


def test_without_a_permission_to_comment_the_tables_are_in_the_summary(job: Job) -> None:
    (job.folder / "forbidden").touch()
    ended = job.run(backends="npy")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert job.read("summary.md") == "| backend |\n"
    assert "::warning::no comment, only a summary" in ended.stdout


def test_a_job_that_names_nothing_fails_at_once(job: Job) -> None:
    ended = job.run()
    assert (ended.returncode, ended.stdout[:14]) == (2, "::error::name ")
    assert not (job.folder / "commands").exists()


@pytest.mark.slow
def test_a_backend_of_another_repository_is_measured(real_job: Job) -> None:
    ended = real_job.run(backends="mypkg.bench,npy", options=QUICK)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "### read_many (warm)" in real_job.read("comment.md")
    assert "| mypkg.bench |" in real_job.read("comment.md")


@pytest.mark.slow
def test_a_slower_version_of_a_library_fails_the_job(
    real_job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheels(tmp_path / "wheels")
    use_library(real_job.action)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    ended = real_job.run(library="reel-tape==1.0,2.0", backends="npy", options="--cells=test_store_many --cutoffs=10")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert real_job.read("comment.md").startswith("<!-- image-storage: reel-tape==1.0,2.0 -->\n## Gate: ")
    assert "store_many[npy-10]" in real_job.read("comment.md")


@pytest.mark.slow
def test_a_backend_that_is_not_installed_fails_the_job_without_a_comment(real_job: Job) -> None:
    ended = real_job.run(backends="nowhere.bench", options=QUICK)
    assert ended.returncode == 4, ended.stdout + ended.stderr
    assert "nowhere.bench" in ended.stdout + ended.stderr
    assert not (real_job.folder / "comment.md").exists()
