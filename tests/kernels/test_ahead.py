"""What one kernel of a template has needed, later ones have ready: memory, fonts, plugins."""

from __future__ import annotations

import json
import mmap
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from ductaflow_kernels.pool import KernelPool
from ductaflow_kernels.session.session import KernelSession
from ductaflow_kernels.sources.forked import forking_works
from ductaflow_kernels.spec import KernelRequest, own_interpreter
from hypothesis import given
from hypothesis import strategies as st
from kernel_client import Interpreter, finish, inside, printed, run

pages = inside("ahead.pages")
needed = inside("ahead.needed")

copied_ahead = pytest.mark.skipif(
    tuple(map(int, re.findall(r"\d+", platform.release())[:2])) < (5, 14),
    reason="pages are copied ahead since Linux 5.14",
)
pytestmark = pytest.mark.skipif(not forking_works(), reason="kernels are forked on Linux only")

FAULTS = "__import__('resource').getrusage(0).ru_minflt"
LARGE = 3000  # pages
# Each page of it is shared with the template until it is written to.
MODULE = f"PAGE = {mmap.PAGESIZE}\nfield = bytearray(PAGE * {{}})\nfield[::PAGE] = field[::PAGE]\n"
WRITE = "for i in range(0, len(large.field), large.PAGE): large.field[i] = 1"


def faults_of(session: KernelSession, code: str) -> int:
    """How many pages a kernel had to ask for while it ran this, right after it was leased."""
    run(session, "import large, resource")
    run(session, f"before = {FAULTS}\n{code}\nfaults = {FAULTS} - before")
    return int(printed(session, "faults"))  # type: ignore[call-overload]


@attrs.frozen
class Field:
    """Kernels, one after the other, of a template that has a field of so many pages."""

    pool: KernelPool
    interpreter: Interpreter
    folder: Path

    def lease(self, size: int) -> KernelSession:
        module = self.interpreter.site / "large.py"
        if not module.exists() or module.read_text() != MODULE.format(size):
            module.write_text(MODULE.format(size))  # another one would need another template
        return self.pool.lease(self.interpreter.request(self.folder, "large"))


@pytest.fixture
def field(interpreter: Interpreter, tmp_path: Path) -> Iterator[Field]:
    with KernelPool(spare=1) as pool:
        yield Field(pool, interpreter, tmp_path)


def faults_in_turn(field: Field, size: int, kernels: int) -> list[int]:
    """What each of so many kernels has to ask for when it writes to the whole field."""
    found = []
    for _ in range(kernels):
        session = field.lease(size)
        found.append(faults_of(session, WRITE))
        finish(session)
        field.pool.retire(session)
    return found


@copied_ahead
def test_later_kernels_have_copied_what_one_has_written_to(
    field: Field,
) -> None:
    """The first ones copy each page when they write to it."""
    found = faults_in_turn(field, LARGE, 8)
    assert found[0] > LARGE
    assert max(found[-2:]) < LARGE / 10, found


@copied_ahead
def test_a_waiting_kernel_copies_no_more_than_its_budget(
    field: Field,
) -> None:
    """What is beyond it is copied when it is written to."""
    most = pages.BUDGET // mmap.PAGESIZE
    found = faults_in_turn(field, most + LARGE, 8)
    assert min(found[-2:]) > LARGE * 0.9
    assert max(found[-2:]) < LARGE * 1.3, found


@copied_ahead
def test_a_kernel_that_is_killed_before_it_tells_is_followed_by_another(
    field: Field,
) -> None:
    """It was to look, and has not told."""
    for _ in range(6):
        session = field.lease(LARGE)
        run(session, "import large")
        field.pool.retire(session)  # not finished: it tells nothing
    found = faults_in_turn(field, LARGE, needed.TRY_AGAIN + 8)
    assert max(found[-2:]) < LARGE / 10


def test_what_one_kernel_wrote_no_other_sees(field: Field) -> None:
    """A page that was copied ahead holds what the template has in it."""
    for _ in range(6):
        session = field.lease(LARGE)
        run(session, "import large")
        assert printed(session, "sum(large.field)") == 0
        run(session, WRITE)
        assert printed(session, "sum(large.field)") == LARGE
        finish(session)
        field.pool.retire(session)


# --- what libraries find out once in a process --------------------------------------------------


def used(session: KernelSession, code: str, expression: str) -> object:
    """The value of an expression in a fresh kernel; then code runs, and it is finished."""
    value = printed(session, expression)
    run(session, code)
    finish(session)
    return value


def test_the_font_of_figures_is_open_if_one_has_drawn(tmp_path: Path) -> None:
    """matplotlib opens it anew in each forked process."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}
    request = KernelRequest(own_interpreter(), tmp_path, environment, ("matplotlib.pyplot",))
    opened = "__import__('matplotlib.font_manager').font_manager._get_font.cache_info().currsize"
    draw = "import matplotlib.pyplot as plt; plt.figure().text(0, 0, 'a'); plt.savefig('a.png')"
    for code, expected in ((draw, 1), ("pass", 0)):
        with KernelPool(spare=1) as pool:
            found = []
            for _ in range(8):
                session = pool.lease(request)
                found.append(used(session, code, opened))
                pool.retire(session)
            assert (found[0], found[-1]) == (0, expected), found


def test_narwhals_has_looked_for_its_plugins(interpreter: Interpreter, tmp_path: Path) -> None:
    """Not for the first kernel, for which somebody waits."""
    package = interpreter.site / "narwhals"
    package.mkdir()
    (package / "__init__.py").write_text("from . import dependencies")
    (package / "dependencies.py").write_text(
        "asked = []\ndef is_into_dataframe(what):\n    asked.append(type(what).__name__)\n"
    )
    with KernelPool(spare=1) as pool:
        found = []
        for _ in range(6):
            session = pool.lease(interpreter.request(tmp_path, "narwhals"))
            asked = "__import__('narwhals').dependencies.asked"
            found.append(used(session, "pass", asked))
            pool.retire(session)
    assert (found[0], found[-1]) == ([], ["object"])


# --- what a template is told ---------------------------------------------------------------------


@given(st.sets(st.integers(1, 40_000), max_size=6000))
def test_ranges_are_the_pages_up_to_the_budget(written: set[int]) -> None:
    """Each once, in whole pages; the longest runs if there are too many."""
    ranges = pages._ranges(sorted(written))
    found = [
        page
        for start, length in zip(ranges[::2], ranges[1::2], strict=True)
        for page in range(start // mmap.PAGESIZE, (start + length) // mmap.PAGESIZE)
    ]
    assert len(found) == len(set(found)) == min(len(written), pages.BUDGET // mmap.PAGESIZE)
    assert set(found) <= written
    lengths = list(ranges[1::2])
    assert lengths[:-1] == sorted(lengths[:-1], reverse=True)


def found_by(folder: Path, *ranges: int) -> None:
    """Leave what a kernel that has looked leaves."""
    (folder / needed.FILE).write_text(json.dumps({"pages": ranges, "draws": False}))


def test_a_template_asks_one_kernel_at_a_time(tmp_path: Path) -> None:
    """The next only after that one has ended, and if it has found out, not for a while."""
    ahead = needed.Ahead()
    assert ahead.wanted()
    ahead.looks(11, str(tmp_path))
    assert not ahead.wanted()
    found_by(tmp_path, 4096, 8192)
    ahead.ended(12)
    assert not ahead.wanted()
    assert not ahead.ranges
    ahead.ended(11)
    assert [ahead.wanted() for _ in range(needed.LOOK_AGAIN)] == [False] * needed.LOOK_AGAIN
    assert list(ahead.ranges) == [4096, 8192]
    assert ahead.wanted()
    ahead.looks(13, str(tmp_path))
    assert list(ahead.ranges) == [4096, 8192]  # until that one has ended


def test_after_a_kernel_that_has_left_nothing_another_one_looks(tmp_path: Path) -> None:
    """It died."""
    ahead = needed.Ahead()
    assert ahead.wanted()
    ahead.looks(11, str(tmp_path / "gone"))
    ahead.ended(11)
    assert [ahead.wanted() for _ in range(needed.TRY_AGAIN)] == [False] * 10
    assert ahead.wanted()
    assert not ahead.ranges
