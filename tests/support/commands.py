"""`python -m storage`, run in this process."""

import pytest

from storage.__main__ import main


class Command:
    """Runs `python -m storage`, and keeps what it prints."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        """Return the exit code, the output and the errors."""
        code = main([str(argument) for argument in arguments])
        return code, *self._capsys.readouterr()
