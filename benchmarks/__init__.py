"""Measurements, one file per question.

In a process that imports this package, `image_storage` is the `storage` under test.
"""

import storage
from benchmarks.alias import alias_package

alias_package("image_storage", storage)  # here, so that it also holds in spawned workers
