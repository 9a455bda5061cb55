"""SIGKILL: at every system call of a save that touches the store, and at random."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np

from storage.contract import Kind
from tests.faults.children import Child, Ending, spread
from tests.faults.extent import Extent
from tests.faults.findings import GUILTY, NOT_REACHED, Findings
from tests.faults.judge import append, inspect, join_sets, make_sets, prepare, save, save_template
from tests.faults.strace import MAP, Call, drop_overtaken, inject, trace_calls

SEED = 6
BEYOND = 1.5  # times as long as a save takes alone: some of those that run side by side are to end


def kill_at_calls(
    backend: str,
    folder: Path,
    extent: Extent,
    *,
    count: int,
    replacing: bool,
    appending: bool = False,
    kind: Kind = "pixels",
) -> Findings:
    """Save once for each call that touches the store, or append, and be killed right before it."""
    sets = make_sets(count, kind=kind)
    saved = save_template(folder, sets, backend)
    template = saved if replacing or appending else None
    write = partial(append, added=sets.new) if appending else partial(save, image_set=sets.new, backend=backend)
    if appending:
        sets = join_sets(sets)
    (folder / "traced").mkdir()
    path = prepare(folder / "traced", template)
    options = {} if appending else {"overwrite": replacing}
    calls = drop_overtaken(trace_calls(partial(write, path, **options), path))
    threads = not all(call.first for call in calls)

    def run(call: Call, own: Path) -> str:
        path = prepare(own, template, os.link)
        ending = inject(partial(write, path, **options), call, "signal=KILL", path).ending
        state = inspect(path, sets, backend)
        if ending.signal == signal.SIGKILL:
            return state
        if (threads or call.name == MAP) and ending == Ending(0, "") and state == "new":
            return NOT_REACHED
        return f"{GUILTY}not killed, but {ending.describe() or 'done'}"

    calls = extent.choose(calls, 2, lambda call: call.name)
    return list(zip([call.describe() for call in calls], spread(calls, run, folder), strict=True))


def kill_at_random(backend: str, folder: Path, *, count: int, cases: int, kind: Kind = "pixels") -> Findings:
    """Save again and again, and be killed at some moment; every second save replaces a set."""
    sets = make_sets(count, kind=kind)
    started = time.monotonic()
    template = save_template(folder, sets, backend)
    longest = time.monotonic() - started
    moments = np.random.default_rng(SEED).uniform(0, BEYOND * longest, cases)

    def run(case: int, own: Path) -> str:
        replacing = bool(case % 2)
        path = prepare(own, template if replacing else None, os.link)
        child = Child(partial(save, path, sets.new, backend, overwrite=replacing))
        child.release()
        time.sleep(moments[case])
        child.kill()
        ending = child.wait()
        if not ending.signal and ending.told:
            return f"{GUILTY}{ending.told}"
        return inspect(path, sets, backend)

    names = [f"case {case} of seed {SEED}, killed after {moment:.4f} s" for case, moment in enumerate(moments)]
    return list(zip(names, spread(range(cases), run, folder), strict=True))
