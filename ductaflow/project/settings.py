"""A project's settings: `[tool.ductaflow]` in `pyproject.toml`, or `ductaflow.toml`.

What a call is told wins over an environment variable, which wins over the file, which wins over the
defaults here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias, final

import attrs

from ductaflow.errors import SettingsError
from ductaflow.model.options import OPTIONS, SETTINGS
from ductaflow.text import variables
from ductaflow.text.nearest import nearest

SETTINGS_FILE = "ductaflow.toml"
VARIABLE_PREFIX = "DUCTAFLOW_"


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


_NO_HEADER: Mapping[str, Any] = {}


@final
@attrs.frozen
class Settings:
    """What a project, or its environment, says where calls say nothing.

    Attributes:
        runs: The folder of all runs, from the root.
        flows: Folders in which a flow is found by its bare name.
        workers: How many instances of a sweep run at once; None for one a core.
        options: Those of runs that are set, by their settings' names; see `model.options`.
    """

    runs: str = attrs.field(default="runs", metadata={"read": _folder})
    flows: tuple[str, ...] = attrs.field(
        default=("flow", "flows"), metadata={"read": _folders, "text": variables.names}
    )
    workers: int | None = attrs.field(
        default=None, metadata={"read": _count, "text": variables.number}
    )
    options: Mapping[str, Any] = attrs.field(factory=dict, hash=False)

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
        options = dict(self.options)
        if language != "python":
            options.pop("kernel", None)
        if given is not None:
            options["max_age"] = _checked("max_age", given, f"the header of {flow}: ductaflow")
        return attrs.evolve(self, options=options)


DEFAULTS = Settings()

_READ: dict[str, Callable[[Any], Any]] = {
    **{a.name: a.metadata["read"] for a in attrs.fields(Settings) if "read" in a.metadata},
    **{name: OPTIONS[option].read for name, option in SETTINGS.items()},
}
_TEXT: dict[str, Callable[[str], Any]] = {
    **{a.name: a.metadata.get("text", str) for a in attrs.fields(Settings)},
    **{name: OPTIONS[option].from_text for name, option in SETTINGS.items()},
}
VARIABLES = {f"{VARIABLE_PREFIX}{name.upper()}": name for name in _READ}
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
        name: _checked(name, _TEXT[name](env[variable]), variable)
        for variable, name in VARIABLES.items()
        if env.get(variable)
    }
    return _over(settings, overrides)


def _over(settings: Settings, said: Mapping[str, Any]) -> Settings:
    """Settings with what is said over them."""
    own = {name: value for name, value in said.items() if name not in SETTINGS}
    options = dict(settings.options)
    for name in said.keys() & SETTINGS.keys():
        over = OPTIONS[SETTINGS[name]].over
        options[name] = over(said[name], options.get(name, said[name]))
    return attrs.evolve(settings, **own, options=options)


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
    return _over(DEFAULTS, {name: _checked(name, v, where) for name, v in table.items()})


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
    read = _READ.get(name)
    if read is None:
        raise SettingsError(f"{where} has no setting {name!r}; {nearest(name, _READ)}")
    try:
        return read(value)
    except (TypeError, ValueError) as e:
        shown = "" if where in VARIABLES else f": {name}"
        raise SettingsError(f"{where}{shown} must be {e}, not {value!r}") from None
