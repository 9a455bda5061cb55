"""Records of LMDB stores, changed behind the backend's back."""

from pathlib import Path

import lmdb


def write(store: Path, records: dict[bytes, bytes | None]) -> None:
    """Change records of a store; None deletes one."""
    with (
        lmdb.open(str(store), map_size=1 << 26, lock=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key, value in records.items():
            if value is None:
                transaction.delete(key)
            else:
                transaction.put(key, value)
