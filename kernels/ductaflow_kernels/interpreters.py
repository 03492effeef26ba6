"""What an interpreter is and has: its version, and where its packages lie.

The interpreter itself is asked, once until something changes that its answer hangs on.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs

INSIDE = Path(__file__).parent / "inside" / "ductaflow_inside"
"""The package that runs in the interpreters of kernels; nobody else has it on the path."""

START = INSIDE / "start.py"
"""The script that starts each of its programs."""

_SCRIPT = INSIDE / "packages.py"
_TIMEOUT = 60.0  # seconds
_NAMES = frozenset({"HOME", "PATH", "APPDATA", "USERPROFILE"})  # beside PYTHON*


@attrs.frozen
class InterpreterFacts:
    """What an interpreter has.

    Attributes:
        python: Its version, as `3.12.1`.
        folders: Where its packages lie, in the order in which it looks for them.
    """

    python: str
    folders: tuple[str, ...]


@attrs.frozen
class _Answer:
    """What was answered, and the state of what it hangs on."""

    facts: InterpreterFacts
    read: Mapping[str, int]

    def holds(self) -> bool:
        return all(_time(path) == before for path, before in self.read.items())


_Key = tuple[tuple[str, ...], tuple[tuple[str, str], ...]]
_answers: dict[_Key, _Answer] = {}
_lock = threading.Lock()


def interpreter_facts(argv: Sequence[str], environment: Mapping[str, str]) -> InterpreterFacts:
    """What an interpreter has when it is started.

    Args:
        argv: The interpreter, and options for it.
        environment: What it is started with.

    Raises:
        OSError: It cannot be started, or does not answer.
    """
    startup = (
        (name, value)
        for name, value in environment.items()
        if name in _NAMES or name.startswith("PYTHON")
    )
    key = tuple(argv), tuple(sorted(startup))
    known = _answers.get(key)
    if known is not None and known.holds():
        return known.facts
    with _lock:
        known = _answers.get(key)
        if known is None or not known.holds():
            known = _answers[key] = _ask(argv, environment)
    return known.facts


def _ask(argv: Sequence[str], environment: Mapping[str, str]) -> _Answer:
    told = _own(argv, environment) or _other(argv, environment)
    facts = InterpreterFacts(told["python"], tuple(told["folders"]))
    return _Answer(facts, {path: _time(path) for path in told["read"]})


def _own(argv: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any] | None:
    """The answer of the interpreter that is running now, if that is meant."""
    if list(argv) != [sys.executable]:
        return None
    module = _inside()
    if not module.as_started(environment.get("PYTHONPATH", "")):
        return None
    found: dict[str, Any] = module.told()
    return found


def _inside() -> ModuleType:
    """The module that answers, made anew: it keeps what it has found."""
    spec = importlib.util.spec_from_file_location(_SCRIPT.stem, _SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _other(argv: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    try:
        done = subprocess.run(
            [*argv, str(_SCRIPT)], env=dict(environment), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=_TIMEOUT, check=True,
        )  # fmt: skip
        # What a start-up file prints comes before it.
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except subprocess.CalledProcessError as e:
        last = (e.stderr.strip().splitlines() or [str(e)])[-1]
        raise OSError(f"{argv[0]} does not answer: {last}") from None
    except subprocess.TimeoutExpired as e:
        raise OSError(f"{argv[0]} does not answer: {e}") from None
    except (ValueError, IndexError):
        raise OSError(f"{argv[0]} does not answer as a Python interpreter does") from None
    return found


def _time(path: str) -> int:
    """When a file or folder was last changed; 0 if there is none."""
    with contextlib.suppress(OSError):
        return Path(path).stat().st_mtime_ns
    return 0
