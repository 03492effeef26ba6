"""The options of a run, each declared once, with all that is known about it.

Calls, settings, environment variables, the command line, records and docstrings read them here. A
new option is a key of `RunKeywords` (or of `NotebookKeywords`), which is what a caller may give,
and a field of `RunOptions`, which is what a run gets; what it does is all that is left to write.
"""

from __future__ import annotations

import inspect
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, Literal, TypedDict, TypeVar, get_type_hints

import attrs

from ductaflow.model.ages import Age, seconds_of
from ductaflow.model.htmloptions import HtmlOptions
from ductaflow.text import variables
from ductaflow.text.nearest import nearest

Function = TypeVar("Function", bound=Callable[..., Any])

IGNORABLE = ("python", "package", "variable")
"""Kinds of change that callers can have ignored; `package:numpy` is one package's."""


class NotebookKeywords(TypedDict, total=False):
    """What calls may say of how to run: None, or nothing, stands for the project's settings."""

    timeout: float | None
    cell_timeout: float | None
    kernel_name: str | None
    html: bool | HtmlOptions | Literal["shared"] | None
    preload: Sequence[str] | bool | None
    defaults: bool


class RunKeywords(NotebookKeywords, total=False):
    """The same of runs that may be reused."""

    force: bool
    reuse: bool
    ignore: Sequence[str]
    max_age: Age | None


# --- what each may be -------------------------------------------------------------------------


# Each raises a TypeError or a ValueError whose message is what the value must be.


def _seconds(value: Any) -> float | None:
    """A time limit, of which infinity is none: so a call can lift one that the settings have."""
    must_be = "a number of seconds greater than 0, or inf"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(must_be)
    seconds = float(value)  # also of numpy's, as cells of a table are
    if not seconds > 0:
        raise ValueError(must_be)
    return None if seconds == math.inf else seconds


def _age(value: Any) -> float | None:
    try:
        seconds = seconds_of(value, "")
    except (TypeError, ValueError) as e:
        must_be = "an age, as 3600 (seconds), a timedelta, '30m', '12h', '1d' or '2w'"
        raise type(e)(must_be) from None
    return None if seconds == math.inf else seconds


def _name(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a kernelspec's name")
    if not value:
        raise ValueError("a kernelspec's name")
    return value


def _html(value: Any) -> bool | HtmlOptions:
    if isinstance(value, HtmlOptions):
        return value
    if isinstance(value, str):
        if value == "shared":
            return HtmlOptions(shared=True)
    elif value in (True, False):  # or what equals one, as numpy's
        return bool(value)
    raise TypeError("true, false or 'shared'")


def _looks(said: bool | HtmlOptions, below: bool | HtmlOptions) -> bool | HtmlOptions:
    """A report that is wanted looks as the project says."""
    return below if said is True and below else said


def _modules(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, bool):
        return () if value else None
    names = _texts(value)
    if names is None:
        raise TypeError("true, false or a list of modules' names")
    return names


def _changes(value: Any) -> tuple[str, ...]:
    must_be = f"a list of {', '.join(map(repr, IGNORABLE))}, or of one such as 'package:numpy'"
    kinds = _texts(value)
    if kinds is None:
        raise TypeError(must_be)
    if any(kind.partition(":")[0] not in IGNORABLE for kind in kinds):
        raise ValueError(must_be)
    return kinds


def _texts(value: Any) -> tuple[str, ...] | None:
    """Texts, none of them empty, in a tuple; None if it is not that."""
    if isinstance(value, (str, Mapping)) or not isinstance(value, Iterable):
        return None
    texts = tuple(value)
    return texts if all(isinstance(text, str) and text for text in texts) else None


# --- how they are declared ----------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Option:
    """What is known of an option beside its type and its default.

    Attributes:
        about: What it does, for docstrings.
        read: Makes of what a caller or a project gives what a run gets; or raises, see above.
        from_text: Makes of an environment variable's text what `read` takes.
        setting: Its name in a project's settings and, with a prefix, in the environment; empty if
            only a call can say it.
        flag: Its flag on the command line, if it has one.
        metavar: What the flag's value is called; empty for a switch.
        help: What the flag does.
        recorded: Whether a record has it, so that who repeats the run does it alike.
        over: What holds, of what a call says and of what lies below it.
    """

    about: str
    read: Callable[[Any], Any] = bool
    from_text: Callable[[str], Any] = str
    setting: str = ""
    flag: str = ""
    metavar: str = ""
    help: str = ""
    recorded: bool = True
    over: Callable[[Any, Any], Any] = lambda said, _: said


def _option(default: Any, about: str, **more: Any) -> Any:
    return attrs.field(default=default, metadata={"option": Option(about=about, **more)})


@attrs.frozen(kw_only=True)
class RunOptions:
    """How to run, apart from what; see `OPTIONS` for what each is."""

    timeout: float | None = _option(
        None,
        "Seconds for a whole instance, from its first cell on; `math.inf` is no limit.",
        read=_seconds, from_text=variables.number, setting="timeout",
        flag="--timeout", metavar="S", help="Seconds for one instance.",
    )  # fmt: skip
    cell_timeout: float | None = _option(
        None,
        "Seconds for any one cell.",
        read=_seconds, from_text=variables.number, setting="cell_timeout",
        flag="--cell-timeout", metavar="S", help="Seconds for one cell.",
    )  # fmt: skip
    kernel_name: str | None = _option(
        None,
        "A kernelspec's name; the conductor's own interpreter if left out.",
        read=_name, setting="kernel",
        flag="--kernel", metavar="NAME", help="A kernelspec; this Python otherwise.",
    )  # fmt: skip
    html: bool | HtmlOptions = _option(
        True,
        "Whether to write the HTML report, or how it is to look.",
        read=_html, from_text=variables.switch, setting="html", over=_looks,
        flag="--html/--no-html", help="Whether to write HTML reports.",
    )  # fmt: skip
    preload: tuple[str, ...] | None = _option(
        (),
        "Kernels have the installed modules that the flow imports before it asks for them; names "
        "add to these, False turns it off.",
        read=_modules, from_text=variables.switch_or_names, setting="preload",
    )  # fmt: skip
    max_age: float | None = _option(
        None,
        "For how long a run that connected to other hosts is reused, for these cannot be asked "
        "whether they would answer the same again: a number of seconds, a `timedelta`, or text as "
        "`30m`, `12h`, `1d`, `2w`. If left out, as the flow's header or the project's settings "
        "say, else for ever. A run that connected to none does not age.",
        read=_age, setting="max_age",
        flag="--max-age", metavar="AGE",
        help="How long runs that used the network are reused: 30m, 12h, 1d, 2w.",
    )  # fmt: skip
    ignore: tuple[str, ...] = _option(
        (),
        "Changes that do not count: `python`, `package`, `variable`, or one of these as "
        "`package:numpy`.",
        read=_changes,
    )
    defaults: bool = _option(
        True,
        "Whether the flow's default counts; with False the config is what is given alone.",
    )
    force: bool = _option(False, "Run though nothing has changed.", recorded=False)
    reuse: bool = _option(
        True,
        "Whether an earlier run may be reused at all; False always runs, and looks at nothing.",
        recorded=False,
    )
    nested_workers: int | None = None
    """How many workers a sweep inside the flow takes; None for its own default."""

    @property
    def looks(self) -> HtmlOptions | None:
        """How the HTML report looks; None if there is to be none."""
        if isinstance(self.html, HtmlOptions):
            return self.html
        return HtmlOptions() if self.html else None


OPTIONS: Mapping[str, Option] = {
    field.name: field.metadata["option"]
    for field in attrs.fields(RunOptions)
    if "option" in field.metadata
}
"""The options by their names."""

SETTINGS: Mapping[str, str] = {o.setting: name for name, o in OPTIONS.items() if o.setting}
"""The options that a project may set, by the names of these settings."""


def check_keywords(
    function: Callable[..., Any], given: Mapping[str, object], keywords: type
) -> None:
    """Refuse a keyword that a function does not have, as Python does.

    Args:
        function: The function; see `takes`.
        given: What it was given as `**options`.
        keywords: Those that there are of them.

    Raises:
        TypeError: One is unknown.
    """
    for name in given:
        if name not in keywords.__annotations__:
            hint = nearest(name, inspect.signature(function).parameters)
            raise TypeError(f"{function.__name__}() has no option {name!r}; {hint}")


# --- how they are told --------------------------------------------------------------------------


# Since Python 3.13 docstrings have lost their indentation.
_OPTIONS_ENTRY = re.compile(r"^( *)\*\*options: .*\n(?:\1 +.*\n)*", re.MULTILINE)


def takes(keywords: type) -> Callable[[Function], Function]:
    """Give a function that takes `**options` their names, defaults and descriptions.

    For `help`, and for completion in a notebook; type checkers know them from `keywords`.
    """

    def give(function: Function) -> Function:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        options = [_parameter(name, keywords) for name in keywords.__annotations__]
        told: Any = function
        told.__annotations__ = {
            **{name: a for name, a in function.__annotations__.items() if name != "options"},
            **get_type_hints(keywords),
        }
        told.__signature__ = signature.replace(parameters=[*own, *options])
        if function.__doc__:
            function.__doc__ = _OPTIONS_ENTRY.sub(
                lambda found: "".join(_entry(name, found[1]) for name in keywords.__annotations__),
                function.__doc__,
            )
        return function

    return give


def _parameter(name: str, keywords: type) -> inspect.Parameter:
    annotation = keywords.__annotations__[name]
    default = None if OPTIONS[name].setting else getattr(attrs.fields(RunOptions), name).default
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=getattr(annotation, "__forward_arg__", annotation),
    )


def _entry(name: str, indent: str) -> str:
    """A line or more of a docstring's Args."""
    text = f"{name}: {OPTIONS[name].about}"
    lines = textwrap.fill(text, 92, subsequent_indent="    ")
    return textwrap.indent(lines, indent) + "\n"
