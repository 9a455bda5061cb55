"""A damaged store is read right or refused, a replaced one is all old or all new, and failed opens leave nothing."""

from pathlib import Path

import pytest

from benchmarks.options import PIXELS, choose_backends, read_options
from storage import BACKENDS
from tests.faults.crowd import read_while_writing
from tests.faults.damages import DAMAGES
from tests.faults.extent import Extent
from tests.faults.findings import FILES, PLAIN, Record, count_findings
from tests.faults.forks import fork_while_reading
from tests.faults.integrity import damage_plain
from tests.faults.mixups import MIXUPS
from tests.faults.opens import fail_to_open
from tests.faults.reading import damage_and_read
from tests.support.encoded_sets import need_files


def test_a_damaged_store_is_read_right_or_refused(
    backend: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    count_findings(record_property, backend, damage_and_read(backend, folder, DAMAGES, cases=extent.count(1)))


@pytest.mark.slow
@pytest.mark.parametrize("extent", ["all"], indirect=True)
def test_a_store_whose_files_are_mixed_up_is_read_right_or_refused(
    backend: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    cases = 120 if extent.full else extent.count(1)
    count_findings(record_property, backend, damage_and_read(backend, folder, MIXUPS, cases=cases))


def test_a_damaged_store_of_files_is_read_right_or_refused(
    backend: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    need_files(BACKENDS[backend])
    found = damage_and_read(backend, folder, DAMAGES, cases=extent.count(1), encoded=True)
    count_findings(record_property, backend, {f"{FILES}{damage}": findings for damage, findings in found.items()})


def test_damage_to_a_plain_store_raises_no_foreign_error(
    backend: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    found = damage_plain(backend, folder, cases=3 if extent.sample else 200)
    count_findings(record_property, backend, {f"{PLAIN}{damage}": findings for damage, findings in found.items()})


def test_each_read_of_a_store_that_is_replaced_is_all_old_or_all_new(
    pytestconfig: pytest.Config, folder: Path, extent: Extent, record_property: Record
) -> None:
    seconds = 3 if extent.sample else 60
    found = read_while_writing(choose_backends(read_options(pytestconfig).backends, PIXELS), folder, seconds)
    for backend, findings in found.items():
        count_findings(record_property, backend, {f"{seconds} s of four readers and a writer": findings})


@pytest.mark.slow
@pytest.mark.parametrize("extent", ["all"], indirect=True)
def test_children_that_are_forked_while_threads_read_can_read(
    backend: str, folder: Path, extent: Extent, record_property: Record
) -> None:
    count_findings(record_property, backend, fork_while_reading(backend, folder, 1000 if extent.full else 20))


def test_failed_opens_leave_nothing_behind(backend: str, folder: Path, extent: Extent, record_property: Record) -> None:
    findings = fail_to_open(backend, folder, cases=24 if extent.sample else 1000, variants=1 if extent.sample else 4)
    count_findings(record_property, backend, {"failed opens": findings})
