"""Records of LMDB stores, changed behind the backend's back."""

from pathlib import Path

import lmdb

from tests.support.foreign import Change


def make_key(number: int) -> bytes:
    return number.to_bytes(8, "big")


def change_records(store: Path, records: dict[bytes, bytes | None]) -> None:
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


def put(records: dict[bytes, bytes | None]) -> Change:
    return lambda store: change_records(store, records)


def read_records(store: Path) -> dict[bytes, bytes]:
    with lmdb.open(str(store), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return dict(transaction.cursor())
