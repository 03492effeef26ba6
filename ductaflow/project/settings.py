"""A project's settings: `[tool.ductaflow]` in `pyproject.toml`, or `ductaflow.toml`.

What a call is told wins over an environment variable, which wins over the file, which wins over the
defaults here.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias, final

import attrs

from ductaflow.errors import SettingsError
from ductaflow.model.ages import seconds_of
from ductaflow.text.nearest import nearest

SETTINGS_FILE = "ductaflow.toml"
VARIABLE_PREFIX = "DUCTAFLOW_"

_Preload: TypeAlias = bool | tuple[str, ...]


# --- what each may be -------------------------------------------------------------------------


def _folder(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a folder's name")
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or not path.name or ":" in value or "\\" in value:
        raise ValueError("a folder inside the project, with `/` between its parts")
    return path.as_posix()


def _folders(value: Any) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values:
        raise ValueError("a list of folders' names")
    return tuple(map(_folder, values))


def _count(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError("a positive integer")
    return value


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not value > 0 or math.isnan(value):
        raise ValueError("a number of seconds greater than 0, or inf")
    return float(value)


def _age(value: Any) -> float:
    try:
        return seconds_of(value, "max_age")
    except (TypeError, ValueError):
        raise ValueError("an age, as 3600 (seconds), '30m', '12h', '1d' or '2w'") from None


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a kernelspec's name")
    return value


SHARED = "shared"
"""The setting `html` with which reports share their styles; see `HtmlOptions`."""


def _html(value: Any) -> bool | str:
    if type(value) is not bool and value != SHARED:
        raise ValueError(f"true, false or {SHARED!r}")
    return SHARED if value == SHARED else bool(value)


def _modules(value: Any) -> _Preload:
    if type(value) is bool:
        return value
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise ValueError("true, false or a list of modules' names")
    return tuple(value)


_NO_HEADER: Mapping[str, Any] = {}


@final
@attrs.frozen
class Settings:
    """What a project, or its environment, says where calls say nothing.

    Attributes:
        runs: The folder of all runs, from the root.
        flows: Folders in which a flow is found by its bare name.
        workers: How many instances of a sweep run at once; None for one a core.
        timeout: Seconds for one instance; None for no limit.
        cell_timeout: Seconds for one cell; None for no limit.
        kernel: A kernelspec's name; None for the conductor's own interpreter.
        html: Whether to write HTML reports; `shared`: reports that share their styles.
        preload: Modules to import ahead besides those that the flow imports; False for none.
        max_age: Seconds for which a run that connected to other hosts is reused; None for ever.
    """

    runs: str = attrs.field(default="runs", metadata={"check": _folder})
    flows: tuple[str, ...] = attrs.field(default=("flow", "flows"), metadata={"check": _folders})
    workers: int | None = attrs.field(default=None, metadata={"check": _count})
    timeout: float | None = attrs.field(default=None, metadata={"check": _seconds})
    cell_timeout: float | None = attrs.field(default=None, metadata={"check": _seconds})
    kernel: str | None = attrs.field(default=None, metadata={"check": _name})
    html: bool | str = attrs.field(default=True, metadata={"check": _html})
    preload: _Preload = attrs.field(default=True, metadata={"check": _modules})
    max_age: float | None = attrs.field(default=None, metadata={"check": _age})

    def of(
        self, language: str, header: Mapping[str, Any] = _NO_HEADER, flow: object = ""
    ) -> Settings:
        """Those for one flow: the kernel is one for Python, and `max_age` may be in its header.

        Args:
            language: The flow's language.
            header: Its notebook metadata, where `ductaflow: {max_age: 1d}` may stand.
            flow: What to call it in a message.

        Raises:
            SettingsError: The header's `max_age` is no age.
        """
        own = header.get("ductaflow")
        given = own.get("max_age") if isinstance(own, Mapping) else None
        changes: dict[str, Any] = {} if language == "python" else {"kernel": None}
        if given is not None:
            changes["max_age"] = _checked("max_age", given, f"the header of {flow}: ductaflow")
        return attrs.evolve(self, **changes) if changes else self


DEFAULTS = Settings()

_FIELDS: dict[str, attrs.Attribute[Any]] = {a.name: a for a in attrs.fields(Settings)}
VARIABLES = {f"{VARIABLE_PREFIX}{name.upper()}": name for name in _FIELDS}
"""The environment variables that override a setting."""


# --- reading ----------------------------------------------------------------------------------


def load_settings(root: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of a project.

    Args:
        root: The project root.
        environment: The environment; the process's own for None.

    Raises:
        SettingsError: A key is unknown or its value unfit, or the file cannot be read.
    """
    env = os.environ if environment is None else environment
    settings = _of_file(root)
    overrides = {
        name: _checked(name, _from_text(name, env[variable]), variable)
        for variable, name in VARIABLES.items()
        if env.get(variable)
    }
    if overrides.get("html") is True and settings.html:
        del overrides["html"]  # they look as the file says
    return attrs.evolve(settings, **overrides) if overrides else settings


_Signature: TypeAlias = tuple[tuple[int, int] | None, ...]
_known: dict[Path, tuple[_Signature, Settings]] = {}


def _of_file(root: Path) -> Settings:
    """Read once per version of the files: every name under `runs/` asks."""
    files = root / SETTINGS_FILE, root / "pyproject.toml"
    signature = tuple(map(_version, files))
    known = _known.get(root)
    if known is None or known[0] != signature:
        known = _known[root] = (signature, _read(files[0], files[1]))
    return known[1]


def _version(file: Path) -> tuple[int, int] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


def _read(own: Path, pyproject: Path) -> Settings:
    own_table = _parse(own)
    tool = _parse(pyproject).get("tool", {})
    shared = tool.get("ductaflow", {}) if isinstance(tool, dict) else {}
    if own_table and shared:
        raise SettingsError(
            f"both {own} and [tool.ductaflow] in {pyproject} have settings; keep one of them"
        )
    where = str(own) if own_table else f"{pyproject}: [tool.ductaflow]"
    table = own_table or shared
    if not isinstance(table, dict):
        raise SettingsError(f"{where} must be a table of settings, not {table!r}")
    return Settings(**{name: _checked(name, value, where) for name, value in table.items()})


def _parse(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as e:
        raise SettingsError(f"cannot read {file}: {e}") from e
    if file.name != SETTINGS_FILE and "ductaflow" not in text:
        return {}
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        table: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise SettingsError(f"{file} is not valid TOML: {e}") from e
    return table


def _checked(name: str, value: Any, where: str) -> Any:
    field = _FIELDS.get(name)
    if field is None:
        raise SettingsError(f"{where} has no setting {name!r}; {nearest(name, _FIELDS)}")
    try:
        return field.metadata["check"](value)
    except ValueError as e:
        shown = "" if where in VARIABLES else f": {name}"
        raise SettingsError(f"{where}{shown} must be {e}, not {value!r}") from None


def _from_text(name: str, text: str) -> Any:
    """An environment variable's text as the value that TOML would have; itself if it is none."""
    if name in ("flows", "preload"):
        known: dict[str, Any] = {"true": True, "1": True, "false": False, "0": False}
        parts = [part.strip() for part in text.split(",") if part.strip()]
        return known.get(text.lower(), parts) if name == "preload" else parts
    if name == "html":
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    if name in ("workers", "timeout", "cell_timeout"):
        try:
            number = float(text)
        except ValueError:
            return text
        return int(number) if number.is_integer() else number
    return text
