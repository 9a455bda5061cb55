"""What the documents show is what the program does."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.backends import need_backend
from tests.support.image_sets import assert_same, make_set
from tests.support.suite import ROOT

pytestmark = need_backend("lmdb_packed")


def test_the_first_example_of_storing_in_the_readme_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert "storage.save" in examples[0]
    assert "storage.load" in examples[0]
    images, labels = make_set(5)
    names: dict[str, Any] = {"images": images, "labels": labels}
    monkeypatch.chdir(tmp_path)
    exec(compile(examples[0], "README.md", "exec"), names)  # noqa: S102 - our own document
    assert_same((names["images"], names["labels"]), make_set(5))
    assert names["images"] is not images
    assert (tmp_path / "photos" / "manifest.json").is_file()
