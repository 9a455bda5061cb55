"""A folder of a reader's own, through which LevelDB reads a store without writing to it.

LevelDB has no read-only mode (https://github.com/google/leveldb/issues/1082): whoever opens a database locks out all
others, and writes a new MANIFEST into its folder. But its tables never change. So a reader opens a folder of its own,
with symbolic links to the tables and copies of the two small files that name them: the store stays as it is, and any
number of readers share it. The links go through the store's own folder, which is held open: what comes to its path
later is never read. The reader's folder lies in memory where there is such a place, since LevelDB syncs what it writes:
opening and closing takes 1 ms there, 25 ms on a disk. It is removed when its reader is closed or forgotten, and when
the process ends; what a killed process leaves, a later one finds unlocked and removes.
"""

import fcntl
import os
import re
import shutil
import tempfile
import time
from contextlib import ExitStack, suppress
from functools import lru_cache
from multiprocessing.util import Finalize
from pathlib import Path

from ..errors import CorruptStoreError, reading
from ..paths import find_file, refuse_special_files

CURRENT = "CURRENT"  # names the MANIFEST, which names the tables
TABLES = (".ldb", ".sst")
PREFIX = "image-store-leveldb-"
MEMORY = Path("/dev/shm")  # noqa: S108 - folders in it are made by mkdtemp
ROOM = 1 << 20  # bytes: far more than LevelDB writes into a reader's folder
PATIENCE = 60  # seconds that a folder may take until LevelDB has locked it

TABLE = re.compile(rb"^ \d+:(\d+)\[", re.MULTILINE)  # number and bytes of a table, in LevelDB's list of them
FILES = 4  # of the first level: so many are merged
FOOTER = 48  # bytes at the end of a table: two block handles of two varints each, padding, and
MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
TRAILER = 5  # bytes behind a block: compression and checksum


class ReaderFolder:
    """Links to the tables of a store, and copies of what names them.

    Parameters
    ----------
    store : Path
        A store that LevelDB wrote.

    Attributes
    ----------
    path : Path
        For LevelDB to open.
    close : callable
        Removes the folder, if it was made by this process; so does the end of the process.

    Raises
    ------
    StoreNotFoundError
        There is no store at this path.
    CorruptStoreError
        There are records that are in no table, or a table that LevelDB would stumble over.
    """

    def __init__(self, store: Path) -> None:
        find_file(store, CURRENT)
        with ExitStack() as stack, reading(store):
            held = os.open(store, os.O_RDONLY)
            stack.callback(os.close, held)
            refuse_special_files(store)
            place = MEMORY if _has_room(MEMORY) else Path(tempfile.gettempdir())
            remove_leftovers(place, os.getpid())
            self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=place))
            stack.callback(_remove_folder, self.path)
            # exitpriority: processes of multiprocessing, such as a DataLoader's, end without atexit
            self.close = Finalize(self, stack.pop_all().close, exitpriority=0)
            try:
                for path in Path(f"/proc/self/fd/{held}").iterdir():
                    _take_file(Path(store), path, self.path / path.name)
            except BaseException:
                self.close()
                raise


def _has_room(place: Path) -> bool:
    return os.access(place, os.W_OK | os.X_OK) and shutil.disk_usage(place).free > ROOM


@lru_cache(maxsize=1)
def remove_leftovers(place: Path, process: int) -> None:
    """Remove the folders of processes that were killed; LevelDB locks a file in each that is in use.

    Parameters
    ----------
    place : Path
        Where the folders are.
    process : int
        This one: it looks once. The locks are of no use against itself, so its own folders are passed over.
    """
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(OSError):
            status = folder.stat()
            own = folder.name.startswith(f"{PREFIX}{process}-") or status.st_uid != os.geteuid()
            if own or time.time() - status.st_mtime < PATIENCE:
                continue
            with (folder / "LOCK").open("ab") as lock:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove_folder(folder)


def remove_logs(folder: Path) -> None:
    """Remove what LevelDB keeps beside the tables of a new store: it makes it anew, or did not get to tidying it up."""
    kept = {CURRENT, (folder / CURRENT).read_text(encoding="ascii").strip()}
    for path in folder.iterdir():
        if path.suffix not in TABLES and path.name not in kept:
            path.unlink()


def _remove_folder(folder: Path) -> None:
    with suppress(OSError):  # `shutil.rmtree` would need more open files, and those may be what is lacking
        for path in list(folder.iterdir()):
            path.unlink()
        folder.rmdir()


def is_settled(tables: bytes) -> bool:
    """Whether LevelDB finds no level too large, and so moves no table to the next one.

    Parameters
    ----------
    tables : bytes
        LevelDB's property ``leveldb.sstables``.
    """
    levels = [[int(size) for size in TABLE.findall(level)] for level in tables.split(b"--- level ")[1:]]
    return len(levels[0]) < FILES and all(sum(sizes) < 10**level << 20 for level, sizes in enumerate(levels[1:], 1))


def _take_file(store: Path, path: Path, copy: Path) -> None:
    if path.suffix in TABLES:
        _check_table(store, path)
        copy.symlink_to(path)
    elif path.name == CURRENT or path.name.startswith("MANIFEST-"):
        shutil.copyfile(path, copy)
    elif path.suffix == ".log" and path.stat().st_size:
        raise CorruptStoreError(
            f"{store} has records that are in no table yet ({path.name}): the store is not complete, or another "
            "program wrote to it: store the images again"
        )


def _check_table(store: Path, path: Path) -> None:
    """Refuse a table whose index cannot be where its end says: LevelDB would end the process for lack of memory."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END) - FOOTER
        file.seek(max(end, 0))
        footer = file.read(FOOTER)
    _, _, start, size, *_ = _read_varints(footer[: -len(MAGIC)])
    if not footer.endswith(MAGIC) or start + size + TRAILER > end:
        raise CorruptStoreError(f"{store}: {path.name} is cut short or damaged: store the images again")


def _read_varints(content: bytes) -> list[int]:
    """Read numbers of 7 bits a byte, the last byte of each below 128; those behind the content are huge."""
    numbers = []
    number = shift = 0
    for byte in content:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004 - the highest bit says that more follows
            numbers.append(number)
            number = shift = 0
    return [*numbers, *[1 << 64] * 4]
