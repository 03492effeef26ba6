"""Whether an earlier run of an instance can be reused, and if not, why not.

Compares what the earlier run is known to depend on with how that is now. What costs least is looked
at first within each kind, but all kinds are looked at: the reasons are complete.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

import attrs

from ductaflow.files.compression import SUFFIX
from ductaflow.files.databases import has_log
from ductaflow.files.hashes import keep_in
from ductaflow.files.links import ROOT, lead, portable, retargeted
from ductaflow.files.mounts import silent
from ductaflow.history.recordfile import read_config, read_record
from ductaflow.model.ages import format_age, format_limit
from ductaflow.model.facts import CacheDecision, FileFact, Interpreter, Reason, Role, own_names
from ductaflow.model.kinds import ReasonKind
from ductaflow.model.options import RunOptions
from ductaflow.model.records import RunRecord, Status
from ductaflow.model.rules import changed_rules
from ductaflow.plans.fingerprint import (
    code_hash,
    content_of,
    file_fact,
    listing_hash,
    names_hash,
    same_grammar,
)
from ductaflow.plans.options import options_summary
from ductaflow.plans.plan import InstancePlan
from ductaflow.project.artifacts import ARTIFACTS
from ductaflow.project.layout import ArtifactPaths, instance_of, record_in, runs_name
from ductaflow.reuse import importables
from ductaflow.reuse.environment import OTHER_KEY, answers, differences
from ductaflow.reuse.hosts import listed
from ductaflow.reuse.moves import paths_left
from ductaflow.reuse.packages import is_question, versions
from ductaflow.secrets.machinekey import same_key
from ductaflow.secrets.references import shown
from ductaflow.tables.template import leaves

_MISSING = object()
_SHOWN_VALUE = 40  # characters of a config value in a reason


def decide(
    plan: InstancePlan,
    record: RunRecord | None,
    environment: Mapping[str, str],
    interpreter: Interpreter,
) -> CacheDecision:
    """Whether the run that `record` tells of can be reused for `plan`.

    Args:
        plan: What is wanted.
        record: What is known of the last run in its folder, or None.
        environment: What a new run would have as environment.
        interpreter: And the interpreter that would run it.
    """
    options = plan.options
    if options.force:
        return CacheDecision(
            reuse=False, reasons=(Reason(ReasonKind.FORCED, "it is forced to run"),)
        )
    if not options.reuse:
        return CacheDecision(
            reuse=False, reasons=(Reason(ReasonKind.OFF, "reuse is switched off"),)
        )
    if record is None:
        return CacheDecision(reuse=False, reasons=(Reason(ReasonKind.NEW, "it has not run yet"),))
    if not record.status.ok:
        return CacheDecision(reuse=False, reasons=(Reason(ReasonKind.FAILED, _failed(record)),))
    if not record.observed:
        why = "it is not known what its last run depends on"
        known = [note.kind.hides for note in record.notes if note.kind.hides]
        reason = Reason(ReasonKind.UNOBSERVED, f"{why}, for {known[0]}" if known else why)
        return CacheDecision(reuse=False, reasons=(reason,))
    paths = paths_left(plan, record)
    told = silent(os.path.join(plan.root, f.path) for f in (*record.inputs, *record.outputs))
    if told:
        why = f"it is not known what has changed: {told}"
        return CacheDecision(reuse=False, reasons=(Reason(ReasonKind.SILENT, why),))
    reasons = (
        *_rules(plan, record),
        *_code(plan, record),
        *_config(plan, record, paths),
        *_secrets(plan, record),
        *_interpreter(plan, record, interpreter),
        *_packages(record, options, interpreter),
        *_variables(record, options, environment),
        *changed_files(record, plan.root, plan.directory),
        *_artifacts(plan, record, paths),
        *_age(plan, record),
    )
    return CacheDecision(reuse=not reasons, reasons=reasons)


def renewed(
    record: RunRecord, plan: InstancePlan, environment: Mapping[str, str], interpreter: Interpreter
) -> RunRecord:
    """The record as if its run had used what is there now.

    Args:
        record: What is known of the run.
        plan: What is wanted, with the run's own config.
        environment: What a new run would have as environment.
        interpreter: And the interpreter that would run it.
    """
    return attrs.evolve(
        record,
        # What its notebook shows is what has run.
        fingerprints={**plan.fingerprints, "flow": record.fingerprints.get("flow", "")},
        inputs=_renewed_inputs(record, str(plan.root)),
        packages={
            **dict.fromkeys(record.packages, ""),
            **versions(record.packages, interpreter.folders),
        },
        package_folders=interpreter.folders,
        variables=answers(record.variables, environment),
        environment={**record.environment, "python": interpreter.python},
    )


def _renewed_inputs(record: RunRecord, root: str) -> tuple[FileFact, ...]:
    """What the run used as it is now; where links lead elsewhere, also what lies there."""
    base = root + os.sep
    was = {_full(f, base): _target(f, root) for f in record.inputs if f.role == _LINK}
    now = {path: lead(path) or target for path, target in was.items()}
    facts = {(fact.path, fact.role): fact for fact in record.inputs}
    for before, after in retargeted(now, was):
        for fact in record.inputs:
            path = _full(fact, base)
            if fact.role != _LINK and (path == before or path.startswith(before + os.sep)):
                moved = after + path[len(before) :]
                shown = moved[len(base) :] if moved.startswith(base) else moved
                facts.setdefault((shown, fact.role), attrs.evolve(fact, path=shown))
    return tuple(_renewed(fact, base, record) for fact in facts.values())


_LINK = Role.LINK.value


def _full(fact: FileFact, base: str) -> str:
    return fact.path if os.path.isabs(fact.path) else base + fact.path


def _target(fact: FileFact, root: str) -> str:
    """Where a link led, absolute or from where it lies."""
    return fact.answer.replace(ROOT, root, 1) if fact.answer.startswith(ROOT) else fact.answer


def _renewed(fact: FileFact, base: str, record: RunRecord) -> FileFact:
    path = _full(fact, base)
    try:
        if fact.role == _LINK:
            return attrs.evolve(fact, answer=portable(os.readlink(path), base[:-1]))
        if fact.role == Role.METADATA.value:
            return _renewed_metadata(fact, path)
        if fact.role == Role.IMPORTS.value:
            return attrs.evolve(fact, answer=importables.renewed(fact.answer, path))
        if fact.role == Role.FOLDER.value:
            return attrs.evolve(fact, sha256=_listing(fact, path, record))
        found = os.stat(path)
        if fact.role == Role.PRESENT.value or not stat.S_ISREG(found.st_mode):
            return FileFact(fact.path, Role.PRESENT.value)
        role = Role.DATA if fact.role == Role.MISSING.value else Role(fact.role)
        code = code_hash(path, found) if fact.code else ""
        return file_fact(fact.path, role, path, found, code)
    except OSError:
        return FileFact(fact.path, Role.MISSING.value)


def _renewed_metadata(fact: FileFact, path: str) -> FileFact:
    found = os.stat(path)
    return attrs.evolve(
        fact,
        size=found.st_size if fact.size >= 0 else -1,
        mtime_ns=found.st_mtime_ns if fact.mtime_ns else 0,
        answer=" ".join(_asked_again(word, path, found) for word in fact.answer.split()),
    )


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


def _rules(plan: InstancePlan, record: RunRecord) -> Iterator[Reason]:
    """What ductaflow itself would do otherwise than in the last run."""
    told = record.fingerprints.get("rules", "")
    if told == plan.fingerprints["rules"]:
        return
    if not told:
        yield Reason(
            ReasonKind.RULES, "it ran with an older ductaflow, which did not note its rules"
        )
    for what in changed_rules(told) if told else ():
        yield Reason(ReasonKind.RULES, f"ductaflow has changed {what}")


def _code(plan: InstancePlan, record: RunRecord) -> Iterator[Reason]:
    old, new = record.fingerprints, plan.fingerprints
    if old.get("flow") == new["flow"] or (
        old.get("code") == new["code"] and old.get("python") == new["python"]
    ):
        return
    before = [part.partition(":") for part in old.get("cells", "").split()]
    after = [part.partition(":") for part in new["cells"].split()]
    matcher = difflib.SequenceMatcher(None, [b[2] for b in before], [a[2] for a in after], False)
    found = False
    for what, i, j, k, m in matcher.get_opcodes():
        found = found or what != "equal"
        if what == "insert":
            yield Reason(ReasonKind.CODE, f"{_cells([a[0] for a in after[k:m]])} added")
        elif what == "delete":
            yield Reason(ReasonKind.CODE, f"{_cells([b[0] for b in before[i:j]])} removed")
        elif what == "replace":
            yield Reason(ReasonKind.CODE, f"{_cells([a[0] for a in after[k:m]])} changed")
    if not found:
        yield Reason(ReasonKind.CODE, "the flow changed")


def _cells(numbers: list[str]) -> str:
    return f"cell{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"


def _config(plan: InstancePlan, record: RunRecord, paths: ArtifactPaths) -> Iterator[Reason]:
    if record.fingerprints.get("config") == plan.fingerprints.get("config"):
        return
    old = read_config(paths.config)
    if old is None or plan.config is None:
        yield Reason(ReasonKind.CONFIG, "the config changed")
        return
    before, after = leaves(old), leaves(plan.config)
    for key in dict.fromkeys([*before, *after]):
        was, now = before.get(key, _MISSING), after.get(key, _MISSING)
        if repr(was) != repr(now):  # 1 and 1.0 are not the same, NaN is
            yield Reason(ReasonKind.CONFIG, f"config: {key} was {_value(was)}, is {_value(now)}")


def _secrets(plan: InstancePlan, record: RunRecord) -> Iterator[Reason]:
    """Secrets whose values are others than in the last run, or cannot be compared."""
    was = json.loads(record.fingerprints.get("secrets", "{}"))
    now = json.loads(plan.fingerprints.get("secrets", "{}"))
    for source in sorted(was.keys() & now.keys()):
        if was[source] != now[source]:
            how = "changed" if same_key(was[source]) else OTHER_KEY
            yield Reason(ReasonKind.SECRET, f"the secret {shown(source)} {how}")


def _value(value: Any) -> str:
    if value is _MISSING:
        return "not there"
    text = repr(value)
    return text if len(text) <= _SHOWN_VALUE else text[: _SHOWN_VALUE - 1] + "…"


# --- interpreter, packages, environment ----------------------------------------------------------


def _interpreter(
    plan: InstancePlan, record: RunRecord, interpreter: Interpreter
) -> Iterator[Reason]:
    was, now = record.kernel.get("name", ""), plan.options.kernel_name or ""
    if plan.options.kernel_name is not None and was != now:
        yield Reason(ReasonKind.KERNEL, f"the kernel was {was or 'the conductor’s own'}, is {now}")
    if interpreter.problem:
        yield Reason(ReasonKind.KERNEL, f"its interpreter cannot be asked: {interpreter.problem}")
    if "python" in plan.options.ignore or not interpreter.python:
        return
    version = record.environment.get("python", "")
    if version and version != interpreter.python:
        yield Reason(ReasonKind.PYTHON, f"Python was {version}, is {interpreter.python}")


def _packages(record: RunRecord, options: RunOptions, interpreter: Interpreter) -> Iterator[Reason]:
    if "package" in options.ignore or interpreter.problem:
        return
    now = versions(record.packages, interpreter.folders)
    for module, was in record.packages.items():
        if now.get(module, "") != was and f"package:{module}" not in options.ignore:
            yield Reason(ReasonKind.PACKAGE, _describe_versions(module, was, now.get(module, "")))


def _describe_versions(module: str, was: str, now: str) -> str:
    if is_question(module):
        return f"{module} are not the same any more"
    return f"{module} was {was or 'not installed'}, is {now or 'not installed'}"


def _variables(
    record: RunRecord, options: RunOptions, environment: Mapping[str, str]
) -> Iterator[Reason]:
    if "variable" in options.ignore:
        return
    for name, message in differences(record.variables, environment):
        if f"variable:{name}" not in options.ignore:
            yield Reason(ReasonKind.VARIABLE, message)


# --- files ---------------------------------------------------------------------------------------


def changed_files(record: RunRecord, root: Path, directory: Path) -> Iterator[Reason]:
    """What has changed of the files that a run depends on.

    Args:
        record: The run's record.
        root: The project root.
        directory: The run's folder.
    """
    base = str(root) + os.sep
    keep_in(os.path.dirname(os.path.dirname(directory)))
    for fact in record.inputs:
        path = fact.path if os.path.isabs(fact.path) else base + fact.path
        check = _CHECKS.get(fact.role)
        word = (
            check(fact, path, record) if check else f"is noted as {fact.role!r}, by a later version"
        )
        if word:
            name, origin = _shown(fact.path, root, directory)
            yield Reason(fact.role, f"{name} {word}{origin}", fact.path)


def _check_data(fact: FileFact, path: str, _: RunRecord) -> str:
    try:
        found = os.stat(path)
        if fact.sha256 and fact.is_of(found) and not has_log(path, fact.log):
            return ""
        if fact.sha256 and content_of(path, found, kept=True).sha256 == fact.sha256:
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
    return "now exists" if os.path.lexists(path) else ""


def _check_folder(fact: FileFact, path: str, record: RunRecord) -> str:
    try:
        names = _listing(fact, path, record)
    except OSError:
        return "is gone"
    return "" if names == fact.sha256 else "has other files in it"


def _listing(fact: FileFact, path: str, record: RunRecord) -> str:
    """The names in a folder, but for what the run has put there itself."""
    left_out = own_names(fact.path, record.outputs)
    if fact.answer:
        return listing_hash(path, left_out)
    return names_hash(set(os.listdir(path)) - left_out)  # an older record


def _check_link(fact: FileFact, path: str, _: RunRecord) -> str:
    target = lead(path)
    if target is None:
        return "is no symbolic link any more" if os.path.lexists(path) else "is gone"
    root = path[: -len(fact.path) - 1]
    if portable(target, root) == fact.answer:
        return ""
    return f"now leads to {target}"


def _check_metadata(fact: FileFact, path: str, _: RunRecord) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return "is gone"
    for word in fact.answer.split():
        now = _asked_again(word, path, found)
        if now != word:
            return _CHANGED_ANSWERS.get(now, "has other permissions")
    if fact.size >= 0 and found.st_size != fact.size:
        return f"was {fact.size} bytes long, is {found.st_size}"
    if fact.mtime_ns and found.st_mtime_ns != fact.mtime_ns:
        return "has another modification time"
    return ""


def _check_imports(fact: FileFact, path: str, _: RunRecord) -> str:
    return next(importables.changes(fact.answer, path), "")


def _asked_again(word: str, path: str, found: os.stat_result) -> str:
    """The answer now to what a run was answered by a word."""
    if word in ("unlinked", "link"):
        return "link" if os.path.islink(path) else "unlinked"
    access = _ACCESS.fullmatch(word)
    if access is not None:
        return f"access{access[1]}={'yes' if os.access(path, int(access[1])) else 'no'}"
    if stat.S_ISDIR(found.st_mode):
        return "folder"
    return "file" if stat.S_ISREG(found.st_mode) else "other"


_ACCESS = re.compile(r"access(\d+)=(?:yes|no)")
_CHANGED_ANSWERS = {
    "file": "is a file now",
    "folder": "is a folder now",
    "other": "is neither a file nor a folder now",
    "link": "is a symbolic link now",
    "unlinked": "is no symbolic link any more",
}


_CHECKS = {
    Role.DATA.value: _check_data,
    Role.MODULE.value: _check_module,
    Role.PRESENT.value: _check_present,
    Role.MISSING.value: _check_missing,
    Role.FOLDER.value: _check_folder,
    Role.LINK.value: _check_link,
    Role.METADATA.value: _check_metadata,
    Role.IMPORTS.value: _check_imports,
}


def _shown(path: str, root: Path, directory: Path) -> tuple[str, str]:
    """A file as the flow's author knows it, and the run that it comes from."""
    origin = instance_of(path, runs_name(root))
    if origin is None:
        return path, ""
    relative = os.path.relpath(root / path, directory).replace(os.sep, "/")
    made = read_record(record_in(root / origin.folder))
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
        old, most = format_age(age), format_limit(limit)
        why = f"it is {old} old, max_age is {most}, and it read from {hosts}"
        yield Reason(ReasonKind.AGE, why)


@lru_cache(maxsize=64)
def _told(options: RunOptions, name: str) -> Any:
    """What a record would say of an option, as a reader sees it."""
    return _seen(options_summary(options).get(name))


def _seen(told: Any) -> Any:
    """Of what a record says of an artifact's option what a reader sees; None as by default."""
    if not isinstance(told, Mapping):
        return told
    return {name: value for name, value in told.items() if name != "shared"} or None


def _artifacts(plan: InstancePlan, record: RunRecord, paths: ArtifactPaths) -> Iterator[Reason]:
    folder = paths.folder + os.sep
    for artifact in ARTIFACTS.values():
        option = artifact.option
        if not artifact.missing or not artifact.is_wanted(plan.options):
            continue
        if option and _told(plan.options, option) != _seen(record.options.get(option)):
            yield Reason(ReasonKind.REPORT, f"the {artifact.text}'s options changed")
        elif artifact.kind not in record.thinned:  # what was taken away on purpose is no reason
            name = paths.name(artifact)
            forms = (name, name + SUFFIX) if artifact.compressible else (name,)
            if not any(os.path.exists(folder + form) for form in forms):
                yield Reason(ReasonKind.REPORT, f"{name} {artifact.missing}")
    base = str(plan.root) + os.sep
    for fact in record.outputs:
        path = fact.path if os.path.isabs(fact.path) else base + fact.path
        # What the run has only moved, it could not make again.
        if fact.role != Role.MOVED.value and not os.path.exists(path):
            name = path[len(folder) :] if path.startswith(folder) else fact.path
            yield Reason(ReasonKind.OUTPUT, f"{name} is gone", fact.path)
