"""The examples in the docstrings of the public API run and print what they show."""

import doctest
from pathlib import Path

import pytest

from storage import contract, errors, reader
from storage.dataset import appending, reading, report, saving

MODULES = (appending, contract, errors, reader, reading, report, saving)
EXAMPLES = [test for module in MODULES for test in doctest.DocTestFinder().find(module) if test.examples]
PUBLIC = ["Backend", "StorageError", "Reader", "load", "open", "append", "compact", "check", "save"]


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.name for example in EXAMPLES])
def test_an_example_prints_what_it_shows(
    example: doctest.DocTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.DocTestRunner().run(example)
    assert result.failed == 0, capsys.readouterr().out


def test_the_public_api_has_examples() -> None:
    found = {example.name.rpartition(".")[2] for example in EXAMPLES}
    assert found.issuperset(PUBLIC)
