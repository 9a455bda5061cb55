"""The suite's own options: their three sources, their values, and what they select."""

import subprocess

import pytest

from storage import BACKENDS
from tests.suite import ROOT, run_pytest


def collect(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Collect the cells that a session would measure."""
    return run_pytest(ROOT, "benchmarks", "-p", "no:cacheprovider", "--collect-only", "-q", *arguments, **environment)


def test_the_command_line_beats_the_environment_and_the_environment_the_ini_file() -> None:
    ini = ("-o", "cutoffs=1000", "-o", "backends=png", "-o", "durable=true")
    by_ini = collect(*ini).stdout
    assert "test_store_many[png-1000-durable]" in by_ini
    assert "lmdb" not in by_ini
    by_nothing = collect(*ini, CUTOFFS="", BACKENDS="", DURABLE="").stdout
    assert "test_store_many[png-1000-durable]" in by_nothing, "an empty variable says nothing"
    by_environment = collect(*ini, CUTOFFS="100", BACKENDS="lmdb", DURABLE="0").stdout
    assert "test_store_many[lmdb-100]" in by_environment
    assert "durable" not in by_environment
    assert "1000" not in by_environment
    by_command = collect(*ini, "--cutoffs=10", "--backends=hdf5", "--durable", CUTOFFS="100", DURABLE="0").stdout
    assert "test_store_many[hdf5-10-durable]" in by_command
    assert "100" not in by_command


def test_the_defaults_are_the_cutoffs_of_the_article_and_every_backend() -> None:
    cells = collect().stdout
    for backend in BACKENDS:
        for cutoff in (10, 100, 1000, 10000, 100000):
            assert f"test_store_many[{backend}-{cutoff}]" in cells
        assert f"test_read_epoch[{backend}-10000]" in cells
        assert f"test_read_epoch[{backend}-100000]" not in cells, "measured only when asked for"


def test_what_is_asked_for_is_measured() -> None:
    assert "test_read_epoch[png-100000]" in collect("--cutoffs=100000", "--backends=png").stdout


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--backends=png,tape", "backends: 'tape' is unknown: the backends here are " + ", ".join(BACKENDS)),
        ("--cutoffs=ten", "cutoffs: 'ten' is unknown: give numbers of images"),
        ("--cutoffs=0", "cutoffs: '0' is unknown"),
        ("--cutoffs=", "cutoffs: --cutoffs= says nothing"),
        ("--cutoffs=10,200000", "200,000 is more than the 100,000 images of this set"),
        ("--cifar10=/nowhere", "/nowhere"),
    ],
)
def test_a_value_that_is_unknown_is_a_usage_error(argument: str, message: str) -> None:
    ended = collect(argument)
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_word_for_durable_that_is_neither_true_nor_false_is_a_usage_error() -> None:
    ended = collect(DURABLE="perhaps")
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert "durable: 'perhaps' is neither true nor false" in ended.stderr


def test_the_help_has_the_options_in_a_group_of_their_own() -> None:
    group = run_pytest(ROOT, "--help").stdout.partition("image storage")[2].partition("\n\n")[0]
    for name in ("cifar10", "cutoffs", "backends", "durable"):
        assert f"--{name}" in group


def test_tests_can_be_narrowed_to_a_backend_too() -> None:
    cells = collect("tests/test_backends.py", "--backends=png").stdout
    assert "test_a_backend_says_what_is_on_disk[png]" in cells
    assert "[lmdb" not in cells
