"""Text on its way out of the program."""

import os
import sys


def print_text(text: str) -> None:
    """Write all of a text; whoever reads it may leave early, which changes no exit code."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough; nothing must be flushed to it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_progress(text: str) -> None:
    """Show on a terminal how far a program is, on one line; an empty text ends it."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
