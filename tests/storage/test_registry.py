"""The registry: which backends are found, in the folder and in other packages, and what each must have."""

import inspect
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from storage import BACKENDS, UNAVAILABLE, Backend, BackendInfo, InvalidInputError, registry
from storage import backends as folder
from storage.registry import GROUP, add_module, find_backend, import_backend, list_modules
from tests.support.image_sets import assert_same, make_set
from tests.support.suite import ROOT

pytestmark = pytest.mark.kinds("pixels", "encoded")
FUNCTIONS = [name for name, member in vars(Backend).items() if inspect.isfunction(member) and not name.startswith("_")]
COMPLETE = "from tests.support.raw_backend import *"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_backend_has_the_functions_of_the_contract(module: Backend, function: str) -> None:
    assert callable(getattr(module, function, None)), f"{module.__name__} lacks the function {function}"
    found = inspect.signature(getattr(module, function)).parameters.values()
    _, *contract = inspect.signature(getattr(Backend, function)).parameters.values()
    wanted, names = (
        [parameter.name for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY]
        for parameters in (contract, found)
    )
    assert names == wanted, f"{module.__name__}.{function} takes {names}, the contract says {wanted}"
    options = [parameter for parameter in found if parameter.kind is parameter.KEYWORD_ONLY]
    without = [parameter.name for parameter in options if parameter.default is parameter.empty]
    assert not without, f"{module.__name__}.{function} has options without a default: {without}"


def test_a_backend_states_facts_and_describes_its_files(module: Backend) -> None:
    assert isinstance(module.INFO, BackendInfo), f"{module.__name__}.INFO isn't a BackendInfo"
    assert module.INFO.versions, f"{module.__name__}.INFO names no library"
    assert all(isinstance(text, str) for pair in module.INFO.versions.items() for text in pair), module.INFO
    assert module.INFO.maintainer, f"{module.__name__}.INFO has no maintainer"
    assert module.INFO.licence, f"{module.__name__}.INFO has no licence"
    assert "On disk" in (module.__doc__ or ""), f"the docstring of {module.__name__} has no sentence 'On disk: ...'"


def test_an_unavailable_backend_says_how_to_install_what_it_needs() -> None:
    silent = {name: reason for name, reason in UNAVAILABLE.items() if "python -m" not in reason}
    assert not silent, f"backends that can't be imported: {silent}"


def test_a_backend_is_imported_when_it_is_asked_for() -> None:
    program = "import sys, storage; storage.BACKENDS['png']; print(*(name for name in sys.modules if 'h5py' in name))"
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "\n"


BARE = """
import sys
for name in ("cv2", "h5py", "lmdb", "nvidia", "PIL", "pyarrow", "simplejpeg", "tiledb", "tqdm", "zarr"):
    sys.modules[name] = None
import numpy, storage, storage.__main__
storage.save(sys.argv[1], numpy.zeros((3, 4, 5, 3), numpy.uint8), numpy.arange(3), "npy")
print(storage.load(sys.argv[1])[1].sum(), storage.check(sys.argv[1]).is_whole)
"""


def test_storage_needs_no_optional_library(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BARE, str(tmp_path / "set")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("3 True\n", "")


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a folder of modules that can be imported; what is found in it is forgotten at the end."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    monkeypatch.undo()
    for cached in (list_modules, import_backend):
        cached.cache_clear()
    for name in set(sys.modules) - before:
        if name.rpartition(".")[2].startswith(("tape", "_tape")):
            del sys.modules[name]


def add_entry_points(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    """Pretend that installed packages have entry points."""
    found = [EntryPoint(name, value, GROUP) for name, value in values.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: found if group == GROUP else [])
    for cached in (list_modules, import_backend):
        cached.cache_clear()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("import a_tape_library", 'a_tape_library is not installed: python -m pip install -e ".[tape]"'),
        ("import storage.backends.reel", "ModuleNotFoundError: No module named 'storage.backends.reel'"),
        ("raise OSError('no drive')", "OSError: no drive"),
        ("import sys; sys.exit('no drive')", "SystemExit: no drive"),
        ("from storage.errors import *; raise BackendUnavailableError('build it')", "build it"),
        ("", "storage.backends.tape lacks INFO, read_many, open_reader"),
        (f"{COMPLETE}\nINFO = 1", "INFO of storage.backends.tape is a builtins.int, not a BackendInfo of storage"),
    ],
)
def test_a_module_that_cannot_be_used_is_unavailable_with_the_reason(
    content: str, reason: str, modules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, unavailable = list(BACKENDS), dict(UNAVAILABLE)
    (modules / "tape.py").write_text(f"{content}\nstore_many = print\n")
    (modules / "_tape.py").write_text("import a_tape_library  # shared by a family, so it isn't a backend\n")
    add_entry_points(monkeypatch)
    monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(modules)])
    assert list(BACKENDS) == here
    assert dict(UNAVAILABLE) == {**unavailable, "tape": reason}
    assert len(UNAVAILABLE) == len(unavailable) + 1
    with pytest.raises(InvalidInputError, match=r"'tape' can't be used here \(.*: choose one of .*npy"):
        find_backend("tape")


def test_a_backend_of_another_package_is_found_and_completed(
    modules: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (modules / "tape_package.py").write_text(COMPLETE)
    add_entry_points(monkeypatch, tape="tape_package")
    assert "tape" in BACKENDS
    assert list(BACKENDS) == sorted(BACKENDS)
    image, tape = make_set(1)[0][0], find_backend("tape")
    tape.store_single(tmp_path / "store", image, 7)
    assert_same(tape.read_single(tmp_path / "store", 0), (image, 7))
    assert tape.find_pixels(tmp_path / "store") == {}
    assert tape.find_records(tmp_path / "store") == []
    tape.check_names(["anything\n"])


def test_a_module_is_added_under_its_dotted_name(modules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (modules / "tape_package").mkdir()
    (modules / "tape_package" / "reel.py").write_text(COMPLETE)
    add_entry_points(monkeypatch)
    names = ["tape_package.reel", "tape_absent.reel"]
    assert not set(names) & set(list_modules()), "a dataset may name any module, and must not have it imported"
    for name in names:
        add_module(name)
    assert BACKENDS[names[0]].__name__ == names[0]
    assert UNAVAILABLE[names[1]] == "tape_absent is not installed, and tape_absent.reel needs it"


def test_a_package_cannot_replace_a_built_in_backend(modules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (modules / "tape_package.py").write_text(COMPLETE)
    add_entry_points(monkeypatch, npy="tape_package", png="tape_absent")
    assert BACKENDS["npy"].__name__ == "storage.backends.npy"
    assert BACKENDS["png"].__name__ == "storage.backends.png"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("tape_absent", "tape_absent is not installed, and tape_absent needs it"),
        ("tape_empty", "tape_empty lacks INFO, store_many, read_many, open_reader"),
        ("tape_empty:missing", "AttributeError: module 'tape_empty' has no attribute 'missing'"),
        ("tape_empty:number", "its entry point is of type int: it must name a module"),
        ("tape_broken", "ZeroDivisionError: division by zero"),
        ("tape_program", "SystemExit: 2"),
    ],
)
def test_a_broken_backend_of_another_package_is_unavailable_with_the_reason(
    value: str, reason: str, modules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (modules / "tape_empty.py").write_text("number = 7")
    (modules / "tape_broken.py").write_text("1 / 0")
    (modules / "tape_program.py").write_text("raise SystemExit(2)")
    add_entry_points(monkeypatch, tape=value)
    assert "tape" not in BACKENDS
    assert UNAVAILABLE["tape"].startswith(reason)
