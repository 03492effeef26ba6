"""`collate`: one page and one summary of many instances."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, final

import attrs

from ductaflow.documents.html import HtmlOptions, fill_navigation, whole
from ductaflow.errors import ArtifactError, DuctaflowError
from ductaflow.files import jsonio
from ductaflow.history.run import Run
from ductaflow.history.runs import Runs
from ductaflow.project.artifacts import REPORT
from ductaflow.project.layout import iter_instances, iter_steps, runs_dir
from ductaflow.project.names import INDEX_FILES, INDEX_PAGE, SUMMARY, check_name
from ductaflow.project.root import project_root, target_folder
from ductaflow.report.facts import InstanceFacts, Light, read_facts
from ductaflow.report.graph import Graph, graph_of
from ductaflow.report.links import Links
from ductaflow.report.media import Media, MediaFolder
from ductaflow.report.page import index_page, lights, links, packed, row
from ductaflow.report.summary import causes, counts, summarise, summary_text
from ductaflow.text.hrefs import anchor

What: TypeAlias = str | Sequence[str] | Runs | Iterable[Run] | None

FULL_FIGURES = 2000  # instances up to which figures are kept in full size beside the page
_COPY = f"{INDEX_FILES}/reports/{{step}}/{{instance}}.html"


def collate(
    what: What = None,
    out: str | os.PathLike[str] | None = None,
    *,
    root: str | os.PathLike[str] | None = None,
    title: str | None = None,
    figures: bool = True,
    bundle: bool = False,
    html: HtmlOptions | None = None,
) -> Path:
    """Write one page about many instances, `index.html`, and `bulk_summary.json` beside it.

    The page needs no network and no server; its links are relative, so that the folder can be
    zipped, mailed or served together with the instances. Calling it again brings it up to date, and
    looks again only at notebooks that have changed.

    Args:
        what: A step's name, several, runs (`Runs`, or a list as from `get_all_instances`), or None
            for all of `runs/`.
        out: The folder to write into, made if need be, from the caller's current folder on (in a
            flow, the instance's); one outside the project by its whole path. `runs/` itself if
            left out.
        root: The project root; found from where the caller is, if left out.
        title: What to call it; the steps' names, or the project's, if left out.
        figures: Whether to show the instances' figures.
        bundle: Whether to copy the instances' reports too, so that the folder stands alone.
        html: The branding: `title`, `logo` and `css` are used.

    Returns:
        The page's path; in a notebook it is shown as a link.

    Raises:
        DuctaflowError: There is no such step, or no instance; or `out` is a URL, or a relative path
            that leads out of the project.
        NameRefused: A step's name is not a valid folder name.
        ArtifactError: The folder cannot be written, or the styles that a report shares, of which
            it is to get its own copy, are not there.
    """
    project = project_root(root)
    folder = runs_dir(project) if out is None else target_folder(out, project, "out")
    instances = list(select(what, project))
    if not instances:
        raise DuctaflowError(
            f"there is nothing to collate: {runs_dir(project)} has no instance"
            + (f" of {what!r}" if what is not None else "")
            + "; run some first"
        )
    site = Site.open(
        project, folder, title=title or _title(what, project), figures=figures,
        full=len(instances) <= FULL_FIGURES, html=html or HtmlOptions(),
    )  # fmt: skip
    site.write(instances, bundle=bundle)
    return Page.of(site.page, len(instances))


if TYPE_CHECKING:
    _Path = Path
else:
    _Path = type(Path())  # before Python 3.12 `Path` itself is made anew as one of these


@final
class Page(_Path):
    """A path that a notebook shows as a link to the page."""

    instances: int | None = None

    @classmethod
    def of(cls, path: Path, instances: int) -> Page:
        """The path of a page about so many instances."""
        page = cls(path)
        page.instances = instances
        return page

    def with_segments(self, *segments: str | os.PathLike[str]) -> Path:
        """What is made of it is a plain path (from Python 3.12 on)."""
        return Path(*segments)

    def _repr_html_(self) -> str:
        plural = "" if self.instances == 1 else "s"
        about = "" if self.instances is None else f": {self.instances} instance{plural}"
        return f"<div>{anchor(self, self.name)}{about}</div>"


def select(what: What, root: Path) -> Iterator[InstanceFacts]:
    """The instances that are meant.

    Raises:
        DuctaflowError: There is no such step.
        NameRefused: A step's name is not a valid folder name.
    """
    for folder in _folders(what, root):
        facts = read_facts(folder, root)
        if facts is not None:
            yield facts


def _folders(what: What, root: Path) -> Iterator[Path]:
    if isinstance(what, Runs):
        yield from (Path(entry.directory) for entry in what.entries)
        return
    items: list[str | Run]
    items = [what] if isinstance(what, str) else list(iter_steps(root) if what is None else what)
    there = set(iter_steps(root))
    for item in items:
        if isinstance(item, Run):
            yield item.dir
            continue
        if check_name(item, "step") not in there:
            known = ", ".join(sorted(there)) or "none"
            raise DuctaflowError(f"{runs_dir(root)} has no step {item!r}; there are: {known}")
        yield from iter_instances(root, item)


def _title(what: What, root: Path) -> str:
    if isinstance(what, str):
        return what
    if isinstance(what, Sequence) and not isinstance(what, Runs):
        names = list(dict.fromkeys(w if isinstance(w, str) else w.step for w in what))
        return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
    if isinstance(what, Runs):
        return ", ".join(dict.fromkeys(entry.step for entry in what.entries)) or root.name
    return root.name


@final
@attrs.define(eq=False)
class Site:
    """The folder with the page.

    Attributes:
        root: The project root.
        folder: Where the page lies, absolute.
        title: What it is called.
        html: The branding.
        media: What lies beside the page; None without figures.
    """

    root: Path
    folder: Path
    title: str
    html: HtmlOptions
    media: MediaFolder | None
    links: Links
    _session: str = attrs.field(factory=lambda: secrets.token_hex(4))

    @classmethod
    def open(
        cls, root: Path, folder: Path, *, title: str, figures: bool, full: bool, html: HtmlOptions
    ) -> Site:
        """Make the folder, if need be.

        Raises:
            ArtifactError: It cannot be made.
        """
        folder = Path(os.path.abspath(folder))  # noqa: PTH100  (symlinks stay what they are)
        files = folder / INDEX_FILES
        try:
            files.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise ArtifactError(
                f"cannot make {files}: {e.strerror or e}. Make it writable, or name another folder "
                "with out="
            ) from e
        media = MediaFolder.open(files, full=full) if figures else None
        return cls(root, folder, html.title or title, html, media, Links(folder))

    @property
    def page(self) -> Path:
        """The page."""
        return self.folder / INDEX_PAGE

    @property
    def status(self) -> Path:
        """The script that a page which follows a sweep looks at."""
        return self.folder / INDEX_FILES / "status.js"

    def write(self, instances: Sequence[InstanceFacts], *, bundle: bool = False) -> None:
        """Write it all: page, summary, what lies beside them, and the reports' links to it.

        Raises:
            ArtifactError: Something cannot be written.
        """
        graph = graph_of(instances, self.root)
        media = {facts.id: found for facts in instances if (found := self.of(facts)) is not None}
        if self.media is not None:
            self.media.save(media)
        summary = summarise(
            instances, title=self.title, root=self.root, links=self.links, graph=graph, media=media
        )
        jsonio.write_atomic(self.folder / SUMMARY, summary_text(summary))
        if bundle:
            self._copy_reports(instances)
        rows = [row(facts, media.get(facts.id), {}) for facts in instances]
        self.write_page(rows, instances, graph, bundled=bundle)
        link_reports(instances, graph, self.page)

    def of(self, facts: InstanceFacts) -> Media | None:
        """What lies beside the page for an instance, made if need be."""
        if self.media is None:
            return None
        try:
            return self.media.of(facts, self.links.to(facts.paths.directory))
        except OSError as e:
            raise ArtifactError(
                f"cannot write in {self.media.folder}: {e.strerror or e}. Free space or make it "
                "writable, then collate again."
            ) from e

    def write_page(
        self,
        rows: Sequence[dict[str, Any]],
        instances: Sequence[InstanceFacts],
        graph: Graph,
        *,
        bundled: bool = False,
        live: dict[str, Any] | None = None,
    ) -> None:
        """Write `index.html` alone."""
        data = {
            "title": self.title,
            "logo": self.html.logo_uri,
            "runs": self.links.above(runs_dir(self.root)),
            "files": INDEX_FILES,
            "links": links({REPORT.kind: _COPY} if bundled else {}),
            "summary": SUMMARY,
            "generated": jsonio.now(),
            "lights": lights(),
            "counts": counts(instances),
            "causes": causes(instances, self.root),
            "lineage": graph.to_json(),
            "media": self.media is not None,
            "live": live,
            **packed(rows),
        }
        jsonio.write_atomic(self.page, index_page(data, self.title, self.html.css))

    def _copy_reports(self, instances: Sequence[InstanceFacts]) -> None:
        for facts in instances:
            to = self.folder / _COPY.format(step=facts.step, instance=facts.instance)
            to.parent.mkdir(parents=True, exist_ok=True)
            if facts.paths.html.is_file():
                content = whole(facts.paths.html, self.root)
                if content is None:
                    shutil.copyfile(facts.paths.html, to)
                else:
                    to.write_bytes(content)


def link_reports(instances: Sequence[InstanceFacts], graph: Graph, page: Path) -> None:
    """Let each report lead to the page, to its neighbours, and to what it read and who read it."""
    by_id = {facts.id: facts for facts in instances}
    neighbours = graph.neighbours()
    pages: dict[str, str] = {}  # from a step's folder

    def near(facts: InstanceFacts | None, name: str = "") -> tuple[str, str] | None:
        if facts is None:
            return None
        return name or facts.id, f"../../{facts.step}/{facts.instance}/{facts.paths.html.name}"

    for position, facts in enumerate(instances):
        if facts.light in (Light.PLANNED, Light.RUNNING):
            continue
        step = os.path.dirname(facts.paths.directory)  # noqa: PTH120  (there are many)
        if step not in pages:
            pages[step] = Path(os.path.relpath(page, step)).as_posix()
        before = instances[position - 1] if position else None
        after = instances[position + 1] if position + 1 < len(instances) else None
        up, down = neighbours.get(facts.id, ((), ()))
        fill_navigation(
            facts.paths.html,
            index=f"../{pages[step]}",
            previous=near(before, before.instance if before else ""),
            following=near(after, after.instance if after else ""),
            upstream=[link for i in up if (link := near(by_id.get(i)))],
            downstream=[link for i in down if (link := near(by_id.get(i)))],
        )
