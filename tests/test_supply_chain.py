"""What others publish is pinned, and workflows get no more rights than they need."""

import json
import os
import re
import tomllib

import pytest

from tests.support.suite import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PUBLISHES = "uses: actions/deploy-pages@"
pytestmark = pytest.mark.skipif(not WORKFLOWS, reason="this copy of the suite has no workflows")


@pytest.mark.parametrize("name", [path.name for path in WORKFLOWS])
def test_actions_are_pinned_by_commit_with_their_version(name: str) -> None:
    used = re.findall("uses: (.*)", (ROOT / ".github" / "workflows" / name).read_text())
    assert used
    assert [each for each in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)] == []


@pytest.mark.parametrize("name", [path.name for path in WORKFLOWS])
def test_workflows_may_only_read_and_end_in_time(name: str) -> None:
    text = (ROOT / ".github" / "workflows" / name).read_text()
    assert "\npermissions:\n  contents: read\n\n" in text
    assert "\nconcurrency:\n" in text
    jobs = {job for job in re.split(r"\n  (?=\w+:\n)", text.partition("\njobs:\n")[2]) if "permissions:" in job}
    assert all(PUBLISHES in job and "run:" not in job for job in jobs), "a job that runs code asks for more"
    assert text.count("timeout-minutes:") == text.count("runs-on:")
    assert text.count("persist-credentials: false") == text.count("uses: actions/checkout@")


def test_the_tests_run_on_every_python_that_the_suite_supports() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    supported = [each.rpartition(" ")[2] for each in project["classifiers"] if "Python :: 3" in each]
    assert f"python: {json.dumps(supported)}" in text


def test_each_run_on_main_becomes_part_of_the_published_history() -> None:
    text = (ROOT / ".github" / "workflows" / "site.yml").read_text()
    steps = ("path: history\n", '--benchmark-json="history/', "page history/*.json --out docs/history.html", PUBLISHES)
    places = [text.find(step) for step in steps]
    assert -1 not in places, dict(zip(steps, places, strict=True))
    assert places == sorted(places)
    assert "branches: [main]" in text
    assert '"history.html"' in (ROOT / "docs" / "index.md").read_text()


def test_each_action_has_one_version() -> None:
    used = {each for path in WORKFLOWS for each in re.findall("uses: (.*)", path.read_text())}
    assert len({each.partition("@")[0] for each in used}) == len(used)


def test_the_constraints_of_the_checks_agree_with_the_lock_file() -> None:
    """Repair: `uv export --frozen --all-extras --no-hashes --no-emit-project --no-header --no-annotate`."""
    lines = (ROOT / ".ci" / "constraints.txt").read_text().splitlines()
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    locked = {f"{each['name']}=={each['version']}" for each in packages if "virtual" not in each["source"]}
    assert {line.partition(" ")[0] for line in lines} == locked


def test_the_action_gives_text_from_outside_to_its_script_as_values_only() -> None:
    action, script = ((ROOT / name).read_text() for name in ("action.yml", ".ci/action"))
    code, _, environment = action.partition("      env:")
    assert "${{" not in code
    inputs = re.findall(r"^  (\w+):$", code.partition("\ninputs:\n")[2].partition("\nruns:")[0], re.MULTILINE)
    given = re.findall(r"^        (\w+): \$\{\{ ([\w.]+) \}\}$", environment, re.MULTILINE)
    assert [value for _, value in given if value.startswith("inputs.")] == [f"inputs.{name}" for name in inputs]
    assert {name for name, _ in given} - {"GH_TOKEN"} == set(re.findall(r"INPUT_\w+|PULL_REQUEST", script))


def test_the_action_runs_one_script_that_is_executable() -> None:
    (command,) = re.findall(r"run: '\"\$GITHUB_ACTION_PATH/([^\"]+)\"'", (ROOT / "action.yml").read_text())
    assert os.access(ROOT / command, os.X_OK)
