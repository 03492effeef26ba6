"""`create_flow_bat_runner`: files that run a flow when they are double-clicked."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from ductaflow.convert.generated import header, refuse_edited, write_generated
from ductaflow.convert.source import PathLike, Source, find_source
from ductaflow.text.quoting import batch

_BAT = """\
@echo off
{header}setlocal EnableExtensions DisableDelayedExpansion
chcp 65001 >nul
set "PYTHONUTF8=1"
set "PYTHON={python}"
if not exist "%PYTHON%" set "PYTHON=python"
{library}"%PYTHON%" -m ductaflow.convert.temporary "%~dp0{flow}" %*
set "CODE=%errorlevel%"
if "%CODE%"=="0" goto done
echo "{name}" ended with exit code %CODE% 1>&2
set "STARTED=%CMDCMDLINE:"=%"
if /i not "%STARTED: /c =%"=="%STARTED%" timeout /t 15 >nul 2>nul
:done
exit /b %CODE%
"""

_SH = """\
#!/bin/sh
{header}here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || exit
python={python}
[ -x "$python" ] || python=python3
{library}exec "$python" -m ductaflow.convert.temporary "$here"/{flow} "$@"
"""


def create_flow_bat_runner(
    flow_path: PathLike,
    output_dir: PathLike | None = None,
    *,
    force: bool = False,
    root: PathLike | None = None,
) -> Path:
    """Make `run_{flow}.bat`, and `run_{flow}.sh` and `.command` for other systems.

    Each makes a standalone script of the flow, runs it, removes it however it ends, and ends with
    its exit code; arguments are passed on. They use the interpreter that made them, if it is there.

    Args:
        flow_path: The flow; see `run_step_flow`.
        output_dir: Where to make them; None for beside the flow.
        force: Whether to overwrite files that were edited since.
        root: The project root; found from where the caller is, if left out.

    Returns:
        The `.bat` file; the others lie beside it.

    Raises:
        FlowError: The flow is not there, or is not a flow with one parameters cell.
        ConversionError: The flow is not Python that compiles, a file was edited, or a name cannot
            be written in a batch file.
        ArtifactError: A file cannot be written.
    """
    source = find_source(flow_path, output_dir, root)
    bat = source.folder / f"run_{source.flow.name}.bat"
    bat_text = _bat(source, bat.name)
    others = [bat.with_suffix(".sh"), bat.with_suffix(".command")]
    if not force:
        for path in (bat, *others):
            refuse_edited(path)
    write_generated(bat, bat_text, force=True)
    for path in others:
        write_generated(path, _sh(source), force=True, executable=True)
    return bat


def _bat(source: Source, name: str) -> str:
    code = batch(_windows(source.from_folder(source.root / "code")), "the project's path")
    text = _BAT.format(
        header=header(source.flow, source.shown, "rem").replace("%", "%%"),
        python=batch(sys.executable, "the interpreter"),
        flow=batch(_windows(source.from_folder(source.flow.path)), "the flow's path"),
        name=batch(name, "the name"),
        library=f'set "PYTHONPATH=%~dp0{code};%PYTHONPATH%"\n' if source.is_vendored else "",
    )
    return text.replace("\n", "\r\n")


def _windows(path: str) -> str:
    return path.replace("/", "\\")


def _sh(source: Source) -> str:
    code = shlex.quote(source.from_folder(source.root / "code"))
    library = (
        f'PYTHONPATH="$here"/{code}${{PYTHONPATH:+:$PYTHONPATH}}\nexport PYTHONPATH\n'
        if source.is_vendored
        else ""
    )
    return _SH.format(
        header=header(source.flow, source.shown),
        python=shlex.quote(sys.executable),
        flow=shlex.quote(source.from_folder(source.flow.path)),
        library=library,
    )
