"""What a piece of HTML holds that the page around it must know of."""

from __future__ import annotations

import re
from typing import Final

NO_DESCRIPTION: Final = "No description has been provided for this image"  # nbconvert's words

# Where a browser shows no text, or MathJax looks for no formula.
_OPAQUE = r"<(script|style|pre|code|textarea|svg)\b.*?</\1\s*>|<!--.*?-->"
_ATTRIBUTES = r"""(?:[^>"']|"[^"]*"|'[^']*')*"""
_MARKUP = re.compile(rf"{_OPAQUE}|<[a-z/!]{_ATTRIBUTES}>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(
    rf"<(script|style|textarea)\b.*?</\1\s*>|<!--.*?-->|<(?P<name>[a-z][^\s/>]*){_ATTRIBUTES}>",
    re.IGNORECASE | re.DOTALL,
)
_ALT = re.compile(r"\salt\s*(?:=|/?>|\s)", re.IGNORECASE)
_REQUIRE = re.compile(r"\b(?:require|requirejs|define)\s*(?:\(|\.config\b)")
_FORMULA = re.compile(
    r"(?<!\\)\$\$[^\0]+?\$\$"
    r"|(?<![\\\w$])\$(?!\s)[^$\0\n]+?(?<![\s\\])\$(?!\w)"
    r"|\\\([^\0]+?\\\)"
    r"|\\\[[^\0]+?\\\]"
    r"|\\begin\{[a-z]+\*?\}",
    re.IGNORECASE,
)


def is_price(body: str, following: str) -> bool:
    """Whether `$body$`, with `following` behind it, is rather two amounts of money than a formula.

    As in "$5 and $6", or "US$ 5 and US$ 6". The rule is pandoc's (no digit behind the closing
    dollar), with its other one (no space within) only for what begins with a digit, since many
    notebooks have `$ x $`.
    """
    if following.isdigit():
        return True
    return body.lstrip()[:1].isdigit() and body[0].isspace() != body[-1].isspace()


def has_math(html: str) -> bool:
    """Whether `html` shows a TeX formula, outside code, tags and scripts."""
    if "$" not in html and "\\" not in html:
        return False
    return _FORMULA.search(_MARKUP.sub("\0", html)) is not None


def calls_require(script: str) -> bool:
    """Whether `script`, or HTML with scripts, counts on require.js being there."""
    return _REQUIRE.search(script) is not None


def describe_images(html: str) -> str:
    """Give every image without an `alt` text nbconvert's placeholder for it."""
    if "<img" not in html and "<IMG" not in html:
        return html
    return _TAG.sub(_described, html)


def _described(match: re.Match[str]) -> str:
    tag = match[0]
    if (match["name"] or "").lower() != "img" or _ALT.search(tag):
        return tag
    return f'{tag[:4]} alt="{NO_DESCRIPTION}"{tag[4:]}'
