"""Databases that other programs write to: what is in the log beside one counts."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Project

from ductaflow import Run, explain
from ductaflow.files.databases import HEAD, has_log, log_suffix, logged_hash
from ductaflow.model.facts import FileFact

FLOW = """
import sqlite3
connection = sqlite3.connect("../../../x.db")
print(connection.execute("select count(*) from t").fetchone())
connection.close()
"""


def connect(path: Path, mode: str = "wal") -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"pragma journal_mode = {mode}")
    connection.execute("pragma wal_autocheckpoint = 0")
    connection.execute("create table if not exists t (a)")
    return connection


class Other:
    """Another process that has a database open.

    In this one, whoever reads the file and closes it would drop SQLite's locks.
    """

    def __init__(self, path: Path) -> None:
        code = f"""
import sqlite3, sys
connection = sqlite3.connect({str(path)!r}, isolation_level=None)
connection.execute("pragma wal_autocheckpoint = 0")
connection.execute("select * from t").fetchall()
print(flush=True)
for line in sys.stdin:
    connection.execute(line).fetchall()
    print(flush=True)
connection.close()
"""
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        assert self.process.stdout.readline() == "\n"

    def execute(self, statement: str) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{statement}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "\n"

    def close(self) -> None:
        self.process.communicate()
        assert self.process.returncode == 0


def plain_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def whole_hash(path: Path) -> str:
    if has_log(str(path), "-wal"):
        return logged_hash(str(path), "-wal")
    return plain_hash(path)


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_a_log_counts_as_if_it_were_in_the_database(tmp_path: Path, page_size: int) -> None:
    """What SQLite makes of both once it writes the log into the database has the same hash."""
    path = tmp_path / "x.db"
    with sqlite3.connect(path) as connection:
        connection.execute(f"pragma page_size = {page_size}")
        connection.execute("vacuum")
    connection.close()
    connection = connect(path)
    seen = {whole_hash(path)}
    for statement in [
        "insert into t values (zeroblob(9000))",
        "insert into t values (1)",
        "update t set a = 2 where rowid = 2",
        "delete from t where rowid = 1",
        "vacuum",
    ]:
        connection.execute(statement)
        before = whole_hash(path)
        assert before not in seen, statement
        seen.add(before)
        connection.execute("pragma wal_checkpoint(passive)")
        assert whole_hash(path) == before == plain_hash(path), statement
    connection.execute("begin")
    connection.execute("pragma cache_size = 1")
    connection.execute("pragma cache_spill = 1")
    connection.executemany("insert into t values (?)", [(b"x" * 3000,)] * 50)
    assert whole_hash(path) == before  # it is not committed
    connection.execute("rollback")
    assert whole_hash(path) == before
    connection.close()
    assert not has_log(str(path), "-wal")
    assert whole_hash(path) == before


def test_which_files_have_a_log(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    connect(tmp_path / "wal.db").close()
    connect(tmp_path / "delete.db", "delete").close()
    duckdb.connect(str(tmp_path / "x.duckdb")).close()
    (tmp_path / "text").write_text("SQLite")
    found = {p.name: log_suffix(p.read_bytes()[:HEAD]) for p in tmp_path.iterdir()}
    assert found == {"wal.db": "-wal", "delete.db": "", "x.duckdb": ".wal", "text": ""}


def files(run: Run) -> list[FileFact]:
    """What a run has used, but for the folders in which it looked for modules."""
    return [fact for fact in run.record.inputs if fact.role != "imports"]


def test_a_row_that_is_only_in_the_log(project: Project) -> None:
    path = project.root / "x.db"
    connect(path).close()
    project.write("flow", FLOW)
    done = project.run("flow")
    assert [(fact.path, fact.role) for fact in files(done)] == [("x.db", "data")]
    assert done.record.outputs == ()
    assert explain("flow", "a")
    before = path.stat()
    other = Other(path)  # an empty log, and the file that its readers share
    assert has_log(str(path), "-shm")
    assert explain("flow", "a")
    other.execute("insert into t values (1)")
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert str(explain("flow", "a")) == "x.db changed"

    # Run while the other program has it open: what is in the log is what the run has seen.
    done = project.run("flow")
    assert not done.reused
    assert [fact.path for fact in files(done)] == ["x.db"]
    assert done.record.outputs == ()
    assert explain("flow", "a")
    other.execute("pragma wal_checkpoint(passive)")  # the same rows, all in the database now
    assert explain("flow", "a")
    other.close()
    assert not path.with_name("x.db-wal").exists()
    assert explain("flow", "a")
    with sqlite3.connect(path) as connection:
        connection.execute("insert into t values (2)")
    connection.close()
    assert str(explain("flow", "a")) == "x.db changed"


def test_the_log_of_a_program_that_was_killed(project: Project) -> None:
    """The run itself writes it into the database, which is no reason to run again."""
    path = project.root / "x.db"
    connect(path).close()
    code = f"""
import os, sqlite3
connection = sqlite3.connect({str(path)!r}, isolation_level=None)
connection.execute("insert into t values (1)")
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert has_log(str(path), "-wal")
    project.write("flow", FLOW)
    project.run("flow")
    assert not has_log(str(path), "-wal")
    assert explain("flow", "a")


@pytest.mark.parametrize("mode", ["wal", "delete", "truncate", "persist", "memory"])
def test_a_database_of_the_runs_own(project: Project, mode: str) -> None:
    code = f"""
import sqlite3
connection = sqlite3.connect("../../../own.db", isolation_level=None)
connection.execute("pragma journal_mode = {mode}")
connection.execute("create table t (a)")
connection.execute("insert into t values (1)")
"""
    project.write("flow", code)  # it is never closed
    done = project.run("flow")
    assert [fact.path for fact in done.record.outputs] == ["own.db"]
    assert files(done) == []
    assert explain("flow", "a")
    with sqlite3.connect(project.root / "own.db") as connection:
        assert connection.execute("select * from t").fetchall() == [(1,)]
    connection.close()
    assert explain("flow", "a")


def test_duckdb(project: Project) -> None:
    duckdb = pytest.importorskip("duckdb")
    path = project.root / "x.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.sql("create table t as select 1 as a")
    code = """
import duckdb
with duckdb.connect("../../../x.duckdb", read_only=True) as connection:
    print(connection.sql("select count(*) from t").fetchall())
"""
    project.write("flow", code)
    project.run("flow")
    assert explain("flow", "a")
    killed = f"""
import duckdb, os
connection = duckdb.connect({str(path)!r})
connection.sql("insert into t values (2)")
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", killed], check=True)
    assert os.path.getsize(f"{path}.wal")
    assert str(explain("flow", "a")) == "x.duckdb changed"
    done = project.run("flow")
    assert [fact.path for fact in files(done)] == ["x.duckdb"]
    assert explain("flow", "a")
