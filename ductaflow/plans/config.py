"""Configs: to JSON's types once at the boundary, to Python text, to a flow's variables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from datetime import date, time, timedelta
from enum import Enum
from pathlib import Path
from typing import Any

from ductaflow.errors import ConfigError
from ductaflow.model.plans import Config
from ductaflow.secrets.references import SECRET, Secret, check_source, is_reference, reference

MAX_DEPTH = 100
"""Levels of nesting; Python reads a literal of at most 200."""

_MAX_INT_BITS = 14_000  # CPython reads and writes integers of up to 4300 digits as text

KeyPath = tuple[str | int, ...]
"""Where a value stands: keys and list indices from the top."""


# --- normalising -----------------------------------------------------------------------------


def normalise(config: Mapping[str, Any], directory: Path | None = None) -> Config:
    """The config in JSON's types, which is what a flow sees.

    Stay as they are: `None`, `bool`, `int`, `float` (NaN and infinities too), `str`, lists and
    dicts. Converted: numpy and pandas scalars and subclasses of the builtins to the builtin;
    tuples, other sequences and mappings to lists and dicts; enum members to their value; a `Run` to
    its folder, relative to the instance's; paths to strings; dates and times to ISO 8601 strings,
    timedeltas to ISO 8601 durations; `pd.NA` and `NaT` to None; a `secret` to a reference,
    `{"$secret": source}`. Nothing else is: nothing is ever silently turned into a string.

    Args:
        config: A mapping, or a pandas Series as a table's row is one.
        directory: The folder of the instance that gets it; the current one if left out.

    Returns:
        A copy that shares no container with `config`, its keys in their order.

    Raises:
        ConfigError: A value or a key that cannot be normalised; names its dotted key, its type
            and what to do.
    """
    if type(config) is not dict and _is(config, "pandas", "Series"):
        config = config.to_dict()  # type: ignore[attr-defined]
    if not isinstance(config, Mapping):
        raise ConfigError(
            f"the config is of type {_type_name(config)}; give a dict, or a row of a table"
        )
    return _Normaliser(directory).mapping(config, (), ())


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` updated by `over`: dicts key by key, all else replaced."""
    result = dict(base)
    for key, value in over.items():
        before = result.get(key)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        both = both and not (is_reference(before) or is_reference(value))
        result[key] = merged(before, value) if both else value  # type: ignore[arg-type]
    return result


def dotted(path: KeyPath) -> str:
    """A path as people write it: `a.b[2].c`; keys that are no names in brackets."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.isidentifier():
            text += f".{part}" if text else part
        else:
            text += f"[{part!r}]"
    return text


def _at(path: KeyPath) -> str:
    return f"the config's key `{dotted(path)}`" if path else "the config"


class _Normaliser:
    """Normalises what goes to one folder."""

    def __init__(self, directory: Path | None) -> None:
        self.directory = directory

    def mapping(self, value: Mapping[Any, Any], path: KeyPath, above: tuple[int, ...]) -> Config:
        above = _enter(value, path, above)
        if SECRET in value:
            others = ", ".join(repr(key) for key in value if key != SECRET)
            beside = f"{SECRET!r} beside {others}" if others else f"{SECRET!r} for all of it"
            raise ConfigError(
                f"{_at(path)} has {beside}; a secret is one value, and {SECRET!r} its only key: "
                f'{{"password": {{"{SECRET}": "env:NAME"}}}}'
            )
        result: Config = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise ConfigError(
                    f"{_at(path)} has the key {key!r} of type {_type_name(key)}; keys in a config "
                    f"are strings: write {str(key)!r}"
                )
            name = str.__str__(key)
            result[name] = self.value(item, (*path, name), above)
        return result

    def value(self, value: Any, path: KeyPath, above: tuple[int, ...]) -> Any:
        kind = type(value)
        if kind is str or kind is float or kind is bool or value is None:
            return value
        if kind is int:
            return _integer(value, path)
        if isinstance(value, Enum):
            return self.value(value.value, path, above)
        if isinstance(value, int):
            return _integer(value, path)
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, float):
            return float.__float__(value)
        if isinstance(value, Secret):
            return reference(value.source)
        if isinstance(value, Mapping):
            if is_reference(value):
                return _reference(value[SECRET], path)
            return self.mapping(value, path, above)
        if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
            above = _enter(value, path, above)
            return [self.value(item, (*path, i), above) for i, item in enumerate(value)]
        if is_run(value):
            return relative_folder(value.dir, self.directory)
        if _is(value, "numpy", "ndarray") and value.ndim == 0:
            item = value[()]
            if type(item) is not type(value):  # numpy.ma.masked has itself inside
                return self.value(item, path, ())
        return _scalar(value, path)


def _reference(source: object, path: KeyPath) -> dict[str, str]:
    try:
        check_source(source)
    except ConfigError as e:
        raise ConfigError(f"{_at(path)}: {e}") from None
    return reference(str(source))


def is_run(value: object) -> bool:
    """Whether it is a `Run`, which stands above this module."""
    return _is(value, "ductaflow", "Run")


def relative_folder(folder: Path, directory: Path | None) -> str:
    """A run's folder as seen from an instance's: `../../prepare/am`, its last part its name.

    Links above it are followed, as the system does with `..`; on another drive it stays absolute.
    """
    there = Path(os.path.realpath(folder.parent), folder.name)
    try:
        found = os.path.relpath(there, os.path.realpath(directory or os.curdir))
    except ValueError:
        return folder.absolute().as_posix()
    return found.replace(os.sep, "/")


def _scalar(value: Any, path: KeyPath) -> Any:
    if _is(value, "pandas", "NaTType", "NAType"):  # before dates: NaT is a datetime to Python
        return None
    if isinstance(value, (date, time)):  # a datetime, and so a pd.Timestamp, is a date
        return value.isoformat()
    if isinstance(value, timedelta):
        microseconds = (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds
        return _duration(microseconds * 1000 + int(getattr(value, "nanoseconds", 0)))
    if isinstance(value, os.PathLike):
        text = os.fspath(value)
        if isinstance(text, str):
            return str.__str__(text)
    if _is(value, "numpy", "generic"):
        kind = value.dtype.kind
        if kind == "b":
            return bool(value)
        if kind in "iu":
            return int(value)
        if kind == "f":
            return float(value)
        if kind in "mM" and str(value) == "NaT":
            return None
        if kind == "M":  # numpy's text is ISO 8601, with as many digits as the unit has
            return re.sub(r"\.0+$|(?<=\.\d{6})000$", "", str(value))
        unit = re.fullmatch(r"timedelta64\[(\d*)(\w+)\]", value.dtype.name)
        if unit and unit[2] in _NANOSECONDS:
            ticks = int(value.astype("int64")) * int(unit[1] or 1)
            return _duration(ticks * _NANOSECONDS[unit[2]])
    raise ConfigError(
        f"{_at(path)} is of type {_type_name(value)}, which JSON cannot hold; {_advice(value)}"
    )


_NANOSECONDS = {
    "W": 604_800 * 10**9,
    "D": 86_400 * 10**9,
    "h": 3_600 * 10**9,
    "m": 60 * 10**9,
    "s": 10**9,
    "ms": 10**6,
    "us": 10**3,
    "ns": 1,
}


def _duration(nanoseconds: int) -> str:
    """ISO 8601 duration, as `P1DT2H3M4.5S`; a negative one has its sign in front."""
    seconds, fraction = divmod(abs(nanoseconds), 10**9)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    decimals = f".{fraction:09d}".rstrip("0") if fraction else ""
    sign = "-" if nanoseconds < 0 else ""
    return f"{sign}P{days}DT{hours}H{minutes}M{seconds}{decimals}S"


def _integer(value: int, path: KeyPath) -> int:
    number = int.__int__(value)
    if number.bit_length() > _MAX_INT_BITS:
        raise ConfigError(
            f"{_at(path)} is an integer of {number.bit_length()} bits, more than Python reads "
            "back from text; give it as a float or as hex(...)"
        )
    return number


def _enter(value: object, path: KeyPath, above: tuple[int, ...]) -> tuple[int, ...]:
    """Step into a container, watching for one that holds itself."""
    if id(value) in above:
        raise ConfigError(
            f"{_at(path)} is the same {_type_name(value)} as one that it lies in; "
            "a config cannot hold itself: give a copy of the part that is meant"
        )
    if len(above) >= MAX_DEPTH:
        raise ConfigError(
            f"the config's key `{dotted(path[:4])}…` is nested deeper than {MAX_DEPTH} levels; "
            "make it flatter, or write it to a file and give its path"
        )
    return (*above, id(value))


_ADVICE = {
    "Decimal": "say which is meant, `float(...)` or `str(...)`",
    "Fraction": "say which is meant, `float(...)` or `str(...)`",
    "complex64": "give `[z.real, z.imag]`",
    "complex": "give `[z.real, z.imag]`",
    "set": "sets have no order: give `sorted(...)`",
    "frozenset": "sets have no order: give `sorted(...)`",
    "bytes": "give `.decode()` if it is text, or save it and give its path",
    "bytearray": "give `.decode()` if it is text, or save it and give its path",
    "memoryview": "give `.tolist()`, or save it and give its path",
    "generator": "give `list(...)`",
    "Period": "give `str(...)`",
    "UUID": "give `str(...)`",
    "timedelta64": "its unit has no fixed length: give it in days or shorter",
    "MaskedConstant": "give None, or leave it out",
}
_IN_PLACE = "give a number, a string, a list or a dict in its place"
_CONVERTERS = {
    "model_dump": "give `.model_dump()`",
    "tolist": "give it as a list with `.tolist()`, or save it and give its path",
    "to_list": "give it as a list with `.to_list()`, or save it and give its path",
    "to_pylist": "give it as a list with `.to_pylist()`, or save it and give its path",
    "to_pydict": "save it and give its path, or give `.to_pydict()`",
}


def _advice(value: object) -> str:
    if isinstance(value, type) or type(value).__module__.partition(".")[0] == "ductaflow":
        return _IN_PLACE
    if _is(value, "pandas", "DataFrame"):
        return "save it and give its path, or give `.to_dict('list')`"
    if _is(value, "polars", "DataFrame"):
        return "save it and give its path, or give `.to_dict(as_series=False)`"
    for kind in type(value).__mro__:
        if kind.__name__ in _ADVICE:
            return _ADVICE[kind.__name__]
    if _is(value, "numpy", "generic"):
        return _IN_PLACE
    for method, advice in _CONVERTERS.items():
        if callable(getattr(value, method, None)):
            return advice
    if hasattr(value, "__dataclass_fields__"):
        return "give `dataclasses.asdict(...)`"
    if hasattr(value, "__attrs_attrs__"):
        return "give `attrs.asdict(...)`"
    if hasattr(value, "keys") and hasattr(value, "__getitem__"):
        return "give `dict(...)`"
    if hasattr(value, "__iter__") and not hasattr(value, "read"):
        return "give `list(...)`"
    return _IN_PLACE


def _is(value: object, package: str, *names: str) -> bool:
    """Whether one of `value`'s classes is so named; imports nothing to find out."""
    return any(
        kind.__name__ in names and kind.__module__.partition(".")[0] == package
        for kind in type(value).__mro__
    )


def _type_name(value: object) -> str:
    kind = type(value)
    module = kind.__module__.partition(".")[0]
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


# --- Python text -----------------------------------------------------------------------------


_KINDS = {
    type(None): "nothing", bool: "truth value", int: "number", float: "number", str: "text",
    list: "list", dict: "mapping",
}  # fmt: skip


def kind_of(value: Any) -> str:
    """What kind of value it is, of a config that is normalised, in a word or two."""
    return _KINDS[str if is_reference(value) else type(value)]
