"""Conversions in a subprocess: resumed after a kill, in bounded memory."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import storage
from storage.__main__ import main
from storage.dataset import writer
from tests.support.backends import need_backend
from tests.support.image_sets import assert_same, make_set
from tests.support.suite import ROOT

IMAGES, LABELS = make_set(34, 5, 7)


KILLED = """
import os, signal, sys
from storage.__main__ import main
from storage.dataset import writer

writer.PART, step, after = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
original, calls = getattr(writer.Writer, step), []

def die(self, *arguments):
    original(self, *arguments)
    calls.append(step)
    if len(calls) == after:
        os.kill(os.getpid(), signal.SIGKILL)

setattr(writer.Writer, step, die)
main(sys.argv[4:])
"""


@need_backend("lmdb")
@pytest.mark.parametrize(
    ("step", "after", "finished"),
    [
        ("write_part", 1, 10),
        ("_append_checksums", 2, 10),
        ("_describe", 3, 20),
        ("write_part", 4, 34),
        ("_write_manifest", 5, 34),
    ],
)
def test_the_same_command_resumes_after_a_kill(
    step: str,
    after: int,
    finished: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writer, "PART", 10 * IMAGES[0].nbytes)
    storage.save(tmp_path / "source", [IMAGES], LABELS, "png_stored", durable=False)
    command = ["convert", str(tmp_path / "source"), str(tmp_path / "set"), "--backend", "lmdb"]
    program = [sys.executable, "-c", KILLED, str(writer.PART), step, str(after)]
    killed = subprocess.run([*program, *command], cwd=ROOT, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "set").exists()
    assert main(command) == 0
    assert capsys.readouterr().out == (
        f"34 images saved in {tmp_path}/set as lmdb; an earlier conversion had saved the first {finished}\n"
    )
    assert_same(storage.load(tmp_path / "set"), (IMAGES, LABELS))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".set.lock", ".source.lock", "set", "source"]


GROWTH = """
import sys
from pathlib import Path
from storage.__main__ import main
from storage.dataset import writer

def read_memory(field):
    status = Path("/proc/self/status").read_text()
    return int(status.partition(field + ":")[2].split()[0]) << 10

writer.PART = 8 << 20
before = read_memory("VmRSS")
assert main(sys.argv[1:]) == 0
print(read_memory("VmHWM") - before)
"""


@need_backend("hdf5")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux has /proc")
def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    images = np.zeros((512, 256, 256, 3), np.uint8)
    images[:] = np.random.default_rng(1).integers(0, 256, (256, 256, 3), np.uint8)
    storage.save(tmp_path / "source", images, np.arange(512), "png_stored", durable=False)
    command = ["convert", str(tmp_path / "source"), str(tmp_path / "set"), "--backend", "hdf5"]
    ended = subprocess.run(
        [sys.executable, "-c", GROWTH, *command], cwd=ROOT, check=True, capture_output=True, text=True, timeout=120
    )
    growth = int(ended.stdout.splitlines()[-1])
    assert images.nbytes == 96 << 20
    assert growth < 56 << 20, f"{growth:,} bytes"
    assert len(list((tmp_path / "set").glob("part-*"))) == 13
