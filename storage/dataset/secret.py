"""The user's secret. It signs the progress of conversions, so that one never resumes what another user wrote."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from ..errors import StorageError
from ..paths import open_regular

BYTES = 32


def read_secret() -> bytes:
    """Read the secret of this user, made when there is none yet; empty where none can be kept."""
    try:
        state = Path(os.environ.get("XDG_STATE_HOME", ""))  # the specification ignores a relative path
        path = (state if state.is_absolute() else Path.home() / ".local/state") / "image-storage" / "secret"
        if not path.exists():
            _make(path)
        descriptor, status = open_regular(path)
        with os.fdopen(descriptor, "rb") as file:
            secret = file.read(BYTES)
    except (OSError, RuntimeError, StorageError):  # RuntimeError: the user has no home
        return b""
    is_private = status.st_uid == os.geteuid() and not status.st_mode & 0o077
    return secret if is_private and len(secret) == BYTES else b""


def _make(path: Path) -> None:
    """Make the secret in one step: another process may do the same."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f"secret.{secrets.token_hex(8)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(BYTES))
        with suppress(FileExistsError):
            os.link(new, path)
    finally:
        new.unlink(missing_ok=True)
