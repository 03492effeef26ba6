"""The Session of jupyter_client, which packs the request that it answers once, not each time.

A small cell takes ten times as long to be asked for and told about as to run, so what is done for
each message counts. Its dates are read by Python itself where that can (since 3.11), not by
dateutil.
"""

from __future__ import annotations

import hmac
import json
from datetime import datetime
from typing import Any

from jupyter_client.jsonutil import json_default, parse_date
from jupyter_client.session import DELIM, Session, adapt, json_packer

from ductaflow_inside.kernel.naming import named_as

_encode = json.JSONEncoder(default=json_default, ensure_ascii=False, allow_nan=False).encode


def _pack(part: Any) -> bytes:
    try:
        return _encode(part).encode("utf-8", "surrogateescape")
    except (TypeError, ValueError):  # it has a remedy, and a warning
        return bytes(json_packer(part))


def _with_date(header: dict[str, Any]) -> dict[str, Any]:
    date = header.get("date")
    if isinstance(date, str):
        try:
            header["date"] = datetime.fromisoformat(date)
        except ValueError:  # what Python 3.10 does not know, as a Z at the end
            header["date"] = parse_date(date)
        else:
            if header["date"].tzinfo is None:  # it takes it for local time, with a warning
                header["date"] = parse_date(date)
    return header


@named_as(Session)
class FlowSession(Session):  # type: ignore[misc]
    """Reads and writes the same messages as its base."""

    _packed: tuple[Any, bytes] = (None, b"")  # the last parent header, as it is and packed

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.packer == "json":  # the default
            self.pack = _pack

    def serialize(self, msg: dict[str, Any], ident: Any = None) -> list[bytes]:
        """See its base."""
        parent = msg["parent_header"]
        known = self._packed
        if known[0] is not parent:
            known = self._packed = parent, self.pack(parent)
        content = msg.get("content") or {}
        if isinstance(content, str):
            content = content.encode("utf-8")
        elif not isinstance(content, bytes):  # else packed already, as in a relayed message
            content = self.pack(content)
        parts = [self.pack(msg["header"]), known[1], self.pack(msg["metadata"]), content]
        idents = ident if isinstance(ident, list) else [] if ident is None else [ident]
        return [*idents, DELIM, self.sign(parts), *parts]

    def feed_identities(self, msg_list: list[Any], copy: bool = True) -> Any:
        """See its base."""
        parts = msg_list if copy else [frame.bytes for frame in msg_list]
        at = parts.index(DELIM)
        return [bytes(part) for part in parts[:at]], msg_list[at + 1 :]

    def deserialize(self, msg_list: list[Any], content: bool = True, copy: bool = True) -> Any:
        """See its base."""
        signature, *parts = (part if copy else bytes(part.bytes) for part in msg_list[:5])
        if len(parts) < 4:
            raise TypeError("malformed message, must have at least 5 elements")
        if self.auth is not None:
            if not signature:
                raise ValueError("Unsigned Message")
            if signature in self.digest_history:
                raise ValueError(f"Duplicate Signature: {signature!r}")
            if content:
                self._add_digest(signature)
            if not hmac.compare_digest(signature, self.sign(parts)):
                raise ValueError(f"Invalid Signature: {signature!r}")
        header = _with_date(self.unpack(parts[0]))
        message = {
            "header": header,
            "msg_id": header["msg_id"],
            "msg_type": header["msg_type"],
            "parent_header": _with_date(self.unpack(parts[1])),
            "metadata": self.unpack(parts[2]),
            "content": self.unpack(parts[3]) if content else parts[3],
            "buffers": [memoryview(b if copy else b.bytes) for b in msg_list[5:]],
        }
        return adapt(message)
