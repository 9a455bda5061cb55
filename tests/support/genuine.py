"""Genuine photos, and the odd files of real folders. They are no part of the repository."""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from storage import Image

FOLDER = Path(__file__).parents[3] / "shared" / "data"
PHOTOS, ODD = FOLDER / "photos", FOLDER / "odd"
NEEDS_GENUINE = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the genuine images are not there: {FOLDER}")
NEEDS_STRICTNESS = "broken/zeroed-inside.jpg"  # libjpeg only warns


@cache
def read_odd() -> dict[str, tuple[bytes, dict[str, Any]]]:
    """Read the odd files, and what Pillow makes of each."""
    expected = json.loads((ODD / "expected.json").read_text("utf-8"))
    return {name: ((ODD / name).read_bytes(), facts) for name, facts in expected.items()}


def is_refused(name: str, facts: dict[str, Any], decoder: str) -> bool:
    """Apply our rules to what Pillow makes of a file."""
    is_lossy = facts.get("frames", 1) > 1 or facts.get("transparent_pixels", 0) or facts.get("mode") == "I;16"
    return "error" in facts or bool(is_lossy) or (name == NEEDS_STRICTNESS and decoder != "Pillow")


def describe(image: Image) -> tuple[list[int], str]:
    """Describe an image as the expectations do."""
    return list(image.shape[:2]), hashlib.sha256(image.tobytes()).hexdigest()
