"""`ductaflow ls`: list runs, all or those that meet conditions."""

from __future__ import annotations

import fnmatch
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from ductaflow.cli import options
from ductaflow.cli.output import dump, on_terminal, run_facts, table, width

if TYPE_CHECKING:
    from ductaflow.history.run import Run

_WIDE = 100  # columns of a terminal that has room for a date with its year and seconds
_Condition: TypeAlias = tuple[str, Callable[[Mapping[str, Any]], bool]]
_CONDITION = re.compile(r"\s*(?P<key>[^\s=!<>~]+)\s*(?P<op>!=|<=|>=|==|=|<|>|~)\s*(?P<value>.*)")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "==": operator.eq, "!=": operator.ne,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


@click.command("ls")
@click.argument("step", required=False)
@click.option(
    "--where",
    multiple=True,
    metavar="CONDITION",
    help="As 'status=failed', 'duration>10', 'tank.size<=2', 'instance~2024*'; all must hold. A "
    "key is one of the run, of its metrics, or of its config; one that no run has is an error.",
)
@options.root_option
@options.json_option
def command(step: str | None, where: tuple[str, ...], root: str | None, as_json: bool) -> None:
    """List the runs of all steps, or of STEP."""
    from ductaflow.history.standing import standing_runs
    from ductaflow.project.lasttable import NOT_IN_TABLE, read_last_table
    from ductaflow.project.root import project_root
    from ductaflow.text.times import local_time

    conditions = [_condition(text) for text in where]
    project = project_root(root)
    runs = list(standing_runs(project, step))

    tables = {name: read_last_table(project, name) for name in {run.step for run in runs}}

    def left(run: Run) -> bool:
        return tables[run.step].has_left(run.instance, run.known.started)

    if conditions:
        runs = _chosen(runs, conditions)
    if as_json:
        dump([{**run_facts(run), "not_in_last_table": left(run)} for run in runs])
        return
    narrow = on_terminal() and width() < _WIDE
    shown = slice(5, 16) if narrow else slice(0, 19)  # from the month to the minute, or all
    rows = [
        {
            "step": run.step,
            "instance": run.instance,
            "status": run.status,
            "seconds": run.duration,
            "started": local_time(run.known.started)[shown],
            "error": f"{error.type}: {error.message}"[:80] if error else None,
            "note": NOT_IN_TABLE if left(run) else None,
        }
        for run in runs
        for error in [run.brief.error]
    ]
    columns = ["step", "instance", "status", "seconds", "started", "error"]
    columns += ["note"] if any(row["note"] for row in rows) else []
    table(columns, rows, names=("step", "instance"), texts=("error", "note"))


def _chosen(runs: list[Run], conditions: Sequence[_Condition]) -> list[Run]:
    """The runs for which all conditions hold.

    Raises:
        click.UsageError: A condition's key is one that no run has.
    """
    from ductaflow.text.nearest import nearest

    values = [_values(run) for run in runs]
    known = dict.fromkeys(key for one in values for key in one)
    for key, _ in conditions:
        if known and key not in known:
            raise click.UsageError(f"--where: no run has {key!r}; {nearest(key, known)}")
    return [
        run
        for run, one in zip(runs, values, strict=True)
        if all(holds(one) for _, holds in conditions)
    ]


def _values(run: Run) -> dict[str, Any]:
    """What conditions may ask for, by key."""
    from ductaflow.errors import ArtifactError
    from ductaflow.plans.variables import flatten
    from ductaflow.tables.template import leaves

    try:
        config = run.config or {}
    except ArtifactError:
        config = {}
    record = run.brief
    own = {
        "step": run.step,
        "instance": run.instance,
        "status": run.status.value,
        "started": record.started,
        "duration": run.duration,
        "flow": record.flow,
        "error": "" if record.error is None else record.error.type,
    }
    return {**flatten(config), **leaves(config), **record.metrics, **own}


def _condition(text: str) -> _Condition:
    """A condition's key, and whether it holds for the values of a run."""
    from ductaflow.plans.values import parse_value

    match = _CONDITION.fullmatch(text)
    if match is None:
        raise click.UsageError(
            f"--where {text!r} is no condition; write KEY, one of = != < <= > >= ~, and a value"
        )
    key, op = match["key"], match["op"]
    value = match["value"].strip() if op == "~" else parse_value(match["value"], f"--where {key}")

    def holds(values: Mapping[str, Any]) -> bool:
        if key not in values:
            return False
        found = values[key]
        if op == "~":
            return fnmatch.fnmatchcase(str(found), value)
        if key in ("step", "instance", "status", "flow", "error", "started"):
            return _COMPARE[op](str(found), match["value"].strip().strip("'\""))
        try:
            return _COMPARE[op](found, value)
        except TypeError:  # a number and a word have no order
            return False

    return key, holds
