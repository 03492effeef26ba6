"""Times: records hold UTC, people see their own zone."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from conftest import Project, requires_posix

from ductaflow.cli.main import main
from ductaflow.text.times import local_time

pytestmark = requires_posix


@pytest.fixture(autouse=True)
def far_away(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A zone half an hour off all whole hours, without summer time."""
    monkeypatch.setenv("TZ", "XXX-5:30")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_local_times() -> None:
    iso = "2026-11-26T21:35:32.157755+00:00"
    assert local_time(iso) == "2026-11-27 03:05:32"
    assert local_time(iso, zone=True) == "2026-11-27 03:05:32 +05:30"
    assert local_time(iso, zone=True, seconds=False) == "2026-11-27 03:05 +05:30"
    assert [local_time(text) for text in ("", "once")] == ["", "once"]


def test_lists_and_reports_show_them(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.write("f", "1")
    run = project.run("f")
    assert run.record.started.endswith("+00:00")
    here = local_time(run.record.started)
    capsys.readouterr()
    assert main(["ls"]) == 0
    assert here in capsys.readouterr().out
    assert main(["show", "f/a"]) == 0
    assert f"{here} +05:30" in capsys.readouterr().out
    assert f"{here[:16]} +05:30</span>" in run.html.read_text()
