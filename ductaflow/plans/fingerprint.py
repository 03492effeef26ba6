"""Hashes of what goes into a run: the flow's code, its config, files, modules, variables."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import sys
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from ductaflow.files import jsonio
from ductaflow.files.hashes import Content, content, once
from ductaflow.flows.meaning import meanings
from ductaflow.flows.syntax import language, parse_python
from ductaflow.model.facts import FileFact, Role
from ductaflow.model.flows import Flow
from ductaflow.model.plans import Config
from ductaflow.model.rules import RULES_TOLD
from ductaflow.project.artifacts import RECORD
from ductaflow.secrets.machinekey import keyed_hash
from ductaflow.secrets.references import hashes as secret_hashes

_CACHED_FLOWS = 64
_RECORD = RECORD.name("")
KERNELS = "dfk-"
"""With what the names of kernels' private folders begin, among temporary files."""
_MAX_TREE = 1 << 20  # bytes of a module whose syntax tree is looked at


# --- flow and config -----------------------------------------------------------------------------


def fingerprints(flow: Flow, config: Config | None) -> dict[str, str]:
    """Hashes of what goes into a run, as far as it is known before it.

    Args:
        flow: The parsed flow.
        config: Its config, normalised; None where nothing is injected.

    Returns:
        `flow` of the file's bytes; `cells` of what each code cell does and shows, in order; `code`
        of all of them; `python`, by whose grammar; `config` where there is one, and `secrets`,
        keyed hashes by source, where it has some. With them stands `rules`, the versions of
        ductaflow's own.

    Raises:
        ConfigError: A secret cannot be had.
    """
    found = {**dict(_code(flow)), "rules": RULES_TOLD}
    if config is not None:
        found["config"] = hashlib.sha256(jsonio.canonical(config).encode()).hexdigest()
        if hashes := secret_hashes(config):
            found["secrets"] = jsonio.canonical(hashes)
    return found


@lru_cache(maxsize=_CACHED_FLOWS)
def _code(flow: Flow) -> tuple[tuple[str, str], ...]:
    hashes = [(cell.number, _hash(meaning)) for cell, meaning in meanings(flow)]
    # Whose kernel runs a Python flow is asked for by the call, not by its header.
    kernel = flow.metadata.get("kernelspec", {}).get("name")
    spoken = language(flow)
    head = [] if spoken == "python" else [spoken, str(kernel)]
    whole = _hash([*head, *(meaning for _, meaning in hashes)])
    parts = " ".join(f"{number}:{meaning[:12]}" for number, meaning in hashes)
    return ("flow", flow.sha256), ("code", whole), ("cells", parts), ("python", _GRAMMAR)


_GRAMMAR = f"{sys.version_info[0]}.{sys.version_info[1]}"


def _hash(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode("utf-8", "surrogatepass"))
        digest.update(b"\0")
    return digest.hexdigest()


# --- files ---------------------------------------------------------------------------------------


def content_of(path: str, found: os.stat_result, *, kept: bool = False) -> Content:
    """What a file holds, computed once for each version of it.

    A run's record counts for what its readers can learn from it: how it ended, what it had and what
    it published; not when.

    Args:
        path: The file.
        found: What `os.stat` says of it.
        kept: Whether its hash is kept for other processes; see `hashes.keep_in`.

    Raises:
        OSError: It cannot be read.
    """
    if os.path.basename(path) == _RECORD:
        told, settled = once("record", path, found, _told_by_record)
        if told is not None:
            return Content(_hash([told]), "", settled)
    return content(path, found, kept=kept)


def file_hash(path: str, found: os.stat_result) -> str:
    """SHA-256 of what a file holds; see `content_of`."""
    return content_of(path, found).sha256


def file_fact(name: str, role: Role, path: str, found: os.stat_result, code: str = "") -> FileFact:
    """A file as it is now.

    Args:
        name: Its path as records have it.
        role: What it is to a run.
        path: The file.
        found: What `os.stat` says of it.
        code: The hash of its syntax tree, if it is a module.

    Raises:
        OSError: It cannot be read.
    """
    sha256, log, settled = content_of(path, found)
    inode, ctime_ns = (found.st_ino, found.st_ctime_ns) if settled else (0, 0)
    size, mtime_ns = found.st_size, found.st_mtime_ns
    return FileFact(name, role.value, size, mtime_ns, sha256, code, inode, ctime_ns, log)


def _told_by_record(path: str) -> str | None:
    try:
        record = json.loads(Path(path).read_bytes())
        told = [record["status"], record["metrics"], record["fingerprints"].get("config")]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return jsonio.canonical(told)


def code_hash(path: str, found: os.stat_result) -> str:
    """Hash of a module's syntax tree, by this interpreter's grammar; empty if it has none."""
    if found.st_size > _MAX_TREE:
        return ""
    return once("code", path, found, _code_hash)[0]


def _code_hash(path: str) -> str:
    try:
        tree = parse_python(Path(path).read_text("utf-8"))
        return "" if tree is None else f"{_GRAMMAR}:{_hash([ast.dump(tree)])}"
    except (OSError, UnicodeDecodeError, RecursionError):
        return ""


def same_grammar(code: str) -> bool:
    """Whether a `code_hash` is by this interpreter's grammar, so that it can be compared."""
    return code.startswith(f"{_GRAMMAR}:")


def names_hash(names: Iterable[str]) -> str:
    """Hash of the names in a folder; hidden ones, Python's caches and kernels' folders left out."""
    return _hash(
        sorted(
            n for n in names if not n.startswith((".", KERNELS)) and n.rstrip("/") != "__pycache__"
        )
    )


def listing_hash(folder: str, left_out: Collection[str]) -> str:
    """Hash of the names in a folder, each with whether it is a folder itself.

    Args:
        folder: The folder.
        left_out: Names that do not count.

    Raises:
        OSError: It cannot be listed.
    """
    with os.scandir(folder) as entries:
        return names_hash(
            entry.name + "/" * _is_folder(entry) for entry in entries if entry.name not in left_out
        )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def variable_hash(name: str, environment: Mapping[str, str], like: str = "") -> str:
    """Keyed hash of an environment variable's value, which must not be told; empty if not set.

    Args:
        name: The variable.
        environment: The environment.
        like: A hash to compare it with; of an older record it has no key, and so has this one.
    """
    value = environment.get(name)
    if value is None:
        return ""
    if like and ":" not in like:
        return _hash([name, value])[:32]
    return keyed_hash(f"{name}\0{value}")
