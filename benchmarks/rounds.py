"""How many rounds a cell gets: chosen from calls before the clock starts."""

from collections.abc import Callable

MOST_ROUNDS = 1_000  # more would tell the median no better, and fill the JSON
MANY_IMAGES = 100_000  # from here on, FEW_ROUNDS are enough
FEW_ROUNDS = 3


def warm_up(call: Callable[[], float], longest: float, least: int, most: int) -> int:
    """Call once or twice, and choose the number of rounds from the faster call.

    The first call is often slow: it touches memory and loads code that the next ones find. So a second one follows,
    unless the first took longer than all rounds should, or leaves nothing to choose.

    Parameters
    ----------
    call : callable
        Returns how many seconds a round takes.
    longest : float
        Seconds for all rounds.
    least, most : int
        Rounds.

    Returns
    -------
    int
        Rounds.
    """
    seconds = call()
    if seconds <= longest and choose_rounds(seconds, longest, least, most) < most:
        seconds = min(seconds, call())
    return choose_rounds(seconds, longest, least, most)


def choose_rounds(seconds: float, longest: float, least: int, most: int) -> int:
    """Choose how many rounds of so many seconds to measure: as many as fit `longest`, from `least` to `most`."""
    return max(least, min(most, int(longest / max(seconds, 1e-9))))


def choose_least(least: int, images: int) -> int:
    """Choose the least number of rounds of so many images, where `least` is that of few images."""
    return min(least, FEW_ROUNDS) if images >= MANY_IMAGES else least
