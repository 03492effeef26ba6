"""Whether an earlier run of an instance can serve in the place of a new one, and if not, why not.

Compares what the earlier run is known to depend on with how that is now. What costs least is looked
at first within each kind, but all kinds are looked at: the reasons are complete.
"""

from __future__ import annotations

import difflib
import os
import platform
import stat
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

import attrs

from ductaflow.ages import age_told, limit_told
from ductaflow.facts import CacheDecision, FileFact, Reason, Role
from ductaflow.fingerprint import (
    code_hash,
    file_hash,
    names_hash,
    same_grammar,
    variable_hash,
)
from ductaflow.hosts import listed
from ductaflow.layout import ArtifactPaths, instance_of, runs_name
from ductaflow.model import InstancePlan, RunOptions, RunRecord, Status
from ductaflow.packages import versions
from ductaflow.plan import options_told
from ductaflow.records import read_config, read_record
from ductaflow.template import leaves

_MISSING = object()
_SHOWN_VALUE = 40  # characters of a config value in a reason


def decide(
    plan: InstancePlan, record: RunRecord | None, environment: Mapping[str, str]
) -> CacheDecision:
    """Whether the run that `record` tells of serves for `plan`.

    Args:
        plan: What is wanted.
        record: What is known of the last run in its folder, or None.
        environment: What a new run would have as environment.
    """
    options = plan.options
    if options.force:
        return CacheDecision(reuse=False, reasons=(Reason("forced", "it is forced to run"),))
    if not options.reuse:
        return CacheDecision(reuse=False, reasons=(Reason("off", "reuse is switched off"),))
    if record is None:
        return CacheDecision(reuse=False, reasons=(Reason("new", "it has not run yet"),))
    if not record.status.ok:
        return CacheDecision(reuse=False, reasons=(Reason("failed", _failed(record)),))
    if not record.observed:
        why = "it is not known what its last run depends on"
        return CacheDecision(reuse=False, reasons=(Reason("unobserved", why),))
    paths = ArtifactPaths.of(plan.directory, plan.flow.name)
    reasons = (
        *_code(plan, record),
        *_config(plan, record, paths),
        *_interpreter(plan, record),
        *_packages(record, options),
        *_variables(record, options, environment),
        *changed_files(record, plan.root, plan.directory),
        *_artifacts(plan, record, paths),
        *_age(plan, record),
    )
    return CacheDecision(reuse=not reasons, reasons=reasons)


ACCEPTABLE = frozenset(
    {"code", "module", "data", "present", "missing", "folder", "python", "package", "variable"}
)
"""Kinds of reasons that a person can declare harmless."""


def renewed(record: RunRecord, plan: InstancePlan, environment: Mapping[str, str]) -> RunRecord:
    """The record as if its run had used what is there now.

    Args:
        record: What is known of the run.
        plan: What is wanted, with the run's own config.
        environment: What a new run would have as environment.
    """
    base = str(plan.root) + os.sep
    return attrs.evolve(
        record,
        fingerprints=plan.fingerprints,
        inputs=tuple(_renewed(fact, base, record) for fact in record.inputs),
        packages=versions(record.packages, _folders(record.package_folders)),
        variables={name: variable_hash(name, environment) for name in record.variables},
        environment={**record.environment, "python": platform.python_version()},
    )


def _renewed(fact: FileFact, base: str, record: RunRecord) -> FileFact:
    path = fact.path if os.path.isabs(fact.path) else base + fact.path
    try:
        if fact.role == Role.FOLDER.value:
            return attrs.evolve(fact, sha256=names_hash(_names(fact, path, record)))
        found = os.stat(path)
        if fact.role == Role.PRESENT.value or not stat.S_ISREG(found.st_mode):
            return FileFact(fact.path, Role.PRESENT.value)
        role = Role.DATA.value if fact.role == Role.MISSING.value else fact.role
        code = code_hash(path, found) if fact.code else ""
        sha256 = file_hash(path, found)
        return FileFact(fact.path, role, found.st_size, found.st_mtime_ns, sha256, code)
    except OSError:
        return FileFact(fact.path, Role.MISSING.value)


def _failed(record: RunRecord) -> str:
    if record.status is Status.RUNNING:
        return "its last run did not come to an end"
    return f"its last run {_ENDS.get(record.status, 'did not succeed')}"


_ENDS = {
    Status.FAILED: "failed",
    Status.TIMED_OUT: "timed out",
    Status.DIED: "ended with the death of its kernel",
    Status.INTERRUPTED: "was interrupted",
}


# --- code and config -----------------------------------------------------------------------------


def _code(plan: InstancePlan, record: RunRecord) -> Iterator[Reason]:
    old, new = record.fingerprints, plan.fingerprints
    if old.get("flow") == new["flow"] or (
        old.get("code") == new["code"] and old.get("python") == new["python"]
    ):
        return
    before = [part.partition(":") for part in old.get("cells", "").split()]
    after = [part.partition(":") for part in new["cells"].split()]
    matcher = difflib.SequenceMatcher(None, [b[2] for b in before], [a[2] for a in after], False)
    for what, i, j, k, m in matcher.get_opcodes():
        if what == "insert":
            yield Reason("code", f"{_cells([a[0] for a in after[k:m]])} added")
        elif what == "delete":
            yield Reason("code", f"{_cells([b[0] for b in before[i:j]])} removed")
        elif what == "replace":
            yield Reason("code", f"{_cells([a[0] for a in after[k:m]])} changed")
    if before == after:
        yield Reason("code", "the flow changed")


def _cells(numbers: list[str]) -> str:
    return f"cell{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"


def _config(plan: InstancePlan, record: RunRecord, paths: ArtifactPaths) -> Iterator[Reason]:
    if record.fingerprints.get("config") == plan.fingerprints.get("config"):
        return
    old = read_config(paths.config)
    if old is None or plan.config is None:
        yield Reason("config", "the config changed")
        return
    before, after = leaves(old), leaves(plan.config)
    for key in dict.fromkeys([*before, *after]):
        was, now = before.get(key, _MISSING), after.get(key, _MISSING)
        if repr(was) != repr(now):  # 1 and 1.0 are not the same, NaN is
            yield Reason("config", f"config: {key} was {_value(was)}, is {_value(now)}")


def _value(value: Any) -> str:
    if value is _MISSING:
        return "not there"
    text = repr(value)
    return text if len(text) <= _SHOWN_VALUE else text[: _SHOWN_VALUE - 1] + "…"


# --- interpreter, packages, environment ----------------------------------------------------------


def _interpreter(plan: InstancePlan, record: RunRecord) -> Iterator[Reason]:
    was, now = record.kernel.get("name", ""), plan.options.kernel_name or ""
    if plan.options.kernel_name is not None and was != now:
        yield Reason("kernel", f"the kernel was {was or 'the conductor’s own'}, is {now}")
    if "python" in plan.options.ignore or record.kernel.get("name"):
        return
    version = record.environment.get("python", "")
    if version and version != platform.python_version():
        yield Reason("python", f"Python was {version}, is {platform.python_version()}")


def _packages(record: RunRecord, options: RunOptions) -> Iterator[Reason]:
    if "package" in options.ignore:
        return
    now = versions(record.packages, _folders(record.package_folders))
    for module, was in record.packages.items():
        if now.get(module) != was and f"package:{module}" not in options.ignore:
            yield Reason("package", f"{module} was {was}, is {now.get(module, 'not installed')}")


@lru_cache(maxsize=64)
def _folders(recorded: tuple[str, ...]) -> tuple[str, ...]:
    """Where packages lie now: the record may come from another machine."""
    if any(os.path.isdir(folder) for folder in recorded):
        # Where the standard library lies there are no packages; Debian's are in dist-packages.
        return tuple(f for f in recorded if f.endswith("-packages")) or recorded
    return tuple(folder for folder in sys.path if folder and os.path.isdir(folder))


def _variables(
    record: RunRecord, options: RunOptions, environment: Mapping[str, str]
) -> Iterator[Reason]:
    if "variable" in options.ignore:
        return
    for name, was in record.variables.items():
        now = variable_hash(name, environment)
        if now != was and f"variable:{name}" not in options.ignore:
            how = "is not set any more" if not now else "is set now" if not was else "changed"
            yield Reason("variable", f"the environment variable {name} {how}")


# --- files ---------------------------------------------------------------------------------------


def changed_files(record: RunRecord, root: Path, directory: Path) -> Iterator[Reason]:
    """What has changed of the files that a run depends on.

    Args:
        record: The run's record.
        root: The project root.
        directory: The run's folder.
    """
    base = str(root) + os.sep
    for fact in record.inputs:
        path = fact.path if os.path.isabs(fact.path) else base + fact.path
        word = _CHECKS[fact.role](fact, path, record)
        if word:
            name, origin = _shown(fact.path, root, directory)
            yield Reason(fact.role, f"{name} {word}{origin}", fact.path)


def _check_data(fact: FileFact, path: str, _: RunRecord) -> str:
    try:
        found = os.stat(path)
        if found.st_size == fact.size and found.st_mtime_ns == fact.mtime_ns and fact.sha256:
            return ""
        if fact.sha256 and file_hash(path, found) == fact.sha256:
            return ""
    except OSError:
        return "is gone"
    return "changed" if fact.sha256 else "changed while its last run read it"


def _check_module(fact: FileFact, path: str, record: RunRecord) -> str:
    word = _check_data(fact, path, record)
    if (
        word == "changed"
        and same_grammar(fact.code)
        and code_hash(path, os.stat(path)) == fact.code
    ):
        return ""
    return word


def _check_present(_: FileFact, path: str, __: RunRecord) -> str:
    return "" if os.path.lexists(path) else "is gone"


def _check_missing(_: FileFact, path: str, __: RunRecord) -> str:
    return "is there now" if os.path.lexists(path) else ""


def _check_folder(fact: FileFact, path: str, record: RunRecord) -> str:
    try:
        names = _names(fact, path, record)
    except OSError:
        return "is gone"
    return "" if names_hash(names) == fact.sha256 else "has other files in it"


def _names(fact: FileFact, path: str, record: RunRecord) -> set[str]:
    """The names in a folder, but for what the run has put there itself."""
    begin = fact.path + "/"
    own = (out.path for out in record.outputs if out.path.startswith(begin))
    return set(os.listdir(path)) - {path[len(begin) :].split("/")[0] for path in own}


_CHECKS = {
    Role.DATA.value: _check_data,
    Role.MODULE.value: _check_module,
    Role.PRESENT.value: _check_present,
    Role.MISSING.value: _check_missing,
    Role.FOLDER.value: _check_folder,
}


def _shown(path: str, root: Path, directory: Path) -> tuple[str, str]:
    """A file as the flow's author knows it, and the run that it comes from."""
    origin = instance_of(path, runs_name(root))
    if origin is None:
        return path, ""
    relative = os.path.relpath(root / path, directory).replace(os.sep, "/")
    made = read_record(root / origin.folder / "run.json")
    when = _clock(made.finished) if made is not None and made.finished else ""
    return relative, f" (from {origin.label}{when})"


def _clock(iso: str) -> str:
    try:
        then = datetime.fromisoformat(iso).astimezone()
    except ValueError:
        return ""
    today = then.date() == datetime.now(then.tzinfo).date()
    return f", run {then:%H:%M}" if today else f", run {then:%Y-%m-%d %H:%M}"


def _age(plan: InstancePlan, record: RunRecord) -> Iterator[Reason]:
    """What other hosts would answer now cannot be known: it may be too long ago that they did."""
    limit = plan.options.max_age
    if limit is None or not record.hosts:
        return
    age = (datetime.now(timezone.utc) - datetime.fromisoformat(record.started)).total_seconds()
    if age >= limit:
        hosts = listed(record.hosts)
        why = f"it is {age_told(age)} old, max_age is {limit_told(limit)}, and it read from {hosts}"
        yield Reason("age", why)


@lru_cache(maxsize=64)
def _looks(options: RunOptions) -> Any:
    """How a report is to look, as a record has it; None as by default."""
    return options_told(options).get("html")


def _artifacts(plan: InstancePlan, record: RunRecord, paths: ArtifactPaths) -> Iterator[Reason]:
    folder = paths.folder + os.sep
    if not os.path.exists(f"{folder}{paths.flow}.ipynb"):
        yield Reason("report", f"{paths.flow}.ipynb is gone")
    if plan.options.html and _looks(plan.options) != record.options.get("html"):
        yield Reason("report", "the report is to look otherwise")
    elif plan.options.html and not os.path.exists(f"{folder}{paths.flow}.html"):
        yield Reason("report", f"{paths.flow}.html is not there")
    base = str(plan.root) + os.sep
    for fact in record.outputs:
        path = base + fact.path
        if path.startswith(folder) and not os.path.exists(path):
            yield Reason("output", f"{Path(fact.path).name} is gone", fact.path)
