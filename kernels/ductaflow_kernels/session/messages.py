"""Messages as they come from a kernel: a thin, frozen view of the Jupyter wire format.

Source of the format: https://jupyter-client.readthedocs.io/en/stable/messaging.html
"""

from __future__ import annotations

from typing import Any

import attrs


@attrs.frozen(eq=False)
class Message:
    """One message from a kernel.

    Attributes:
        channel: `iopub`, `shell`, `control` or `stdin`.
        type: Its `msg_type`, as `stream` or `execute_reply`.
        parent: `msg_id` of the request that it answers; empty if none.
        date: ISO time at which the kernel sent it.
        content: Its content.
        metadata: Its metadata.
        buffers: Binary buffers, as comm messages carry them.
    """

    channel: str
    type: str
    parent: str
    date: str
    content: dict[str, Any]
    metadata: dict[str, Any] = attrs.field(factory=dict)
    buffers: list[bytes] = attrs.field(factory=list)
