"""The answer of a run in lines of 80 columns, for the end of a session."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

from reports.matrix import make_views
from reports.payloads import choose_payloads
from reports.ranking import Rank
from reports.recommendations import CROWD, TRAINING, Recommendation, UseCase, recommend
from reports.remote import find_buckets
from reports.run import UNSTABLE_RULE, USUAL, Result, Run
from reports.sentence import write_catch, write_sentence
from reports.text import add_params, format_number, format_time, join_words

WIDTH = 80
FEW = 3  # of a crowd of backends, those that are named
NO_BREAK = "\N{NO-BREAK SPACE}"
_NUMBERS = {"images", "a call", "an image"}  # columns that are aligned right
_USES = {"use": 20, "images": 7, "best, an image takes": 28, "next best": 19}  # columns and their widths
_CELLS = {"operation": 30, "backend": 12, "images": 7, "a call": 8, "an image": 8, "noise": 5}
_CELLS_OF_ONE = {"operation": 44, "images": 7, "a call": 8, "an image": 8, "noise": 5}


def make_answer(run: Run) -> tuple[str, str]:
    """Make a title and the lines of the answer: payloads, the best backends for each use, or else all cells.

    The rules are those of the page and of tables: `choose_payloads`, `write_sentence` and `recommend`.
    """
    payloads = choose_payloads(run)
    uses = list(_describe_uses(recommend(run)))
    if payloads:
        title = "what to store"
        lines = [*_wrap(" ".join(payloads.sentences)), ""]
        lines += [line for choice in payloads.choices for line in _wrap(f"- {choice.circumstances}", "  ")]
    elif uses and len(run.backends) > 1:
        title = "what to use"
        lines = [*_summarise(run), "", *_lay_out(_USES, uses)]
    else:
        one = run.backends[0] if len(run.backends) == 1 else ""
        title, columns = (one, _CELLS_OF_ONE) if one else ("what was measured", _CELLS)
        results = [result for results in run.groups.values() for result in results]
        lines = _lay_out(columns, [_describe_cell(result, columns) for result in results])
    for bucket in find_buckets(run):
        lines += ["", *_wrap(" ".join(bucket.sentences))]
    warned = f" ({', '.join(run.warnings)})" if run.warnings else ""
    return title + warned, "\n".join([*lines, "", *_wrap(_count_noisy(run))]) + "\n"


def _summarise(run: Run) -> list[str]:
    """Write the sentence that the page begins with, and what it is about."""
    view = next(iter(make_views(run).values()))
    return _wrap(f"{write_sentence(view)} ({view.title})")


def _describe_uses(cases: Iterable[UseCase]) -> Iterator[Sequence[str]]:
    """Describe each way in which a use was measured, with what its best backends cost in training."""
    ways = [(case, each) for case in cases for each in case.recommendations]
    training = next((each for case, each in ways if case.activity == TRAINING), None)
    ratios = {rank.backend: rank.ratio for rank in training.ranks} if training else {}
    for case, each in ways:
        row, *others = _describe_use(case, each)
        catch = write_catch((ratios.get(backend, 1) for backend in each.select_tier(0)), "to train")
        yield from (row, *([(f"  {catch}",)] if catch else []), *others)


def _describe_use(case: UseCase, recommendation: Recommendation) -> Iterable[Sequence[str]]:
    """Describe the best backends of a use and the next ones; then name those that have no place among them."""
    ranks, results = recommendation.ranks, recommendation.results
    best = ranks[0]
    value = best.value / results[best.backend].images if recommendation.is_timed else best.value
    yield (
        _name_way(case.title, recommendation.params),
        f"{max(result.store_images for result in results.values()):,}",
        _join([_name_leaders(recommendation.select_tier(0)), *recommendation.write(value).split()]),
        _name_followers(ranks),
    )
    noisy = sorted(rank.backend for rank in ranks if rank.tier <= 1 and rank.noisy)
    for words, names in (("too noisy to rank", noisy), ("not measured", recommendation.absent)):
        if names:
            yield (f"  {words}: {join_words(names)}",)


def _name_leaders(names: Sequence[str]) -> str:
    if len(names) > CROWD:
        return f"{len(names)} backends tie:"
    return f"{join_words(names)} tie:" if len(names) > 1 else names[0]


def _name_followers(ranks: Sequence[Rank]) -> str:
    behind = [
        _join([rank.backend, f"{format_number(rank.ratio)}x"]) for rank in ranks if rank.tier == 1 and not rank.noisy
    ]
    if len(behind) > CROWD:
        behind[FEW:] = [_join([f"{len(behind) - FEW}", "others"])]
    if behind:
        return ", ".join(behind)
    if len(ranks) == 1:
        return "no other measured"
    return "" if any(rank.noisy for rank in ranks) else "no other is behind"


def _join(words: Iterable[str]) -> str:
    """Join words that must stay in one line."""
    return NO_BREAK.join(words)


def _describe_cell(result: Result, columns: Iterable[str]) -> Sequence[str]:
    entries = {
        "operation": _name_way(result.operation, result.params),
        "backend": result.backend,
        "images": f"{result.store_images:,}",
        "a call": format_time(result.median),
        "an image": format_time(result.median / result.images),
        "noise": "noisy" if result.unstable else "",
    }
    return [entries[name] for name in columns]


def _name_way(title: str, params: Iterable[tuple[str, str | int | float]]) -> str:
    """Add the parameters that a session has only if it is asked for them."""
    return add_params(title, [pair for pair in params if pair not in USUAL])


def _count_noisy(run: Run) -> str:
    noisy = sum(result.unstable for result in run.results)
    return f"noisy: {noisy:,} of {len(run.results):,} cells" + (f" ({UNSTABLE_RULE})" if noisy else "")


def _wrap(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def _lay_out(columns: dict[str, int], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lay out a table, wrapping the text of cells; a row of one text has the whole width."""
    lines = []
    for row in (tuple(columns), tuple("-" * width for width in columns.values()), *rows):
        if len(row) == 1:
            lines += _wrap(row[0], "    ")
            continue
        cells = [
            textwrap.wrap(cell, width, break_on_hyphens=False)
            for cell, width in zip(row, columns.values(), strict=True)
        ]
        for parts in zip_longest(*cells, fillvalue=""):
            padded = [
                part.rjust(width) if name in _NUMBERS else part.ljust(width)
                for part, (name, width) in zip(parts, columns.items(), strict=True)
            ]
            lines.append("  ".join(padded).replace(NO_BREAK, " ").rstrip())
    return lines
