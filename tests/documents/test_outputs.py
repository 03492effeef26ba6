"""Folding kernel messages into outputs: streams, displays, widgets, floods."""

from __future__ import annotations

import base64
import subprocess
import sys
from typing import Any

import pytest
from ductaflow_kernels.session.messages import Message
from hypothesis import given
from hypothesis import strategies as st

from ductaflow.documents import outputs as outputs_module
from ductaflow.documents import terminal
from ductaflow.documents.outputs import Limits, OutputFolder
from ductaflow.documents.terminal import LINE_LIMIT, Line

PNG = base64.b64encode(b"\x89PNG\r\n").decode()


def msg(
    type_: str, parent: str = "request", buffers: list[bytes] | None = None, **content: Any
) -> Message:
    return Message("iopub", type_, parent, "2026-01-01T00:00:00Z", content, buffers=buffers or [])


def stream(text: Any, name: Any = "stdout", parent: str = "request") -> Message:
    return msg("stream", parent, name=name, text=text)


def display(text: str, display_id: str | None = None, type_: str = "display_data") -> Message:
    transient = {"display_id": display_id} if display_id else {}
    return msg(type_, data={"text/plain": text}, metadata={}, transient=transient)


def fold(*messages: Message, limits: Limits | None = None) -> list[dict[str, Any]]:
    folder = OutputFolder(limits or Limits())
    for message in messages:
        folder.apply(0, message)
    return folder.outputs(0)


def text_of(*texts: str, limits: Limits | None = None) -> str:
    folded = fold(*map(stream, texts), limits=limits)
    assert len(folded) <= 1
    return folded[0]["text"] if folded else ""


class TestStreams:
    def test_same_name_merges(self) -> None:
        assert fold(stream("a\n"), stream("b")) == [
            {"output_type": "stream", "name": "stdout", "text": "a\nb"}
        ]

    def test_other_name_or_output_separates(self) -> None:
        folded = fold(stream("a"), stream("e", "stderr"), stream("b"), display("d"), stream("c"))
        assert [o.get("text") for o in folded] == ["a", "e", "b", None, "c"]

    @pytest.mark.parametrize(
        ("written", "shown"),
        [
            ("one\rtwo", "two"),
            ("long line\rab", "abng line"),
            ("a\r\nb\r\r\nc", "a\nb\nc"),
            ("first\nabc\rX", "first\nXbc"),
            ("abc\r", "abc"),
            ("abc\b\bX", "aX"),
            ("\b\bX", "X"),
            ("a\n\bb", "a\nb"),
            ("|\b/\b-\b \b", ""),
            ("abc\rX\n", "Xbc\n"),
            ("0%\r50%\r100%\ndone\n", "100%\ndone\n"),
        ],
    )
    def test_moves(self, written: str, shown: str) -> None:
        assert text_of(written) == shown
        assert text_of(*written) == shown

    @pytest.mark.parametrize(
        ("written", "shown"),
        [
            ("\x1b[31mred\x1b[0m\n", "\x1b[31mred\x1b[0m\n"),
            ("\x1b[31mred\x1b[0m\r\n", "\x1b[31mred\x1b[0m\n"),
            ("\x1b[31mabc\x1b[0m\rX", "\x1b[0mX\x1b[0m\x1b[31mbc\x1b[0m"),
            ("\x1b[32m50%\x1b[0m\r\x1b[32m99%\x1b[0m", "\x1b[0m\x1b[32m99%\x1b[0m"),
            ("downloading\r\x1b[Kdone", "done"),
            ("downloading\x1b[2K\rdone", "done"),
            ("\x1b[1;32mok\rno", "\x1b[1;32mno"),
        ],
    )
    def test_escapes_take_no_room(self, written: str, shown: str) -> None:
        assert text_of(written) == shown
        assert text_of(*written) == shown

    def test_a_repeated_colour_does_not_pile_up(self) -> None:
        text = text_of("x\r", *["\x1b[31m\x1b[1my\r"] * 1000)
        assert len(text) < 100

    def test_sloppy_content(self) -> None:
        folded = fold(stream(["a", "b"]), stream(None), stream({"x": 1}), msg("stream"))
        assert folded[0]["text"] == 'ab{"x": 1}'
        assert fold(msg("stream", text="x"))[0]["name"] == "stdout"


def as_terminal(text: str) -> str:
    """The rules, one character at a time."""
    done, line, cursor = "", [], 0
    for c in text:
        if c == "\n":
            done, line, cursor = done + "".join(line) + "\n", [], 0
        elif c == "\r":
            cursor = 0
        elif c == "\b":
            if cursor:
                cursor -= 1
                del line[cursor]
        else:
            line[cursor : cursor + 1] = [c]
            cursor += 1
    return done + "".join(line)


PRINTED = st.text(st.sampled_from("abé\u2028\r\r\b\n"), max_size=60)
COLOURED = st.lists(
    st.sampled_from(
        [
            "a",
            "bc",
            "\r",
            "\b",
            "\n",
            "\x1b[0m",
            "\x1b[31m",
            "\x1b[1;4m",
            "\x1b[K",
            "\x1b[2K",
            "\x1b[",
            "\x1b",
            "3",
            "m",
            "[",
            "\x1b[5A",
        ]
    ),
    max_size=40,
).map("".join)


def chunks(data: st.DataObject, text: str) -> list[str]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


class TestStreamProperties:
    @given(PRINTED)
    def test_is_a_terminal(self, text: str) -> None:
        assert text_of(text) == as_terminal(text)

    @given(st.data(), st.one_of(PRINTED, COLOURED, st.text(max_size=50)))
    def test_chunking_does_not_matter(self, data: st.DataObject, text: str) -> None:
        assert text_of(*chunks(data, text)) == text_of(text)

    @given(st.data(), st.one_of(PRINTED, COLOURED))
    def test_chunking_does_not_matter_beyond_limits(self, data: st.DataObject, text: str) -> None:
        patch = pytest.MonkeyPatch()
        with patch.context() as p:
            p.setattr(terminal, "LINE_LIMIT", 7)
            limits = Limits(text=16)
            assert text_of(*chunks(data, text), limits=limits) == text_of(text, limits=limits)

    @given(st.lists(st.sampled_from(["plain", "\x1b[31m", "\x1b[0m", "\x1b[1m", "\x1b[0;32m"])))
    def test_colours_survive_a_move(self, parts: list[str]) -> None:
        """Overdrawing nothing shows the same characters in the same colours."""

        def painted(text: str) -> list[tuple[str, str]]:
            pen, out = "", []
            for piece in terminal._PIECE.findall(text):
                if piece.startswith("\x1b["):
                    pen = piece if terminal._RESET.match(piece) else pen + piece
                    continue
                out += [(pen.replace("\x1b[0m", ""), c) for c in piece]
            return out

        text = "".join(dict.fromkeys(parts))
        assert painted(text_of("x\b" + text)) == painted(text)


class TestCost:
    def test_progress_bar_of_many_updates(self) -> None:
        folder = OutputFolder()
        for n in range(100_000):
            folder.apply(0, stream(f"\r{n:6} [{'#' * (n // 2000):50}]", "stderr"))
        folder.apply(0, stream("\n", "stderr"))
        (output,) = folder.outputs(0)
        assert output["text"] == f" 99999 [{'#' * 49} ]\n"

    def test_many_small_prints_copy_no_earlier_text(self, monkeypatch: pytest.MonkeyPatch) -> None:
        kept = []
        real = outputs_module._Area._keep

        def keep(self: Any, name: str, text: str) -> None:
            kept.append(len(text))
            real(self, name, text)

        monkeypatch.setattr(outputs_module._Area, "_keep", keep)
        texts = [f"{n}\n" for n in range(20_000)] + ["x"] * 20_000
        assert text_of(*texts) == "".join(texts)
        assert sum(kept) <= len("".join(texts))

    def test_a_long_line_without_newline(self) -> None:
        line = Line()
        given_away = [line.write("x") for _ in range(3 * LINE_LIMIT + 5)]
        assert len("".join(given_away)) == 3 * LINE_LIMIT
        assert line.text() == "x" * 5
        assert len(text_of("\rx" + "y" * 3 * LINE_LIMIT)) == 3 * LINE_LIMIT + 1


class TestFloods:
    def test_head_and_tail_of_text_are_kept(self) -> None:
        text = text_of(*[f"line {n}\n" for n in range(10_000)], limits=Limits(4000, log="flow.log"))
        lines = text.splitlines()
        assert lines[0] == "line 0"
        assert lines[-1] == "line 9999"
        (note,) = [line for line in lines if "omitted" in line]
        whole = sum(len(f"line {n}\n") for n in range(10_000))
        omitted = int(note.split()[1].replace(",", ""))
        assert note == f"… {omitted:,} characters omitted; all of it is in flow.log …"
        shown = text.replace(note + "\n", "")
        assert whole - omitted <= len(shown) <= whole - omitted + 1  # a newline before the note
        assert 4000 <= len(shown) <= 4300

    def test_one_message_may_flood(self) -> None:
        text = text_of("a" + "b" * 100_000 + "c", limits=Limits(1000))
        assert text[0] == "a"
        assert text[-1] == "c"
        assert len(text) < 1200 + LINE_LIMIT, "the unfinished line comes on top"

    def test_text_kept_is_bounded_over_alternating_streams(self) -> None:
        folder = OutputFolder(Limits(10_000, outputs=100))
        for n in range(3000):
            folder.apply(0, stream("x" * 50, ("stdout", "stderr")[n % 2]))
        folded = folder.outputs(0)
        assert len(folded) <= 103
        assert sum("omitted" in o["text"] for o in folded) == 1
        assert len(folder._areas[0]._items) <= 102

    def test_displays_survive_a_flood_of_text(self) -> None:
        flood = [stream("x" * 100)] * 1000
        folded = fold(*flood, display("plot"), *flood, limits=Limits(1000))
        assert [o["output_type"] for o in folded] == ["stream", "display_data", "stream"]

    def test_head_and_tail_of_displays_are_kept(self) -> None:
        folder = OutputFolder(Limits(outputs=10))
        for n in range(100):
            folder.apply(0, display(str(n), display_id="d"))
        folded = folder.outputs(0)
        assert len(folded) == 11
        assert folded[5] == {
            "output_type": "stream",
            "name": "stderr",
            "text": "… 90 outputs omitted …\n",
        }
        assert len(folder._displays["d"]) == 10

    def test_the_error_is_kept(self) -> None:
        error = msg("error", ename="E", evalue="", traceback=[])
        assert fold(*[display("d")] * 50, error, limits=Limits(outputs=4))[-1]["ename"] == "E"


class TestDisplays:
    def test_rich_data_stays_as_it_is(self) -> None:
        data = {
            "image/png": PNG,
            "text/plain": "<Figure>",
            "application/vnd.plotly.v1+json": {"data": [1, None]},
            "application/json": [1],
        }
        (output,) = fold(msg("display_data", data=data, metadata={"image/png": {"width": 4}}))
        assert output == {
            "output_type": "display_data",
            "data": data,
            "metadata": {"image/png": {"width": 4}},
        }

    def test_text_data_is_made_text(self) -> None:
        (output,) = fold(msg("display_data", data={"text/html": ["<b>", "</b>"], "a/b": {"x": 1}}))
        assert output["data"] == {"text/html": "<b></b>", "a/b": '{"x": 1}'}

    def test_execute_result(self) -> None:
        (output,) = fold(
            msg("execute_result", data={"text/plain": "1"}, metadata={}, execution_count=3)
        )
        assert output["execution_count"] == 3
        assert fold(msg("execute_result", execution_count="3"))[0]["execution_count"] is None

    def test_error(self) -> None:
        (output,) = fold(msg("error", ename="ValueError", evalue="no", traceback=["a", None]))
        assert output == {
            "output_type": "error",
            "ename": "ValueError",
            "evalue": "no",
            "traceback": ["a", ""],
        }

    def test_update_reaches_all_cells(self) -> None:
        folder = OutputFolder()
        folder.apply(0, display("old", "d"))
        before = folder.outputs(0)
        folder.apply(1, stream("between"))
        folder.apply(1, display("old", "d", "execute_result"))
        assert folder.apply(None, display("new", "d", "update_display_data")) == {0, 1}
        assert folder.outputs(0)[0]["data"] == {"text/plain": "new"}
        assert folder.outputs(1)[1]["data"] == {"text/plain": "new"}
        assert folder.outputs(1)[1]["output_type"] == "execute_result"
        assert before[0]["data"] == {"text/plain": "old"}, "an output given out does not change"

    def test_second_display_with_the_id_updates_the_first(self) -> None:
        folded = fold(display("1", "d"), display("2", "d"))
        assert [o["data"]["text/plain"] for o in folded] == ["2", "2"]

    def test_update_of_an_unknown_id_is_nothing(self) -> None:
        assert fold(display("x", "d", "update_display_data")) == []

    def test_unknown_parent_makes_no_output(self) -> None:
        folder = OutputFolder()
        assert folder.apply(None, stream("late")) == set()
        assert folder.apply(None, msg("clear_output", wait=False)) == set()

    def test_added_output(self) -> None:
        folder = OutputFolder()
        folder.apply(2, stream("a"))
        folder.add(2, {"output_type": "error", "ename": "Timeout", "evalue": "", "traceback": []})
        folder.add(2, {"output_type": "stream", "name": "stderr", "text": "b"})
        assert [o["output_type"] for o in folder.outputs(2)] == ["stream", "error", "stream"]


class TestClear:
    def test_at_once(self) -> None:
        folder = OutputFolder()
        folder.apply(0, stream("a"))
        assert folder.apply(0, msg("clear_output", wait=False)) == {0}
        assert folder.outputs(0) == []

    def test_put_off(self) -> None:
        folder = OutputFolder()
        folder.apply(0, stream("a"))
        assert folder.apply(0, msg("clear_output", wait=True)) == set()
        assert folder.outputs(0)[0]["text"] == "a"
        folder.apply(0, stream("b"))
        assert folder.outputs(0)[0]["text"] == "b"
        folder.apply(0, stream("c"))
        assert folder.outputs(0)[0]["text"] == "bc"

    def test_only_its_own_cell(self) -> None:
        folder = OutputFolder()
        folder.apply(0, stream("a"))
        folder.apply(0, msg("clear_output", wait=True))
        folder.apply(1, stream("b"))
        assert folder.outputs(0)[0]["text"] == "a"

    def test_cleared_displays_are_forgotten(self) -> None:
        folder = OutputFolder()
        for n in range(50):
            folder.apply(0, display(str(n), "d"))
            folder.apply(0, msg("clear_output", wait=True))
        assert len(folder._displays["d"]) == 1
        folder.apply(0, msg("clear_output", wait=False))
        assert folder.apply(0, display("new", "d", "update_display_data")) == set()
        assert folder._displays == {}


def comm_open(comm: str, state: dict[str, Any], paths: Any = (), buffers: Any = ()) -> Message:
    return msg(
        "comm_open",
        comm_id=comm,
        target_name="jupyter.widget",
        data={"state": state, "buffer_paths": [*paths]},
        buffers=[*buffers],
    )


def comm_update(
    comm: str, state: dict[str, Any], paths: Any = (), buffers: Any = (), method: str = "update"
) -> Message:
    data = {"method": method, "state": state, "buffer_paths": [*paths]}
    return msg("comm_msg", comm_id=comm, data=data, buffers=[*buffers])


OUTPUT_STATE = {
    "_model_module": "@jupyter-widgets/output",
    "_model_name": "OutputModel",
    "_model_module_version": "1.0.0",
    "msg_id": "",
    "outputs": [],
}


class TestWidgets:
    def test_none(self) -> None:
        assert OutputFolder().widget_state() is None

    def test_state_is_merged(self) -> None:
        folder = OutputFolder()
        slider = {
            "_model_name": "IntSliderModel",
            "_model_module": "@jupyter-widgets/controls",
            "_model_module_version": "2.0.0",
            "value": 1,
            "max": 9,
        }
        folder.apply(0, comm_open("w", slider))
        folder.apply(0, comm_update("w", {"value": 5}))
        folder.apply(0, comm_update("w", {"value": 1}, method="echo_update"))
        folder.apply(0, msg("comm_msg", comm_id="w", data={"method": "custom", "content": {}}))
        assert folder.widget_state() == {
            "version_major": 2,
            "version_minor": 0,
            "state": {
                "w": {
                    "model_name": "IntSliderModel",
                    "model_module": "@jupyter-widgets/controls",
                    "model_module_version": "2.0.0",
                    "state": {**slider, "value": 5},
                }
            },
        }
        folder.apply(0, msg("comm_close", comm_id="w", data={}))
        assert folder.widget_state() is None

    def test_buffers(self) -> None:
        folder = OutputFolder()
        folder.apply(0, comm_open("w", {"a": {}}, [["a", "x"], ["b"]], [b"1", memoryview(b"2")]))
        folder.apply(0, comm_update("w", {"a": {}}, [["a", "y"]], [b"3"]))
        state = folder.widget_state()
        assert state is not None
        assert state["state"]["w"]["buffers"] == [
            {"path": ["b"], "encoding": "base64", "data": base64.b64encode(b"2").decode()},
            {"path": ["a", "y"], "encoding": "base64", "data": base64.b64encode(b"3").decode()},
        ]

    def test_other_comms_are_passed_over(self) -> None:
        folder = OutputFolder()
        folder.apply(0, msg("comm_open", comm_id="c", target_name="mine", data={"state": {"a": 1}}))
        folder.apply(0, comm_update("c", {"a": 2}))
        assert folder.widget_state() is None


class TestCapture:
    @pytest.fixture
    def folder(self) -> OutputFolder:
        folder = OutputFolder()
        folder.apply(0, comm_open("one", dict(OUTPUT_STATE)))
        folder.apply(0, comm_open("two", dict(OUTPUT_STATE)))
        return folder

    def captured(self, folder: OutputFolder, comm: str) -> list[dict[str, Any]]:
        state = folder.widget_state()
        assert state is not None
        return state["state"][comm]["state"]["outputs"]

    def test_outputs_go_to_the_widget(self, folder: OutputFolder) -> None:
        folder.apply(0, stream("before"))
        folder.apply(0, comm_update("one", {"msg_id": "request"}))
        assert folder.apply(0, stream("in")) == set()
        folder.apply(0, stream("side\rSIDE"))
        folder.apply(0, display("shown"))
        folder.apply(0, stream("elsewhere", parent="another request"))
        folder.apply(0, comm_update("one", {"msg_id": ""}))
        folder.apply(0, stream("after"))
        assert folder.outputs(0)[0]["text"] == "beforeelsewhereafter"
        outputs = self.captured(folder, "one")
        assert [o.get("text") for o in outputs] == ["SIDEde", None]
        assert folder.replies() == [("one", {"outputs": outputs})]
        assert folder.replies() == []

    def test_nested(self, folder: OutputFolder) -> None:
        folder.apply(0, comm_update("one", {"msg_id": "request"}))
        folder.apply(0, stream("1"))
        folder.apply(0, comm_update("two", {"msg_id": "request"}))
        folder.apply(0, stream("2"))
        folder.apply(0, comm_update("two", {"msg_id": ""}))
        folder.apply(0, stream("3"))
        assert self.captured(folder, "one")[0]["text"] == "13"
        assert self.captured(folder, "two")[0]["text"] == "2"

    def test_clear_stays_in_the_widget(self, folder: OutputFolder) -> None:
        folder.apply(0, stream("cell"))
        folder.apply(0, comm_update("one", {"msg_id": "request"}))
        folder.apply(0, stream("old"))
        folder.apply(0, msg("clear_output", wait=True))
        folder.apply(0, stream("new"))
        assert self.captured(folder, "one")[0]["text"] == "new"
        folder.apply(0, msg("clear_output", wait=False))
        assert folder.replies() == [("one", {"outputs": []})]
        assert folder.outputs(0)[0]["text"] == "cell"

    def test_update_reaches_captured_displays(self, folder: OutputFolder) -> None:
        folder.apply(0, comm_update("one", {"msg_id": "request"}))
        folder.apply(0, display("old", "d"))
        folder.apply(0, comm_update("one", {"msg_id": ""}))
        folder.replies()
        assert folder.apply(1, display("new", "d", "update_display_data")) == set()
        assert folder.replies()[0][1]["outputs"][0]["data"] == {"text/plain": "new"}

    def test_what_the_kernel_sets_stands(self, folder: OutputFolder) -> None:
        given_outputs = [
            {"output_type": "stream", "name": "stdout", "text": "given"},
            {"output_type": "display_data", "data": {"text/plain": "d"}, "metadata": {}},
        ]
        folder.apply(0, comm_update("one", {"msg_id": "request"}))
        folder.apply(0, stream("captured"))
        folder.apply(0, comm_update("one", {"outputs": given_outputs}))
        assert self.captured(folder, "one") == given_outputs
        assert folder.replies() == []
        folder.apply(0, stream("more"))
        assert [o.get("text") for o in self.captured(folder, "one")] == ["given", None, "more"]

    def test_a_closed_widget_captures_no_more(self, folder: OutputFolder) -> None:
        folder.apply(0, comm_update("one", {"msg_id": "request"}))
        folder.apply(0, stream("captured"))
        folder.apply(0, msg("comm_close", comm_id="one"))
        assert folder.apply(0, stream("x")) == {0}
        assert folder.replies() == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
CONTENT = st.dictionaries(
    st.sampled_from(
        [
            "name",
            "text",
            "data",
            "metadata",
            "transient",
            "wait",
            "traceback",
            "ename",
            "comm_id",
            "target_name",
            "execution_count",
        ]
    ),
    JSON
    | st.just("jupyter.widget")
    | st.fixed_dictionaries({"display_id": JSON})
    | st.fixed_dictionaries({"method": st.just("update"), "state": JSON, "buffer_paths": JSON})
    | st.just(
        {"method": "update", "state": {**OUTPUT_STATE, "msg_id": "request", "outputs": [1, {}]}}
    ),
)
TYPES = st.sampled_from(
    [
        "stream",
        "display_data",
        "execute_result",
        "update_display_data",
        "error",
        "clear_output",
        "comm_open",
        "comm_msg",
        "comm_close",
        "execute_input",
        "status",
        "unheard_of",
    ]
)


@given(st.lists(st.tuples(TYPES, CONTENT), max_size=8))
def test_no_content_whatever_raises(messages: list[tuple[str, dict[str, Any]]]) -> None:
    folder = OutputFolder(Limits(text=10, outputs=2))
    for type_, content in messages:
        folder.apply(0, Message("iopub", type_, "request", "", content, buffers=[b"x"]))
    folder.outputs(0)
    folder.widget_state()
    folder.replies()


def test_tqdm_bar_ends_as_one_line() -> None:
    """What tqdm really writes, a message for each write."""
    script = (
        "import sys\nfrom tqdm import tqdm\nwrites = []\n"
        "class Stream:\n"
        "    def write(self, text): writes.append(text)\n"
        "    def flush(self): pass\n"
        "for _ in tqdm(range(50), file=Stream(), mininterval=0, miniters=1, ncols=60): pass\n"
        "sys.stdout.write(repr(writes))\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    writes = eval(ran.stdout)
    assert len(writes) > 40
    text = text_of(*writes)
    assert text.startswith("100%|")
    assert text.endswith("\n")
    assert text.count("\n") == 1


def test_import_is_cheap() -> None:
    script = (
        "import sys, ductaflow.documents.outputs, ductaflow.documents.notebook\n"
        "heavy = {'nbformat', 'IPython', 'jupyter_client', 'ipywidgets', 'zmq', 'traitlets'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
