"""Reading a part whose structure is damaged, in a process of its own.

A library that believes what such a file says may be killed, or never end. What it does read is proved, record by
record.
"""

import faulthandler
import json
import multiprocessing
import os
from multiprocessing.connection import Connection

from ..errors import StorageError
from .opening import Dataset
from .proof import find_damage

PATIENCE, PER_RECORD = 60.0, 0.001  # seconds
LOST = "it cannot be read: the process that tried was ended by it"


def find_damage_apart(dataset: Dataset, number: int) -> dict[int, str]:
    """Find the records of a part that cannot be read or are not those that were saved, whatever it does to the reader.

    Parameters
    ----------
    dataset : Dataset
    number : int
        Of the part.

    Returns
    -------
    dict of int to str
        What is wrong, by the record's index in the whole dataset.
    """
    start, count = dataset.manifest.starts[number], dataset.manifest.parts[number]
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_send_damage, args=(dataset, number, sender))
    process.start()
    sender.close()
    try:
        answer = receiver.recv_bytes() if receiver.poll(PATIENCE + count * PER_RECORD) else b"null"
    except EOFError:
        answer = b"null"
    finally:
        receiver.close()
        process.kill()
        process.join()
    found = json.loads(answer)
    if isinstance(found, list):
        return dict(found)
    return dict.fromkeys(range(start, start + count), found or LOST)


def _send_damage(dataset: Dataset, number: int, sender: Connection) -> None:
    """Send a list of what is damaged, or the reason why nothing can be read."""
    faulthandler.disable()
    answer: object
    try:
        answer = [(index, str(error)) for index, error in find_damage(dataset, number)]
    except StorageError as error:
        answer = str(error)
    sender.send_bytes(json.dumps(answer).encode())
    os._exit(0)
