"""A lock that no fork finds taken, for libraries that a child cannot use if a thread of its parent did at the fork."""

import os
from threading import RLock

unforked = RLock()
"""Held while a library is at work. One for all, so that none waits for another; whoever holds it may take it again."""

os.register_at_fork(before=unforked.acquire, after_in_parent=unforked.release, after_in_child=unforked.release)
