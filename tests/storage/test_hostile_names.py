"""Names of files never reach a terminal as they are: each is printed on its line, with what could do harm escaped."""

from pathlib import Path

import pytest
from PIL import Image as Pillow

import storage
from tests.support.commands import Command
from tests.support.datasets import find_part
from tests.support.hostile_names import HOSTILE_NAMES, find_unescaped
from tests.support.image_sets import make_set

pytest_plugins = ["tests.support.command_fixtures"]
NAMES = [pytest.param(name, id=ascii(name)[1:-1]) for name in HOSTILE_NAMES]


def check_lines(printed: tuple[int, str, str], code: int, lines: int = 1) -> None:
    """Expect an exit code, and that many harmless lines."""
    text = "".join(printed[1:])
    assert printed[0] == code
    assert not find_unescaped(text)
    assert text.count("\n") == lines, text


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_a_dataset_is_escaped(name: str, run: Command, tmp_path: Path) -> None:
    storage.save(tmp_path / name, *make_set(3, 5, 7), "npy")
    check_lines(run("check", tmp_path / name), 0)
    (find_part(tmp_path / name) / "labels.npy").write_text("short")
    check_lines(run("check", tmp_path / name), 1, 3)
    (tmp_path / name / "manifest.json").write_text(name, errors="surrogateescape")
    check_lines(run("check", tmp_path / name), 1)
    check_lines(run("check", tmp_path / name / name), 2)


@pytest.mark.parametrize("name", NAMES)
def test_the_names_of_sources_and_destinations_are_escaped(name: str, run: Command, tmp_path: Path) -> None:
    (tmp_path / name / name).mkdir(parents=True)
    Pillow.new("RGB", (7, 5)).save(tmp_path / name / name / "1.png")
    check_lines(run("convert", tmp_path / name, tmp_path / f"new {name}", "--backend", "npy"), 0)
    check_lines(run("convert", tmp_path / name, tmp_path / f"new {name}", "--backend", "npy"), 2)
    (tmp_path / name / name / name).write_text("no image")
    check_lines(run("convert", tmp_path / name, tmp_path / "other", "--backend", "npy"), 1, 4)
    check_lines(run("convert", tmp_path / name, tmp_path / "other", "--backend", name), 2)


@pytest.mark.parametrize("name", NAMES)
def test_wrong_arguments_are_escaped(name: str, run: Command, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([name], ["check", "set", name], ["convert", "a", "b", "--backend", "npy", "--max-pixels", name]):
        with pytest.raises(SystemExit):
            run(*arguments)
        assert not find_unescaped(capsys.readouterr().err)


def test_the_explanation_of_a_folder_without_images_is_one_line_whatever_its_names_are(
    run: Command, tmp_path: Path
) -> None:
    name = "photos: whole\nerror: forged"
    (tmp_path / name).mkdir()
    (tmp_path / name / name).touch()
    code, _, printed = run("convert", tmp_path / name, tmp_path / "new", "--backend", "npy")
    assert code == 2
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1
