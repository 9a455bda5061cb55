"""The example backend of CONTRIBUTING, added to a copy of the suite, keeps the contract."""

import re
from pathlib import Path

import pytest

from tests.support.suite import HERE, ROOT, copy_suite, run_pytest


@pytest.mark.slow
def test_the_example_backend_keeps_the_contract(tmp_path: Path) -> None:
    folder = copy_suite(tmp_path)
    text = (ROOT / "tests" / "support" / "raw_backend.py").read_text(encoding="utf-8")
    (folder / "storage" / "backends" / "raw.py").write_text(text.replace("from storage.", "from .."), encoding="utf-8")
    ended = run_pytest(folder, "tests/storage", *HERE, "--backends=raw", "-v")
    assert ended.returncode == 0, ended.stdout
    for name in ("contract", "reader", "out", "registry", "dataset/test_saving", "dataset/test_reading"):
        pattern = rf"test_{name.removeprefix('dataset/test_')}\.py::\w+\[[\w-]*raw.* PASSED"
        assert re.search(pattern, ended.stdout), f"{name}: {ended.stdout}"
    assert not re.search(r"\[(?!raw)[\w-]*npy", ended.stdout), "a test of another backend ran"
