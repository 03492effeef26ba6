"""What a flow's parameters cell assigns, read without running it: the default of its config.

Two ways of writing it, alone or side by side: `config = {...}`, and papermill's, a variable for
each parameter. What is no literal is left to the cell, which runs as it stands.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import attrs

from ductaflow.errors import ConfigError
from ductaflow.flows.syntax import language, parse_python, transform
from ductaflow.model.flows import Cell, Flow
from ductaflow.model.plans import Config
from ductaflow.plans.config import merged, normalise
from ductaflow.plans.variables import variable_name

CONFIG = "config"
_CACHED_FLOWS = 64


@attrs.frozen
class Defaults:
    """What a parameters cell gives, if a run gives nothing else.

    Attributes:
        values: The keys with literal values, in JSON's types.
        own: The cell's variables that the flattening leaves alone unless the config has another
            value for them: what that is, or `...` where JSON has none.
        names: Every parameter, those without a literal value among them.
        unread: Why there is no telling what the cell's `config` is; empty if it can be told.
        is_parameter: Whether `config` is itself a parameter, and no mapping of them.
    """

    values: Config = attrs.field(factory=dict, hash=False)
    own: Mapping[str, Any] = attrs.field(factory=dict, hash=False)
    names: tuple[str, ...] = ()
    unread: str = ""
    is_parameter: bool = False


@lru_cache(maxsize=_CACHED_FLOWS)
def read_defaults(flow: Flow) -> Defaults:
    """The defaults in a flow's parameters cell; the caller changes nothing in them."""
    if flow.parameters is None:
        return Defaults()
    cell = flow.cells[flow.parameters]
    if language(flow) != "python":
        return Defaults(unread=f"it is not read in {language(flow)}" if _says_more(cell) else "")
    tree = syntax_tree(cell)
    if tree is None:
        return Defaults(unread="the cell is not Python that compiles")
    found = assignments(tree)
    literals = {
        name: value
        for name, node in found.items()
        if name == CONFIG or variable_name(name) is not None
        if node is not None and (value := _literal(name, node, tree)) is not _NONE
    }
    if literals.get(CONFIG, ...) is None:  # a place for the injected one
        del literals[CONFIG], found[CONFIG]
    unread, base = _config_of(found, literals, tree)
    is_parameter = CONFIG in literals and not (unread or isinstance(literals[CONFIG], dict))
    return _put_together(found, literals, base, unread, tree, is_parameter=is_parameter)


def complete(
    flow: Flow,
    given: Config | None,
    *,
    defaults: bool = True,
) -> Config:
    """The config that a flow gets: its default, updated by what is given.

    Args:
        flow: The flow.
        given: What is given, normalised; None for nothing.
        defaults: Whether the default counts; without it the config is what is given.

    Raises:
        ConfigError: Nothing is given, and the default cannot be read.
    """
    if not defaults:
        return given or {}
    known = read_defaults(flow)
    if given is None and known.unread:
        raise ConfigError(
            f"no config was given, and the `config` in the parameters cell of {flow.path} cannot "
            f"be read without running it: {known.unread}; write `config = {{...}}` with literal "
            "values, or give config="
        )
    return merged(copy.deepcopy(known.values), given or {})


def left_alone(own: Mapping[str, Any], config: Config) -> frozenset[str]:
    """The cell's variables that this config says nothing else about; see `Defaults.own`."""
    return frozenset(
        name
        for name, value in own.items()
        if repr(config.get(name, ...)) in (repr(value), repr(...))
    )


# --- the cell -----------------------------------------------------------------------------------


def syntax_tree(cell: Cell) -> ast.Module | None:
    """The syntax tree of a cell, magics as calls; None if it does not compile."""
    return parse_python(cell.source) or parse_python(transform(cell.source))


def assignments(tree: ast.Module) -> dict[str, ast.expr | None]:
    """The variables that a cell assigns, each with what it is assigned last.

    None where that is not a plain assignment at the cell's own level: a declaration without a
    value, `+=`, one in an `if`, a name that an import or a definition takes afterwards.
    """
    found: dict[str, ast.expr | None] = {}
    for statement in tree.body:
        plain = dict(_plain_pairs(statement))
        for name, is_assigned in _bound(statement):
            if is_assigned or name in found:
                found[name] = plain.get(name)
    return found


def _plain_pairs(statement: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    """Names and values of `a = 1`, `a: int = 1`, `a = b = 1` and `a, b = 1, 2`."""
    if isinstance(statement, ast.AnnAssign) and statement.value is not None:
        yield from _paired(statement.target, statement.value)
    elif isinstance(statement, ast.Assign):
        for target in statement.targets:
            yield from _paired(target, statement.value)


def _paired(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, (ast.Tuple, ast.List)) and isinstance(value, (ast.Tuple, ast.List)):
        both = [*target.elts, *value.elts]
        if len(target.elts) == len(value.elts) and not any(
            isinstance(part, ast.Starred) for part in both
        ):
            for inner, part in zip(target.elts, value.elts, strict=True):
                yield from _paired(inner, part)


_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_ASSIGNMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign)


def _bound(node: ast.AST, *, assigned: bool = False) -> Iterator[tuple[str, bool]]:
    """The names that a statement binds or deletes, each with whether an assignment does."""
    if isinstance(node, _SCOPES):
        yield getattr(node, "name", ""), False
        return
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id, assigned
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        for alias in node.names:
            yield (alias.asname or alias.name).partition(".")[0], False
    for child in ast.iter_child_nodes(node):
        yield from _bound(child, assigned=isinstance(node, _ASSIGNMENTS) or assigned)


_NONE = object()  # no literal


def _literal(name: str, node: ast.expr, tree: ast.Module) -> Any:
    """The literal value of a variable after the cell has run, or `_NONE`."""
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return _NONE
    if isinstance(value, (list, dict, set)) and not _only_looked_at(name, value, tree):
        return _NONE
    return value


_LOOKERS = frozenset({
    "print", "len", "sum", "min", "max", "sorted", "tuple", "list", "set", "dict", "str", "repr",
    "range", "enumerate", "bool", "isinstance", "display", "any", "all",
})  # fmt: skip
_LOOKS = frozenset({"get", "items", "keys", "values", "copy", "count", "index"})


def _only_looked_at(name: str, value: Any, tree: ast.Module) -> bool:
    """Whether nothing in a cell can change a variable's value in place, once it is assigned."""
    items = value.values() if isinstance(value, dict) else value
    flat = not any(isinstance(item, (list, dict, set)) for item in items)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    uses = (n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == name)
    return all(
        isinstance(use.ctx, ast.Store) or (flat and _looks(use, parents[use], parents))
        for use in uses
    )


def _looks(use: ast.Name, parent: ast.AST, parents: Mapping[ast.AST, ast.AST]) -> bool:
    if isinstance(parent, ast.Call):
        return isinstance(parent.func, ast.Name) and parent.func.id in _LOOKERS
    if isinstance(parent, ast.Subscript):
        return parent.value is use and isinstance(parent.ctx, ast.Load)
    if isinstance(parent, ast.Attribute):
        return parent.attr in _LOOKS and isinstance(parents[parent], ast.Call)
    if isinstance(parent, (ast.For, ast.comprehension)):
        return parent.iter is use
    return isinstance(parent, (ast.Compare, ast.BinOp, ast.FormattedValue))


def _config_of(
    found: Mapping[str, ast.expr | None], literals: Mapping[str, Any], tree: ast.Module
) -> tuple[str, Config]:
    """Why the cell's `config` cannot be read, or the empty string and what it is."""
    if CONFIG in literals:
        value = literals[CONFIG]
        if not isinstance(value, dict):
            return "" if _in_json(value) is not ... else "it is not a mapping", {}
        try:
            return "", normalise(value)
        except ConfigError as e:
            return str(e), {}
    if CONFIG in found:
        return "its value is not a literal, or the cell goes on to change it", {}
    uses = (n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == CONFIG)
    if any(isinstance(use.ctx, ast.Load) for use in uses):
        return "the cell uses it, and does not assign it", {}
    return "", {}


def _put_together(
    found: Mapping[str, ast.expr | None],
    literals: Mapping[str, Any],
    base: Config,
    unread: str,
    tree: ast.Module,
    *,
    is_parameter: bool,
) -> Defaults:
    values, own = dict(base), {}
    unpacked = _unpacked(tree)
    declared = _declared_only(tree)
    names = list(base)
    for name in found:
        if (name == CONFIG and not is_parameter) or (
            name != CONFIG and variable_name(name) is None
        ):
            continue
        if name in unpacked:
            continue
        names.append(name)
        value = _in_json(literals[name]) if name in literals else ...
        if value is not ... and name not in values:
            values[name] = value
        if name not in declared and name not in base and name != CONFIG:
            exact = value is not ... and repr(value) == repr(literals[name])
            own[name] = ... if exact else value
    names = list(dict.fromkeys(names))
    return Defaults(values, own, tuple(names), unread, is_parameter)


def _in_json(value: Any) -> Any:
    """A literal in JSON's types; `...` if it has none, as a set."""
    try:
        return normalise({"value": value})["value"]
    except ConfigError:
        return ...


def _unpacked(tree: ast.Module) -> set[str]:
    """Variables that the cell itself takes from `config`: the injected one has them anew."""
    return {
        name
        for statement in tree.body
        if any(
            isinstance(node, ast.Name) and node.id == CONFIG and isinstance(node.ctx, ast.Load)
            for node in ast.walk(statement)
        )
        for name, _ in _bound(statement)
    }


def _declared_only(tree: ast.Module) -> set[str]:
    """Names that are declared, `alpha: float`, and get no value."""
    declared, bound = set(), set()
    for statement in tree.body:
        if isinstance(statement, ast.AnnAssign) and statement.value is None:
            declared |= {name for name, _ in _bound(statement)}
        else:
            bound |= {name for name, _ in _bound(statement)}
    return declared - bound


def _says_more(cell: Cell) -> bool:
    """Whether a cell in another language has more than an empty config and comments."""
    lines = (line.strip() for line in cell.source.splitlines())
    code = " ".join(line for line in lines if not line.startswith(("#", "//", "%", "--", ";")))
    return len(re.findall(r"\w+", code)) > _WORDS or re.search(r"[\"'0-9]", code) is not None


_WORDS = 4  # of `config = Dict{String, Any}()`
