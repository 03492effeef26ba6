"""The slim bar over a report: how the run went, and the way to what is near it."""

from __future__ import annotations

import html
import mmap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

import attrs

from ductaflow.documents.html.text import encodable
from ductaflow.model.htmloptions import HtmlOptions

SLOT: Final = 4096  # bytes that are kept for links that are not known before others have run
MOST: Final = 6  # instances of one direction that are linked
_BEGIN: Final = "<!--ductaflow:near-->"
_END: Final = "<!--ductaflow:far-->"
_PLAIN: Final = HtmlOptions()
Near = tuple[str, str]
"""An instance: what to call it, and the relative path of its report."""

HEADER_CSS: Final = """\
#ductaflow-code { position: absolute; opacity: 0; pointer-events: none; }
.ductaflow-header { position: sticky; top: 0; z-index: 5; background: #fff; color: #1b2130;
  border-bottom: 1px solid #d9dee5; padding: 6px 14px; margin: 0 0 8px;
  font: 13px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif;
  display: flex; flex-wrap: wrap; gap: 2px 14px; align-items: center; }
.ductaflow-header a { color: #0b5cad; text-decoration: none; }
.ductaflow-header a:hover { text-decoration: underline; }
.ductaflow-header img { height: 24px; max-width: 140px; object-fit: contain; }
.ductaflow-header b { font-weight: 650; }
.ductaflow-header .status { font-weight: 600; border-radius: 99px; padding: 0 9px; }
.ductaflow-header .status.success { background: #e3f4e8; color: #176332; }
.ductaflow-header .status.warnings { background: #fdf0d8; color: #7d4600; }
.ductaflow-header .status.error { background: #fce6e7; color: #a01c27; }
.ductaflow-header :is(.facts, nav span) { color: #4c566a; }
.ductaflow-header nav { display: contents; }
.ductaflow-header details { position: relative; }
.ductaflow-header summary { cursor: pointer; }
.ductaflow-header details ol { position: absolute; top: 100%; left: -8px; margin: 4px 0;
  padding: 8px 14px; list-style: none; background: #fff; border: 1px solid #d9dee5;
  border-radius: 8px; min-width: 220px; max-width: 80vw; max-height: 70vh; overflow: auto;
  box-shadow: 0 8px 28px rgb(0 0 0 / 18%); }
.ductaflow-header .l2 { padding-left: 1em; }
.ductaflow-header .l3 { padding-left: 2em; }
.ductaflow-header .l4 { padding-left: 3em; }
.ductaflow-header label { margin-left: auto; cursor: pointer; border: 1px solid #d9dee5;
  border-radius: 8px; padding: 0 10px; }
.ductaflow-header label::after { content: "show code"; }
#ductaflow-code:checked ~ .ductaflow-header label::after { content: "hide code"; }
#ductaflow-code:focus-visible ~ .ductaflow-header label { outline: 2px solid #0b5cad; }
#ductaflow-code:not(:checked) ~ main .jp-CodeCell
  > .jp-Cell-inputWrapper:not(:focus, :focus-within) {
  height: 18px; overflow: hidden; cursor: pointer; }
#ductaflow-code:not(:checked) ~ main .jp-CodeCell
  > .jp-Cell-inputWrapper:not(:focus, :focus-within) > * { display: none; }
#ductaflow-code:not(:checked) ~ main .jp-CodeCell
  > .jp-Cell-inputWrapper:not(:focus, :focus-within)::before {
  content: "\\25B8 code"; font: 11px/18px system-ui, Arial, sans-serif; color: #4c566a;
  padding-left: 76px; }
#ductaflow-code:not(:checked) ~ main
  :is(.celltag_injected-parameters, .celltag_ductaflow-flatten) { display: none; }
main :is(:target, h1, h2, h3, h4) { scroll-margin-top: 48px; }
@media (max-width: 640px) { .ductaflow-header { position: static; } }
@media print {
  .ductaflow-header { position: static; }
  .ductaflow-header :is(nav, label, details) { display: none; }
  #ductaflow-code:not(:checked) ~ main .jp-CodeCell > .jp-Cell-inputWrapper { display: none; }
}
"""


@attrs.frozen
class Heading:
    """A heading of the notebook.

    Attributes:
        level: 1 to 4.
        id: Its element's id.
        text: Its text as HTML without tags.
    """

    level: int
    id: str
    text: str


@attrs.frozen
class Head:
    """What the bar over a report says.

    Attributes:
        name: What was run, as `step / instance`.
        light: `success`, `warnings` or `error`, for its colour.
        status: How it ended, in words.
        facts: What else there is to say, as its duration.
        failing: The id of the failing cell's element, or None.
        config: The id of the config's element, or None.
        options: The looks.
        upstream: The instances whose files it read.
        index: The relative path of the page about many, or None.
    """

    name: str
    light: str
    status: str
    facts: tuple[str, ...] = ()
    failing: str | None = None
    config: str | None = None
    options: HtmlOptions = _PLAIN
    upstream: tuple[Near, ...] = ()
    index: str | None = None


def header(head: Head, headings: Sequence[Heading]) -> str:
    """The bar's HTML, the switch for the code before it."""
    options = head.options
    uri = options.logo_uri
    brand = f'<img src="{uri}" alt="">' if uri else ""
    if options.title:
        brand += f"<b>{_text(options.title)}</b>"
    facts = "".join(f'<span class="facts">{_text(fact)}</span>' for fact in head.facts)
    failing = f'<a href="#{_text(head.failing)}">failing cell</a>' if head.failing else ""
    config = f'<a href="#{_text(head.config)}">config</a>' if head.config else ""
    near = _slot(navigation(index=head.index, upstream=head.upstream))
    return (
        f'<input type="checkbox" id="ductaflow-code" aria-label="show code"'
        f"{' checked' if options.code else ''}>\n"
        f'<header class="ductaflow-header">{brand}<b>{_text(head.name)}</b>'
        f'<span class="status {head.light}">{_text(head.status)}</span>{facts}{failing}{config}'
        f'{_contents(headings)}<nav aria-label="near it">{near}</nav>'
        '<label for="ductaflow-code"></label></header>\n'
    )


def navigation(
    *,
    index: str | None = None,
    previous: Near | None = None,
    following: Near | None = None,
    upstream: Sequence[Near] = (),
    downstream: Sequence[Near] = (),
) -> str:
    """Links to what is near, in no more than `SLOT` bytes."""
    for most in range(MOST, -1, -1):
        parts = [
            _link(("all instances", index)) if index else "",
            _link((f"‹ {_short(previous[0])}", previous[1])) if previous else "",
            _link((f"{_short(following[0])} ›", following[1])) if following else "",
            _list("reads", upstream, most),
            _list("read by", downstream, most),
        ]
        text = "".join(filter(None, parts))
        if len(text.encode()) <= SLOT:
            return text
    return _link(("all instances", index)) if index and len(index) < SLOT // 4 else ""


def fill_navigation(
    report: Path,
    *,
    index: str | None = None,
    previous: Near | None = None,
    following: Near | None = None,
    upstream: Sequence[Near] = (),
    downstream: Sequence[Near] = (),
) -> bool:
    """Put into a finished report the links to what is near it.

    The place for them has its size from the beginning, so that nothing else in the file moves.

    Returns:
        Whether the report is there and has a place for them.
    """
    text = navigation(
        index=index, previous=previous, following=following, upstream=upstream,
        downstream=downstream,
    )  # fmt: skip
    new = _slot(text).encode()
    try:
        with report.open("r+b") as file:
            if not report.stat().st_size:
                return False
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                at = content.find(_BEGIN.encode())
                if at < 0 or content[at + len(new) - len(_END) : at + len(new)] != _END.encode():
                    return False
                same = content[at : at + len(new)] == new
            if not same:
                file.seek(at)
                file.write(new)
    except OSError:
        return False
    return True


def keep_navigation(old: str, new: str) -> str:
    """A report made anew, with the links to what is near it that the old one has been given."""
    links = _links_in(old)
    return new.replace(_links_in(new), links, 1) if links else new


def _links_in(page: str) -> str:
    begin = page.find(_BEGIN)
    end = page.find(_END, begin)
    return page[begin:end] if 0 <= begin < end else ""


def _slot(text: str) -> str:
    return f"{_BEGIN}{text}{' ' * (SLOT - len(text.encode()))}{_END}"


def _list(label: str, instances: Sequence[Near], most: int) -> str:
    if not instances:
        return ""
    links = " ".join(_link((_short(name), path)) for name, path in instances[:most])
    more = f" and {len(instances) - most} more" if len(instances) > most else ""
    return f"<span>{label} {links}{more}</span>"


def _link(near: Near) -> str:
    return f'<a href="{quote(near[1], safe="/")}">{_text(near[0])}</a>'


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:22]}…{name[-17:]}"


def _contents(headings: Iterable[Heading]) -> str:
    items = "".join(f'<li class="l{h.level}"><a href="#{h.id}">{h.text}</a></li>' for h in headings)
    return f"<details><summary>contents</summary><ol>{items}</ol></details>" if items else ""


def _text(text: str) -> str:
    return html.escape(encodable(text))
