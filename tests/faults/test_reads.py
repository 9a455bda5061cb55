"""A damaged store is read right or refused, a replaced one is all old or all new, and failed opens leave nothing."""

from pathlib import Path

import pytest

from benchmarks.options import read_options
from storage import BACKENDS
from tests.faults.crowd import read_while_writing
from tests.faults.damages import DAMAGES
from tests.faults.extent import Extent
from tests.faults.findings import FILES, PLAIN, Record, count_findings, name_fault
from tests.faults.forks import fork_while_reading
from tests.faults.integrity import damage_plain
from tests.faults.mixups import MIXUPS
from tests.faults.opens import fail_to_open
from tests.faults.reading import damage_and_read
from tests.support.backends import EXAMPLES


def test_a_damaged_store_is_read_right_or_refused(
    backend: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    count_findings(record_property, backend, damage_and_read(backend, folder, DAMAGES, cases=extent.count(1)))


@pytest.mark.slow
@pytest.mark.kinds("pixels", "encoded")
@pytest.mark.parametrize("extent", ["all"], indirect=True)
def test_a_store_whose_files_are_mixed_up_is_read_right_or_refused(
    backend: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    for kind, part in extent.divide(BACKENDS[backend].INFO.kinds):
        (folder / kind).mkdir()
        found = damage_and_read(backend, folder / kind, MIXUPS, cases=120 if part.full else part.count(1), kind=kind)
        named = {name_fault(kind, mixup): findings for mixup, findings in found.items()}
        count_findings(record_property, backend, named)


@pytest.mark.kinds("encoded")
def test_a_damaged_store_of_files_is_read_right_or_refused(
    backend: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    found = damage_and_read(backend, folder, DAMAGES, cases=extent.count(1), kind="encoded")
    count_findings(record_property, backend, {f"{FILES}{damage}": findings for damage, findings in found.items()})


@pytest.mark.kinds("pixels", "encoded")
def test_damage_to_a_plain_store_raises_no_foreign_error(
    backend: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    for kind, part in extent.divide(BACKENDS[backend].INFO.kinds):
        (folder / kind).mkdir()
        cases = 3 if extent.sample else (200 if extent.full else 40) // part.kinds
        found = damage_plain(backend, folder / kind, cases=cases, kind=kind)
        named = {f"{PLAIN}{name_fault(kind, damage)}": findings for damage, findings in found.items()}
        count_findings(record_property, backend, named)


def test_each_read_of_a_store_that_is_replaced_is_all_old_or_all_new(
    pytestconfig: pytest.Config, folder: Path, extent: Extent, record_property: Record
) -> None:
    seconds = 1 if extent.sample else 60 if extent.full else 20
    names = EXAMPLES if extent.sample and not pytestconfig.option.backends else read_options(pytestconfig).backends
    stored = {name: BACKENDS[name].INFO.kinds for name in names}
    for turn in range(2 if extent.full else 1):
        kinds = {name: each[(number + turn) % len(each)] for number, (name, each) in enumerate(stored.items())}
        (folder / str(turn)).mkdir()
        for backend, findings in read_while_writing(kinds, folder / str(turn), seconds).items():
            fault = name_fault(kinds[backend], f"{seconds} s of four readers and a writer")
            count_findings(record_property, backend, {fault: findings})


@pytest.mark.slow
@pytest.mark.kinds("pixels", "encoded")
@pytest.mark.parametrize("extent", ["all"], indirect=True)
def test_children_that_are_forked_while_threads_read_can_read(
    backend: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    for kind, part in extent.divide(BACKENDS[backend].INFO.kinds):
        (folder / kind).mkdir()
        forks = 1000 if part.full else 20 // part.kinds
        count_findings(record_property, backend, fork_while_reading(backend, folder / kind, forks, kind))


@pytest.mark.kinds("pixels", "encoded")
def test_failed_opens_leave_nothing_behind(backend: str, folder: Path, extent: Extent, record_property: Record) -> None:
    for kind, _ in extent.divide(BACKENDS[backend].INFO.kinds):
        (folder / kind).mkdir()
        few = 400 if backend == "badger" else 24  # the heap of Go grows for longer before it stays as large as it is
        extents = {"cases": few, "variants": 1} if extent.sample else {"cases": 1000}
        findings = fail_to_open(backend, folder / kind, **extents, kind=kind)
        count_findings(record_property, backend, {name_fault(kind, "failed opens"): findings})
