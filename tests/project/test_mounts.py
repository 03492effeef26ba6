"""File systems that do not answer: what hangs on them is told within a bound."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Project

from ductaflow import RunFailed, explain, run_step_flow
from ductaflow.files import mounts

DETACH = 2  # umount2(2): MNT_DETACH


@pytest.fixture
def dead(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Path]]:
    """Puts a FUSE file system over `data` whose server never reads a request."""
    if sys.platform != "linux":
        pytest.skip("mounts of Linux")
    libc = ctypes.CDLL(None, use_errno=True)
    folder = project.root / "data"
    folder.mkdir()
    opened: list[int] = []

    def mount() -> Path:
        try:
            opened.append(os.open("/dev/fuse", os.O_RDWR))
        except OSError as e:
            pytest.skip(f"no FUSE here: {e}")
        options = f"fd={opened[0]},rootmode=40000,user_id=0,group_id=0".encode()
        if libc.mount(b"dead-server", bytes(folder), b"fuse", 0, options):
            opened.append(-1)
            pytest.skip(f"nothing can be mounted: {os.strerror(ctypes.get_errno())}")
        monkeypatch.setattr(mounts, "_listed", -mounts.FRESH)
        return folder

    monkeypatch.setattr(mounts, "BOUND", 1.0)
    yield mount
    if len(opened) == 1:
        libc.umount2(bytes(folder), DETACH)
    if opened:
        os.close(opened[0])  # whoever waits gets an error


def told(folder: Path) -> str:
    return f"{folder} (fuse from dead-server) has not answered for 1 s"


def test_nothing_is_asked_where_all_is_local(tmp_path: Path) -> None:
    assert mounts.silent([]) == ""


def test_a_file_system_is_asked_once(dead: Callable[[], Path]) -> None:
    folder = dead()
    assert mounts.silent([str(folder / "x")]) == told(folder)
    began = time.monotonic()
    for _ in range(20):
        assert mounts.silent([str(folder)]) == told(folder)
    assert time.monotonic() - began < 5, "each waited anew"
    assert mounts.silent([f"{folder}-beside/x"]) == ""


def test_reuse_is_decided_though_a_file_system_is_silent(
    dead: Callable[[], Path], project: Project
) -> None:
    (project.root / "data" / "in.txt").write_text("1")
    project.write("f", "print(open('../../../data/in.txt').read())")
    assert project.run("f").ok
    assert project.run("f").reused
    folder = dead()
    (reason,) = explain("f", "a", root=project.root).reasons
    assert reason.kind == "silent"
    assert told(folder) in reason.message


def test_a_run_that_waits_for_a_silent_file_system_is_ended(
    dead: Callable[[], Path], project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its observer looks at each file before it is opened, and so waits, too."""
    monkeypatch.setattr("ductaflow_kernels.session.observer.HANGS_AFTER", 1.0)
    monkeypatch.setattr("ductaflow_kernels.session.session.SILENT_LONG", 1.0)
    project.write("g", "open('../../../data/in.txt')")
    project.write("h", "print(1)")
    folder = dead()
    with pytest.raises(RunFailed) as caught:
        run_step_flow("g", "g", "a")
    assert told(folder) in str(caught.value)
    assert run_step_flow("h", "h", "a").record.observed == "native"
