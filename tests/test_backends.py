"""How backends are found, and what every module of them must have."""

import inspect
from pathlib import Path

import pytest

import storage
from storage import BACKENDS, FUNCTIONS, UNAVAILABLE, Backend
from storage.backends import find_backends


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


def test_every_module_can_be_imported() -> None:
    assert not UNAVAILABLE, f"modules of storage/ that cannot be imported: {dict(UNAVAILABLE)}"


def test_a_module_that_cannot_be_imported_is_left_out_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tape.py").write_text("import a_tape_library\n")
    monkeypatch.setattr(storage, "__path__", [*storage.__path__, str(tmp_path)])
    backends, unavailable = find_backends()
    assert backends.keys() == BACKENDS.keys()
    assert unavailable == {"tape": "ModuleNotFoundError: No module named 'a_tape_library'"}


def test_a_backend_names_its_libraries_as_text(module: Backend) -> None:
    versions = getattr(module, "VERSIONS", {})
    assert isinstance(versions, dict), f"{module.__name__}.VERSIONS is no dict of name to version"
    assert all(isinstance(text, str) for pair in versions.items() for text in pair), f"{module.__name__}: {versions}"


def test_a_backend_says_what_is_on_disk(module: Backend) -> None:
    assert "On disk" in (module.__doc__ or ""), f"the docstring of {module.__name__} has no sentence 'On disk: ...'"
