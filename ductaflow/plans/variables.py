"""A config's values as a flow's variables: the one rule, and the cell that follows it.

Other languages' cells, standalone scripts (which get these functions as they stand here, see
`convert/embed`) and notes follow it as well.
"""

from __future__ import annotations

import functools
import keyword
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from ductaflow.model.plans import Config
from ductaflow.plans.literal import quoted

MAX_ASSIGNMENTS = 200
"""Up to so many variables are assigned one by one; more of them by one expression."""

_HISTORY = re.compile(r"_+|_\d+|_i+\d*|_[iod]h|__\w*__")


def variables(
    config: Config,
    left_alone: Collection[str] = (),
    named: Callable[[str], str | None] | None = None,
) -> dict[str, tuple[str, ...]]:
    """The variables that a flow gets from its config, each with the keys that lead to its value.

    Every top-level key becomes one, and so does every key of a top-level dict, which keeps its
    own name. A top-level key wins over a nested one; of nested ones the last wins. A key that is
    no identifier, a keyword or reserved (`is_reserved`) stays in `config` alone. Names are in
    the normal form that Python itself gives identifiers (NFKC).

    Args:
        config: The config.
        left_alone: Names that get no value, for the parameters cell gives them theirs.
        named: The variable for a key, or None if it gets none.
    """
    named = named or variable_name
    holders: dict[str, tuple[str, ...]] = {}
    for path in value_paths(config):
        name = named(path[-1])
        if name is not None and len(path) <= len(holders.get(name, path)):
            holders[name] = path
    return {name: path for name, path in holders.items() if name not in left_alone}


def value_paths(config: Config) -> Iterator[tuple[str, ...]]:
    """The keys that lead to each value that may become a variable: one level deep."""
    for key, value in config.items():
        yield (key,)
        if isinstance(value, dict):
            yield from ((key, inner) for inner in value)


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


def flatten(config: Config, left_alone: Collection[str] = ()) -> dict[str, Any]:
    """The variables that a flow gets from its config, `config` itself apart.

    The rule is that of `variables`; the flattening cell gives exactly these.
    """
    return {name: look_up(config, path) for name, path in variables(config, left_alone).items()}


def flatten_source(config: Config, left_alone: Collection[str] = ()) -> str:
    """Source of the flattening cell, for which `config` is all it needs.

    It leaves no name behind but the variables.

    Args:
        config: The config.
        left_alone: Names to which it gives no value; see `ductaflow.plans.variables.variables`.
    """
    found = variables(config, left_alone)
    if not found:
        return "# No key of this config becomes a variable."
    if len(found) > MAX_ASSIGNMENTS and (source := _flatten_at_once(config, found)):
        return source
    lines = [
        f"{name} = config{''.join(f'[{quoted(key)}]' for key in path)}"
        for name, path in found.items()
    ]
    return "\n".join(["# The config's keys as variables.", *lines])


def _flatten_at_once(config: Config, found: Mapping[str, tuple[str, ...]]) -> str:
    """The same as one expression; empty where that would not give the same."""
    if any(name != path[-1] for name, path in found.items()):
        return ""  # Python's normal form of an identifier, which a string key does not get
    if not {"globals", "isinstance", "dict"}.isdisjoint(found):
        return ""  # run a second time by hand, it would call what it has just replaced
    parts = [value for value in config.values() if isinstance(value, dict)]
    keys = {key for part in [*parts, config] for key in part}
    left_out = sorted(key for key in keys if key.isidentifier() and key not in found)
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


def look_up(config: Config, path: Sequence[str]) -> Any:
    """The value to which some keys lead."""
    value: Any = config
    for key in path:
        value = value[key]
    return value
