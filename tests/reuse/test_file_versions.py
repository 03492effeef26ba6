"""Whether a file is still as it was: size, times and inode, and what is known of its bytes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import hypothesis.strategies as st
import pytest
from conftest import Project, wait_until
from hypothesis import HealthCheck, given, settings

from ductaflow import CacheDecision, explain
from ductaflow.files import hashes
from ductaflow.files.hashes import content, is_settled, version_of
from ductaflow.history.recordfile import read_record, write_record
from ductaflow.model.facts import FileFact
from ductaflow.plans.fingerprint import code_hash, file_hash

LONG_AGO = 1_600_000_000 * 10**9  # ns, a whole second as an archive has it

NAMES = ("a.txt", "b.txt", "link.txt")
FLOW = "\n".join(f"print(open('../../../in/{name}').read())" for name in NAMES)


@pytest.fixture
def read(project: Project) -> Project:
    """A project with a run that has read files of the same size and time, one by a link."""
    project.write("flow", FLOW)
    folder = project.root / "in"
    folder.mkdir()
    for name in ("a.txt", "b.txt", "v1.txt", "v2.txt"):
        put(folder / name, f"{name[:2]}\n")
    (folder / "link.txt").symlink_to("v1.txt")
    version = version_of((folder / "v2.txt").stat())
    assert wait_until(lambda: is_settled(version, time.time_ns()))
    project.run("flow")
    assert explain("flow", "a")
    return project


def put(path: Path, text: str) -> None:
    path.write_text(text)
    os.utime(path, ns=(LONG_AGO, LONG_AGO))


def reused(message: str = "") -> bool:
    decision = explain("flow", "a")
    if not decision.reuse and message:
        assert message in str(decision)
    return decision.reuse


def forget() -> None:
    """As another process would find it."""
    hashes._known.clear()
    hashes._kept = None


# --- other bytes ---------------------------------------------------------------------------------


def copied_over(folder: Path) -> None:
    put(folder / "other", "xx\n")
    shutil.copy2(folder / "other", folder / "a.txt")


def renamed(folder: Path) -> None:
    put(folder / "other", "xx\n")
    (folder / "other").rename(folder / "a.txt")


def written_and_touched(folder: Path) -> None:
    before = (folder / "a.txt").stat()
    (folder / "a.txt").write_text("xx\n")
    os.utime(folder / "a.txt", ns=(before.st_atime_ns, before.st_mtime_ns))


def hard_linked(folder: Path) -> None:
    put(folder / "other", "xx\n")
    (folder / "a.txt").unlink()
    os.link(folder / "other", folder / "a.txt")


def retargeted(folder: Path) -> None:
    (folder / "link.txt").unlink()
    (folder / "link.txt").symlink_to("v2.txt")


def unpacked(folder: Path) -> None:
    put(folder / "other", "xx\n")
    with tarfile.open(folder / "archive.tar", "w") as archive:
        archive.add(folder / "other", "a.txt")
    with tarfile.open(folder / "archive.tar") as archive:
        archive.extractall(folder, filter="fully_trusted")


def swapped(folder: Path) -> None:
    (folder / "a.txt").rename(folder / "c.txt")
    (folder / "b.txt").rename(folder / "a.txt")
    (folder / "c.txt").rename(folder / "b.txt")


OTHER_BYTES = (
    copied_over, renamed, written_and_touched, hard_linked, retargeted, unpacked, swapped,
)  # fmt: skip


@pytest.mark.skipif(os.name != "posix", reason="elsewhere there is no change time")
def test_the_same_size_and_time_but_other_bytes(read: Project, tmp_path: Path) -> None:
    for number, change in enumerate(OTHER_BYTES):
        aside = tmp_path / f"aside{number}"
        shutil.copytree(read.root / "in", aside, symlinks=True)
        before = {n: (read.root / "in" / n).stat() for n in NAMES}
        change(read.root / "in")
        now = {n: (read.root / "in" / n).stat() for n in NAMES}
        for name in NAMES:
            assert before[name].st_size == now[name].st_size
            assert before[name].st_mtime_ns == now[name].st_mtime_ns
        why = "now leads to" if change is retargeted else "changed"
        assert not reused(why), change.__name__
        shutil.rmtree(read.root / "in")
        aside.rename(read.root / "in")
        assert reused(), change.__name__


operation = st.tuples(
    st.sampled_from(["write", "copy", "rename", "touch", "link", "tie", "chmod", "retarget"]),
    st.sampled_from(["a.txt", "b.txt", "v1.txt"]),
    st.sampled_from(["a.", "b.", "v1", "xx"]),
)


@pytest.mark.skipif(os.name != "posix", reason="elsewhere there is no change time")
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(operation, st.booleans()), max_size=8))
def test_reused_if_and_only_if_the_bytes_are_the_same(
    read: Project, operations: list[tuple[tuple[str, str, str], bool]]
) -> None:
    folder = read.root / "in"
    for name in ("a.txt", "b.txt", "v1.txt", "v2.txt"):
        put(folder / name, f"{name[:2]}\n")
    expected = {"a.txt": "a.\n", "b.txt": "b.\n", "link.txt": "v1\n"}
    for (do, name, text), other_process in operations:
        file, other = folder / name, folder / "other"
        other.unlink(missing_ok=True)  # it may be a name of one of them
        put(other, f"{text}\n")
        if do == "write":
            put(file, f"{text}\n")
        elif do == "copy":
            shutil.copy2(other, file)
        elif do == "rename":
            other.rename(file)
        elif do == "touch":
            os.utime(file)
        elif do == "link":
            file.unlink()
            os.link(other, file)
        elif do == "tie":
            with contextlib.suppress(FileExistsError):
                os.link(file, folder / f"tied-{name}")
        elif do == "chmod":
            file.chmod(0o600)
        else:
            (folder / "link.txt").unlink()
            (folder / "link.txt").symlink_to("v2.txt" if "x" in text else "v1.txt")
        if other_process:
            forget()
        same = all((folder / n).read_text() == text for n, text in expected.items())
        assert reused() == same, (do, name, text)
    (folder / "link.txt").unlink()
    (folder / "link.txt").symlink_to("v1.txt")


# --- time stamps that are not fine enough --------------------------------------------------------


def test_what_changes_within_a_tick_of_the_clock(tmp_path: Path) -> None:
    """Two writes in a row often have the same time stamps, whatever their digits say."""
    file = tmp_path / "file.py"
    for number in range(300):
        for text in (f"x = {number % 10}\n", "x = 'a'\n"[:6]):
            file.write_text(text)
            os.utime(file, ns=(LONG_AGO, LONG_AGO))
            found = file.stat()
            plain = content(str(file), found).sha256
            code = code_hash(str(file), found)
            forget()
            assert file_hash(str(file), found) == plain
            assert code_hash(str(file), found) == code


@pytest.mark.parametrize(
    ("mtime", "ctime", "settled"),
    [
        (LONG_AGO, LONG_AGO + 1, True),
        (LONG_AGO, -10_000_001, False),  # within a tick
        (LONG_AGO, -100_000_001, True),
        (LONG_AGO, -1_000_000_000, False),  # whole seconds, as of FAT
        (LONG_AGO, -3_000_000_000, True),
        (-1_000_000_000, LONG_AGO, False),  # Windows: the change time is none
        (3_000_000_000, LONG_AGO, True),  # set to the future
        (LONG_AGO, 1_000_000_001, False),  # by another machine's clock
    ],
)
def test_stamps_that_say_too_little(mtime: int, ctime: int, *, settled: bool) -> None:
    now = 1_700_000_000 * 10**9
    version = (
        1,
        mtime if mtime >= LONG_AGO else now + mtime,
        1,
        ctime if ctime >= LONG_AGO else now + ctime,
    )
    assert is_settled(version, now) is settled


def test_a_file_that_was_just_changed_is_hashed(project: Project) -> None:
    """Its record has no change time; once it is known, the next look is quick again."""
    project.write("flow", "import os\nopen('../../../in.txt').read()")
    (project.root / "in.txt").write_text("x")
    run = project.run("flow")
    (fact,) = run.record.inputs
    found = (project.root / "in.txt").stat()
    assert fact.ctime_ns in (0, found.st_ctime_ns)
    write_record(run.paths.record, attrs.evolve(run.record, inputs=(unknown(fact),)))
    assert reused()
    put(project.root / "in.txt", "y")
    os.utime(project.root / "in.txt", ns=(fact.mtime_ns, fact.mtime_ns))
    assert not reused("in.txt changed")


def unknown(fact: FileFact) -> FileFact:
    """As a record of an earlier version has it."""
    return attrs.evolve(fact, ctime_ns=0, inode=0)


# --- hashes that are kept ------------------------------------------------------------------------


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The files that are hashed."""
    found: list[str] = []
    original = hashes._hashed

    def noting(path: str) -> tuple[str, str]:
        found.append(os.path.basename(path))
        return original(path)

    monkeypatch.setattr(hashes, "_hashed", noting)
    monkeypatch.setattr(hashes, "_FINE", 0)
    monkeypatch.setattr(hashes, "_COARSE", 0)
    forget()
    yield found
    forget()


def test_a_copied_project_is_hashed_once(
    read: Project, tmp_path: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reused()
    assert hashed == []
    root = tmp_path / "moved"
    shutil.copytree(read.root, root, symlinks=True, ignore=shutil.ignore_patterns("moved"))
    monkeypatch.chdir(root)
    assert reused()
    assert sorted(hashed) == ["a.txt", "b.txt", "v1.txt"]
    hashed.clear()
    for damage in (b"", b"\nno json", b'["a.txt", 1', b"\n[]\n", b"\n{}\n\xff\n"):
        forget()
        with open(root / "runs" / hashes.FILE, "ab") as file:
            file.write(damage)
        assert reused()
    assert hashed == []
    put(root / "in" / "a.txt", "xx\n")
    assert not reused("a.txt changed")
    forget()
    assert not reused("a.txt changed")
    assert hashed == ["a.txt"]


def test_kept_hashes_do_not_grow_for_ever(
    read: Project, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashes, "_SPARE", 3)
    file = read.root / "runs" / hashes.FILE
    for number in range(20):
        put(read.root / "in" / "a.txt", f"{number:02}\n")
        assert not reused("a.txt changed")
        forget()
    assert len(file.read_text().split("\n\n")) < 12
    put(read.root / "in" / "a.txt", "a.\n")
    assert reused()


def test_a_folder_of_runs_that_cannot_be_written(read: Project, hashed: list[str]) -> None:
    put(read.root / "in" / "a.txt", "a.\n")
    (read.root / "runs" / hashes.FILE).unlink(missing_ok=True)
    (read.root / "runs" / hashes.FILE).mkdir()
    assert reused()
    forget()
    assert reused()
    assert hashed == ["a.txt", "a.txt"]


def test_many_processes_keep_hashes_at_once(tmp_path: Path) -> None:
    for number in range(40):
        put(tmp_path / f"{number}.txt", str(number))
    code = f"""
import os
from ductaflow.files import hashes
hashes.keep_in({str(tmp_path)!r})
for number in range(40):
    path = {str(tmp_path)!r} + f"/{{number}}.txt"
    while not hashes.is_settled(hashes.version_of(os.stat(path)), __import__("time").time_ns()):
        pass
    hashes.content(path, os.stat(path), kept=True)
"""
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    lines = filter(None, (tmp_path / hashes.FILE).read_text().splitlines())
    known = {row[0]: tuple(row[1:5]) for row in map(json.loads, lines)}
    assert known == {
        str(tmp_path / f"{n}.txt"): version_of((tmp_path / f"{n}.txt").stat()) for n in range(40)
    }


def test_records_of_an_earlier_version(read: Project) -> None:
    run = read.run("flow")
    old = tuple(map(unknown, run.record.inputs))
    write_record(run.paths.record, attrs.evolve(run.record, inputs=old))
    text = run.paths.record.read_text()
    assert "ctime_ns" not in text
    assert "inode" not in text
    record = read_record(run.paths.record)
    assert record is not None
    assert record.inputs == old
    decision: CacheDecision = explain("flow", "a")
    assert decision
    put(read.root / "in" / "a.txt", "xx\n")
    assert not reused("a.txt changed")
