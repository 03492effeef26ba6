"""For projects that come from earlier conductors of this kind: their helpers, by their names.

Each says what does the same here, and better. `run_notebook` and `run_step_flow` take the earlier
names of their arguments themselves.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from ductaflow.errors import ArtifactError
from ductaflow.files import jsonio
from ductaflow.history.recordfile import read_record
from ductaflow.plans.config import normalise
from ductaflow.project.root import local_folder, main_script

PathLike = str | os.PathLike[str]


def analyze_execution_logs(output_dir: PathLike) -> str:
    """How the runs in a folder went, all in one word.

    The modern way is `run.status` and `run.record.warnings` of the run that a call returns, and
    `runs_table` or `ductaflow status` for many.

    Args:
        output_dir: An instance's folder, or one with many of them.

    Returns:
        `error` if one failed or has not ended, or there is none; else `warning` if one has warned;
        else `success`.
    """
    folder = local_folder(output_dir, "output_dir")
    records = [read_record(file) for file in folder.rglob("*run.json")]
    if not records or not all(record is not None and record.status.ok for record in records):
        return "error"
    return "warning" if any(r is not None and r.warnings for r in records) else "success"


def generate_config_markdown(config: Mapping[str, Any], flow_name: str | None = None) -> str:
    """A config as markdown tables.

    The modern way is to do nothing: each executed notebook begins with them.

    Args:
        config: The config.
        flow_name: Whose it is.

    Returns:
        Markdown.

    Raises:
        ConfigError: JSON cannot hold a value.
    """
    from ductaflow.plans.configtable import titled_table

    title = f"Configuration of {flow_name}" if flow_name else "Configuration"
    return titled_table(normalise(config), title)


def convert_notebook_to_html(
    notebook_path: PathLike, html_path: PathLike | None = None, template: str = "lab"
) -> Path:
    """Make a page of a notebook that needs no network.

    The modern way is to do nothing: each run writes one, `run.html`.

    Args:
        notebook_path: The notebook.
        html_path: The page; beside the notebook if left out.
        template: `lab` for the look of runs' reports, or the name of one of nbconvert's templates.

    Returns:
        The page.

    Raises:
        ArtifactError: The notebook cannot be read, or the page not written.
    """
    source = local_folder(notebook_path, "notebook_path")
    target = source.with_suffix(".html")
    if html_path is not None:
        target = local_folder(html_path, "html_path")
    import nbformat

    try:
        notebook = nbformat.reads(source.read_text("utf-8"), as_version=4)
    except (OSError, ValueError) as e:
        raise ArtifactError(f"cannot read the notebook {source}: {e}") from None
    if template == "lab":
        page = _page(json.loads(json.dumps(notebook)), source.stem)
    else:
        from nbconvert import HTMLExporter

        page = HTMLExporter(template_name=template).from_notebook_node(notebook)[0]
    jsonio.write_atomic(target, page)
    return target


def _page(notebook: Mapping[str, Any], title: str) -> str:
    from ductaflow.documents.html import renderer
    from ductaflow.documents.widgets import WIDGET_STATE_MIME

    meta = notebook["metadata"]
    language = meta.get("language_info", {}).get("name", "python")
    fragments = [renderer().cell(cell, language=language) for cell in notebook["cells"]]
    widgets = meta.get("widgets", {}).get(WIDGET_STATE_MIME)
    return renderer().page(fragments, title=title, widget_state=widgets)


def setup_execution_logging(
    log_file_path: PathLike,
    logger_name: str = "ductaflow",
    level: int = logging.INFO,
    propagate: bool = False,
) -> logging.Logger:
    """A logger that writes to a file and to standard error.

    The modern way is to print, or to log as in any program: each run's log has it all, with times.

    Args:
        log_file_path: The file; its folder is made if need be.
        logger_name: The logger's name.
        level: From which level on.
        propagate: Whether loggers above it hear too.

    Returns:
        The logger; called again, it writes to the new file alone.
    """
    file = local_folder(log_file_path, "log_file_path")
    file.parent.mkdir(parents=True, exist_ok=True)
    logger = logging.getLogger(logger_name)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(level)
    logger.propagate = propagate
    form = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    for handler in (logging.FileHandler(file, encoding="utf-8"), logging.StreamHandler()):
        handler.setFormatter(form)
        logger.addHandler(handler)
    return logger


def setup_conductor_logging(
    session_outputs_dir: PathLike = "session_outputs",
    logger_name: str = "conductor",
    level: int = logging.INFO,
) -> logging.Logger:
    """A logger for a conductor, with a file for each day.

    A message with `extra={"save_state": True}` also keeps a copy of the conductor as it is saved.
    The modern way is a conductor that is a flow: its runs keep notebook, log and record.

    Args:
        session_outputs_dir: The folder for the files `conductor_{date}.txt`.
        logger_name: The logger's name.
        level: From which level on.

    Returns:
        The logger.
    """
    folder = local_folder(session_outputs_dir, "session_outputs_dir")
    today = datetime.now().astimezone().strftime("%Y%m%d")
    logger = setup_execution_logging(folder / f"conductor_{today}.txt", logger_name, level)
    logger.addHandler(_Checkpoints(folder))
    return logger


class _Checkpoints(logging.Handler):
    """Keeps a copy of the conductor for each message that asks for one."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def emit(self, record: logging.LogRecord) -> None:
        """Copy the conductor's file, if it is asked for and there is one."""
        if not getattr(record, "save_state", False):
            return
        source = _conductor()
        if source is None:
            sys.stderr.write("ductaflow: save_state: no file is known of this conductor\n")
            return
        label = getattr(record, "label", None) or record.getMessage()[:30]
        label = re.sub(r"[^\w-]+", "_", str(label)).strip("_")
        made = datetime.fromtimestamp(record.created).astimezone().strftime("%Y%m%d_%H%M%S")
        try:
            shutil.copy2(source, self._folder / f"{source.stem}_{made}_{label}{source.suffix}")
        except OSError:
            self.handleError(record)


def _conductor() -> Path | None:
    """The notebook or script that runs."""
    named = os.environ.get("JPY_SESSION_NAME")
    found = Path(named) if named else main_script()
    return found if found is not None and found.is_file() else None
