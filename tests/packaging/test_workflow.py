"""What the workflow that keeps a baseline makes of a session that can't be compared, and of one that crashes."""

import os
import subprocess
import textwrap
from pathlib import Path

import pytest

from reports.compare.text import describe_differences
from tests.support.suite import ROOT

WORKFLOW = ROOT / ".github" / "workflows" / "gate.yml"
DIFFERENT = describe_differences(["kernel: 6.1 in the base, 6.2 in the new run"], other_libraries=False)
pytestmark = pytest.mark.skipif(not WORKFLOW.exists(), reason="this copy of the suite has no workflows")


@pytest.mark.parametrize(
    ("code", "printed", "passes"),
    [
        (0, "1 passed", True),
        (1, "1 regression", False),
        (3, f"! _pytest.outcomes.Exit: {DIFFERENT} !", True),
        (1, f"! _pytest.outcomes.Exit: {DIFFERENT} !", False),
        (3, f"INTERNALERROR> raise OSError({DIFFERENT!r})", False),
        (3, "no page: no run was saved", False),
    ],
)
def test_only_a_session_that_cannot_be_compared_may_end_with_3(
    code: int, printed: str, tmp_path: Path, *, passes: bool
) -> None:
    step = WORKFLOW.read_text(encoding="utf-8").partition("hashFiles(")[2].partition("\n      - ")[0]
    script = textwrap.dedent(step.partition("run: |\n")[2])
    assert "--compare-with=main" in script
    (tmp_path / "printed").write_text(f"{printed}\n")
    (tmp_path / "python").write_text(f'#!/bin/sh\ncat "{tmp_path}/printed"\nexit {code}\n')
    (tmp_path / "python").chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]  # as GitHub does
    ended = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    assert (ended.returncode == 0) == passes, ended.stdout + ended.stderr
    assert printed in ended.stdout
