"""Kernel messages folded into cell outputs, as a notebook front end does it.

```
message ──▶ OutputFolder ──▶ _Area (a cell's, or an Output widget's) ──▶ outputs
                 │               └─ Line (the stream's current line)
                 └──▶ Widgets (models, who captures whose outputs)
```

Time is linear in what the kernel sends; what is kept of one cell is bounded: of a flood, its
beginning and its end. Source of the rules: JupyterLab's output area, and
https://jupyter-client.readthedocs.io/en/stable/messaging.html for the messages. A change of what is
kept raises the version of `outputs` in `rules`.
"""

from __future__ import annotations

import io
import json
from collections import deque
from collections.abc import Iterator
from typing import Any, Final, final

import attrs
from ductaflow_kernels.session.messages import Message

from ductaflow.documents.terminal import Line
from ductaflow.documents.widgets import Widgets, comm_id

Output = dict[str, Any]
"""One output as nbformat 4.5 has it, with text as single strings; never changed in place."""

Owner = int | str
"""Whose outputs: a cell's index, or an Output widget's comm id."""

MAX_TEXT: Final = 4_000_000
MAX_OUTPUTS: Final = 10_000

_PAGE = 65_536
_DISPLAYS = frozenset({"display_data", "execute_result", "update_display_data"})


@attrs.frozen
class Limits:
    """How much of one cell's outputs is kept; half of it from the start, half from the end.

    Attributes:
        text: Characters of stream text, apart from a last line that is not finished.
        outputs: Outputs of other kinds, and likewise changes from one stream to another.
        log: Name of the file that has all the text, for the note where text is omitted.
    """

    text: int = MAX_TEXT
    outputs: int = MAX_OUTPUTS
    log: str = ""

    @property
    def page(self) -> int:
        """Characters that are dropped at once."""
        return max(1, min(_PAGE, self.text // 16))


@final
@attrs.define(eq=False)
class _Page:
    """Some finished text of a stream, growing until it is full."""

    name: str
    head: bool
    size: int = 0
    buffer: io.StringIO = attrs.field(factory=io.StringIO)


@final
@attrs.define(eq=False)
class _Shown:
    """An output that is no stream; one with a display id may be replaced later."""

    output: Output
    display_id: str


@final
@attrs.define(eq=False)
class _Gap:
    """Where something was left out, and how much."""

    name: str
    what: str
    where: str = ""
    count: int = 0

    def __str__(self) -> str:
        return f"… {self.count:,} {self.what} omitted{self.where} …\n"


_Displays = dict[str, dict[_Shown, Owner]]


@final
@attrs.define(eq=False)
class _Area:
    """The outputs of one cell or of one Output widget, in order, with a bounded middle."""

    owner: Owner
    limits: Limits
    displays: _Displays
    _items: dict[int, _Page | _Shown | _Gap] = attrs.field(factory=dict, init=False)
    _last: int = attrs.field(default=0, init=False)
    _stream: str = attrs.field(default="", init=False)
    _line: Line = attrs.field(factory=Line, init=False)
    # The head: how much more of it there may be. The tail: which items it has.
    _text_room: int = attrs.field(init=False)
    _page_room: int = attrs.field(init=False)
    _shown_room: int = attrs.field(init=False)
    _pages: deque[int] = attrs.field(factory=deque, init=False)
    _shown: deque[int] = attrs.field(factory=deque, init=False)
    _held: int = attrs.field(default=0, init=False)
    _text_gap: _Gap | None = attrs.field(default=None, init=False)
    _shown_gap: _Gap | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._text_room = self.limits.text // 2
        self._page_room = self._shown_room = self.limits.outputs // 2

    def write(self, name: str, text: str) -> None:
        """Write `text` to the stream `name`."""
        if name != self._stream:
            self._end_line()
            self._stream = name
        if "\r" in text or "\b" in text:
            first, *others = text.split("\n")
            done = [self._line.write(first)]
            for other in others:
                done += [self._line.finish(), "\n", self._line.write(other)]
        else:
            first, newline, rest = text.partition("\n")
            done = [self._line.write(first)]
            if newline:
                # Whole lines that nothing moves in need no line discipline.
                lines, newline, rest = rest.rpartition("\n")
                done += [self._line.finish(), "\n", lines, newline, self._line.write(rest)]
        self._keep(name, "".join(done))

    def show(self, output: Output, display_id: str) -> None:
        """Add an output that is no stream; `display_id` is empty for most."""
        self._end_line()
        shown = _Shown(output, display_id)
        number = self._add(shown)
        if display_id:
            self.displays.setdefault(display_id, {})[shown] = self.owner
        if self._shown_room > 0:
            self._shown_room -= 1
            return
        self._shown.append(number)
        while len(self._shown) > max(1, self.limits.outputs // 2):
            oldest = self._shown.popleft()
            self._forget(self._items.pop(oldest))
            if self._shown_gap is None:
                self._shown_gap = self._open_gap(oldest, _Gap("stderr", "outputs"))
            self._shown_gap.count += 1

    def discard(self) -> None:
        """Let go of everything, so that display updates no longer reach it."""
        for item in self._items.values():
            self._forget(item)
        self._items.clear()

    def outputs(self) -> list[Output]:
        """The outputs as they stand."""
        outputs: list[Output] = []
        texts: list[str] = []
        for piece in self._pieces():
            if isinstance(piece, _Shown):
                outputs.append(piece.output)
                continue
            name, text, own_line = piece
            last = outputs[-1] if outputs else {}
            if last.get("output_type") != "stream" or last["name"] != name:
                texts = []
                outputs.append({"output_type": "stream", "name": name, "text": texts})
            if own_line and texts and not texts[-1].endswith("\n"):
                texts.append("\n")
            texts.append(text)
        return [
            {**output, "text": "".join(output["text"])} if "text" in output else output
            for output in outputs
        ]

    def _pieces(self) -> Iterator[_Shown | tuple[str, str, bool]]:
        """The outputs in order; of a stream its name, a part of its text, whether it is a note."""
        for item in self._items.values():
            if isinstance(item, _Shown):
                yield item
            elif isinstance(item, _Gap):
                yield item.name, str(item), True
            else:
                yield item.name, item.buffer.getvalue(), False
        line = self._line.text()
        if line:
            yield self._stream, line, False

    def _end_line(self) -> None:
        self._keep(self._stream, self._line.finish())
        self._stream = ""

    def _keep(self, name: str, text: str) -> None:
        """Add finished text to the head's pages, or to the tail's, dropping its oldest."""
        start = 0
        while start < len(text):
            page = self._page(name)
            room = self.limits.page - page.size
            part = text[start : start + (min(room, self._text_room) if page.head else room)]
            start += len(part)
            page.buffer.write(part)
            page.size += len(part)
            if page.head:
                self._text_room -= len(part)
            else:
                self._held += len(part)
                self._drop_text()

    def _page(self, name: str) -> _Page:
        """The page that the next text of stream `name` goes to."""
        last = self._items.get(self._last)
        if (
            isinstance(last, _Page)
            and last.name == name
            and last.size < self.limits.page
            and (self._text_room > 0 or not last.head)
        ):
            return last
        head = self._text_room > 0 and self._page_room > 0
        page = _Page(name, head)
        number = self._add(page)
        if head:
            self._page_room -= 1
        else:
            self._pages.append(number)
        return page

    def _drop_text(self) -> None:
        """Drop the tail's oldest pages as long as the others are enough."""
        while True:
            page = self._items[self._pages[0]]
            assert isinstance(page, _Page)
            enough = self._held - page.size >= max(1, self.limits.text // 2)
            if not enough and len(self._pages) <= max(1, self.limits.outputs // 2):
                return
            oldest = self._pages.popleft()
            del self._items[oldest]
            self._held -= page.size
            if self._text_gap is None:
                where = f"; all of it is in {self.limits.log}" if self.limits.log else ""
                self._text_gap = self._open_gap(oldest, _Gap(page.name, "characters", where))
            self._text_gap.count += page.size

    def _add(self, item: _Page | _Shown) -> int:
        self._last += 1
        self._items[self._last] = item
        return self._last

    def _open_gap(self, number: int, gap: _Gap) -> _Gap:
        """Put a note in the place of the first item that is dropped."""
        self._items = dict(sorted([*self._items.items(), (number, gap)], key=lambda pair: pair[0]))
        return gap

    def _forget(self, item: _Page | _Shown | _Gap) -> None:
        if isinstance(item, _Shown) and item.display_id:
            shown = self.displays.get(item.display_id, {})
            shown.pop(item, None)
            if not shown:
                self.displays.pop(item.display_id, None)


@final
@attrs.define(eq=False)
class OutputFolder:
    """Folds one kernel's iopub messages into the outputs of the cells that it ran.

    Attributes:
        limits: How much of one cell's outputs is kept.
    """

    limits: Limits = attrs.field(factory=Limits)
    _areas: dict[Owner, _Area] = attrs.field(factory=dict, init=False)
    _clear_next: set[Owner] = attrs.field(factory=set, init=False)
    _displays: _Displays = attrs.field(factory=dict, init=False)
    _widgets: Widgets = attrs.field(factory=Widgets, init=False)
    _unsent: set[str] = attrs.field(factory=set, init=False)

    def apply(self, index: int | None, message: Message) -> set[int]:
        """Take in a message; one that makes no outputs, or is malformed, changes nothing.

        Args:
            index: The cell whose execution is the message's parent; None if none is. Then only
                display updates, widget states and captured outputs are taken in.
            message: Any message; only those on iopub matter.

        Returns:
            The indices of the cells whose outputs changed.
        """
        content = message.content
        changed: set[Owner] = set()
        owner = self._widgets.capturing(message.parent)
        target: Owner | None = index if owner is None else owner
        if message.type.startswith("comm_"):
            self._apply_comm(message)
        elif message.type == "clear_output":
            if target is not None:
                changed |= self._clear(target, wait=bool(content.get("wait")))
        elif message.type == "stream":
            text = _text(content.get("text"))
            if target is not None and text:
                self._area(target).write(_text(content.get("name")) or "stdout", text)
                changed.add(target)
        elif message.type in _DISPLAYS or message.type == "error":
            display_id = _display_id(content)
            output = _output(message)
            if display_id:
                # A second output with the id of an earlier one updates that one as well.
                changed |= self._update(display_id, output)
            if target is not None and message.type != "update_display_data":
                self._area(target).show(output, display_id)
                changed.add(target)
        self._unsent.update(owner for owner in changed if isinstance(owner, str))
        return {owner for owner in changed if isinstance(owner, int)}

    def add(self, index: int, output: Output) -> None:
        """Add an output that no message brought, as the error of a cell that took too long."""
        if output.get("output_type") == "stream":
            self._area(index).write(output["name"], output["text"])
        else:
            self._area(index).show(output, "")

    def outputs(self, index: int) -> list[Output]:
        """The outputs of a cell as they stand; costs as much as they are long."""
        area = self._areas.get(index)
        return area.outputs() if area else []

    def widget_state(self) -> dict[str, Any] | None:
        """The value of the notebook's `widgets` metadata under `WIDGET_STATE_MIME`, if any."""
        return self._widgets.snapshot(
            {owner: area.outputs() for owner, area in self._areas.items() if isinstance(owner, str)}
        )

    def replies(self) -> list[tuple[str, dict[str, Any]]]:
        """What Output widgets captured since the last call, for the kernel to know.

        The kernel reads it only between cells, so once a cell is soon enough.

        Returns:
            Comm ids and states; each is to be sent as a `comm_msg` whose data is
            `{"method": "update", "state": state, "buffer_paths": []}`.
        """
        unsent, self._unsent = sorted(self._unsent), set()
        return [
            (comm, {"outputs": self._areas[comm].outputs() if comm in self._areas else []})
            for comm in unsent
        ]

    def _area(self, owner: Owner) -> _Area:
        """The area that the next output of `owner` goes to, cleared if that was put off."""
        if owner in self._clear_next:
            self._clear(owner, wait=False)
        area = self._areas.get(owner)
        if area is None:
            area = self._areas[owner] = _Area(owner, self.limits, self._displays)
            for output in self._widgets.outputs(owner) if isinstance(owner, str) else ():
                _load(area, output)
        return area

    def _clear(self, owner: Owner, *, wait: bool) -> set[Owner]:
        """Clear an area now, or, with `wait`, when its next output comes."""
        if wait:
            self._clear_next.add(owner)
            return set()
        self._clear_next.discard(owner)
        area = self._areas.get(owner)
        if area is not None:
            area.discard()
        # A cleared widget keeps an area: what the kernel had given it is gone too.
        self._areas[owner] = _Area(owner, self.limits, self._displays)
        return {owner}

    def _update(self, display_id: str, output: Output) -> set[Owner]:
        """Replace the content of all outputs that have the display id."""
        shown = self._displays.get(display_id, {})
        for item in shown:
            item.output = {
                **item.output,
                "data": output["data"],
                "metadata": output["metadata"],
            }
        return set(shown.values())

    def _apply_comm(self, message: Message) -> None:
        keys = self._widgets.apply(message)
        comm = comm_id(message)
        if "outputs" in keys or message.type == "comm_close":
            # The kernel's own word replaces what was captured before it.
            area = self._areas.pop(comm, None)
            if area is not None:
                area.discard()
            self._unsent.discard(comm)
            self._clear_next.discard(comm)


def _load(area: _Area, output: object) -> None:
    """Add an output that the kernel gave an Output widget ready-made."""
    content = output if isinstance(output, dict) else {}
    kind = content.get("output_type")
    if kind == "stream":
        area.write(_text(content.get("name")) or "stdout", _text(content.get("text")))
    elif kind in ("display_data", "execute_result", "error"):
        area.show(_output(Message("iopub", str(kind), "", "", content)), "")


def _output(message: Message) -> Output:
    """The output that a display or an error message makes, in nbformat's shape."""
    content = message.content
    if message.type == "error":
        lines = content.get("traceback")
        return {
            "output_type": "error",
            "ename": _text(content.get("ename")),
            "evalue": _text(content.get("evalue")),
            "traceback": [_text(line) for line in lines] if isinstance(lines, list) else [],
        }
    data, metadata = content.get("data"), content.get("metadata")
    output: Output = {
        "output_type": "display_data",
        "data": {
            str(mime): value if _is_json_mime(mime) else _text(value)
            for mime, value in (data.items() if isinstance(data, dict) else ())
        },
        "metadata": metadata if isinstance(metadata, dict) else {},
    }
    if message.type == "execute_result":
        count = content.get("execution_count")
        output["output_type"] = "execute_result"
        output["execution_count"] = count if type(count) is int and count >= 0 else None
    return output


def _display_id(content: dict[str, Any]) -> str:
    transient = content.get("transient")
    value = transient.get("display_id") if isinstance(transient, dict) else None
    return value if isinstance(value, str) else ""


def _is_json_mime(mime: str) -> bool:
    """Whether nbformat keeps data of this type as JSON rather than as text."""
    return mime == "application/json" or (
        mime.startswith("application/") and mime.endswith("+json")
    )


def _text(value: object) -> str:
    """Text from what should be text: kernels also send lists of lines, null, or worse."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "".join(value)
    return json.dumps(value, ensure_ascii=False, default=str)
