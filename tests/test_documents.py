"""The documents show what the program does."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from reports.figures.matrix import draw_matrix
from reports.figures.styles import SCHEMES
from reports.matrix import Use, View, make_views
from reports.payloads import choose_payloads
from reports.reading import read_run
from reports.run import Run
from reports.sentence import write_sentence
from reports.text import format_number
from storage import __main__ as storage_command
from tests.support.backends import need_backend
from tests.support.encoded_sets import make_pictures
from tests.support.image_sets import assert_same, make_set
from tests.support.pages import read_page, unpack
from tests.support.suite import ROOT

RAW_BACKEND = ROOT / "tests/support/raw_backend.py"
DOCUMENTS = sorted(
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("storage/**/*.md"))
    if "/." not in path.relative_to(ROOT).as_posix()
)
EXAMPLES = {"storage/backends/raw.py", "tests/storage/backends/test_NAME.py"}
FILE = re.compile(
    r"(?<![\w/.-])(?:benchmarks|fixtures|reports|storage|tests|docs)/[\w/.-]+\.(?:css|html|md|py|svg|toml)\b"
)
SHOW = "        print(tuple(images.shape), float(images.max()) <= 1)\n"  # in the loop of a training example
LINK = re.compile(r"\]\(([^)\s]+)\)")


@need_backend("lmdb_packed")
def test_the_first_example_in_the_readme_saves_and_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run_examples(find_examples("README.md")[:1], tmp_path, monkeypatch, make_set(5))
    assert_same((names["images"], names["labels"]), make_set(5))
    assert (tmp_path / "photos" / "manifest.json").is_file()


@need_backend("lmdb_packed")
@need_backend("hdf5")
def test_the_examples_in_datasets_md_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = [example for example in find_examples("docs/datasets.md") if "torch" not in example]
    images, labels = make_set(5)
    (tmp_path / "folder" / "cat").mkdir(parents=True)
    for number, file in enumerate(make_pictures(5)[0]):
        (tmp_path / "folder" / "cat" / f"{number}.png").write_bytes(file)
    names = run_examples(examples, tmp_path, monkeypatch, (images, labels))
    assert (len(names["contents"]), names["batch"].shape) == (2, (2, 24, 24, 3))
    assert len(storage.load(tmp_path / "files")[1]) == 6
    assert_same((names["some_images"], names["some_labels"]), (images[[1, 3, 0]], labels[[4, 2, 2]]))
    np.testing.assert_array_equal(names["all_labels"], labels)


def test_the_tutorial_trains_on_a_folder_of_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, file in enumerate(make_pictures(6)[0]):
        folder = tmp_path / "photos" / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(file)
    command, *cells = read_cells("docs/tutorial.ipynb")
    assert command.startswith("!python -m storage ")
    monkeypatch.chdir(tmp_path)
    assert storage_command.main(command.split()[3:]) == 0
    assert "6 images of 2 classes" in capsys.readouterr().out
    run_examples([cell for cell in cells if "import torch" not in cell or find_spec("torch")], tmp_path, monkeypatch)
    shown = capsys.readouterr().out.splitlines()
    assert re.match(r"epoch 2: \d+% right", shown[2])
    assert len(shown) == (6 if find_spec("torch") else 3)


def read_cells(name: str) -> list[str]:
    """Read the code of a notebook."""
    cells = json.loads((ROOT / name).read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_the_backend_in_contributing_is_the_one_that_is_tested() -> None:
    marked = (ROOT / "docs/CONTRIBUTING.md").read_text(encoding="utf-8").partition("<!-- raw backend -->\n")[2]
    tested = RAW_BACKEND.read_text(encoding="utf-8").replace("from storage.", "from ..")
    assert marked.startswith(f"```python\n{tested}```\n")


def test_examples_with_workers_have_a_main_guard() -> None:
    examples = [example for name in ("README.md", "docs/datasets.md") for example in find_examples(name)]
    (example,) = (example for example in examples if "num_workers" in example)
    assert example.startswith('if __name__ == "__main__":\n')


@need_backend("lmdb_packed")
def test_the_training_loop_in_the_readme_runs(tmp_path: Path) -> None:
    (example,) = (example for example in find_examples("README.md") if "torch" in example)
    shown = run_training(tmp_path, f"{example}{SHOW}")
    assert shown == ["(256, 3, 4, 5) True", "(256, 3, 4, 5) True", "(88, 3, 4, 5) True"]


@need_backend("lmdb_packed")
def test_the_data_loader_in_datasets_md_receives_every_batch(tmp_path: Path) -> None:
    (example,) = (example for example in find_examples("docs/datasets.md") if "IterableDataset" in example)
    shown = run_training(tmp_path, f"import storage\n{example}{SHOW}")
    assert shown == ["(256, 3, 4, 5) True", "(256, 3, 4, 5) True", "(88, 3, 4, 5) True"]


@pytest.mark.slow  # processes that are spawned import everything again
@need_backend("lmdb_packed")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])  # the last is the default in Python 3.14
def test_the_loop_with_workers_in_datasets_md_runs_however_they_are_started(method: str, tmp_path: Path) -> None:
    (example,) = (example for example in find_examples("docs/datasets.md") if "num_workers" in example)
    guard, end, body = example.partition("\n")
    setting = f"    import multiprocessing\n    multiprocessing.set_start_method({method!r})\n"
    imports = "import storage\nfrom torch.utils.data import DataLoader\n"
    shown = run_training(tmp_path, f"{imports}{guard}{end}{setting}{body}    {SHOW}")
    assert shown == ["(256, 3, 4, 5) True", "(256, 3, 4, 5) True", "(88, 3, 4, 5) True"]


def run_training(folder: Path, script: str) -> list[str]:
    """Run a script beside a dataset, with PyTorch or what stands in for it; return the lines that it prints."""
    storage.save(folder / "photos", *make_set(600, 4, 5))
    (folder / "train.py").write_text(script, encoding="utf-8")
    folders = [str(ROOT), *([] if find_spec("torch") else [str(ROOT / "tests/support/torch_stub")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*folders, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "train.py"]
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.splitlines()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_relative_links_lead_to_files_and_headings(document: Path) -> None:
    broken = [link for link in find_links(document) if not leads_somewhere(document, link)]
    assert not broken


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_documents_name_files_that_exist(document: Path) -> None:
    missing = {name for name in FILE.findall(document.read_text(encoding="utf-8")) if not (ROOT / name).exists()}
    assert missing <= EXAMPLES


def test_every_decision_has_a_number_and_the_next_one_is_named() -> None:
    text = (ROOT / "docs/decisions.md").read_text(encoding="utf-8")
    numbers = sorted(map(int, re.findall(r"^\*\*(\d+)\.", text, re.MULTILINE)))
    assert numbers == list(range(1, len(numbers) + 1))
    assert f"New entries get the next number: {len(numbers) + 1}." in text


def test_the_readme_is_short_and_starts_with_both_commands() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 100
    starts = [line.partition(" && ")[0] for line in lines[:20] if line.startswith("    ")]
    assert starts == ["    python -m pip install -e .", '    python -m pip install -e ".[all,test]"']


def test_the_answers_of_the_readme_are_those_of_the_published_runs(view: View, tmp_path: Path) -> None:
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert write_sentence(view) in text
    payloads = choose_payloads(read_published("docs/example-photos.html", tmp_path))
    assert payloads is not None
    assert " ".join(payloads.sentences) in text


def test_the_uses_in_the_readme_are_those_of_the_published_run(view: View) -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    start = lines.index("| you want | use | measured |") + 2
    assert lines[start : start + len(view.uses) + 1] == [*(describe_use(view, use) for use in view.uses), ""]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_matrix_in_the_readme_is_that_of_the_published_run(scheme: str, published: Run, tmp_path: Path) -> None:
    """Repair: `python -m reports figures RUN.json --out docs/results`, with the run that the page has."""
    name = f"matrix-{scheme}.svg"
    draw_matrix(published, tmp_path)
    assert (tmp_path / name).read_bytes() == (ROOT / "docs/results" / name).read_bytes()
    assert f"docs/results/{name}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_published_page_gives_the_answer_of_today(view: View) -> None:
    """Repair: `python -m reports page RUN.json --out docs/example-report.html`, with the run that it has."""
    page = read_page((ROOT / "docs/example-report.html").read_text(encoding="utf-8"))
    assert write_sentence(view) in page.text


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_published("docs/example-report.html", tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def view(published: Run) -> View:
    return next(iter(make_views(published).values()))


def read_published(name: str, folder: Path) -> Run:
    """Read the run that a page of the documents offers to download."""
    page = read_page((ROOT / name).read_text(encoding="utf-8"))
    (folder / "run.json").write_bytes(unpack(page, "json"))
    return read_run(folder / "run.json")


def describe_use(view: View, use: Use) -> str:
    """Describe what to use for something, as a row of the README."""
    leaders, ranked = view.list_leaders(use), view.rank(use)
    names = (
        ", ".join(f"`{name}`" for name in leaders)
        if len(leaders) < 4
        else f"any of {len(leaders)}, such as `{view.choose_top(use)[0][0]}`"
    )
    behind = [f"`{name}` {format_number(cell.ratio)}x" for name, cell in ranked if cell.standing == "behind"]
    trains = min(row.cells["train"].ratio for row in view.rows if row.backend in leaders)
    cost = f"; but {format_number(trains)}x slower to train" if trains > 10 else ""
    return f"| {use.title} | {names} | {ranked[0][1].text} {use.unit}; next {behind[0]}{cost} |"


def find_examples(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)


def run_examples(
    examples: list[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    image_set: Any = (None, None),  # noqa: ANN401
) -> dict[str, Any]:
    """Run examples one after the other in a folder; return the names that they define."""
    monkeypatch.chdir(folder)
    names: dict[str, Any] = dict(zip(("images", "labels"), image_set, strict=True))
    for example in examples:
        exec(compile(example, "example", "exec"), names)  # noqa: S102 - our own documents
    return names


def find_links(document: Path) -> Iterator[str]:
    """Find the relative links of a document."""
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    return (link for link in LINK.findall(text) if not re.match(r"[a-z]+:", link))


def leads_somewhere(document: Path, link: str) -> bool:
    """Whether the file of a link exists, and has the heading that the link names."""
    name, _, anchor = link.partition("#")
    target = document.parent / name if name else document
    return target.exists() and (not anchor or anchor in find_anchors(target))


def find_anchors(document: Path) -> set[str]:
    """Find the anchors that GitHub makes of a document's headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
