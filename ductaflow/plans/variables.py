"""A config's values as a flow's variables: the one rule, and the cell that follows it."""

from __future__ import annotations

import functools
import keyword
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ductaflow.model.plans import Config
from ductaflow.plans.literal import quoted

MAX_ASSIGNMENTS = 200
"""Up to so many variables are assigned one by one; more of them by one expression."""

_HISTORY = re.compile(r"_+|_\d+|_i+\d*|_[iod]h|__\w*__")


def variables(config: Config, left_alone: Collection[str] = ()) -> dict[str, tuple[str, ...]]:
    """The variables that a flow gets from its config, each with the keys that lead to its value.

    Every top-level key becomes one, and so does every key of a top-level dict, which keeps its
    own name. A top-level key wins over a nested one; of nested ones the last wins. A key that is
    no identifier, a keyword or reserved (`is_reserved`) stays in `config` alone. Names are in
    the normal form that Python itself gives identifiers (NFKC).

    Standalone scripts have the rule in `convert/runtime.py`, other languages in
    `plans/languages.py`.

    Args:
        config: The config.
        left_alone: Names that get no value, for the parameters cell gives them theirs.
    """
    top: dict[str, tuple[str, ...]] = {}
    nested: dict[str, tuple[str, ...]] = {}
    order: list[str] = []
    for key, value in config.items():
        if (name := variable_name(key)) is not None:
            top[name] = (key,)
            order.append(name)
        if isinstance(value, dict):
            for inner in value:
                if (name := variable_name(inner)) is not None:
                    nested[name] = (key, inner)
                    order.append(name)
    holders = {**nested, **top}
    return {name: holders[name] for name in order if name not in left_alone}


@functools.lru_cache(maxsize=1 << 16)
def variable_name(key: str) -> str | None:
    """The variable for a key, or None if it gets none."""
    name = key if key.isascii() else unicodedata.normalize("NFKC", key)
    if name.isidentifier() and not keyword.iskeyword(name) and not is_reserved(name):
        return name
    return None


def is_reserved(name: str) -> bool:
    """Whether a variable so named would break the notebook, or be overwritten by it.

    These are `config` itself, `get_ipython` (magics call it), names with two underscores on
    both sides, and IPython's history (`_`, `_3`, `_i`, `_oh` and their kind).
    """
    return name in ("config", "get_ipython") or _HISTORY.fullmatch(name) is not None


def flatten(config: Config) -> dict[str, Any]:
    """The variables that a flow gets from its config, `config` itself apart.

    The rule is `ductaflow.plans.variables.variables`; the flattening cell gives exactly these.
    """
    return {name: _look_up(config, path) for name, path in variables(config).items()}


def flatten_source(config: Config, left_alone: Collection[str] = ()) -> str:
    """Source of the flattening cell, for which `config` is all it needs.

    It leaves no name behind but the variables.

    Args:
        config: The config.
        left_alone: Names to which it gives no value; see `ductaflow.plans.variables.variables`.
    """
    paths = variables(config, left_alone)
    if not paths:
        return "# No key of this config becomes a variable."
    if len(paths) > MAX_ASSIGNMENTS and (source := _flatten_at_once(config, paths)):
        return source
    lines = [
        f"{name} = config{''.join(f'[{quoted(key)}]' for key in path)}"
        for name, path in paths.items()
    ]
    return "\n".join(["# The config's keys as variables.", *lines])


def _flatten_at_once(config: Config, paths: Mapping[str, tuple[str, ...]]) -> str:
    """The same as one expression; empty where that would not give the same."""
    if any(name != path[-1] for name, path in paths.items()):
        return ""  # Python's normal form of an identifier, which a string key does not get
    if not {"globals", "isinstance", "dict"}.isdisjoint(paths):
        return ""  # run a second time by hand, it would call what it has just replaced
    parts = [value for value in config.values() if isinstance(value, dict)]
    keys = {key for part in [*parts, config] for key in part}
    left_out = sorted(key for key in keys if key.isidentifier() and key not in paths)
    unless = f" and key not in {{{', '.join(map(quoted, left_out))}}}" if left_out else ""
    return f"""\
# The config's keys as variables: those of its dicts, then its own, which win.
globals().update(
    {{
        key: value
        for part in [*(v for v in config.values() if isinstance(v, dict)), config]
        for key, value in part.items()
        if key.isidentifier(){unless}
    }}
)"""


def _look_up(config: Config, path: Sequence[str]) -> Any:
    value: Any = config
    for key in path:
        value = value[key]
    return value
