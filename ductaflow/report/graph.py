"""Who read whose files: the observed graph of instances and files."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, final

import attrs

from ductaflow.project.layout import instance_of, runs_name
from ductaflow.report.facts import InstanceFacts

DRAWN = ("data", "missing")  # the roles of inputs that are drawn; code is not
MOST_FILES = 400  # files from outside `runs/` that are drawn one by one


@final
@attrs.frozen
class Graph:
    """The observed graph.

    Attributes:
        files: Files from outside `runs/`, or their folders where they are too many.
        edges: From (an instance's id, or a file), to (an instance's id), and which files.
    """

    files: tuple[str, ...]
    edges: tuple[tuple[str, str, tuple[str, ...]], ...]

    def to_json(self) -> dict[str, Any]:
        """The graph as plain JSON types."""
        return {
            "files": list(self.files),
            "edges": [
                {"from": source, "to": target, "files": list(files)}
                for source, target, files in self.edges
            ],
        }

    def neighbours(self) -> dict[str, tuple[list[str], list[str]]]:
        """For each instance with any, the instances right above it and right below it."""
        files, found = set(self.files), dict[str, tuple[list[str], list[str]]]()
        for source, target, _ in self.edges:
            if source not in files:
                found.setdefault(target, ([], []))[0].append(source)
                found.setdefault(source, ([], []))[1].append(target)
        return found


def graph_of(instances: Sequence[InstanceFacts], root: Path) -> Graph:
    """The graph of these instances, with those that they read from.

    Args:
        instances: The instances.
        root: The project root, to which the paths of inputs are relative.
    """
    runs = runs_name(root)
    files: set[str] = set()
    edges: dict[tuple[str, str], set[str]] = {}
    for facts in instances:
        for path in _read(facts, root):
            origin = instance_of(path, runs)
            if origin is not None:
                source, name = origin.label, path[len(origin.folder) + 1 :]
                if source == facts.id:
                    continue
            else:
                source = name = path
                files.add(path)
            edges.setdefault((source, facts.id), set()).add(name)
    if len(files) > MOST_FILES:
        edges = _by_folder(edges, files)
        files = {posixpath.dirname(file) + "/" for file in files}
    ordered = sorted((a, b, tuple(sorted(names))) for (a, b), names in edges.items())
    return Graph(tuple(sorted(files)), tuple(ordered))


def _read(facts: InstanceFacts, root: Path) -> Iterable[str]:
    for fact in facts.inputs:
        # What is looked for outside the project, and is not there, are settings of libraries.
        sought = fact.get("role") == "missing" and posixpath.isabs(str(fact["path"]))
        if fact.get("role") in DRAWN and not sought:
            path = Path(fact["path"])
            if path.is_absolute() and path.is_relative_to(root):
                path = path.relative_to(root)
            yield path.as_posix()


def _by_folder(
    edges: dict[tuple[str, str], set[str]], files: set[str]
) -> dict[tuple[str, str], set[str]]:
    merged: dict[tuple[str, str], set[str]] = {}
    for (source, target), names in edges.items():
        folder = posixpath.dirname(source) + "/" if source in files else source
        merged.setdefault((folder, target), set()).update(names)
    return merged
