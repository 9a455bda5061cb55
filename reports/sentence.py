"""The answer of a page in one sentence: what to use, why, when not to, and what the popular choice costs."""

from collections.abc import Iterable

from reports.matrix import SAME_SCORE, Row, Use, View
from reports.recommendations import CROWD, FAR
from reports.run import ENCODED, PIXELS
from reports.text import format_number, join_words

POPULAR = ("png", "files")  # what people take who don't measure: a file for each image
MUCH = 2  # times the best
_MAX_PRICES = 2
_MAX_LEADERS = 2


def write_sentence(view: View) -> str:
    """Write the answer of a view for the usual weights, as `page.js` does for others."""
    best, *others = view.rows
    if best.score is None:
        return "No backend was measured in all uses with a weight."
    close = [row.backend for row in others if row.score is not None and row.score < SAME_SCORE * best.score]
    sentences = [f"Use {best.backend}{name_payload(view)}: {write_pitch(view, best)}."]
    if close:
        names = join_words(close) if len(close) <= CROWD else f"{len(close)} others"
        sentences.append(f"{names} {'is' if len(close) == 1 else 'are'} as good.")
    if not {best.backend, *close} & set(POPULAR):
        sentences += [price] if (price := write_price(view)) else []
    return " ".join(sentences)


def name_payload(view: View) -> str:
    """Say for what the sentence is, if there is a choice."""
    return {ENCODED: " for image files", PIXELS: " for pixels"}.get(view.state.payload, "")


def write_pitch(view: View, row: Row) -> str:
    """Say in how many uses a backend is first, and in which it's worst."""
    if len(view.rows) == 1:
        return "nothing else was measured"
    pitch = f"first or tied in {row.firsts} of {len(row.cells)} uses"
    use = max((use for use in view.uses if use.name in row.cells), key=lambda use: row.cells[use.name].ratio)
    if row.cells[use.name].standing == "best":
        return pitch
    leaders = view.list_leaders(use)
    instead = f", where {join_words(leaders)} {'is' if len(leaders) == 1 else 'are'} first"
    worst = f"{pitch}; at worst {format_number(row.cells[use.name].ratio)}x the best, {use.to}"
    return f"{worst}{instead if len(leaders) <= _MAX_LEADERS else ''}"


def write_price(view: View) -> str:
    """Say what the popular choice costs, if it was measured."""
    row = next((row for name in POPULAR for row in view.rows if row.backend == name), None)
    if row is None:
        return ""
    timed = [use for use in view.uses if use.operations and use.name in row.cells]
    dear = [use for use in timed if row.cells[use.name].ratio >= MUCH][:_MAX_PRICES]
    if not dear:
        return f"{row.backend} costs little: less than {MUCH}x the best in time."
    prices = ", ".join(f"{format_number(row.cells[use.name].ratio)}x {use.to}" for use in dear)
    return f"{row.backend} only if people must open single files: {prices.replace('x ', 'x the best ', 1)}."


def find_catch(view: View, use: Use) -> str:
    """Say what the backends that are first in a use cost in the timed use with the most weight."""
    timed = [each for each in view.uses if each.operations]
    if not timed:
        return ""
    main, leaders = max(timed, key=lambda each: each.weight), view.list_leaders(use)
    return write_catch(
        (row.cells[main.name].ratio for row in view.rows if row.backend in leaders and main.name in row.cells), main.to
    )


def write_catch(ratios: Iterable[float], to: str) -> str:
    """Say what the cheapest of some backends costs in another use; nothing if it isn't far behind."""
    ratio = min(ratios, default=0)
    return f"but {format_number(ratio)}x slower {to}" if ratio >= FAR else ""
