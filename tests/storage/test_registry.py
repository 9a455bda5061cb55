"""How backends are found, and what every module of them must have."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from storage import BACKENDS, UNAVAILABLE, Backend, BackendInfo
from storage import backends as folder
from storage.registry import import_backend, list_modules
from tests.support.suite import ROOT

FUNCTIONS = [name for name, member in vars(Backend).items() if inspect.isfunction(member) and not name.startswith("_")]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_backend_has_the_functions_of_the_contract(module: Backend, function: str) -> None:
    assert callable(getattr(module, function, None)), f"{module.__name__} lacks the function {function}"
    wanted = list(inspect.signature(getattr(Backend, function)).parameters)[1:]
    found = inspect.signature(getattr(module, function)).parameters.values()
    names = [parameter.name for parameter in found if parameter.kind is not parameter.KEYWORD_ONLY]
    assert names == wanted, f"{module.__name__}.{function} takes {names}, the contract says {wanted}"
    options = [parameter for parameter in found if parameter.kind is parameter.KEYWORD_ONLY]
    without = [parameter.name for parameter in options if parameter.default is parameter.empty]
    assert not without, f"{module.__name__}.{function} has options without a default: {without}"


def test_a_module_that_is_not_here_says_how_to_get_what_it_needs() -> None:
    silent = {name: reason for name, reason in UNAVAILABLE.items() if "python -m" not in reason}
    assert not silent, f"modules of storage/ that cannot be imported: {silent}"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("import a_tape_library", 'a_tape_library is not installed: python -m pip install -e ".[tape]"'),
        ("import storage.backends.reel", "ModuleNotFoundError: No module named 'storage.reel'"),
        ("raise OSError('no drive')", "OSError: no drive"),
        ("from storage.errors import *; raise BackendUnavailableError('build it')", "build it"),
    ],
)
def test_a_module_that_cannot_be_imported_is_left_out_with_the_reason(
    content: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, unavailable = list(BACKENDS), dict(UNAVAILABLE)
    (tmp_path / "tape.py").write_text(f"{content}\nstore_many = print\n")
    (tmp_path / "tape_reels.py").write_text("import a_tape_library  # a room that a family shares\n")
    with monkeypatch.context() as patch:
        patch.setattr(folder, "__path__", [*folder.__path__, str(tmp_path)])
        import_backend.cache_clear()
        list_modules.cache_clear()
        assert list(BACKENDS) == here
        assert dict(UNAVAILABLE) == {**unavailable, "tape": reason}
        assert len(UNAVAILABLE) == len(unavailable) + 1
    import_backend.cache_clear()
    list_modules.cache_clear()


def test_a_backend_is_imported_when_it_is_asked_for() -> None:
    program = "import sys, storage; storage.BACKENDS['png']; print(*(name for name in sys.modules if 'h5py' in name))"
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "\n"


def test_a_backend_has_facts(module: Backend) -> None:
    assert isinstance(module.INFO, BackendInfo), f"{module.__name__}.INFO isn't a BackendInfo"
    assert module.INFO.versions, f"{module.__name__}.INFO names no library"
    assert all(isinstance(text, str) for pair in module.INFO.versions.items() for text in pair), module.INFO
    assert module.INFO.maintainer, f"{module.__name__}.INFO has no maintainer"
    assert module.INFO.licence, f"{module.__name__}.INFO has no licence"


def test_a_backend_says_what_is_on_disk(module: Backend) -> None:
    assert "On disk" in (module.__doc__ or ""), f"the docstring of {module.__name__} has no sentence 'On disk: ...'"
