"""A skip where temporary files are in memory: what is there can't be made cold."""

from pathlib import Path

import pytest

from benchmarks.run_info import find_file_system


def need_disk(folder: Path) -> None:
    """Skip a test whose files are to leave the memory, and can't."""
    if (kind := find_file_system(folder)) in {"tmpfs", "ramfs"}:
        pytest.skip(f"{folder} is in memory ({kind}), where nothing can be made cold: choose another with --basetemp")
