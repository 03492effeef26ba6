"""What a reader should know about a config and its flow: misspelt keys, clashing names."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any

import attrs

from ductaflow.flows.syntax import language, parse_python
from ductaflow.model.flows import Flow
from ductaflow.model.kinds import NoteKind
from ductaflow.model.plans import Config, Note
from ductaflow.plans.config import dotted, kind_of
from ductaflow.plans.literal import quoted
from ductaflow.plans.parameters import Defaults, left_alone, read_defaults
from ductaflow.plans.variables import is_reserved, value_paths, variable_name, variables
from ductaflow.text.nearest import closest

CONFIG_KINDS = (
    NoteKind.DEFAULT, NoteKind.COLLISION, NoteKind.SHADOW, NoteKind.NOT_IDENTIFIER,
    NoteKind.UNUSED_KEY, NoteKind.UNKNOWN_KEY, NoteKind.KIND,
)  # fmt: skip
"""Kinds of notes that are about the config."""

LOOKED_AT = 20
"""Runs of a table whose notes are told to people: the keys of the others are the same."""

MAX_NOTES = 10
"""More notes of one kind than this are summed up in one."""


def for_people(notes: Iterable[Note]) -> list[str]:
    """What of some notes people are told at once, each thing once: of configs, and of commands."""
    kinds = {*CONFIG_KINDS, NoteKind.COMMAND}
    return list(dict.fromkeys(f"note: {note.message}" for note in notes if note.kind in kinds))


def config_notes(flow: Flow, config: Config, given: Config | None = None) -> tuple[Note, ...]:
    """What is odd about a config, or about this flow with it; nothing here stops a run.

    Args:
        flow: The flow that will get the config.
        config: The normalised config.
        given: What was given of it, over the flow's default; None for all.

    Returns:
        Notes of the kinds `default`, `collision`, `shadow`, `not-identifier`, `unused-key`,
        `unknown-key` and `kind`, in this order; more than `MAX_NOTES` of a kind as one.
    """
    python = language(flow) == "python"
    known = read_defaults(flow)
    given = config if given is None else given
    finders: dict[NoteKind, Iterator[_Finding]] = {
        NoteKind.DEFAULT: _unread(known),
        NoteKind.COLLISION: _collisions(config, known) if python else iter(()),
        NoteKind.SHADOW: _shadows(config) if python else iter(()),
        NoteKind.NOT_IDENTIFIER: _not_identifiers(config) if python else iter(()),
        NoteKind.UNUSED_KEY: _unused(flow, config, known, given),
        NoteKind.UNKNOWN_KEY: _unknown(flow, config, known, given),
        NoteKind.KIND: _kinds(config, known.values, ()),
    }
    return tuple(note for kind, found in finders.items() for note in _told(kind, list(found)))


_Finding = tuple[str, Callable[[], str]]
"""A dotted key and its message, which is costly enough to be made for few only."""


def _told(kind: NoteKind, found: list[_Finding]) -> list[Note]:
    if len(found) <= MAX_NOTES:
        return [Note(kind, message(), key) for key, message in found]
    named = ", ".join(f"`{key}`" for key, _ in found[:MAX_NOTES])
    rest = len(found) - MAX_NOTES
    return [Note(kind, f"{len(found):,} {kind.summary}: {named} and {rest:,} more.")]


# --- names -----------------------------------------------------------------------------------


def _unread(known: Defaults) -> Iterator[_Finding]:
    if known.unread:
        yield (
            "config",
            lambda: (
                "The config given takes the place of the default in the parameters cell, which "
                f"cannot be merged without running it: {known.unread}."
            ),
        )


def _collisions(config: Config, known: Defaults) -> Iterator[_Finding]:
    cells = left_alone(known.own, config)
    if known.is_parameter and "config" in config:
        yield "config", _config_is_a_parameter
    sources: dict[str, list[tuple[str, ...]]] = {}
    for path in value_paths(config):
        name = variable_name(path[-1])
        if name is not None:
            sources.setdefault(name, []).append(path)
    holders = variables(config)
    for name, paths in sources.items():
        if name in cells:
            others = [path for path in paths if len(path) > 1]
            if others:
                yield name, partial(_kept, name, others)
        elif len(paths) > 1:
            holder = holders[name]
            others = [path for path in paths if path != holder]
            yield dotted(holder), partial(_collision, name, holder, others)


def _config_is_a_parameter() -> str:
    return (
        "The flow has a parameter that is called `config` and is not a mapping: the variable "
        '`config` holds `config["config"]` of `config.json`, and not all parameters.'
    )


def _kept(name: str, others: list[tuple[str, ...]]) -> str:
    named = ", ".join(f"`{_expression(path)}`" for path in others[:3])
    return (
        f"The variable `{name}` is the parameters cell's own; {named} is only available "
        "through `config`."
    )


def _collision(name: str, holder: tuple[str, ...], others: list[tuple[str, ...]]) -> str:
    named = ", ".join(f"`{_expression(path)}`" for path in others[:3])
    rest = f" and {len(others) - 3:,} more" if len(others) > 3 else ""
    return (
        f"The variable `{name}` holds `{_expression(holder)}`; "
        f"{named}{rest}: only available through `config`."
    )


_PYTHONS_OWN = frozenset({*dir(builtins), "In", "Out", "display", "exit", "quit"}) - {
    "copyright",
    "credits",
    "license",
}


def _shadows(config: Config) -> Iterator[_Finding]:
    for path in value_paths(config):
        if is_reserved(path[-1]):
            yield dotted(path), partial(_reserved, path)
        elif variable_name(path[-1]) in _PYTHONS_OWN:
            yield dotted(path), partial(_shadow, path[-1])


def _reserved(path: tuple[str, ...]) -> str:
    return (
        f"The key `{dotted(path)}` is not made a variable, because the notebook itself uses "
        f"`{path[-1]}`; it is in `{_expression(path)}`."
    )


def _shadow(name: str) -> str:
    return (
        f"The variable `{name}` from the config takes the place of Python's own `{name}` "
        "in this notebook; a key of another name would leave both."
    )


def _not_identifiers(config: Config) -> Iterator[_Finding]:
    data = {key for key, value in config.items() if isinstance(value, dict) and _is_data(value)}
    for path in value_paths(config):
        looks_data = len(path) > 1 and path[0] in data
        if variable_name(path[-1]) is None and not is_reserved(path[-1]) and not looks_data:
            yield dotted(path), partial(_not_identifier, path)


def _not_identifier(path: tuple[str, ...]) -> str:
    return (
        f"The key `{dotted(path)}` is not a variable name; its value is in `{_expression(path)}`."
    )


def _is_data(part: Mapping[str, Any]) -> bool:
    """Whether a dict's keys are data, as zone numbers, rather than names somebody chose."""
    return 2 * sum(variable_name(key) is not None for key in part) <= len(part)


def _expression(path: tuple[str, ...]) -> str:
    return "config" + "".join(f"[{quoted(key)}]" for key in path)


# --- keys that the flow never mentions -------------------------------------------------------


def _unused(flow: Flow, config: Config, defaults: Defaults, given: Config) -> Iterator[_Finding]:
    mentions = _mentions(flow)
    if "config" in mentions.whole:
        return
    default = _names_of(defaults)
    for key, value in config.items():
        if key.startswith("_"):  # put there by tools, as `_project_root`, for flows that ask
            continue
        inner = value if isinstance(value, dict) else {}
        known = default.get(key)
        known = known if isinstance(known, dict) else {}
        used = {name for name in inner if name in mentions}
        if not used and key not in mentions:
            yield dotted((key,)), partial(_unmentioned, (key,), given, default, mentions)
        elif key not in mentions.whole and (used or known):
            for name in inner:
                if name not in used:
                    path = (key, name)
                    there = _level(given, (key,))
                    yield dotted(path), partial(_unmentioned, path, there, known, mentions)


def _names_of(known: Defaults) -> dict[str, Any]:
    """The parameters with their defaults, None where there is none."""
    return {**dict.fromkeys(known.names), **known.values}


def _level(config: Config, path: tuple[str, ...]) -> Config:
    """The dict at a path; an empty one if there is none."""
    inner: Any = config
    for key in path:
        inner = inner.get(key) if isinstance(inner, dict) else None
    return inner if isinstance(inner, dict) else {}


def _unknown(flow: Flow, config: Config, known: Defaults, given: Config) -> Iterator[_Finding]:
    """Keys that the default does not have; not those that are told as never mentioned."""
    if known.unread or not known.names:
        return
    told = {key for key, _ in _unused(flow, config, known, given)}
    for path, there in _beyond(config, _names_of(known), ()):
        if dotted(path) not in told and not path[0].startswith("_"):
            yield dotted(path), partial(_beyond_default, path, there, _level(given, path[:-1]))


def _beyond(
    config: Config, default: Config, above: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Config]]:
    """The paths of keys that the default does not have, each with what it has there."""
    for key, value in config.items():
        if key not in default:
            yield (*above, key), default
        elif isinstance(value, dict) and _has_keys_of_its_own(default[key]):
            yield from _beyond(value, default[key], (*above, key))


def _has_keys_of_its_own(default: Any) -> bool:
    """Whether a default is a dict with names as keys, rather than a place for any."""
    return isinstance(default, dict) and bool(default) and not _is_data(default)


def _beyond_default(path: tuple[str, ...], default: Config, given: Config) -> str:
    others = sorted(name for name in default if name not in given)
    close = closest(path[-1], others, 0.7)
    hint = f"; is `{close}` meant?" if close else "."
    return f"The flow's default has no key `{dotted(path)}`{hint}"


def _kinds(config: Config, default: Config, above: tuple[str, ...]) -> Iterator[_Finding]:
    """Values of another kind than the default's; None is of every kind."""
    for key, value in config.items():
        was = default.get(key)
        if value is None or was is None:
            continue
        if isinstance(value, dict) and isinstance(was, dict):
            yield from _kinds(value, was, (*above, key))
        elif kind_of(value) != kind_of(was) and not (isinstance(was, bool) and value in (0, 1)):
            yield dotted((*above, key)), partial(_of_another_kind, (*above, key), value, was)


def _kind(value: Any) -> str:
    kind = kind_of(value)
    return kind if kind == "text" else f"a {kind}"


def _of_another_kind(path: tuple[str, ...], value: Any, was: Any) -> str:
    return (
        f"The value of `{dotted(path)}` is {_kind(value)}, {_shown(value)}; in the flow's default "
        f"it is {_kind(was)}, {_shown(was)}."
    )


def _shown(value: Any) -> str:
    text = repr(value[:40] if isinstance(value, (str, list)) else value)
    return f"`{text if len(text) < 40 else f'{text[:39]}…'}`"


def _unmentioned(
    path: tuple[str, ...], given: Config, default: Mapping[str, Any], mentions: _Mentions
) -> str:
    close: str | None = None
    for candidates in (default, mentions.names):
        others = [name for name in candidates if isinstance(name, str) and name not in given]
        close = close or closest(path[-1], sorted(others), 0.7)
    hint = f"; is `{close}` meant?" if close else "."
    return f"The flow never mentions the key `{dotted(path)}`{hint}"


def mentioned(flow: Flow, key: str) -> bool:
    """Whether a flow's code says a key, as a name or in a string; in comments does not count."""
    return key in _mentions(flow)


def loops_over_config(flow: Flow) -> bool:
    """Whether a flow uses its config as a whole, so that any key may be used without being said."""
    return "config" in _mentions(flow).whole


@attrs.frozen
class _Mentions:
    """What a flow's code says, comments apart.

    Attributes:
        names: Every identifier.
        words: Every identifier, and every word in its strings and magics.
        text: The strings and magics themselves.
        whole: Names and keys whose value is used as a whole, so that anything in it may be:
            passed on, looped over, assigned, indexed by what is not a literal.
    """

    names: frozenset[str]
    words: frozenset[str]
    text: str = attrs.field(repr=False)
    whole: frozenset[str]

    def __contains__(self, key: str) -> bool:
        if key in self.words:
            return True
        return re.fullmatch(r"\w+", key) is None and key in self.text


@lru_cache(maxsize=64)
def _mentions(flow: Flow) -> _Mentions:
    names: set[str] = set()
    whole = _WholeUses()
    texts: list[str] = []
    python = language(flow) == "python"
    for cell in flow.cells:
        if cell.kind != "code":
            continue
        code, magics = _without_magics(cell.source)
        tree = parse_python(code) if python else None
        if tree is None:
            texts.append(cell.source)
            names.update(re.findall(r"\w+", cell.source))
            continue
        texts += magics
        whole.visit(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant):
                texts += [node.value] if isinstance(node.value, str) else []
                continue
            for _, value in ast.iter_fields(node):
                values = value if isinstance(value, list) else [value]
                names.update(v for v in values if isinstance(v, str))
    text = "\n".join(texts)
    words = names | set(re.findall(r"\w+", text))
    return _Mentions(frozenset(names), frozenset(words), text, frozenset(whole.found))


_MAGIC = re.compile(r"^(\s*)(?:[%!?]|[\w, .]+=\s*[%!]).*|^(\s*)\S+\?{1,2}\s*$")


def _without_magics(source: str) -> tuple[str, list[str]]:
    """The Python of a cell, with `pass` for each magic line, and those lines."""
    code, magics = [], []
    for line in source.split("\n"):
        match = _MAGIC.match(line)
        if match:
            magics.append(line)
            line = f"{match[1] or match[2] or ''}pass"
        code.append(line)
    return "\n".join(code), magics


_NAMESPACES = ("globals", "locals", "vars", "exec")
_LOOPS = (ast.For, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_LOOKERS = ("print", "len", "display", "pprint", "pp", "type", "isinstance", "bool")


class _WholeUses(ast.NodeVisitor):
    """Finds the names and keys whose value is used other than by a literal key.

    A flow's own flattening of its config is no such use: `globals().update(config)`, a loop
    that writes to `globals()` or `locals()`, a call that is given them.
    """

    def __init__(self) -> None:
        self.found: set[str] = set()

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, _LOOPS) and _touches_namespace(node):
            return
        key = _accessed(node)
        if key is None:
            super().visit(node)
            return
        if not isinstance(getattr(node, "ctx", None), (ast.Store, ast.Del)):
            self.found.add(key)
        if isinstance(node, ast.Call):
            for default in node.args[1:]:
                self.visit(default)

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func
        if isinstance(function, ast.Attribute):
            if _is_namespace(function.value) and function.attr == "update":
                return
            name = function.attr
        else:
            name = function.id if isinstance(function, ast.Name) else ""
        arguments = [*node.args, *(k.value for k in node.keywords)]
        if any(_is_namespace(argument) for argument in arguments):
            return
        if name == "update" and isinstance(function, ast.Attribute):
            if _accessed(function.value) is None:
                self.visit(function.value)
        else:
            self.visit(function)
        for argument in arguments:
            if not (name in _LOOKERS and _accessed(argument)):
                self.visit(argument)

    def visit_Compare(self, node: ast.Compare) -> None:
        looks_up = isinstance(node.left, ast.Constant) and all(
            isinstance(op, (ast.In, ast.NotIn)) for op in node.ops
        )
        if not (looks_up and all(_accessed(c) for c in node.comparators)):
            self.generic_visit(node)


def _accessed(node: ast.AST) -> str | None:
    """The name or the last literal key of `x`, `x["key"]`, `x.get("key")` and chains of them."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Subscript) and _accessed(node.value) is not None:
        return _string(node.slice)
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("get", "pop", "setdefault")
        and node.args
        and _accessed(node.func.value) is not None
    ):
        return _string(node.args[0])
    return None


def _string(node: ast.AST) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _is_namespace(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in _NAMESPACES
    )


def _touches_namespace(node: ast.AST) -> bool:
    return any(_is_namespace(inner) for inner in ast.walk(node))
