"""What ipywidgets tell a front end: their state, and whose output they capture.

The messages are those of https://github.com/jupyter-widgets/ipywidgets/blob/main/packages/schema/messages.md
and the state is stored as `application/vnd.jupyter.widget-state+json` version 2.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any, Final, final

import attrs
from ductaflow_kernels.session.messages import Message

WIDGET_TARGET: Final = "jupyter.widget"
WIDGET_STATE_MIME: Final = "application/vnd.jupyter.widget-state+json"

_OUTPUT_MODULE = "@jupyter-widgets/output"

_Path = tuple[str | int, ...]


@final
@attrs.define(eq=False)
class _Model:
    """One widget model: its state, and the binary values that its state lacks."""

    state: dict[str, Any] = attrs.field(factory=dict)
    buffers: dict[_Path, bytes] = attrs.field(factory=dict)

    @property
    def captures(self) -> bool:
        """Whether it is an Output widget."""
        module, name = self.state.get("_model_module"), self.state.get("_model_name")
        return module == _OUTPUT_MODULE and name == "OutputModel"

    def update(self, data: Mapping[str, Any], buffers: Iterable[bytes]) -> frozenset[str]:
        """Merge the keys that a message brings; return them."""
        new = data.get("state")
        paths = data.get("buffer_paths")
        if not isinstance(new, dict):
            return frozenset()
        pairs = zip(paths if isinstance(paths, list) else (), buffers, strict=False)
        binary: dict[_Path, bytes] = {tuple(p): bytes(b) for p, b in pairs if _is_path(p)}
        keys = {*new, *(path[0] for path in binary)}
        # A key that comes anew replaces its whole value, its binary parts too.
        kept = {path: data for path, data in self.buffers.items() if path[0] not in keys}
        self.buffers = {**kept, **binary}
        self.state.update(new)
        return frozenset(map(str, keys))

    def to_json(self) -> dict[str, Any]:
        """The model as the notebook's metadata stores it."""
        stored: dict[str, Any] = {
            "model_name": self.state.get("_model_name"),
            "model_module": self.state.get("_model_module"),
            "model_module_version": self.state.get("_model_module_version"),
            "state": dict(self.state),
        }
        if self.buffers:
            stored["buffers"] = [
                {
                    "path": list(path),
                    "encoding": "base64",
                    "data": base64.b64encode(data).decode("ascii"),
                }
                for path, data in self.buffers.items()
            ]
        return stored


@final
@attrs.define(eq=False)
class Widgets:
    """All widget models of one kernel, and the stacks of Output widgets that capture."""

    _models: dict[str, _Model] = attrs.field(factory=dict, init=False)
    _captors: dict[str, list[str]] = attrs.field(factory=dict, init=False)

    def apply(self, message: Message) -> frozenset[str]:
        """Take in a `comm_open`, `comm_msg` or `comm_close`; others' comms are passed over.

        Returns:
            The keys of the model's state that the kernel set.
        """
        comm = comm_id(message)
        data = message.content.get("data")
        data = data if isinstance(data, dict) else {}
        if message.type == "comm_open" and message.content.get("target_name") == WIDGET_TARGET:
            self._models[comm] = _Model()
        elif message.type == "comm_close":
            self._release(comm)
            self._models.pop(comm, None)
        elif message.type != "comm_msg" or data.get("method") != "update":
            # An `echo_update` repeats what a front end sent, which here is ourselves.
            return frozenset()
        model = self._models.get(comm)
        if model is None:
            return frozenset()
        keys = model.update(data, message.buffers)
        if "msg_id" in keys and model.captures:
            self._release(comm)
            parent = model.state["msg_id"]
            if isinstance(parent, str) and parent:
                self._captors.setdefault(parent, []).append(comm)
        return keys

    def capturing(self, parent: str) -> str | None:
        """The Output widget that takes the outputs of request `parent`: the latest to ask."""
        stack = self._captors.get(parent)
        return stack[-1] if stack else None

    def outputs(self, comm: str) -> list[Any]:
        """The outputs that the kernel itself gave an Output widget."""
        model = self._models.get(comm)
        given = model.state.get("outputs") if model else None
        return given if isinstance(given, list) else []

    def snapshot(self, captured: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any] | None:
        """The state of all models for the notebook's metadata.

        Args:
            captured: The outputs of each Output widget that captured some.

        Returns:
            The value of `WIDGET_STATE_MIME`, or None if there are no widgets.
        """
        if not self._models:
            return None
        state = {comm: model.to_json() for comm, model in self._models.items()}
        for comm, outputs in captured.items():
            if comm in state:
                state[comm]["state"]["outputs"] = outputs
        return {"version_major": 2, "version_minor": 0, "state": state}

    def _release(self, comm: str) -> None:
        """Take an Output widget off the stacks that it is on."""
        for parent, stack in list(self._captors.items()):
            if comm in stack:
                stack.remove(comm)
            if not stack:
                del self._captors[parent]


def comm_id(message: Message) -> str:
    """The comm that a message belongs to; empty where it names none."""
    value = message.content.get("comm_id")
    return value if isinstance(value, str) else ""


def _is_path(value: object) -> bool:
    """Whether `value` names a place in a model's state, as `["data", 0, "values"]`."""
    return isinstance(value, list) and bool(value) and all(isinstance(p, str | int) for p in value)
