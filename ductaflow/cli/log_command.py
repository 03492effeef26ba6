"""`ductaflow log INSTANCE`: a run's log, also while it grows."""

from __future__ import annotations

import codecs
import time

import click

from ductaflow.cli import options
from ductaflow.text.escapes import harmless

_POLL = 0.2  # seconds


@click.command("log")
@options.instance_argument
@click.option("-f", "--follow", is_flag=True, help="Go on as it grows, until the run ends.")
@options.root_option
def command(instance: str, follow: bool, root: str | None) -> int:
    """Print the log of INSTANCE.

    Colours are kept on a terminal; what else would command it is shown, as `␛]0;…`, also in a pipe.
    The file itself has the text as the flow printed it.
    """
    from ductaflow.errors import ArtifactError
    from ductaflow.history.catalog import load_run
    from ductaflow.history.standing import is_live
    from ductaflow.project.root import project_root

    (run,) = options.find_runs(project_root(root), (instance,))
    if not run.paths.log.exists():  # it was thinned, or is not there
        click.echo(harmless(run.read_log()), nl=False)
        return 0
    try:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")  # reading may cut a character
        with run.log.open("rb") as file:
            while True:
                # Asked before reading: what is written before it ends is read after.
                current = load_run(run.dir) if follow else None
                live = current is not None and is_live(current)
                text = file.read()
                if text:
                    click.echo(harmless(decoder.decode(text)), nl=False)
                if not live:
                    return 0
                time.sleep(_POLL)
    except OSError as e:
        raise ArtifactError(f"{run.label} has no log that can be read: {e}") from e
