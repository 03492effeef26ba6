"""Records of runs as they are read back: those that somebody has damaged count as none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Project

from ductaflow import collate, explain, get_all_instances, runs_table, sweep
from ductaflow.history.recordfile import DamagedRecord, load_record, read_record, write_record
from ductaflow.model.facts import FileFact, Reason
from ductaflow.model.plans import Note
from ductaflow.model.records import CellRecord, ErrorInfo, RunRecord, Status

WHOLE = RunRecord(
    status=Status.FAILED,
    flow="flow/f.py",
    step="f",
    instance="a",
    started="2026-01-01T00:00:00+00:00",
    finished="2026-01-01T00:00:01+00:00",
    duration=1.0,
    cells=(CellRecord(1, 1, "ok", None, None, 0.5),),
    error=ErrorInfo("cell", "ValueError", "no", 1, 2, ("a", "b")),
    notes=(Note("shadow", "hm", "key"),),
    reasons=(Reason("new", "it has not run yet"),),
    fingerprints={"flow": "f", "code": "c", "cells": "1:c", "python": "3.11", "config": "g"},
    observed="native",
    inputs=(FileFact("inputs/x.csv", size=1, mtime_ns=2, sha256="3"),),
    outputs=(FileFact("runs/f/a/y.csv", size=1, mtime_ns=2),),
    packages={"numpy": "2.0"},
    package_folders=("/site-packages",),
    variables={"RATE": "5"},
    options={"timeout": 5},
    conductor={"pid": 1},
    kernel={"name": ""},
    environment={"python": "3.11"},
    peak_memory=1,
    metrics={"loss": 0.5},
    warnings=1,
)
BAD: list[Any] = [
    3,
    "x",
    None,
    True,
    [],
    {},
    [3],
    [None],
    {"a": None},
    [{}],
    [[[]]],
    1.5,
    {"a": {}},
]


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    write_record(tmp_path / "run.json", WHOLE)
    assert read_record(tmp_path / "run.json") == WHOLE


def test_a_value_of_another_type_makes_it_no_record(tmp_path: Path) -> None:
    """Whatever is read back is what the class says: nothing downstream has to check it again."""
    file = tmp_path / "run.json"
    data = json.loads(json.dumps(WHOLE.to_json()))
    for name in data:
        if name == "schema":
            continue
        for bad in BAD:
            file.write_text(json.dumps({**data, name: bad}))
            try:
                record, _ = load_record(file)
            except DamagedRecord:
                continue
            assert record == RunRecord.from_json(json.loads(json.dumps(record.to_json())))
            value = getattr(record, name)
            assert value is None or isinstance(value, (type(getattr(WHOLE, name)), type(bad)))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Expecting value"),
        ("[" * 200_000, "nested too deeply"),
        ("[]", "RunRecord must be an object"),
        ("{}", "'status' is missing"),
        (b"\xff\xfe\x00", "utf"),
        (json.dumps({**WHOLE.to_json(), "fingerprints": 3}), "fingerprints must be an object"),
        (json.dumps({**WHOLE.to_json(), "flow": None}), "flow must be a string, not None"),
        (json.dumps({**WHOLE.to_json(), "inputs": [{"path": "x", "role": "?"}]}), "'?'"),
    ],
    ids=["empty", "brackets", "list", "nothing", "bytes", "fingerprints", "flow", "role"],
)
def test_one_damaged_record_is_named_and_harms_no_other_run(
    text: str | bytes, why: str, project: Project
) -> None:
    project.write("f", "print(x)", parameters="config = {'x': 0}")
    table = [{"instance": name, "x": i} for i, name in enumerate("abc")]
    assert len(sweep("f", table).ok) == 3
    file = project.root / "runs" / "f" / "b" / "run.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    decision = explain("f", "b", {"x": 1})
    assert not decision.reuse
    assert "run.json does not count" in str(decision)
    assert why in str(decision)
    assert [run.instance for run in get_all_instances("f")] == ["a", "c"]
    assert list(runs_table(step="f")["instance"]) == ["a", "c"]
    collate("f")
    again = sweep("f", table)
    assert [run.reused for run in again] == [True, False, True]
    assert len(again.ok) == 3
