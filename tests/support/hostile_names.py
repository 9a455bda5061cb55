"""Names of files that a terminal or a log would take for something else; each command line escapes them."""

HOSTILE_NAMES = {  # what prints a name must not print these characters as they are
    "\x1b]0;owned\x07": "the title of the terminal",
    "\x1b[2Jnothing is wrong": "the screen is cleared",
    "\x9b31m": "one character begins a sequence, too",
    "photos: whole\nerror: forged": "two lines",
    "damaged\rwhole  ": "the line is overwritten",
    "damaged\b\b\b\b\b\b\bwhole": "likewise",
    "tab\tstop": "columns are moved",
    "gnp.\u202eexe": "read from right to left",
    "\u2066isolated\u2069": "likewise",
    "zero\u200bwidth": "a character that isn't seen",
    "line\u2028separator": "a line break of Unicode",
    "next\x85line": "likewise",
    "no UTF-8: \udcff": "a byte that isn't text",
}


def find_unescaped(text: str) -> set[str]:
    """Find the characters of a text that could do more than to be read; line breaks are those of the program."""
    return {letter for letter in text if not letter.isprintable() and letter != "\n"}
