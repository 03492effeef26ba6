"""What a kernel that died had published last, or was about to: it may not have left its process.

`ductaflow_inside.kernel.journal` and `ductaflow_inside.kernel.descriptors` write these files.
"""

from __future__ import annotations

import contextlib
import json
import struct
from io import FileIO
from pathlib import Path

FILES = ("j0", "j1")
HEADER = 3  # the frame of a message that has its id
TAKEN = "t"  # what the names of files end in with what was read from a pipe
COUNT = 8  # bytes with how much of it was published


class LastWords:
    """These files of a kernel that is up, open, and without their names.

    What is in them may be secret, and nobody else is to find it if this process is killed.

    Args:
        folder: The kernel's folder.
        pipes: The file names of its pipes.
    """

    def __init__(self, folder: Path, pipes: tuple[str, ...] = ()) -> None:
        self._files: dict[str, FileIO] = {}
        for name in (*FILES, *(f"{pipe}{TAKEN}" for pipe in pipes)):
            with contextlib.suppress(OSError):  # its ipykernel is too old for it
                self._files[name] = (folder / name).open("rb", buffering=0)
                (folder / name).unlink()

    def unheard(self, last: str) -> list[list[bytes]]:
        """The frames of the messages that were published after one.

        Args:
            last: The `msg_id` of the last message that has come; empty if none has.

        Returns:
            The messages, oldest first; without those that were too long to be written down.
        """
        messages: list[list[bytes]] = []
        # The number of its turn, which a file begins with, orders the two.
        files = [self._content(name) for name in FILES]
        for data in sorted(files, key=lambda data: int.from_bytes(data[:8], "little")):
            for frames in _messages(data[8:]):
                messages.append(frames)
                if _id(frames) == last:
                    messages.clear()
        return [frames for frames in messages if len(frames) > HEADER + 1]

    def unpublished(self, pipe: str) -> bytes:
        """What was read from a pipe, and was not published yet.

        Args:
            pipe: The pipe's file name.
        """
        data = self._content(f"{pipe}{TAKEN}")
        return data[COUNT + int.from_bytes(data[:COUNT], "little") :]

    def close(self) -> None:
        """Give them up."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _content(self, name: str) -> bytes:
        file = self._files.get(name)
        if file is None:
            return b""
        file.seek(0)
        return file.read()


def _id(frames: list[bytes]) -> str:
    try:
        return str(json.loads(frames[HEADER])["msg_id"])
    except (IndexError, KeyError, TypeError, ValueError):
        return ""  # somebody else has written there


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
