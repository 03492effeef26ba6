"""What embedding code hears of a single run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Project

from ductaflow import ArtifactError, CellFailed, UnknownKernel, run_notebook
from ductaflow.events import (
    CellFinished,
    CellStarted,
    InstanceFinished,
    InstanceStarted,
    OutputLine,
)
from ductaflow.execution.artifacts import Artifacts
from ductaflow.execution.audience import OrderedAudience
from ductaflow.execution.cellstates import CellState
from ductaflow.history.events import Audience, Audiences, Publisher
from ductaflow.model.flows import Cell
from ductaflow.model.records import CellRecord
from ductaflow.papermill.console import Console
from ductaflow.progress.echo import Echo


def told(events: list[Any]) -> list[str]:
    """Events in short, without the inserted cells."""
    short = {
        InstanceStarted: lambda e: f"started {e.step}/{e.instance}",
        CellStarted: lambda e: f"cell {e.number} at {e.line}",
        OutputLine: lambda e: f"{e.stream}: {e.text}",
        CellFinished: lambda e: f"cell {e.cell.number} {e.cell.status}",
        InstanceFinished: lambda e: f"{e.run.status.value} {e.run.dir.name}",
    }
    lines = [short[type(event)](event) for event in events]
    return [line for line in lines if not line.startswith("cell 0")]


def test_a_run_is_told_from_beginning_to_end(project: Project) -> None:
    project.write("step", "print('one')\nprint('two', end='')", "1 / 0", "print('never')")
    events: list[Any] = []
    with pytest.raises(CellFailed):
        project.run("step", on_event=events.append)
    assert told(events) == [
        "started step/a",
        "cell 1 at 2", "cell 1 ok",
        "cell 2 at 5", "stdout: one", "cell 2 ok",
        "cell 3 at 9", "cell 3 error",
        "stdout: two",
        "failed a",
    ]  # fmt: skip


def test_a_reused_run_only_ends(project: Project) -> None:
    project.write("step", "print('one')")
    project.run("step")
    events: list[Any] = []
    assert project.run("step", on_event=events.append).reused
    assert told(events) == ["success a"]


def test_a_notebook_anywhere_is_told_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "alone.py").write_text("# %%\nprint('one')\n")
    events: list[Any] = []
    run_notebook(tmp_path / "alone.py", execution_dir=tmp_path / "out", on_event=events.append)
    assert told(events)[0] == "started /alone"
    assert told(events)[-2:] == ["cell 1 ok", "success out"]


def test_what_a_listener_raises_ends_the_run(project: Project) -> None:
    project.write("step", "print('one')", "open('there', 'w')")

    def listen(event: object) -> None:
        if isinstance(event, OutputLine):
            raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        project.run("step", on_event=listen)
    run = project.run("step")
    assert str(run.reasons[0]).startswith("its last run failed")
    assert run.ok


class Heard(Audience):
    """What an audience was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def cell_started(self, number: int, line: int | None) -> None:
        self.calls.append(("cell_started", number, line))

    def cell_finished(self, record: CellRecord) -> None:
        self.calls.append(("cell_finished", record))

    def stream(self, name: str, text: str) -> None:
        self.calls.append(("stream", name, text))

    def output(self, kind: str, content: Any) -> None:
        self.calls.append(("output", kind, content))

    def close(self) -> None:
        self.calls.append(("close",))


CALLS: list[tuple[Any, ...]] = [
    ("cell_started", 1, 4),
    ("stream", "stdout", "a\nb"),
    ("stream", "stderr", "\x1b[31mred\x1b[0m"),
    ("output", "execute_result", {"data": {"text/plain": "3"}}),
    ("output", "error", {"ename": "E", "evalue": "", "traceback": []}),
    ("output", "display_data", {"data": {}}),
    ("cell_finished", CellRecord(1, 4, "ok")),
    ("close",),
]


@pytest.mark.parametrize(
    "audience",
    [Echo(), Console({}, True, None), Publisher("s", "a", print), Audiences([Heard(), Echo()])],
    ids=lambda audience: type(audience).__name__,
)
def test_every_audience_takes_all_that_there_is(audience: Audience) -> None:
    assert Audience in type(audience).__mro__
    for name, *arguments in CALLS:
        assert getattr(audience, name)(*arguments) is None


def test_several_hear_the_same_in_the_same_order() -> None:
    first, second = Heard(), Heard()
    both = Audiences([first, second])
    for name, *arguments in CALLS:
        getattr(both, name)(*arguments)
    assert first.calls == second.calls == CALLS


def test_what_cannot_begin_has_no_beginning_and_what_breaks_off_has_an_end(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("step", "print('one')")
    events: list[Any] = []
    with pytest.raises(UnknownKernel):
        project.run("step", kernel_name="no-such", on_event=events.append)
    assert events == []

    def full(*_: object) -> None:
        raise ArtifactError("the disk is full")

    monkeypatch.setattr(Artifacts, "save_notebook", full)
    with pytest.raises(ArtifactError):
        project.run("step", on_event=events.append)
    assert told(events)[0] == "started step/a"
    assert told(events)[-1] == "failed a"


def state(number: int) -> CellState:
    return CellState(number, Cell("code", "", number=number, line=number))


def test_what_comes_before_a_reply_waits_for_it() -> None:
    heard = Heard()
    ordered = OrderedAudience(heard)
    first, second, third = map(state, (1, 2, 3))
    ordered.cell_started(first)
    ordered.stream("stdout", "of the first")
    ordered.cell_started(second)
    ordered.stream("stdout", "of the second")
    ordered.cell_started(third)
    assert [call[1] for call in heard.calls] == [1, "stdout"]
    ordered.cell_finished(first)
    assert [call[1] for call in heard.calls[3:]] == [2, "stdout"]
    ordered.cell_finished(second)
    ordered.close()  # the third died
    assert [call[0] for call in heard.calls] == [
        "cell_started", "stream", "cell_finished",
        "cell_started", "stream", "cell_finished",
        "cell_started", "close",
    ]  # fmt: skip


def test_nobody_need_listen() -> None:
    ordered = OrderedAudience(None)
    ordered.cell_started(state(1))
    ordered.stream("stdout", "text")
    ordered.cell_finished(state(1))
    ordered.close()
