"""From a control table to tasks: which instances there are, what each is called, what it gets."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, final

import attrs

from ductaflow.errors import ConfigError, NameRefused, TableError
from ductaflow.files import jsonio
from ductaflow.model.flows import Flow
from ductaflow.model.plans import Config
from ductaflow.plans.config import is_run, normalise
from ductaflow.plans.notes import loops_over_config, mentioned
from ductaflow.plans.parameters import read_defaults
from ductaflow.project.names import check_name
from ductaflow.secrets.references import of_cell
from ductaflow.tables.table import Row, Table, is_empty
from ductaflow.tables.template import EMPTY, fields, fill, leaves, lookup
from ductaflow.text.nearest import nearest

NameSpec: TypeAlias = str | Callable[[Row], str] | None
ConfigSpec: TypeAlias = (
    Sequence[str] | Mapping[str, Any] | Callable[[Row], Mapping[str, Any]] | None
)
OnlySpec: TypeAlias = str | Sequence[str] | Callable[[Row], bool] | None

TargetSpec: TypeAlias = Callable[[str, Row], str] | None

NAME_COLUMNS = ("instance_name", "instance")
_MOST_KEYS = 6  # of a config that makes a name by itself
_LONGEST = 100  # bytes of a name made here
_RUN = re.compile(r"\.\./\.\./[^/]+/[^/]+")  # the folder of a run, as configs name it
_UNFIT = re.compile(r"[^\w.+ -]+")


@final
@attrs.frozen
class Task:
    """One row of the table, as an instance.

    Attributes:
        number: The row's position, from 0.
        instance: The instance's name.
        config: What is given of its config, normalised.
        target: Where it is delivered, or None.
    """

    number: int
    instance: str
    config: Config
    target: str | None = None


@final
@attrs.frozen
class Tasks:
    """The tasks that a table asks for, in its order.

    Attributes:
        table: The control table.
        instance: What names the instances; see `sweep`, as for the rest.
        config: What the flow gets of a row.
        only: Which rows.
        limit: How many at most.
        target: From a name and its row to where it is delivered.
        left_out: Columns that are in no config by themselves.
        folder: Where the instances' folders lie.
        names: The name of each row that is asked for, by its position; None for a generator, whose
            rows are not known yet.
        every: The names of all rows, asked for or not; None likewise.
    """

    table: Table
    instance: NameSpec
    config: ConfigSpec
    only: OnlySpec
    limit: int | None
    target: TargetSpec
    left_out: frozenset[str] = frozenset()
    folder: Path | None = None
    names: Mapping[int, str] | None = None
    every: tuple[str, ...] | None = None

    def __iter__(self) -> Iterator[Task]:
        seen: dict[str, int] = {}
        targets: dict[str, int] = {}
        done = 0
        if self.limit == 0:
            return
        for number, row in enumerate(self.table.rows()):
            if self.names is None:
                name = _name_of(self, number, row)
                if not _asked_for(self.only, name, row):
                    continue
                _check_unique(seen, name, number)
            elif number in self.names:
                name = self.names[number]
            else:
                continue
            config = _config_of(self, number, name, row)
            yield Task(number, name, config, _target_of(self, number, name, row, targets))
            done += 1
            if done == (len(self.names) if self.names is not None else self.limit):
                return

    @property
    def count(self) -> int | None:
        """How many there are; None if that is not known."""
        return None if self.names is None else len(self.names)


def plan_tasks(
    table: Table,
    *,
    instance: NameSpec = None,
    config: ConfigSpec = None,
    only: OnlySpec = None,
    limit: int | None = None,
    target: TargetSpec = None,
    flow: Flow | None = None,
    folder: Path | None = None,
) -> Tasks:
    """The tasks of a table, each looked at before the first is begun.

    Args:
        table: The control table. Of a generator nothing is looked at.
        instance: See `sweep`, as for the rest.
        config: What the flow gets of a row.
        only: Which rows.
        limit: How many at most.
        target: From a name and its row to where it is delivered.
        flow: The flow that gets the configs.
        folder: Where the instances' folders lie.

    Raises:
        TableError: A column is missing, a name or a target is not unique, or no row is asked for.
        NameRefused: A name is not a valid folder name.
        ConfigError: A config contains a value that JSON cannot represent.
    """
    left_out = naming_columns(instance, flow) if flow is not None else frozenset()
    tasks = Tasks(table, instance, config, only, limit, target, left_out=left_out, folder=folder)
    if table.length is None:
        return tasks
    names: dict[int, str] = {}
    every: list[str] = []
    seen: dict[str, int] = {}
    targets: dict[str, int] = {}
    for number, row in enumerate(table.rows()):
        name = _name_of(tasks, number, row)
        _check_unique(seen, name, number)
        every.append(name)
        if limit is not None and len(names) >= limit:
            continue
        if _asked_for(only, name, row):
            _config_of(tasks, number, name, row)
            _target_of(tasks, number, name, row, targets)
            names[number] = name
    _check_only(only, every)
    if not names and limit != 0:
        raise TableError(f"only= selects none of the {len(seen)} instances")
    return attrs.evolve(tasks, names=names, every=tuple(every))


# --- names --------------------------------------------------------------------------------------


def _name_of(tasks: Tasks, number: int, row: Row) -> str:
    given = tasks.instance
    if given is None:
        name: object = _own_name(tasks, number, row)
    elif callable(given):
        name = _called(given, "instance", number, row)
    elif "{" in given:
        fields(given, "instance")
        name = fill(given, row, "instance")
    else:
        name = _column(given, row, "instance")
    if not isinstance(name, str) and not callable(given) and str(name) in EMPTY:
        raise NameRefused(
            f"row {number} of the control table has an empty cell where its instance's name stands"
        )
    number_like = isinstance(name, (int, float)) or type(name).__module__ == "numpy"
    if number_like and not isinstance(name, bool):
        name = str(name)  # a column of years or ids
    try:
        return check_name(name, "instance")
    except NameRefused as e:
        raise NameRefused(f"row {number} of the control table: {e}") from None


def _own_name(tasks: Tasks, number: int, row: Row) -> object:
    """A name that the table gives by itself."""
    for column in NAME_COLUMNS:
        if column in row:
            return row[column]
    named_by = tasks.table.named_by
    if len(named_by) == 1 and tasks.table.columns is not None:
        return row[named_by[0][0]]  # the data frame's index
    if named_by:
        keys = [".".join(path) for path in named_by]
        found = leaves(row)
        values = {key: found[key] for key in keys if key in found}
    else:
        values = leaves(_config_of(tasks, number, "", row))
        if len(values) > _MOST_KEYS:
            raise TableError(
                "say what names the instances: instance= takes a column, a format string or a "
                f"function of the row; a column {NAME_COLUMNS[0]!r} would be taken by itself. "
                f"The table has {', '.join(map(str, list(row)[:20]))}"
            )
    return name_from(values)


def name_from(values: Mapping[str, Any]) -> str:
    """A readable name made of values, as `seed=3,mode=fast`.

    Keys are cut to their last part where that is clear. Where values had to be shortened, a hash of
    all of them follows, so that names are as different as the values.
    """
    clean = normalise({k: v.instance if is_run(v) else v for k, v in values.items()})
    short = [key.rpartition(".")[2] for key in clean]
    parts, exact = [], True
    for key, last in zip(clean, short, strict=True):
        text = _label(clean[key])
        fit = _UNFIT.sub("-", text)
        exact = exact and fit == text and not _misleading(clean[key])
        parts.append(f"{_UNFIT.sub('-', last if short.count(last) == 1 else key)}={fit}")
    name = ",".join(parts) or "all"
    if not exact or len(name.encode()) > _LONGEST or name != name.strip(" ."):
        digest = hashlib.blake2b(jsonio.canonical(clean).encode(), digest_size=4).hexdigest()
        cut = name.encode()[: _LONGEST - 9].decode(errors="ignore").strip(" .")
        name = f"{cut}~{digest}"
    return name


def _misleading(value: Any) -> bool:
    """Whether a text reads like what is none."""
    return isinstance(value, str) and value.casefold() in ("none", "true", "false")


def _label(value: Any) -> str:
    if isinstance(value, str):
        return value.rpartition("/")[2] if _RUN.fullmatch(value) else value
    if isinstance(value, list) and all(isinstance(v, (int, float, str)) for v in value):
        return "+".join(map(str, value))
    return "none" if value is None else str(value)


def _check_unique(seen: dict[str, int], name: str, number: int) -> None:
    key = name.casefold()
    if key in seen:
        raise TableError(
            f"rows {seen[key]} and {number} of the control table are both named {name!r}"
            " (upper and lower case are one folder on some systems); each instance needs a name of "
            "its own: see instance="
        )
    seen[key] = number


def _target_of(tasks: Tasks, number: int, name: str, row: Row, seen: dict[str, int]) -> str | None:
    """Where a row is delivered: no two to one folder, where each would take away the other's."""
    if tasks.target is None:
        return None
    target = tasks.target(name, row)
    first = seen.setdefault(target.rstrip("/").casefold(), number)
    if first != number:
        raise TableError(
            f"rows {first} and {number} of the control table would both be delivered to {target}; "
            "give each a folder of its own, with {instance} in export_to"
        )
    return target


def _check_only(only: OnlySpec, names: Sequence[str]) -> None:
    """Make sure that each name or glob that is asked for is there."""
    if only is None or callable(only):
        return
    for pattern in [only] if isinstance(only, str) else only:
        if not any(map(_matcher(pattern), names)):
            raise TableError(
                f"only={pattern!r} matches none of {len(names)} instances; "
                f"{nearest(pattern, names)}"
            )


def _matcher(pattern: str) -> Callable[[str], bool]:
    return lambda name: name == pattern or fnmatch.fnmatchcase(name, pattern)


def _asked_for(only: OnlySpec, name: str, row: Row) -> bool:
    if only is None:
        return True
    if callable(only):
        return bool(only(row))
    patterns = [only] if isinstance(only, str) else only
    return any(_matcher(pattern)(name) for pattern in patterns)


# --- configs ------------------------------------------------------------------------------------


def _config_of(tasks: Tasks, number: int, name: str, row: Row) -> Config:
    given = tasks.config
    if given is None:
        raw: Mapping[str, Any] = _filled(
            columns_for(row, tasks.instance, tasks.left_out), tasks.table
        )
    elif callable(given):
        raw = _called(given, "config", number, row)
    elif isinstance(given, Mapping):
        raw = {key: _computed(value, number, row) for key, value in given.items()}
    else:
        raw = _filled(selected_columns(row, given), tasks.table)
    try:
        folder = tasks.folder / (name or "its-own") if tasks.folder is not None else None
        if tasks.table.columns is not None and not callable(given):  # its cells hold no dicts
            raw = {key: _secret_in(key, value) for key, value in raw.items()}
        return normalise(_nested(raw), folder)
    except ConfigError as e:
        where = f"row {number} of the control table" + (f" ({name})" if name else "")
        raise ConfigError(f"{where}: {e}") from None


def _secret_in(key: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return of_cell(value)
    except ConfigError as e:
        raise ConfigError(f"the config's key `{key}`: {e}") from None


def naming_columns(instance: NameSpec, flow: Flow) -> frozenset[str]:
    """The columns that name instances and are no business of their flow.

    A flow whose default has such a column, or whose code says it, gets it; so does one that uses
    its config as a whole, if names are made of more than the column alone.

    Args:
        instance: What names the instances; see `sweep`.
        flow: The flow.
    """
    if instance is None or callable(instance):
        return frozenset()
    named = fields(instance, "instance") if "{" in instance else (instance,)
    alone = len(named) == 1 and instance in (named[0], f"{{{named[0]}}}")
    if not alone and loops_over_config(flow):
        return frozenset()
    default = read_defaults(flow).names
    return frozenset(
        name
        for name in named
        # A dotted one makes a nested key, and so is no mere name.
        if "." not in name and name not in default and not mentioned(flow, name)
    )


def columns_for(row: Row, instance: NameSpec, left_out: Collection[str]) -> dict[str, Any]:
    """What of a row goes into its config, if nobody says otherwise.

    Args:
        row: The row.
        instance: What names the instances.
        left_out: As `naming_columns` gives them.
    """
    own = next((c for c in NAME_COLUMNS if c in row), None) if instance is None else None
    return {key: value for key, value in row.items() if key != own and key not in left_out}


def _filled(row: Row, table: Table) -> dict[str, Any]:
    """A row without its empty cells, where these say nothing."""
    return {k: v for k, v in row.items() if not (table.sparse and is_empty(v))}


def _computed(value: Any, number: int, row: Row) -> Any:
    if isinstance(value, str):
        return _column(value, row, "config")
    return _called(value, "config", number, row) if callable(value) else value


def selected_columns(row: Row, columns: Sequence[str]) -> dict[str, Any]:
    """Some columns of a row, and those below dotted prefixes.

    Raises:
        TableError: There is no such column.
    """
    found: dict[str, Any] = {}
    for column in columns:
        found.update(_selected(column, row))
    return found


def _selected(column: str, row: Row) -> dict[str, Any]:
    """A column, or all those below a dotted prefix."""
    below = {key: value for key, value in row.items() if key.startswith(f"{column}.")}
    return below if below and column not in row else {column: _column(column, row, "config")}


def _column(name: str, row: Row, what: str) -> Any:
    try:
        return lookup(row, name)
    except KeyError:
        raise TableError(
            f"{what}: the control table has no column {name!r}; {nearest(name, leaves(row))}"
        ) from None


def _called(function: Callable[[Row], Any], what: str, number: int, row: Row) -> Any:
    try:
        return function(row)
    except Exception as e:
        raise TableError(
            f"the function given as {what}= failed on row {number} of the control table: "
            f"{type(e).__name__}: {e}"
        ) from e


def _nested(flat: Mapping[str, Any]) -> Mapping[str, Any]:
    """Dotted keys as nested dicts."""
    if not isinstance(flat, Mapping) or not any("." in str(key) for key in flat):
        return flat
    result: dict[str, Any] = {}
    for key, value in flat.items():
        parts = str(key).split(".")
        if not all(parts):
            parts = [str(key)]
        inner = result
        for part in parts[:-1]:
            below = inner.setdefault(part, {})
            if not isinstance(below, dict):
                below = dict(below) if isinstance(below, Mapping) else None
            if below is None:
                raise TableError(
                    f"the columns {part!r} and {key!r} cannot both be in a config: one is a value, "
                    "the other lies below it"
                )
            inner[part] = below
            inner = below
        if isinstance(inner.get(parts[-1]), dict):
            if not isinstance(value, Mapping):
                raise TableError(
                    f"the column {key!r} is a value, and others lie below it; rename one of them"
                )
            value = {**value, **inner[parts[-1]]}
        inner[parts[-1]] = value
    return result
