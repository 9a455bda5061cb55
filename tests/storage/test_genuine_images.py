"""Genuine photos, the odd files of real folders, and random corruption of both.

The files are no part of the repository; without them these tests are skipped.
"""

import json
import time
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest

import storage
from storage import Backend, DecodingError, Encoded
from tests.faults.children import Ending, run_child
from tests.support.encoded_sets import need_files
from tests.support.genuine import NEEDS_GENUINE, PHOTOS, describe, is_refused, read_odd
from tests.support.image_files import DECODERS, choose_decoder
from tests.support.memory import Peak

SECONDS = 2.0  # that decoding a small file may take
PATIENCE = 1800.0  # for a child with many files

pytestmark = NEEDS_GENUINE


@cache
def read_photos() -> list[bytes]:
    return [path.read_bytes() for path in sorted(PHOTOS.rglob("*.jpg"))]


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_odd_file_is_decoded_or_refused_by_the_rules(decoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    choose_decoder(decoder, monkeypatch)
    for name, (content, facts) in read_odd().items():
        if is_refused(name, facts, decoder):
            with pytest.raises(DecodingError):
                pytest.fail(f"{name} was decoded: {describe(storage.decode(content))}")
        else:
            assert describe(storage.decode(content)) == (facts["upright_hw"], facts["sha256_upright_rgb"]), name


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_reader_decodes_odd_files_by_the_same_rules(
    module: Backend, tmp_path: Path, decoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_files(module)
    choose_decoder(decoder, monkeypatch)
    odd = read_odd()
    files = Encoded.join(content for content, _ in odd.values())
    module.store_many(tmp_path / "store", files, np.arange(len(odd)))
    with module.open_reader(tmp_path / "store") as reader:
        for record, (name, (_, facts)) in enumerate(odd.items()):
            if is_refused(name, facts, decoder):
                with pytest.raises(DecodingError, match=f"record {record}: "):
                    reader[record]
            else:
                image, label = reader[record]
                assert describe(image) == (facts["upright_hw"], facts["sha256_upright_rgb"]), name
                assert label == record


def test_photos_have_the_same_pixels_whatever_decodes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    choose_decoder("simplejpeg", monkeypatch)
    digests = [describe(storage.decode(content)) for content in read_photos()]
    choose_decoder("Pillow", monkeypatch)
    different = [n for n, content in enumerate(read_photos()) if describe(storage.decode(content)) != digests[n]]
    assert (len(digests), different) == (300, [])


def corrupt(content: bytes, random: np.random.Generator) -> bytes:
    """Damage a file as disks, networks and other programs do."""
    changed = bytearray(content)
    start = int(random.integers(max(1, len(content) if random.random() < 0.5 else min(len(content), 700))))
    length = int(2 ** random.uniform(0, 10))
    match random.integers(6):
        case 0:
            changed[start : start + 1] = random.bytes(1)
        case 1:
            changed[start : start + length] = random.bytes(length)
        case 2:
            changed[start : start + length] = bytes(length)
        case 3:
            del changed[start:]
        case 4:
            del changed[start : start + length]
        case _:
            changed[start:start] = changed[max(0, start - length) : start]
    return bytes(changed)


def decode_corrupted(files: list[bytes], seeds: range) -> str:
    """Decode a corruption by each seed; return what was wrong, and how many were decoded all the same."""
    findings, decoded = [], 0
    for seed in seeds:
        random = np.random.default_rng(seed)
        content = corrupt(files[random.integers(len(files))], random)
        peak, start, size = Peak(), time.process_time(), 0
        try:
            size = storage.decode(content).nbytes
            decoded += 1
        except DecodingError:
            pass
        except Exception as error:  # noqa: BLE001 - any other is wrong
            findings.append(f"seed {seed}: {type(error).__name__}: {error}")
        if (seconds := time.process_time() - start) > SECONDS:
            findings.append(f"seed {seed}: {seconds:.1f} s")
        if excess := peak.describe_excess(size):
            findings.append(f"seed {seed}: {excess} for an image of {size:,}")
    return json.dumps({"findings": findings, "decoded": decoded})


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("seeds", [pytest.param(range(2_000), marks=pytest.mark.slow), range(2_000, 2_060)], ids=len)
def test_a_corrupted_file_is_an_image_or_a_decoding_error(
    decoder: str, seeds: range, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose_decoder(decoder, monkeypatch)
    files = [*read_photos(), *3 * [content for content, _ in read_odd().values()]]
    ending = run_child(partial(decode_corrupted, files, seeds), PATIENCE)
    assert isinstance(ending, Ending)
    assert ending.signal == 0, ending.describe()
    told = json.loads(ending.told)
    assert told["findings"] == []
    assert 0 < told["decoded"] < len(seeds)
