"""`python -m ductaflow.convert.temporary FLOW …`: what the runners run.

It makes a standalone script of the flow beside it, runs that with the arguments that follow,
removes it however it ends, and ends with its exit code.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from ductaflow.convert.source import find_source
from ductaflow.convert.standalone import standalone_text
from ductaflow.errors import DuctaflowError
from ductaflow.files import jsonio
from ductaflow.plans.values import chosen_config
from ductaflow.text.escapes import harmless


def main(argv: Sequence[str] | None = None) -> int:
    """Run a flow as a script that is there only meanwhile.

    Args:
        argv: The flow and what its script gets; those of the process for None.

    Returns:
        The script's exit code; 2 if it could not be made.
    """
    flow, *arguments = sys.argv[1:] if argv is None else argv
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _leave)
    made: list[Path] = []
    try:
        script = _make(Path(flow).absolute(), made)
        return _run([sys.executable, str(script), *arguments])
    except DuctaflowError as e:
        sys.stderr.write(harmless(f"{e}\n"))
        return 2
    finally:
        for path in made:
            path.unlink(missing_ok=True)


def _make(flow: Path, made: list[Path]) -> Path:
    """Write the script and, if the flow has none beside it, its config."""
    source = find_source(flow, None, None)
    name = f"{source.flow.name}_temporary_{secrets.token_hex(4)}"
    script = flow.with_name(f"{name}.py")
    config = flow.with_name(f"{source.flow.name}_config.json")
    if not config.exists():
        values = chosen_config(source.flow)
        config = flow.with_name(f"{name}.json")
        made.append(config)
        jsonio.write_atomic(config, jsonio.dumps(values) + "\n")
    made.append(script)
    jsonio.write_atomic(script, standalone_text(source, config.name, source.output))
    return script


def _run(command: list[str]) -> int:
    """Run a program to its end; a shell's exit code for one that a signal ended."""
    with subprocess.Popen(command) as child:
        while True:
            try:
                code = child.wait()
                break
            except KeyboardInterrupt:  # the child got it too, and says how it ends
                continue
            except SystemExit:
                child.terminate()
                raise
    return 128 - code if code < 0 else code


def _leave(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONIOENCODING", "utf-8")
    sys.exit(main())
