"""Secrets: values that a flow sees, and of which everything else has only where they come from.

In a normalised config a secret is a reference, `{"$secret": "env:DB_PASSWORD"}`. That is what
`config.json`, records, notebooks and the index have. Its value is looked up when a run begins;
standalone scripts look it up by `convert/runtime.py`, which a new kind of source needs too.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, final

from ductaflow.errors import ConfigError
from ductaflow.secrets.machinekey import keyed_hash

SECRET = "$secret"  # noqa: S105 (a key's name)
MASK = "•••"
_ENV, _KEYRING, _VALUE = "env", "keyring", "value"
_AT_HAND: dict[str, str] = {}
"""Values that this process was given, by their references."""


@final
class Secret:
    """A value for a config that no artifact shows; see `secret`.

    Attributes:
        source: Where its value comes from: `env:NAME`, `keyring:service/name`, or `value:` and a
            keyed hash.
    """

    __slots__ = ("source",)

    def __init__(self, source: str) -> None:
        check_source(source)
        self.source = source

    def __repr__(self) -> str:
        return shown(self.source)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.source == self.source

    def __hash__(self) -> int:
        return hash((Secret, self.source))


def secret(source: str | None = None, *, value: str | None = None) -> Secret:
    """A secret for a config: the flow sees its value, and its artifacts do not have it.

    Outputs, logs and errors that would show it show `•••`. Files that the flow itself writes are
    the flow's own, and are not looked at. A flow that runs others hands a secret on as
    `secret(value=password)`.

    Args:
        source: `env:NAME`, an environment variable, or `keyring:service/name`, an entry of the
            system's keyring (`pip install ductaflow[keyring]`). It is looked up again at each run.
        value: The secret itself, in the place of `source`. It is known to this process only: a
            later one that runs the instance again must be given it again.

    Raises:
        ConfigError: `source` is of another form.
        TypeError: Not exactly one of the two is given, or it is no string.
    """
    if (source is None) == (value is None):
        raise TypeError("secret() takes a source, as secret('env:NAME'), or secret(value=...)")
    if not isinstance(source if value is None else value, str):
        raise TypeError("a secret is a string, and so is its source")
    if value is not None:
        source = f"{_VALUE}:{keyed_hash(value)}"
        _AT_HAND[source] = value
    return Secret(str(source))


def check_source(source: object) -> None:
    """Make sure that a secret's source is of a known form.

    Raises:
        ConfigError: It is not. What was given is not repeated: it may be the secret.
    """
    text = source if isinstance(source, str) else ""
    if not re.fullmatch(r"env:[^=\0]+|keyring:[^/]+/.+|value:[0-9a-f]+:[0-9a-f]+", text):
        raise ConfigError(
            "a secret's source is 'env:NAME' or 'keyring:service/name'; a value at hand is given "
            "as secret(value=...)"
        )


def is_reference(value: object) -> bool:
    """Whether a value of a config stands for a secret."""
    return isinstance(value, Mapping) and len(value) == 1 and SECRET in value


def of_cell(text: str) -> object:
    """What a cell of a table holds: a reference to a secret where its text is one in JSON.

    Raises:
        ConfigError: It has `$secret` in braces, and is no reference.
    """
    if SECRET not in text or not text.lstrip().startswith("{"):
        return text
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if isinstance(found, dict) and SECRET in found:
        return found
    raise ConfigError(
        f'it looks like a secret and is none; write {{"{SECRET}": "env:NAME"}} as the whole cell'
    )


def reference(source: str) -> dict[str, str]:
    """What stands for a secret in a config."""
    return {SECRET: source}


def shown(source: str) -> str:
    """A secret as people see it: `••• (env:DB_PASSWORD)`."""
    scheme, _, rest = source.partition(":")
    return f"{MASK} ({scheme}{'' if scheme == _VALUE else ':'}{rest if scheme != _VALUE else ''})"


def sources(config: object) -> Iterator[str]:
    """The sources of all secrets in a config, in order."""
    if isinstance(config, Mapping):
        if is_reference(config):
            yield config[SECRET]
        else:
            for value in config.values():
                yield from sources(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from sources(value)


def revealed(config: Any) -> Any:
    """A config with its secrets' values.

    Raises:
        ConfigError: A value cannot be had; the message says what to do.
    """
    if is_reference(config):
        return value_of(config[SECRET])
    if isinstance(config, Mapping):
        return {key: revealed(value) for key, value in config.items()}
    if isinstance(config, list):
        return [revealed(value) for value in config]
    return config


def value_of(source: str) -> str:
    """A secret's value.

    Raises:
        ConfigError: It cannot be had; the message says what to do.
    """
    check_source(source)
    scheme, _, rest = source.partition(":")
    if scheme == _ENV:
        value = os.environ.get(rest)
        if value is None:
            raise ConfigError(
                f"the config has the secret {source!r}, and the environment variable {rest} is not "
                "set; set it and run again"
            )
        return value
    if scheme == _KEYRING:
        return _of_keyring(source, *rest.split("/", 1))
    if source not in _AT_HAND:
        raise ConfigError(
            "the config has a secret that was given as a value, which was not kept; run the "
            "instance with secret(value=...) again, or give it a source, as secret('env:NAME')"
        )
    return _AT_HAND[source]


def _of_keyring(source: str, service: str, name: str) -> str:
    try:
        import keyring
    except ImportError:
        raise ConfigError(
            f"the config has the secret {source!r}, and keyring is not installed; "
            "pip install ductaflow[keyring]"
        ) from None
    try:
        value = keyring.get_password(service, name)
    except keyring.errors.KeyringError as e:
        raise ConfigError(
            f"the config has the secret {source!r}, and the keyring cannot be read: {e}"
        ) from e
    if value is None:
        raise ConfigError(
            f"the config has the secret {source!r}, and the keyring has no such entry; add it with "
            f"`keyring set {service} {name}`"
        )
    return str(value)


def hashes(config: object) -> dict[str, str]:
    """Keyed hashes of the secrets in a config, by their sources.

    Raises:
        ConfigError: A value cannot be had. Of a value at hand its source is the hash.
    """
    found = {}
    for source in sources(config):
        check_source(source)
        scheme, _, rest = source.partition(":")
        found[source] = rest if scheme == _VALUE else keyed_hash(value_of(source))
    return found


def expression(source: str) -> str:
    """A Python expression that gives a secret when the notebook is run by hand."""
    check_source(source)
    scheme, _, rest = source.partition(":")
    if scheme == _ENV:
        return f'__import__("os").environ[{rest!r}]'
    if scheme == _KEYRING:
        service, name = rest.split("/", 1)
        return f'__import__("keyring").get_password({service!r}, {name!r})'
    return f'__import__("getpass").getpass("secret {rest}: ")'
