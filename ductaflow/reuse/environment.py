"""Which environment variables count for a run, and what they answered.

The kernel notes who asked (`observing.variables`). What is asked by its name counts. What a library
asks, or a function that has other work, counts too, but for what concerns only where things lie and
from which terminal one works: that differs from shell to shell, and changes no result.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ductaflow.flows.pythontext import asked_by, trees_of
from ductaflow.flows.shelltext import EVERYTHING, variables_in
from ductaflow.flows.syntax import language
from ductaflow.plans.fingerprint import variable_hash
from ductaflow.plans.plan import InstancePlan
from ductaflow.reuse.environmentuse import taken_by
from ductaflow.secrets.machinekey import KEY_VARIABLE, same_key

# Of one shell, terminal or login. They do not count where all variables do.
SESSION = (
    "PWD", "OLDPWD", "SHLVL", "_", "PS1", "PS2", "PROMPT*", "HIST*",  # the shell
    "TERM", "TERM_*", "COLORTERM", "COLUMNS", "LINES", "LS_COLORS", "NO_COLOR", "FORCE_COLOR",
    "CLICOLOR*", "TTY", "WINDOWID", "TMUX*", "STY", "WINDOW", "LESS*",  # the terminal
    "KITTY_*", "ITERM_*", "WT_*", "VTE_*", "KONSOLE_*", "GNOME_*", "KDE_*", "ALACRITTY_*",
    "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "DESKTOP_*", "GTK_*", "QT_ACCESSIBILITY",
    "SSH_*", "GPG_*", "DBUS_*", "XDG_*", "INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_*",  # login
    "SESSION_MANAGER", "MANAGERPID", "MEMORY_PRESSURE_*", "MAIL",
    "EDITOR", "VISUAL", "PAGER", "MANPAGER", "GIT_PAGER", "BROWSER",  # programs of a person
    "VSCODE_*", "ELECTRON_*", "PYCHARM_*", "INSIDE_EMACS", "COLAB_*",  # editors
    "JPY_*", "JUPYTER_*", "IPYTHON*", "PYDEVD_*", "PYTEST_*", "DUCTAFLOW_*",  # this program's
)  # fmt: skip
# Where things lie, who works, by which way the network is reached, and how many cores are used:
# what is found there is an input of its own, and the rest does not change what comes out. They
# count where the project's code asks for them.
PLACES = (
    "HOME", "USERPROFILE", "HOMEDRIVE", "HOMEPATH", "APPDATA", "LOCALAPPDATA", "PROGRAMDATA",
    "SYSTEMROOT", "WINDIR", "COMSPEC", "PATH", "PATHEXT", "MANPATH", "INFOPATH", "LD_*", "DYLD_*",
    "PKG_CONFIG*", "PYTHON*", "VIRTUAL_ENV*", "CONDA_*", "PYENV_*", "UV_*", "PIP_*",
    "TMPDIR", "TEMP", "TMP", "MPLCONFIGDIR", "*_CACHE_DIR", "*_CACHE_HOME", "*_CACHE",
    "JOBLIB_TEMP_FOLDER", "USER", "LOGNAME", "LNAME", "USERNAME", "SHELL", "HOSTNAME", "HOST",
    "*_PROXY", "*_proxy", "SSL_CERT_*", "SSLKEYLOGFILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "*_NUM_THREADS", "*_MAX_THREADS", "LOKY_MAX_CPU_COUNT", "KMP_*", "OMP_*", "SLURM_*", "PBS_*",
)  # fmt: skip
# ipykernel gives them values of its own (`ZMQInteractiveShell.init_environment`).
_OF_KERNELS = {"TERM", "CLICOLOR", "CLICOLOR_FORCE", "FORCE_COLOR", "PAGER", "GIT_PAGER"}
# A project may have a copy of this library, or it is being developed.
_OURS = str(Path(__file__).parents[1]) + os.sep
_BY_NAME = 2  # as kernels have it
_MAX_SCRIPT = 1 << 20  # bytes of a script whose text is looked at


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns))


_SESSION = _any_of(SESSION)
_BY_THE_WAY = _any_of((*SESSION, *PLACES))


def asked(
    plan: InstancePlan, noted: Mapping[str, Any], modules: Iterable[str], read: Iterable[str]
) -> frozenset[str]:
    """The variables that a run has asked for: names, patterns such as `APP_*`, or `*` for all.

    Args:
        plan: The run's plan.
        noted: What its kernel has noted.
        modules: Files of the project's modules that it has imported.
        read: Files that it has read, among them scripts that its children ran.
    """
    found = {
        name
        for name, how in noted.get("variables", ())
        if how == _BY_NAME or not _BY_THE_WAY.match(name)
    }
    if not noted:
        return frozenset(found)
    cells = [cell.source for cell in plan.flow.cells if cell.runs]
    if language(plan.flow) != "python":
        return frozenset(found)
    sources = {file: _text_of(file) for file in modules if not file.startswith(_OURS)}
    texts = [asked_by(text) for text in (*cells, *sources.values())]
    found.update(name for text in texts for name in text.names)
    if noted.get("spawned"):
        found.update(name for text in texts for name in text.literal)
    found.update(_by_scripts(set(read).difference(sources)))
    for file in noted.get("taken", ()):
        if file == "%env":
            found.add(EVERYTHING)
            continue
        taking = cells if not file else [sources.get(file) or _text_of(file)]
        found.update(_taken(taking, _constants(plan)))
    return frozenset(found - _OF_KERNELS)


def _taken(sources: Iterable[str], constants: Mapping[str, str]) -> frozenset[str]:
    trees = []
    for source in sources:
        found = trees_of(source)
        if found is None:
            return frozenset({EVERYTHING})
        trees += found
    return taken_by(trees, constants)


def _by_scripts(files: Iterable[str]) -> Iterator[str]:
    """What the scripts ask for that other programs have run."""
    for file in files:
        if file.endswith((".sh", ".bash")):
            yield from variables_in(_text_of(file))
        elif file.endswith(".py"):
            found = asked_by(_text_of(file))
            yield from found.names | found.literal


def _text_of(file: str) -> str:
    with contextlib.suppress(OSError, ValueError):
        path = Path(file)
        if path.stat().st_size <= _MAX_SCRIPT:
            return path.read_text("utf-8", errors="replace")
    return ""


def _constants(plan: InstancePlan) -> dict[str, str]:
    """The texts that a config gives variables of the flow."""
    config = plan.config or {}
    inner = [value for value in config.values() if isinstance(value, dict)]
    return {k: v for part in (*inner, config) for k, v in part.items() if isinstance(v, str)}


OTHER_KEY = (
    "cannot be compared, for the record was made with another key; accept the run, or give "
    f"{KEY_VARIABLE} the same value on both machines"
)
"""What is said of a hash that another machine has made."""
NO_ANSWERS: Mapping[str, str] = {}


def _of_another_key(told: str) -> bool:
    return ":" in told and not same_key(told)


# --- answers ------------------------------------------------------------------------------------


def answers(
    names: Iterable[str], environment: Mapping[str, str], like: Mapping[str, str] = NO_ANSWERS
) -> dict[str, str]:
    """What variables answer, as hashes, for a value may be a secret.

    Of a pattern each variable that it matches is answered, and which they are.

    Args:
        names: Names, patterns, or `*`.
        environment: The environment.
        like: Recorded answers, to compare these with.
    """
    found: dict[str, str] = {}
    for name in sorted(names):
        if EVERYTHING in name:
            matching = matching_names(name, environment)
            found[name] = variable_hash(name, {name: "\0".join(matching)}, like.get(name, ""))
            for each in matching:
                found[each] = variable_hash(each, environment, like.get(each, ""))
        else:
            found[name] = variable_hash(name, environment, like.get(name, ""))
    return found


def matching_names(pattern: str, environment: Mapping[str, str]) -> list[str]:
    """The variables that a pattern stands for; those of one shell only are no part of `*`."""
    if pattern == EVERYTHING:
        return sorted(name for name in environment if not _SESSION.match(name))
    parts = pattern.split(EVERYTHING)
    told = re.compile(".*".join(re.escape(part) for part in parts), re.DOTALL)
    return sorted(name for name in environment if told.fullmatch(name))


def differences(
    recorded: Mapping[str, str], environment: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Variables that answer otherwise than was recorded, and how that is told."""
    now = answers(recorded, environment, recorded)
    told = set[str]()
    for name, was in recorded.items():
        if EVERYTHING in name or now[name] == was:
            continue
        how = "is not set any more" if not now[name] else "is set now" if not was else "changed"
        if now[name] and _of_another_key(was):
            how = OTHER_KEY
        told.add(name)
        yield name, f"the environment variable {name} {how}"
    for name, was in recorded.items():
        if EVERYTHING in name and now[name] != was and not _of_another_key(was):
            new = [each for each in matching_names(name, environment) if each not in recorded]
            if new:
                yield name, f"the environment variable {new[0]} is set now"
            elif not told:
                yield name, f"which environment variables {name} there are has changed"
