"""The artifacts of a run, each declared once; who names, links, checks or thins them asks here.

How one is made is in `execution.writers`, under the same kind; `execution.artifacts` writes config
and record, and notebook and log, which grow while a run goes on. A new artifact is an entry here
and a writer there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, final

import attrs

from ductaflow.model.options import RunOptions

_DEFAULTS: Final = RunOptions()


@final
@attrs.frozen(kw_only=True)
class Artifact:
    """What is known of one of the files that a run leaves in its folder.

    Attributes:
        kind: What calls, commands and records call it.
        file: Its name, with `{flow}` for the flow's, and `{prefix}` where the folder may have those
            of several runs.
        text: The text of links to it; its kind if left out.
        option: The option of a run that says whether it is written; empty if it always is.
        missing: What is said of it as a reason to run, if it is not there; empty if it is none.
        readable: Whether people read it: then it is listed with a run, and thinning may delete it.
        compressible: Whether thinning may compress it.
        opened: Whether links to a run as a whole lead to it, if those before it are not there.
    """

    kind: str
    file: str
    text: str = attrs.field(default=attrs.Factory(lambda self: self.kind, takes_self=True))
    option: str = ""
    missing: str = ""
    readable: bool = False
    compressible: bool = False
    opened: bool = False

    def name(self, flow: str, prefix: str = "") -> str:
        """Its file's name in the folder of a run of that flow."""
        return self.file.format(flow=flow, prefix=prefix)

    def is_wanted(self, options: RunOptions) -> bool:
        """Whether a run with these options is to have it."""
        return not self.option or _is_on(getattr(options, self.option))

    def was_wanted(self, recorded: Mapping[str, Any]) -> bool:
        """Whether a run was to have it, of which a record has these options."""
        default = getattr(_DEFAULTS, self.option, None)
        return not self.option or _is_on(recorded.get(self.option, default))


def _is_on(value: object) -> bool:
    return value is not None and value is not False


REPORT: Final = Artifact(
    kind="report", file="{flow}.html", option="html", missing="is not there", readable=True,
    opened=True,
)  # fmt: skip
NOTEBOOK: Final = Artifact(
    kind="notebook", file="{flow}.ipynb", missing="is gone", readable=True, compressible=True,
    opened=True,
)  # fmt: skip
LOG: Final = Artifact(kind="log", file="{flow}.log", readable=True, compressible=True)
CONFIG: Final = Artifact(kind="config", file="{prefix}config.json")
RECORD: Final = Artifact(kind="record", file="{prefix}run.json", opened=True)

ARTIFACTS: Final[dict[str, Artifact]] = {
    artifact.kind: artifact for artifact in (REPORT, NOTEBOOK, LOG, CONFIG, RECORD)
}
"""All of them by kind, in the order in which people want them."""


def readable() -> dict[str, Artifact]:
    """Those that people read."""
    return {kind: artifact for kind, artifact in ARTIFACTS.items() if artifact.readable}


def compressible() -> dict[str, Artifact]:
    """Those that may be kept compressed."""
    return {kind: artifact for kind, artifact in ARTIFACTS.items() if artifact.compressible}
