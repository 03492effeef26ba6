"""The flow to convert, where it lies, and where what is made of it goes."""

from __future__ import annotations

import os
from pathlib import Path

import attrs

from ductaflow.errors import ConversionError
from ductaflow.flows.commands import hint
from ductaflow.flows.finding import resolve_flow
from ductaflow.flows.parameterscell import require_parameters
from ductaflow.flows.reading import read_flow
from ductaflow.flows.syntax import check_syntax, language
from ductaflow.model.flows import Flow
from ductaflow.project.root import check_encodable, find_root, local_folder, project_root
from ductaflow.project.settings import load_settings

PathLike = str | os.PathLike[str]


@attrs.frozen
class Source:
    """A flow to be converted.

    Attributes:
        flow: The flow.
        root: The root of its project, absolute.
        shown: The flow's path as people know it.
        folder: Where the results go, absolute.
    """

    flow: Flow
    root: Path
    shown: str
    folder: Path

    @property
    def output(self) -> str:
        """Where a standalone script of the flow runs by default, from the root."""
        return f"{load_settings(self.root).runs}/{self.flow.name}/standalone"

    @property
    def is_vendored(self) -> bool:
        """Whether the project has a `ductacore` of its own."""
        return (self.root / "code" / "ductacore.py").is_file()

    def from_folder(self, path: Path) -> str:
        """A path as seen from where the results lie, with `/`."""
        return Path(os.path.relpath(path, self.folder)).as_posix()


def find_source(flow: PathLike, output_dir: PathLike | None, root: PathLike | None) -> Source:
    """Find and read a flow.

    Args:
        flow: The flow; see `run_step_flow`.
        output_dir: Where the results go; None for beside the flow.
        root: The project root; found from where the flow lies if left out.

    Raises:
        FlowError: It is not there, or is not a flow with one parameters cell.
        ConversionError: It is not Python that compiles.
    """
    given = project_root(root)
    path = check_encodable(resolve_flow(flow, given, Path.cwd()))
    parsed = read_flow(path)
    require_parameters(parsed)
    if language(parsed) != "python":
        raise ConversionError(f"{path} is in {language(parsed)}; only Python can be converted")
    problem = check_syntax(parsed)
    if problem is not None:
        raise ConversionError(
            f"{path}:{problem.line}: cell {problem.cell} does not compile: {problem.message}"
            f"{hint(parsed.uncommented, problem.line)}"
        )
    own = given
    if root is None and not path.is_relative_to(given):  # made from elsewhere
        own = find_root(path.parent, None, {})
    shown = path.relative_to(own).as_posix() if path.is_relative_to(own) else path.name
    folder = path.parent if output_dir is None else local_folder(output_dir, "the output folder")
    return Source(parsed, own, shown, check_encodable(folder))
