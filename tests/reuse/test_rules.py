"""What ductaflow does to a run counts: by the version of its rules, not by its own."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from pathlib import Path

from conftest import Project
from ductaflow_kernels.session.messages import Message

from ductaflow import Run, accept, explain, sweep, update
from ductaflow.documents.outputs import Limits, OutputFolder
from ductaflow.model.rules import RULES, RULES_TOLD, changed_rules
from ductaflow.plans.cells import config_source
from ductaflow.plans.config import normalise
from ductaflow.plans.languages import TRANSLATORS
from ductaflow.plans.literal import to_python
from ductaflow.plans.variables import flatten_source

VALUES = {
    "name": "a 'b' \"c\" \\ \n é",
    "number": 1,
    "part": 1.5,
    "none": None,
    "yes": True,
    "when": date(2024, 2, 29),
    "where": Path("a/b"),
    "items": [1, "x", None, [2.5, False]],
    "nested": {"number": 2, "depth": {"k": 1}, "not an identifier": 0, "class": 1},
    "empty": {},
    "print": "a builtin",
    "config": "a name of ours",
}
NOT_FINITE = {"nan": float("nan"), "inf": float("inf"), "minus": float("-inf")}
MANY = {f"key{n}": n for n in range(300)}

MADE = {
    "config": {1: "fc56abcd290cabfb"},
    "outputs": {1: "3bb6ae4f6a15b7a4"},
}
"""For each version of the rules a hash of what comes of them. That of a version never changes:
where it does, raise the version in `rules` and add a line here, or undo the change."""


def digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]


def test_what_is_injected_is_that_of_its_version() -> None:
    made: list[str] = []
    for values in (VALUES, NOT_FINITE, MANY, {}):
        config = normalise(values)
        made += [to_python(config), config_source(config), flatten_source(config)]
    for language, translator in sorted(TRANSLATORS.items()):
        config = normalise(VALUES)
        made += [language, translator.config_source(config), translator.flatten_source(config)]
    assert MADE["config"][RULES["config"][0]] == digest(*made)


def message(kind: str, **content: object) -> Message:
    return Message("iopub", kind, "cell", "2026-01-01T00:00:00Z", content)


def test_what_is_kept_of_outputs_is_that_of_its_version() -> None:
    folder = OutputFolder(Limits(text=400, outputs=6, log="x.log"))
    data = {"text/plain": "1", "text/html": "<b>1</b>"}
    sent = [
        message("stream", name="stdout", text="one\ntwo\rTWO\x1b[31mred\x1b[0m"),
        message("stream", name="stderr", text="err\n"),
        message("display_data", data=data, metadata={}, transient={"display_id": "d"}),
        message("update_display_data", data=data, metadata={}, transient={"display_id": "d"}),
        message("execute_result", data=data, metadata={}, execution_count=3),
        message("error", ename="E", evalue="v", traceback=["a", "b"]),
        message("stream", name="stdout", text="long line\n" * 200),
        message("clear_output", wait=True),
        message("stream", name="stdout", text="after\x08\x08\n"),
        *(message("display_data", data=data, metadata={}) for _ in range(12)),
    ]  # fmt: skip
    kept = []
    for each in sent:
        folder.apply(0, each)
        kept.append(list(folder.outputs(0)))
    assert MADE["outputs"][RULES["outputs"][0]] == digest(kept)


def test_rules_in_words() -> None:
    assert changed_rules(RULES_TOLD) == []
    assert changed_rules("") == [what for _, what in RULES.values()]
    older = RULES_TOLD.replace(f"config:{RULES['config'][0]}", "config:0")
    assert changed_rules(older) == [RULES["config"][1]]
    assert changed_rules(f"{RULES_TOLD} new:7") == ["'new', which this version does not know"]


# --- on runs -------------------------------------------------------------------------------------


def rewrite(run: Run, rules: str | None) -> None:
    """Let a run's record be one of other rules, or of before there were any."""
    data = json.loads(run.paths.record.read_text())
    del data["fingerprints"]["rules"]
    if rules is not None:
        data["fingerprints"]["rules"] = rules
    run.paths.record.write_text(json.dumps(data))


OLDER = RULES_TOLD.replace(f"config:{RULES['config'][0]}", "config:0")
WORDS = "ductaflow has changed how a config is made into variables of the flow"


def test_other_rules_run_again_once(project: Project) -> None:
    project.write("flow", "print(1)")
    run = project.run("flow")
    rewrite(run, OLDER)
    decision = explain("flow", "a", {})
    assert [(r.kind, r.message) for r in decision.reasons] == [("rules", WORDS)]
    assert [r.kind for r in update(dry_run=True)[0].reasons] == ["rules"]
    again = project.run("flow")
    assert again.reasons == decision.reasons
    assert project.run("flow").reused


def test_a_record_without_rules_runs_once_more(project: Project) -> None:
    project.write("flow", "print(1)")
    rewrite(project.run("flow"), None)
    runs = sweep("flow", [{"instance": "a"}], progress=False)
    assert [str(r) for r in runs[0].reasons] == [
        "it ran with an older ductaflow, which did not note its rules"
    ]
    assert sweep("flow", [{"instance": "a"}], progress=False)[0].reused


def test_other_rules_can_be_accepted(project: Project) -> None:
    project.write("flow", "print(1)")
    rewrite(project.run("flow"), OLDER)
    assert WORDS in accept("flow", "a").notes[-1].message
    assert project.run("flow").reused


def test_another_version_of_ductaflow_alone_reruns_nothing(project: Project) -> None:
    project.write("flow", "print(1)")
    run = project.run("flow")
    data = json.loads(run.paths.record.read_text())
    data["environment"]["ductaflow"] = "0.0.1"
    run.paths.record.write_text(json.dumps(data))
    assert project.run("flow").reused
