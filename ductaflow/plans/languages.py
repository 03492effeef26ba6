"""A config as source of other languages than Python: assignments that a flow's kernel runs.

One entry a language in `TRANSLATORS`: how it writes JSON's values, and how it assigns a variable.
Which keys become variables is the rule that Python's flows have, with the language's own idea of
a name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from ductaflow.errors import ConfigError
from ductaflow.model.plans import Config
from ductaflow.plans.variables import look_up, value_paths, variables


@attrs.frozen
class Translator:
    """How a language writes a config.

    Attributes:
        comment: What begins a comment.
        assign: Source that gives a variable (first argument) a value's source (second).
        value: Source of a value of JSON's types.
        name: What a variable may be called.
        reserved: Names that would break the flow if they were assigned.
        config: Source of the whole config; None for `value`.
    """

    comment: str
    assign: Callable[[str, str], str]
    value: Callable[[Any], str]
    name: re.Pattern[str] = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
    reserved: frozenset[str] = frozenset()
    config: Callable[[Any], str] | None = None

    def config_source(self, config: Config) -> str:
        """Source of the injected cell, which makes the variable `config`.

        Raises:
            ConfigError: The language cannot hold a value.
        """
        whole = (self.config or self.value)(config)
        return f"{self.comment} This instance's config.\n{self.assign('config', whole)}"

    def flatten_source(self, config: Config) -> str:
        """Source of the cell that makes variables of the config's keys, one level deep.

        Raises:
            ConfigError: The language cannot hold a value.
        """
        lines = [self.assign(name, self.value(value)) for name, value in self._variables(config)]
        if not lines:
            return f"{self.comment} No key of this config becomes a variable."
        return "\n".join([f"{self.comment} The config's keys as variables.", *lines])

    def _variables(self, config: Config) -> Iterator[tuple[str, Any]]:
        def named(key: str) -> str | None:
            fits = self.name.fullmatch(key) and key not in self.reserved and key != "config"
            return key if fits else None

        found = variables(config, named=named)
        nested_first = sorted(value_paths(config), key=len, reverse=True)
        for name in dict.fromkeys(path[-1] for path in nested_first):
            if name in found:
                yield name, look_up(config, found[name])


# --- values --------------------------------------------------------------------------------------


def _values(
    *,
    text: Callable[[str], str],
    words: tuple[str, str, str],
    floats: tuple[str, str, str],
    array: Callable[[list[str]], str],
    mapping: Callable[[Mapping[str, str]], str],
    integer: Callable[[int], str] = str,
    number: Callable[[str], str] = str,
) -> Callable[[Any], str]:
    """A function that writes JSON's values.

    Args:
        text: Writes a string.
        words: For null, true and false.
        floats: For infinity, minus infinity and not a number.
        array: Writes an array of written items.
        mapping: Writes an object; its keys are plain, its values written.
        integer: Writes a whole number.
        number: Writes a finite number with a fraction, of Python's digits for it.
    """

    def write(value: Any) -> str:
        if value is None:
            return words[0]
        if isinstance(value, bool):
            return words[1] if value else words[2]
        if isinstance(value, str):
            return text(value)
        if isinstance(value, int):
            return integer(value)
        if isinstance(value, float):
            if math.isnan(value):
                return floats[2]
            return number(repr(value)) if math.isfinite(value) else floats[value < 0]
        if isinstance(value, dict):
            return mapping({key: write(item) for key, item in value.items()})
        return array([write(item) for item in value])

    return write


def _escaped(special: Mapping[str, str], hexadecimal: str) -> Callable[[str], str]:
    """A function that writes a string in double quotes.

    Args:
        special: Characters, and how they are written.
        hexadecimal: How all other control characters are, for `str.format`.
    """

    def quote(text: str) -> str:
        parts = (
            special[c]
            if c in special
            else hexadecimal.format(ord(c))
            if not c.isprintable() and ord(c) < 0x10000
            else c
            for c in text
        )
        return f'"{"".join(parts)}"'

    return quote


_C_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _without_nul(language: str, quote: Callable[[str], str]) -> Callable[[str], str]:
    def checked(text: str) -> str:
        if "\0" in text:
            raise ConfigError(f"a string of {language} cannot hold the character NUL: {text!r:.60}")
        return quote(text)

    return checked


def _joined(begin: str, separator: str, end: str) -> Callable[[list[str]], str]:
    return lambda items: f"{begin}{separator.join(items)}{end}"


def _pairs(
    begin: str, pair: str, separator: str, end: str, quote: Callable[[str], str]
) -> Callable[[Mapping[str, str]], str]:
    """A function that writes an object; `pair` is filled with the quoted key and the value."""
    return lambda items: (
        begin + separator.join(pair.format(quote(key), item) for key, item in items.items()) + end
    )


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# --- the languages -------------------------------------------------------------------------------

_r_text = _without_nul("R", _escaped(_C_ESCAPES, "\\u{:04x}"))


def _r_mapping(items: Mapping[str, str]) -> str:
    if not items:
        return "setNames(list(), character(0))"
    if all(items):  # an empty name is a syntax error
        return "list(" + ", ".join(f"{_r_text(k)} = {v}" for k, v in items.items()) + ")"
    names = ", ".join(map(_r_text, items))
    return f"setNames(list({', '.join(items.values())}), c({names}))"


_R = Translator(
    comment="#",
    assign="{} <- {}".format,
    value=_values(
        text=_r_text,
        words=("NULL", "TRUE", "FALSE"),
        floats=("Inf", "-Inf", "NaN"),
        array=_joined("list(", ", ", ")"),
        mapping=_r_mapping,
        integer=lambda number: f"{number}L" if abs(number) < 1 << 31 else str(number),
    ),
    name=re.compile(r"(?:[A-Za-z]|\.(?![0-9]))[A-Za-z0-9._]*"),
    reserved=_words(
        "if else repeat while function for next break in TRUE FALSE NULL Inf NaN NA NA_integer_ "
        "NA_real_ NA_character_ NA_complex_ ... T F c list"
    ),
)

_julia_text = _escaped({**_C_ESCAPES, "$": "\\$"}, "\\u{:04x}")
_JULIA = Translator(
    comment="#",
    assign="{} = {}".format,
    value=_values(
        text=_julia_text,
        words=("nothing", "true", "false"),
        floats=("Inf", "-Inf", "NaN"),
        array=_joined("[", ", ", "]"),
        mapping=_pairs("Dict{String, Any}(", "{} => {}", ", ", ")", _julia_text),
    ),
    reserved=_words(
        "baremodule begin break catch const continue do else elseif end export false finally for "
        "function global if import let local macro module quote return struct true try using "
        "while ans Base Core Main"
    ),
)

_scala_text = _escaped(_C_ESCAPES, "\\u{:04x}")


def _scala_integer(number: int) -> str:
    if -(1 << 31) <= number < 1 << 31:
        return str(number)
    return f"{number}L" if -(1 << 63) <= number < 1 << 63 else f'BigInt("{number}")'


_SCALA = Translator(
    comment="//",
    assign="val {} = {}".format,
    value=_values(
        text=_scala_text,
        words=("None", "true", "false"),
        floats=("Double.PositiveInfinity", "Double.NegativeInfinity", "Double.NaN"),
        array=_joined("Seq(", ", ", ")"),
        mapping=_pairs("Map[String, Any](", "{} -> {}", ", ", ")", _scala_text),
        integer=_scala_integer,
    ),
    name=re.compile(r"[A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)*"),
    reserved=_words(
        "abstract case catch class def do else enum export extends false final finally for given "
        "if implicit import lazy match new null object override package private protected return "
        "sealed super then this throw trait true try type val var while with yield"
    ),
)


_bash_text = _without_nul("Bash", lambda text: "'" + text.replace("'", "'\\''") + "'")


def _bash_value(value: Any) -> str:
    """A scalar as a word, an array of them as an array, anything else as JSON text."""
    if isinstance(value, list) and not any(isinstance(item, (list, dict)) for item in value):
        return f"({' '.join(map(_bash_value, value))})"
    if value is None:
        return "''"
    if isinstance(value, str):
        return _bash_text(value)
    if isinstance(value, (list, dict)):
        return _bash_text(json.dumps(value, ensure_ascii=False))
    return str(value).lower() if isinstance(value, bool) else _bash_text(str(value))


_BASH = Translator(
    comment="#",
    assign="{}={}".format,
    value=_bash_value,
    reserved=_words(
        "BASHOPTS BASH_VERSINFO EUID PPID SHELLOPTS UID _ IFS PATH HOME PWD OLDPWD SHELL ENV "
        "BASH_ENV LD_LIBRARY_PATH LD_PRELOAD PS1 PS2 PS4 PROMPT_COMMAND OPTIND OPTARG"
    ),
    config=lambda config: _bash_text(json.dumps(config, ensure_ascii=False)),
)


def _matlab_text(text: str) -> str:
    """In single quotes, where nothing but the quote is special; control characters by number."""
    parts = re.split(r"([\x00-\x1f\x7f]+)", text)
    written = [
        f"char([{' '.join(str(ord(c)) for c in part)}])"
        if i % 2
        else "'" + part.replace("'", "''") + "'"
        for i, part in enumerate(parts)
        if part or len(parts) == 1
    ]
    return written[0] if len(written) == 1 else f"[{' '.join(written)}]"


def _matlab_mapping(items: Mapping[str, str]) -> str:
    if not items:
        return "containers.Map()"
    keys, values = ", ".join(map(_matlab_text, items)), ", ".join(items.values())
    return f"containers.Map({{{keys}}}, {{{values}}}, 'UniformValues', false)"


_MATLAB = Translator(
    comment="%",
    assign="{} = {};".format,
    value=_values(
        text=_matlab_text,
        words=("[]", "true", "false"),
        floats=("Inf", "-Inf", "NaN"),
        array=_joined("{", ", ", "}"),
        mapping=_matlab_mapping,
    ),
    name=re.compile(r"[A-Za-z][A-Za-z0-9_]*"),
    reserved=_words(
        "break case catch classdef continue else elseif end for function global if otherwise "
        "parfor persistent return spmd switch try while containers char true false Inf NaN"
    ),
)

_csharp_text = _escaped(_C_ESCAPES, "\\u{:04x}")


def _dotnet_integer(number: int) -> str:
    if -(1 << 31) <= number < 1 << 31:
        return str(number)
    if -(1 << 63) <= number < 1 << 63:
        return f"{number}L"
    return f'System.Numerics.BigInteger.Parse("{number}")'


_CSHARP = Translator(
    comment="//",
    assign=lambda name, value: (
        f"object {name} = null;" if value == "null" else f"var {name} = {value};"
    ),
    value=_values(
        text=_csharp_text,
        words=("null", "true", "false"),
        floats=("double.PositiveInfinity", "double.NegativeInfinity", "double.NaN"),
        array=lambda items: f"new object[] {{ {', '.join(items)} }}" if items else "new object[0]",
        mapping=_pairs(
            "new System.Collections.Generic.Dictionary<string, object> { ",
            "{{ {}, {} }}",
            ", ",
            " }",
            _csharp_text,
        ),
        integer=_dotnet_integer,
        number="{}D".format,
    ),
    reserved=_words(
        "abstract as base bool break byte case catch char checked class const continue decimal "
        "default delegate do double else enum event explicit extern false finally fixed float "
        "for foreach goto if implicit in int interface internal is lock long namespace new null "
        "object operator out override params private protected public readonly ref return sbyte "
        "sealed short sizeof stackalloc static string struct switch this throw true try typeof "
        "uint ulong unchecked unsafe ushort using virtual void volatile while"
    ),
)

_fsharp_text = _escaped(_C_ESCAPES, "\\u{:04x}")
_FSHARP = Translator(
    comment="//",
    assign="let {} = {}".format,
    value=_values(
        text=_fsharp_text,
        words=("null", "true", "false"),
        floats=("infinity", "-infinity", "nan"),
        array=lambda items: f"[ {'; '.join(f'box ({item})' for item in items)} ]",
        mapping=_pairs("dict [ ", "({}, box ({}))", "; ", " ]", _fsharp_text),
        integer=_dotnet_integer,
    ),
    name=re.compile(r"[A-Za-z][A-Za-z0-9_]*"),
    reserved=_words(
        "abstract and as assert base begin class default delegate do done downcast downto elif "
        "else end exception extern false finally fixed for fun function global if in inherit "
        "inline interface internal lazy let match member module mutable namespace new not null of "
        "open or override private public rec return sig static struct then to true try type "
        "upcast use val void when while with yield box dict infinity nan"
    ),
)


def _powershell_text(text: str) -> str:
    # Typographic quotes end such a string, too.
    return "'" + re.sub(r"(['\u2018\u2019\u201a\u201b])", r"\1\1", text) + "'"


_POWERSHELL = Translator(
    comment="#",
    assign="${} = {}".format,
    value=_values(
        text=_powershell_text,
        words=("$null", "$true", "$false"),
        floats=("[double]::PositiveInfinity", "[double]::NegativeInfinity", "[double]::NaN"),
        array=_joined("@(", ", ", ")"),
        mapping=_pairs("@{", "{} = {}", "; ", "}", _powershell_text),
    ),
    reserved=_words("null true false PSItem args error input this host home pid pwd PROFILE _"),
)

_JAVASCRIPT = Translator(
    comment="//",
    assign="var {} = {};".format,
    value=lambda value: json.dumps(value, ensure_ascii=True),
    name=re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*"),
    reserved=_words(
        "await break case catch class const continue debugger default delete do else enum export "
        "extends false finally for function if implements import in instanceof interface let new "
        "null package private protected public return static super switch this throw true try "
        "typeof var void while with yield undefined NaN Infinity require module exports"
    ),
)

_ruby_text = _escaped({**_C_ESCAPES, "#": "\\#"}, "\\u{:04x}")
_RUBY = Translator(
    comment="#",
    assign="{} = {}".format,
    value=_values(
        text=_ruby_text,
        words=("nil", "true", "false"),
        floats=("Float::INFINITY", "-Float::INFINITY", "Float::NAN"),
        array=_joined("[", ", ", "]"),
        mapping=_pairs("{", "{} => {}", ", ", "}", _ruby_text),
    ),
    name=re.compile(r"[a-z_][A-Za-z0-9_]*"),
    reserved=_words(
        "alias and begin break case class def defined do else elsif end ensure false for if in "
        "module next nil not or redo rescue retry return self super then true undef unless until "
        "when while yield"
    ),
)

TRANSLATORS: Mapping[str, Translator] = {
    "r": _R,
    "julia": _JULIA,
    "scala": _SCALA,
    "bash": _BASH,
    "matlab": _MATLAB,
    "octave": _MATLAB,
    "c#": _CSHARP,
    "f#": _FSHARP,
    "powershell": _POWERSHELL,
    "pwsh": _POWERSHELL,
    "javascript": _JAVASCRIPT,
    "typescript": _JAVASCRIPT,
    "ruby": _RUBY,
}
"""By a kernelspec's language, in lower case."""
