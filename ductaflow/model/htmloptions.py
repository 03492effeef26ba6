"""How HTML looks: branding and what a reader sees first."""

from __future__ import annotations

import base64
import mimetypes
from functools import lru_cache
from pathlib import Path

import attrs

LOGOS = ("image/png", "image/jpeg", "image/svg+xml", "image/webp", "image/gif")


def _file(value: str | Path | None) -> Path | None:
    return None if value is None else Path(value).expanduser().absolute()


def _styles(value: str | Path) -> str:
    if isinstance(value, Path) or value.endswith(".css"):
        return Path(value).expanduser().read_text("utf-8")
    return value


@attrs.frozen(kw_only=True)
class HtmlOptions:
    """The looks of reports, and of the page about many of them.

    Attributes:
        title: What stands before every report's name, as a client's or a project's name.
        logo: A picture for the header: PNG, JPEG, SVG, WebP or GIF; it goes into the page.
        css: Styles of your own: the text, or a file whose name ends in `.css`.
        code: Whether a reader sees the code at first; a switch in the header turns it on and off.
        fold_lines: Text outputs of more lines than this are folded, and open by a click; None folds
            none.
        scripts: Whether scripts may run in a report, as those of interactive figures and of
            MathJax. Without them the page itself forbids them all, whatever outputs bring: formulas
            are shown as TeX, and outputs in a form that needs no script, if they have one. The page
            about many reports is made by its own script alone, in any case.
        template: A Jinja2 file for the page around the notebook, in place of our own. It gets
            `title`, `head` (styles and scripts), `header`, `body` and `scripts`, all HTML but the
            title, and is to put in the last four; its `<body>` needs the class `jp-Notebook` and
            `data-jp-theme-light="true"`, by which Jupyter's styles go.
        shared: Whether the reports of instances share what all of them have in common, our style
            sheet and scripts, in files that lie once in `runs/index_files/shared/`. Each then takes
            some 40 kB less, and needs its place in `runs/`; a delivered or bundled one is whole.
            These files are never deleted: there is one set for each version of ductaflow.
            A change of this alone runs nothing; `thin(share=True)` lets old reports share, too.

    Raises:
        ValueError: A file is not there, or the logo is no picture of these kinds.
    """

    title: str = ""
    logo: Path | None = attrs.field(default=None, converter=_file)
    css: str = attrs.field(default="", converter=_styles)
    code: bool = True
    fold_lines: int | None = attrs.field(default=400)
    scripts: bool = attrs.field(default=True, validator=attrs.validators.instance_of(bool))
    template: Path | None = attrs.field(default=None, converter=_file)
    shared: bool = attrs.field(default=False, validator=attrs.validators.instance_of(bool))

    @logo.validator
    @template.validator
    def _check_file(self, field: attrs.Attribute[Path | None], value: Path | None) -> None:
        if value is not None and not value.is_file():
            raise ValueError(f"{field.name}= names {value}, which is not a file")

    @logo.validator
    def _check_logo(self, _: object, value: Path | None) -> None:
        if value is not None and mimetypes.guess_type(value.name)[0] not in LOGOS:
            raise ValueError(f"logo= names {value}; it takes {', '.join(LOGOS)}")

    @fold_lines.validator
    def _check_lines(self, _: object, value: object) -> None:
        if value is not None and (type(value) is not int or value < 1):
            raise ValueError(f"fold_lines must be a positive integer or None, not {value!r}")

    @property
    def logo_uri(self) -> str | None:
        """The logo as it goes into a page, or None."""
        return None if self.logo is None else _data_uri(self.logo, self.logo.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _data_uri(path: Path, _version: int) -> str:
    kind = mimetypes.guess_type(path.name)[0]
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
