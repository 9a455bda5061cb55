"""A backend of another package: found through its entry point, and measured with the `storage` under test."""

import json
import shutil
import site
import subprocess
import venv
from pathlib import Path

import pytest

from tests.support.environments import run_pip, run_python
from tests.support.repositories import commit_all
from tests.support.suite import HERE, QUICK, ROOT, clean_environment, copy_suite, read_last_run

pytestmark = pytest.mark.slow

PROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "reel"
version = "1.0"
dependencies = ["image-storage"]

[project.entry-points."image_storage.backends"]
reel = "reel"
npy = "reel"

[tool.setuptools]
py-modules = ["reel"]
"""
LOG = """
import image_storage

with open(os.environ["REEL_LOG"], "a") as log:
    log.write(f"{getattr(image_storage, 'EDITION', image_storage.__file__)}\\n")
"""
SAVE = """
import image_storage, numpy as np

assert image_storage.BACKENDS["reel"].__name__ == "reel"
assert image_storage.BACKENDS["npy"].__name__ == "image_storage.backends.npy", "a package replaced a built-in backend"
image_storage.save("photos", np.ones((3, 5, 7, 3), np.uint8), np.arange(3), backend="reel")
assert image_storage.load("photos")[1].tolist() == [0, 1, 2]
"""
SESSION = """
import image_storage, pytest, reel, storage


def test_the_backend_uses_the_storage_under_test(tmp_path):
    assert image_storage.Reader is storage.Reader is reel.Reader
    assert storage.BACKENDS["reel"] is reel
    with pytest.raises(storage.StoreNotFoundError) as caught:
        reel.read_many(tmp_path / "nowhere")
    assert isinstance(caught.value, storage.StorageError)
"""


@pytest.fixture(scope="module")
def reel_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install `reel` and the wheel beside what the suite needs; return the interpreter."""
    folder = tmp_path_factory.mktemp("reel")
    text = (ROOT / "tests" / "support" / "raw_backend.py").read_text(encoding="utf-8")
    text = text.replace("from storage.reader import Reader", "from image_storage import Reader, StorageError  # noqa")
    (folder / "source").mkdir()
    (folder / "source" / "pyproject.toml").write_text(PROJECT)
    (folder / "source" / "reel.py").write_text(text.replace("from storage.", "from image_storage.") + LOG)
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    outer = [f"import site; site.addsitedir({path!r})" for path in site.getsitepackages()]
    (packages / "outer.pth").write_text("\n".join(outer))
    run_pip(python, "install", "--no-deps", str(wheel), "./source", folder=folder)
    return python


def run(python: Path, *arguments: str, folder: Path, log: Path) -> str:
    environment = clean_environment(REEL_LOG=str(log))
    ended = subprocess.run(
        [str(python), "-m", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode in {0, 1}, ended.stdout + ended.stderr
    return ended.stdout


def test_an_installed_backend_is_found_and_replaces_no_built_in_one(
    reel_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REEL_LOG", str(tmp_path / "log"))
    ended = run_python(reel_python, "-c", SAVE, folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "site-packages" in (tmp_path / "log").read_text()


def test_a_session_measures_the_backend_with_the_storage_under_test(reel_python: Path, tmp_path: Path) -> None:
    folder = copy_suite(tmp_path / "suite")
    (folder / "tests" / "test_reel.py").write_text(SESSION)
    log = tmp_path / "log"
    assert "1 passed" in run(reel_python, "pytest", "tests/test_reel.py", *HERE, folder=folder, log=log)
    output = run(reel_python, "pytest", "benchmarks", *QUICK, "--backends=reel", "--cutoffs=10", folder=folder, log=log)
    result = read_last_run(folder)
    assert result["run"]["complete"], output
    assert {cell["params"]["backend"] for cell in result["benchmarks"] if cell["params"]} == {"reel"}
    assert any("spawn" in cell["name"] for cell in result["benchmarks"])
    assert set(log.read_text().splitlines()) == {str(folder / "storage" / "__init__.py")}


def test_the_gate_measures_the_backend_with_the_storage_of_each_side(reel_python: Path, tmp_path: Path) -> None:
    pytest.importorskip("scipy", reason="the gate needs SciPy")
    if shutil.which("git") is None:
        pytest.skip("git isn't installed")
    folder, log = copy_suite(tmp_path / "suite"), tmp_path / "log"
    package = folder / "storage" / "__init__.py"
    text = package.read_text(encoding="utf-8")
    package.write_text(f'{text}\nEDITION = "old"\n', encoding="utf-8")
    commit_all(folder)
    package.write_text(f'{text}\nEDITION = "new"\n', encoding="utf-8")
    cells = ("--cells", "reel and test_many", "--cutoffs=10", "--budget=60")
    output = run(reel_python, "reports", "gate", *cells, f"--json={tmp_path / 'gate.json'}", folder=folder, log=log)
    assert set(log.read_text().splitlines()) == {"old", "new"}, output
    assert "reel" in json.dumps(json.loads((tmp_path / "gate.json").read_text())), output
