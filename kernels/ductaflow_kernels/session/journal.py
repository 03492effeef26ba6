"""What a kernel that died had published last, or was about to: it may not have left its process.

`ductaflow_inside.kernel.journal` and `ductaflow_inside.kernel.descriptors` write these files.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

FILES = ("j0", "j1")
HEADER = 3  # the frame of a message that has its id


def unheard(folder: Path, last: str) -> list[list[bytes]]:
    """The frames of the messages that were published after one.

    Args:
        folder: The kernel's folder.
        last: The `msg_id` of the last message that has come; empty if none has.

    Returns:
        The messages, oldest first; without those that were too long to be written down.
    """
    messages: list[list[bytes]] = []
    for data in sorted(map(_content, [folder / name for name in FILES])):
        for frames in _messages(data[8:]):
            messages.append(frames)
            if _id(frames) == last:
                messages.clear()
    return [frames for frames in messages if len(frames) > HEADER + 1]


def _id(frames: list[bytes]) -> str:
    try:
        return str(json.loads(frames[HEADER])["msg_id"])
    except (IndexError, KeyError, TypeError, ValueError):
        return ""  # somebody else has written there


TAKEN = "t"  # what the names of files end in with what was read from a pipe
COUNT = 8  # bytes with how much of it was published


def unpublished(folder: Path, pipe: str) -> bytes:
    """What a kernel had read from one of its pipes, and had not published yet.

    Args:
        folder: The kernel's folder.
        pipe: The pipe's file name.
    """
    try:
        data = (folder / f"{pipe}{TAKEN}").read_bytes()
    except OSError:  # it keeps none
        return b""
    return data[COUNT + int.from_bytes(data[:COUNT], "little") :]


def _content(file: Path) -> bytes:
    """What is in a file; the number of its turn comes first, and orders the two."""
    try:
        data = file.read_bytes()
    except OSError:  # its ipykernel is too old for it
        return b""
    return data[:8][::-1] + data[8:]


def _messages(data: bytes) -> list[list[bytes]]:
    """The messages that were written whole."""
    messages: list[list[bytes]] = []
    at = 0
    while len(data) >= at + 4:
        (count,) = struct.unpack_from("<I", data, at)
        begin = at + 4 + 4 * count
        if len(data) < begin:
            break
        lengths = struct.unpack_from(f"<{count}I", data, at + 4)
        if len(data) < begin + sum(lengths):
            break
        frames = []
        for length in lengths:
            frames.append(data[begin : begin + length])
            begin += length
        messages.append(frames)
        at = begin
    return messages
