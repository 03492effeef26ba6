"""Hashes with a key that stays on this machine: nobody can guess from one what was hashed."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from functools import lru_cache
from pathlib import Path

from platformdirs import user_state_path

KEY_VARIABLE = "DUCTAFLOW_SECRET_KEY"
"""With the same text in it, several machines can compare their hashes."""

_FILE = "secret.key"
_DIGITS = 32
_BYTES = 32


def keyed_hash(text: str) -> str:
    """HMAC-SHA-256 of a text, after a sign of the key: `3f2a9c01:…`."""
    key = _key(os.environ.get(KEY_VARIABLE, ""))
    return f"{_sign(key)}:{_digest(key, text)[:_DIGITS]}"


def same_key(told: str) -> bool:
    """Whether a `keyed_hash` was made with this machine's key, so that it can be compared."""
    return told.partition(":")[0] == _sign(_key(os.environ.get(KEY_VARIABLE, "")))


def key_file() -> Path:
    """Where the key lies if `DUCTAFLOW_SECRET_KEY` does not give it."""
    return user_state_path("ductaflow", appauthor=False) / _FILE


def _digest(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


@lru_cache
def _sign(key: bytes) -> str:
    return _digest(key, "which key it is")[:8]


@lru_cache
def _key(given: str) -> bytes:
    if given:
        return hashlib.sha256(given.encode("utf-8", "surrogateescape")).digest()
    file = key_file()
    try:
        return _kept(file)
    except OSError:  # nowhere to keep it: later processes say that they cannot compare
        return secrets.token_bytes(_BYTES)


def _kept(file: Path) -> bytes:
    """The key in a file, which is made if it is not there; all processes get the same."""
    if not file.exists() or file.stat().st_size < _BYTES:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_name(f".{file.name}.{secrets.token_hex(6)}")
        try:
            handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as out:
                out.write(secrets.token_bytes(_BYTES))
            if file.exists():  # it was cut short
                beside.replace(file)
            with contextlib.suppress(FileExistsError, FileNotFoundError):  # another one was first
                os.link(beside, file)
        finally:
            beside.unlink(missing_ok=True)
    return file.read_bytes()
