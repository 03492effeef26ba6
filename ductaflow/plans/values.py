"""Values as people type them: `-p tank.size=2.5`, config files, grids."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from ductaflow.errors import ConfigError
from ductaflow.model.flows import Flow
from ductaflow.model.plans import Config
from ductaflow.plans.config import normalise
from ductaflow.plans.parameters import complete


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML with the scalars of its version 1.2, core schema: `no` is a word, a date a string."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (yaml's own attribute)


_FLOAT = (
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_SCALARS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        _FLOAT,
        list("-+.0123456789"),
    ),
}
for _kind, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(rf"^(?:{_pattern})$"), _first
    )


def _integer(loader: Any, node: Any) -> int:
    text = loader.construct_scalar(node)
    return int(text, 0 if text[:2] in ("0x", "0o") else 10)


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def parse_value(text: str, what: str) -> Any:
    """A YAML value.

    Args:
        text: It.
        what: Where it stands, for the message.

    Raises:
        ConfigError: It is no YAML.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (a safe loader)
    except (yaml.YAMLError, ValueError) as e:
        problem = getattr(e, "problem", None) or e
        raise ConfigError(f"{what}: {text!r} is no YAML value ({problem}); quote it?") from None


def assign(config: dict[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """The config with `key=value` texts put in; dotted keys lead into its dicts.

    Raises:
        ConfigError: One is no assignment, or leads through what is no dict.
    """
    for text in assignments:
        key, equals, value = text.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            raise ConfigError(f"-p {text!r} is no assignment; write -p key=value or -p a.b=value")
        inner = config
        for depth, part in enumerate(parts[:-1], 1):
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ConfigError(
                    f"-p {text!r}: the config's {'.'.join(parts[:depth])} is {inner!r}, which has "
                    "no keys"
                )
        inner[parts[-1]] = parse_value(value, f"-p {key.strip()}")
    return config


def read_config(file: Path) -> dict[str, Any]:
    """The config in a JSON or YAML file.

    Raises:
        ConfigError: It cannot be read, or is no dict.
    """
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"cannot read the config {file}: {e}") from e
    if file.suffix.lower() in (".yaml", ".yml"):
        config = parse_value(text, str(file))
    else:
        try:
            config = json.loads(text)
        except ValueError as e:
            raise ConfigError(f"{file} is not valid JSON: {e}") from None
    if not isinstance(config, dict):
        raise ConfigError(f"{file} holds a {type(config).__name__}; a config is a dict")
    return config


def grid_values(texts: Iterable[str]) -> dict[str, Any]:
    """The keys and values of a grid, as `seed=1,2,3` each; dotted keys make nested ones.

    Raises:
        ConfigError: One is no assignment.
    """
    values: dict[str, Any] = {}
    for text in texts:
        key, equals, listed = text.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            raise ConfigError(f"--grid {text!r} is no axis; write --grid seed=1,2,3")
        inner = values
        for part in parts[:-1]:
            inner = inner.setdefault(part, {})
        inner[parts[-1]] = parse_value(f"[{listed}]", f"--grid {key.strip()}")
    return values


def given_config(
    config_file: Path | None = None, assignments: Iterable[str] = ()
) -> dict[str, Any]:
    """What a command line gives of a config: a file's values, and single ones over them.

    Args:
        config_file: A JSON or YAML file, or None.
        assignments: As `key=value` each.

    Raises:
        ConfigError: It cannot be read or put together.
    """
    return assign({} if config_file is None else read_config(config_file), assignments)


def chosen_config(
    flow: Flow, config_file: Path | None = None, assignments: Iterable[str] = ()
) -> Config:
    """The config that a command line asks for: the flow's default, updated by what is given.

    Args:
        flow: The flow.
        config_file: A JSON or YAML file, or None.
        assignments: As `key=value` each.

    Raises:
        ConfigError: It cannot be read or put together.
    """
    given = normalise(given_config(config_file, assignments))
    return complete(flow, given or None)
