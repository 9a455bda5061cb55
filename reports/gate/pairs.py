"""The two arms of the gate, measured: pairs of blocks in turn, and a record of them."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reports.gate.decision import Pair
from reports.gate.replay import write_pair
from reports.gate.session import Arm, Selection, claim_stores, run_block
from reports.gate.worktrees import Version, make_tree


@dataclass(frozen=True)
class Plan:
    """What a run of the gate compares.

    Attributes
    ----------
    project : Path
        The folder of the suite: its benchmarks measure both arms.
    base, new : Version
        Which `storage` each arm has.
    pythons : tuple of str
        The interpreters of base and new.
    selection : Selection
        Which cells.
    stores : Path or None
        Where the stores go; None is memory, where there is a file system in it.
    record : Path or None
        A file that each pair is added to.
    condition : str
        What the record says of the machine.
    slowdown : dict
        What the new arm is slowed by, for the self-test.
    """

    project: Path
    base: Version
    new: Version
    pythons: tuple[str, str]
    selection: Selection
    stores: Path | None
    record: Path | None = None
    condition: str = "idle"
    slowdown: Mapping[str, Any] | None = None


class Arms:
    """Both arms, ready to be measured.

    Parameters
    ----------
    base, new : Arm
        Their trees exist.
    plan : Plan
        What is compared.
    stores : Path
        An empty folder.
    """

    def __init__(self, base: Arm, new: Arm, plan: Plan, stores: Path) -> None:
        self._arms = (base, new)
        self._plan = plan
        self.stores = stores
        self._pairs = 0

    def measure(self, cells: Sequence[str]) -> Pair:
        """Run one pair of blocks: base first, then new first, and so on, so that a drift favours neither."""
        self._pairs += 1
        selection = replace(self._plan.selection, cells=tuple(cells))
        order = self._arms if self._pairs % 2 else self._arms[::-1]
        blocks = {arm.name: run_block(arm, selection, self.stores, seed=self._pairs) for arm in order}
        pair = Pair(blocks["base"], blocks["new"])
        if self._plan.record is not None:
            write_pair(self._plan.record, self._plan.condition, pair)
        return pair


@contextmanager
def prepare_arms(plan: Plan) -> Iterator[Arms]:
    """Make both trees in a temporary folder, and delete them with all stores at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="gate-trees-") as name,
        claim_stores(plan.stores, max(plan.selection.cutoffs)) as stores,
    ):
        trees = Path(name) / "old", Path(name) / "new"  # names of one length: arms differ in nothing but storage
        for version, tree in zip((plan.base, plan.new), trees, strict=True):
            make_tree(plan.project, version, tree)
        base = Arm("base", trees[0], plan.pythons[0])
        new = Arm("new", trees[1], plan.pythons[1], plan.slowdown or {})
        yield Arms(base, new, plan, stores)
