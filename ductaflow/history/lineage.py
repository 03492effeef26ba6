"""Which runs have read what which others have written, as it was observed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import final

import attrs

from ductaflow.errors import DuctaflowError
from ductaflow.history.catalog import all_runs
from ductaflow.history.run import Run
from ductaflow.project.layout import instance_of, runs_dir, runs_name
from ductaflow.project.root import is_project, project_root
from ductaflow.text.hrefs import anchor

Label = str  # step/instance


@final
@attrs.frozen(repr=False)
class Lineage:
    """A run among those that it depends on and that depend on it.

    Attributes:
        run: The run.
        upstream: Those whose files it has read.
        downstream: Those that have read its files.
        ancestors: All that it depends on, at any distance, the nearest first.
        descendants: All that depend on it, likewise.
    """

    run: Run
    upstream: tuple[Run, ...]
    downstream: tuple[Run, ...]
    ancestors: tuple[Run, ...]
    descendants: tuple[Run, ...]

    def __repr__(self) -> str:
        lines = [f"{self.run.status.symbol} {self.run.label}"]
        for title, found in self._sides():
            lines += [f"  {title}", *(f"    {r.status.symbol} {r.label}{far}" for r, far in found)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        parts = [_html_line(self.run)]
        for title, found in self._sides():
            parts += [f"<div>{title}</div>"] if not found else [f"<div>{title}</div><ul>"]
            parts += [f"<li>{_html_line(run)}{far}</li>" for run, far in found]
            parts += ["</ul>"] if found else []
        return "".join(parts)

    def _sides(self) -> Iterator[tuple[str, list[tuple[Run, str]]]]:
        """What it depends on and what depends on it, under their titles."""
        for title, near, every in (
            ("reads from", self.upstream, self.ancestors),
            ("is read by", self.downstream, self.descendants),
        ):
            direct = {run.label for run in near}
            found = [(run, "" if run.label in direct else ", through others") for run in every]
            yield (f"{title}:" if found else f"{title} no other run"), found


def _html_line(run: Run) -> str:
    status = run.status
    symbol = f'<span style="color:{status.colour}">{status.symbol}</span>'
    return f"{symbol} {anchor(run.opened, run.label)}"


@final
@attrs.frozen
class Graph:
    """All runs of a project and who reads from whom.

    Attributes:
        runs: Every run there is a record of, by its label.
        parents: The runs that each has read from.
        children: The runs that have read from each.
    """

    runs: Mapping[Label, Run]
    parents: Mapping[Label, tuple[Label, ...]]
    children: Mapping[Label, tuple[Label, ...]]

    @classmethod
    def of(cls, runs: Iterable[Run], root: Path) -> Graph:
        """The graph of these runs of a project; what they have read of others is left out."""
        known = {run.label: run for run in runs}
        name = runs_name(root)
        parents = {
            label: tuple(parent for parent in origins(run, name) if parent in known)
            for label, run in known.items()
        }
        children: dict[Label, list[Label]] = {label: [] for label in known}
        for label, above in parents.items():
            for parent in above:
                children[parent].append(label)
        return cls(known, parents, {label: tuple(below) for label, below in children.items()})

    def above(self, labels: Iterable[Label]) -> list[Label]:
        """All that these depend on, the nearest first, without themselves."""
        return _reach(labels, self.parents)

    def below(self, labels: Iterable[Label]) -> list[Label]:
        """All that depend on these, the nearest first, without themselves."""
        return _reach(labels, self.children)


def origins(run: Run, runs: str) -> tuple[Label, ...]:
    """The instances, there or not, whose files a run has read; not itself.

    Args:
        run: The run.
        runs: The folder of all runs, with `/`, from the project root on.
    """
    found = {
        origin.label: None
        for fact in run.brief.inputs
        if (origin := instance_of(fact.path, runs)) is not None
    }
    found.pop(run.label, None)
    return tuple(found)


def lineage(run: Run | str, *, root: str | os.PathLike[str] | None = None) -> Lineage:
    """What a run depends on, and what depends on it.

    Args:
        run: A run of `runs/`, or its label `step/instance`.
        root: The project root; found from where the caller is, or from the run, if left out.

    Raises:
        DuctaflowError: There is no such run.
    """
    project = root_of(run) if root is None and isinstance(run, Run) else project_root(root)
    label = run if isinstance(run, str) else run.label
    graph = Graph.of(all_runs(project), project)
    if label not in graph.runs:
        raise DuctaflowError(f"there is no run {label!r} in {project}: name one as step/instance")

    def pick(labels: Iterable[Label]) -> tuple[Run, ...]:
        return tuple(graph.runs[each] for each in labels)

    return Lineage(
        graph.runs[label],
        pick(graph.parents[label]),
        pick(graph.children[label]),
        pick(graph.above([label])),
        pick(graph.below([label])),
    )


def root_of(run: Run) -> Path:
    """The project root of a run in `runs/{step}/{instance}`."""
    runs = run.dir.parents[1]
    found = [root for root in runs.parents if runs_dir(root) == runs] or [runs.parent]
    return next(filter(is_project, found), found[0])


def _reach(labels: Iterable[Label], edges: Mapping[Label, tuple[Label, ...]]) -> list[Label]:
    start = dict.fromkeys(labels)
    seen = dict(start)
    queue = list(start)
    for label in queue:  # it grows meanwhile
        for other in edges.get(label, ()):
            if other not in seen:
                seen[other] = None
                queue.append(other)
    return [label for label in seen if label not in start]
