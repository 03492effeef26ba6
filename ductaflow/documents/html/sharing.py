"""What all reports have in common, kept once for a project instead of in each of them.

A page is made whole; `shared` puts its styles and scripts into files named by their hashes, and
links in their place; `whole` undoes that for a copy that leaves `runs/`.
"""

from __future__ import annotations

import hashlib
import html
import os
import re
import shlex
from functools import lru_cache
from pathlib import Path
from typing import Final, final
from urllib.parse import quote

import attrs

from ductaflow.documents.html.header import HEADER_CSS
from ductaflow.documents.html.page import BUNDLES, bundle
from ductaflow.errors import ArtifactError
from ductaflow.files import jsonio
from ductaflow.project.layout import shared_dir

_STYLES: Final = re.compile(r"<style>\n(.*?)</style>\n", re.DOTALL)
_OURS: Final = HEADER_CSS.partition("\n")[0]
_ELSEWHERE: Final = re.compile(r"url\(\s*[\"']?(?!data:|#)|@import", re.IGNORECASE)
_POLICY: Final = '<meta http-equiv="Content-Security-Policy"'
_HEADER: Final = '<input type="checkbox" id="ductaflow-code"'
_STYLES_LATER: Final = "<!--ductaflow:styles-->\n"
_MARK: Final = 'data-ductaflow="shared"'
_LINK: Final = re.compile(rf'<link rel="stylesheet" href="[^"]*?([0-9a-f]+\.css)" {_MARK}>\n')
_SCRIPT: Final = re.compile(rf'<script src="[^"]*?([0-9a-f]+\.js)" {_MARK}[^>]*></script>')
_NOTICE: Final = re.compile(r'<p id="ductaflow-apart">.*?</p>\n', re.DOTALL)
_HIDDEN: Final = "#ductaflow-apart { display: none; }\n"  # as long as the styles are found


@final
@attrs.frozen
class SharedParts:
    """Where a report finds the parts that it shares with others.

    Attributes:
        folder: The folder of the parts, absolute.
        href: The same as the report names it.
        label: The report's instance, as `step/instance`.
    """

    folder: Path
    href: str
    label: str

    @classmethod
    def seen_from(cls, directory: Path, root: Path, label: str) -> SharedParts:
        """The parts of a project for a report.

        Args:
            directory: The folder of the report's instance.
            root: The project root.
            label: The instance.
        """
        folder = shared_dir(root)
        return cls(folder, quote(Path(os.path.relpath(folder, directory)).as_posix()), label)

    def keep(self, text: str, suffix: str) -> str:
        """Write a part if it is not there; how the report names it.

        Raises:
            ArtifactError: It cannot be written.
        """
        name, content = _named(text, suffix)
        path = self.folder / name
        try:
            there = path.stat().st_size == len(content)
        except OSError:
            there = False
        if not there:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as e:
                raise ArtifactError(
                    f"cannot make {self.folder}, where reports share their styles: "
                    f"{e.strerror or e}. Make it writable, or run with HtmlOptions(shared=False)."
                ) from e
            jsonio.write_atomic(path, content)
        return f"{self.href}/{name}"

    @property
    def notice(self) -> str:
        """What a reader sees where the parts are not found."""
        again = html.escape(f"ductaflow report {shlex.quote(self.label)}")
        return (
            '<p id="ductaflow-apart">The styles and scripts that this report shares with others '
            f"were not found in <code>{html.escape(self.href)}</code>. If it was copied from its "
            "place, take the copy that <code>ductaflow export</code> makes, which stands alone. If "
            f"they were deleted, <code>{again}</code> repairs the report.</p>\n"
        )


@lru_cache(maxsize=16)
def _named(text: str, suffix: str) -> tuple[str, bytes]:
    content = text.encode("utf-8", "surrogatepass")
    return f"{hashlib.sha256(content).hexdigest()[:20]}{suffix}", content


def shared(page: str, parts: SharedParts) -> str:
    """A report that has links to what all have in common.

    It may have been made by another version. It stays as it is if its styles cannot be told from
    others, or name files that lie beside it.

    Args:
        page: The report, whole.
        parts: Where the parts are kept; those that are not there are written.

    Raises:
        ArtifactError: A part cannot be written.
    """
    styles = _styles(page)
    if styles is None:
        return page
    css = parts.keep(styles[1] + _HIDDEN, ".css")
    link = f'<link rel="stylesheet" href="{css}" {_MARK}>\n'
    # A policy holds for what comes after it: so it need not allow any style sheet but this one.
    policy = page.find(_POLICY, 0, styles.start())
    at = policy if policy >= 0 else styles.start()
    rest = page[styles.end() :]
    for name in BUNDLES:
        inline = f"<script>{bundle(name)}</script>"
        if inline in rest:
            src = parts.keep(bundle(name), ".js")
            tell = "document.getElementById('ductaflow-apart').style.display='block'"
            linked = f'<script src="{src}" {_MARK} onerror="{tell}"></script>'
            rest = rest.replace(inline, linked, 1)
    rest = rest.replace(_HEADER, parts.notice + _HEADER, 1)
    return f"{page[:at]}{link}{page[at : styles.start()]}{_STYLES_LATER}{rest}"


def can_share(page: str) -> bool:
    """Whether a report has in it what it could share."""
    return _styles(page) is not None


def shares(page: str) -> bool:
    """Whether a report shares parts with others."""
    return _MARK in page


def lacks_parts(report: Path, root: Path) -> bool:
    """Whether a report is there, and what it shares with others is not."""
    try:
        whole(report, root)
    except ArtifactError:
        return True
    except OSError:
        return False
    return False


def whole(report: Path, root: Path) -> bytes | None:
    """A report with its own copy of what it shares, as it is to be where it is taken to.

    Args:
        report: A file.
        root: The project root.

    Returns:
        Its content; None if the file shares nothing.

    Raises:
        ArtifactError: A part is not there.
        OSError: The file cannot be read.
    """
    content = report.read_bytes()
    if _MARK.encode() not in content:
        return None
    page = content.decode("utf-8", "surrogatepass")
    link = _LINK.search(page, 0, max(page.find(_HEADER), 0))
    if link is None:
        return None
    folder = shared_dir(root)
    css = _part(folder / link[1], report).removesuffix(_HIDDEN)
    page = page.replace(link[0], "", 1)
    page = page.replace(_STYLES_LATER, f"<style>\n{css}</style>\n", 1)
    page = _SCRIPT.sub(lambda m: f"<script>{_part(folder / m[1], report)}</script>", page)
    return _NOTICE.sub("", page, count=1).encode("utf-8", "surrogatepass")


def _styles(page: str) -> re.Match[str] | None:
    """The element with our styles, if they can be moved to another folder."""
    end = max(page.find(_HEADER), 0)
    if _LINK.search(page, 0, end):
        return None
    for found in _STYLES.finditer(page, 0, end):
        if _OURS in found[1]:
            return None if _ELSEWHERE.search(found[1]) else found
    return None


def _part(path: Path, report: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "surrogatepass")  # line ends as they are
    except OSError as e:
        raise ArtifactError(
            f"{report} shares {path} with others, which cannot be read: {e.strerror or e}. "
            "`ductaflow report` with the instance's name makes both anew."
        ) from e
