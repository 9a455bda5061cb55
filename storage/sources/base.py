"""What most sources have in common."""

from collections.abc import Iterable
from pathlib import PurePath


class Source:
    """Reads all that is there, and is no dataset that could be replaced."""

    def list_left_out(self) -> Iterable[str]:
        """Say which columns or files aren't read, and why."""
        return ()

    def close(self) -> None:
        """Close what reading keeps open."""

    def check_in_place(self, destination: PurePath) -> None:
        """Refuse to replace the source if it was changed after it was opened."""
