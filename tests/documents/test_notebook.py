"""The executed notebook: its bytes are nbformat's, and saving costs what changed."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ductaflow.documents import notebook as notebook_module
from ductaflow.documents.notebook import FAILING_ANCHOR, Notebook, failure_cells, read_notebook
from ductaflow.documents.widgets import WIDGET_STATE_MIME
from ductaflow.model.flows import Cell, Tag
from ductaflow.model.records import ErrorInfo, Status

KERNELSPEC = {"name": "python3", "display_name": "Python 3", "language": "python"}
METADATA = {"kernelspec": KERNELSPEC, "language_info": {"name": "python"}, "ductaflow": {"a": [1]}}
TIMING = {
    "iopub.status.busy": "2026-01-01T00:00:00.000000Z",
    "iopub.execute_input": "2026-01-01T00:00:00.001000Z",
    "shell.execute_reply": "2026-01-01T00:00:01.000000Z",
    "iopub.status.idle": "2026-01-01T00:00:01.001000Z",
}


def stream(text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": text}


def display(data: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"output_type": "display_data", "data": data, "metadata": {}, **more}


def written(nb: Notebook) -> bytes:
    """What nbformat itself writes for the same content."""
    node = nbformat.from_dict(nb.as_dict())
    nbformat.validate(node)
    file = io.StringIO()
    nbformat.write(node, file, version=4)
    return file.getvalue().encode()


def code(source: str = "1", **more: Any) -> Cell:
    return Cell("code", source, **more)


@pytest.fixture
def rich() -> Notebook:
    nb = Notebook(
        [
            Cell(
                "markdown",
                "# Title\n\n![x](attachment:x.png)",
                id="title",
                attachments={"x.png": {"image/png": "aGk=", "text/plain": "a\nb"}},
            ),
            code(
                "config = {}\n", id="params", metadata={"tags": [Tag.PARAMETERS], "trusted": True}
            ),
            code("", id="empty"),
            code("plot()", id="plot", metadata={"execution": {"iopub.status.busy": "stale"}}),
            Cell("raw", "raw\u2028text\x0bmore\x85", id="raw", metadata={"format": "text/html"}),
        ],
        {**METADATA, "orig_nbformat": 4, "signature": "x"},
    )
    nb.set_execution(1, 1, TIMING)
    nb.set_outputs(1, [stream("a\r\nb\x0cc\u2028d\x1c\n"), stream("")])
    nb.set_execution(3, 2, TIMING)
    nb.set_outputs(
        3,
        [
            display(
                {
                    "image/png": "aGk=\n",
                    "text/html": "<b>\n</b>",
                    "text/plain": "",
                    "image/svg+xml": "<svg>\n</svg>",
                    "application/javascript": "a\nb",
                    "application/vnd.x+json": {"b": [], "a": {}, "t": "x\ny"},
                    "application/pdf": "a\nb",
                }
            ),
            {
                "output_type": "execute_result",
                "data": {"text/plain": "é\n"},
                "metadata": {"z": 1},
                "execution_count": 2,
            },
            {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["a\nb", "c"]},
        ],
    )
    return nb


def test_it_is_read_as_it_was(rich: Notebook) -> None:
    cells, metadata = read_notebook(rich.dumps())
    assert {**rich.as_dict(), "cells": cells, "metadata": metadata} == rich.as_dict()


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"cells": [1], "metadata": {}}', b"\xff"])
def test_what_is_no_notebook_is_not_read(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (json's own words, or ours)
        read_notebook(data)


class TestBytes:
    def test_equal_nbformats(self, rich: Notebook) -> None:
        assert rich.dumps() == written(rich)
        assert b"orig_nbformat" not in rich.dumps()
        assert b"trusted" not in rich.dumps()

    def test_equal_nbformats_after_insertions(self, rich: Notebook) -> None:
        banner, anchor = failure_cells(ErrorInfo("cell", "E", "v", 3, 41), Status.FAILED, "f.py")
        assert anchor is not None
        rich.insert(3, anchor)
        rich.insert(0, banner)
        assert rich.dumps() == written(rich)
        assert len(rich) == 7
        assert rich.cell(4)["id"] == FAILING_ANCHOR
        assert rich.cell(5)["id"] == "plot"

    def test_no_cells(self) -> None:
        nb = Notebook([], {})
        assert nb.dumps() == written(nb)

    @given(st.data())
    def test_equal_nbformats_whatever_the_text(self, data: st.DataObject) -> None:
        text = st.text(
            st.characters(exclude_categories=["Cs"]) | st.sampled_from("\n\r\x0b\u2028\x85")
        )
        value = st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | text,
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
            max_leaves=6,
        )
        mime = st.sampled_from(["text/plain", "text/html", "image/png", "image/svg+xml", "x/y"])
        bundle = st.builds(
            lambda texts, value: {**texts, "application/x+json": value},
            st.dictionaries(mime, text, max_size=3),
            value,
        )
        output = (
            st.builds(stream, text)
            | st.builds(display, bundle)
            | st.builds(
                lambda a, lines: {
                    "output_type": "error",
                    "ename": a,
                    "evalue": a,
                    "traceback": lines,
                },
                text,
                st.lists(text, max_size=3),
            )
        )
        metadata = st.dictionaries(text.map("x-".__add__), value, max_size=3)
        cell = st.builds(
            Cell, st.sampled_from(["code", "markdown", "raw"]), text, metadata=metadata
        )
        nb = Notebook(data.draw(st.lists(cell, max_size=3)), data.draw(metadata))
        for index in range(len(nb)):
            if nb.cell(index)["cell_type"] == "code":
                nb.set_execution(index, data.draw(st.none() | st.integers(0)), TIMING)
                nb.set_outputs(index, data.draw(st.lists(output, max_size=3)))
        assert nb.dumps() == written(nb)

    def test_lone_surrogates_become_valid_utf8(self) -> None:
        nb = Notebook([code("'\ud800'")])
        nb.set_outputs(0, [stream("\udfffx\ud83d\ude00")])
        read = json.loads(nb.dumps().decode("utf-8"))
        assert read["cells"][0]["source"] == ["'\ufffd'"]
        assert read["cells"][0]["outputs"][0]["text"] == ["\ufffdx\U0001f600"]

    def test_what_json_cannot_say(self) -> None:
        nb = Notebook(
            [code()],
            {
                "ductaflow": {
                    "config": {
                        "x": float("nan"),
                        "p": {
                            1,
                        },
                        2: b"b",
                    }
                }
            },
        )
        nb.set_outputs(0, [display({"application/x+json": [float("inf"), (1.5, True, None)]})])

        def refuse(word: str) -> None:
            raise AssertionError(word)

        read = json.loads(nb.dumps(), parse_constant=refuse)
        assert read["metadata"]["ductaflow"]["config"] == {"x": None, "p": "{1}", "2": "b"}
        assert read["cells"][0]["outputs"][0]["data"]["application/x+json"] == [
            None,
            [1.5, True, None],
        ]


class TestCells:
    def test_ids_are_valid_and_unique(self) -> None:
        nb = Notebook([code(id="a"), code(id="a"), code(id=""), code(id="ü b"), code(id="x" * 65)])
        ids = [nb.cell(index)["id"] for index in range(5)]
        assert ids[0] == "a"
        assert len(set(ids)) == 5
        assert nb.dumps() == written(nb)
        again = Notebook([code(id="a"), code(id="a")])
        assert again.cell(1)["id"] == ids[1], "the same flow gets the same ids"

    def test_timing_is_replaced(self, rich: Notebook) -> None:
        times = rich.metadata["ductaflow"]["this_run"]["cells"]
        assert times == {"params": TIMING, "plot": TIMING}
        rich.set_execution(1, 5)
        assert times == {"plot": TIMING}
        assert rich.cell(1)["metadata"] == {"tags": [Tag.PARAMETERS]}
        assert rich.cell(1)["execution_count"] == 5
        assert rich.cell(3)["metadata"] == {}, "nor does it keep what another run has left there"

    def test_metadata_is_its_own(self) -> None:
        given_metadata = {"ductaflow": {"status": "running"}}
        nb = Notebook([], given_metadata)
        nb.metadata["ductaflow"]["status"] = "success"
        assert given_metadata == {"ductaflow": {"status": "running"}}
        assert b'"success"' in nb.dumps()

    def test_widget_state(self) -> None:
        nb = Notebook([])
        assert nb.widget_state is None
        nb.widget_state = None
        assert nb.metadata == {}
        nb.widget_state = {"version_major": 2, "version_minor": 0, "state": {}}
        assert nb.metadata["widgets"][WIDGET_STATE_MIME] == nb.widget_state
        assert nb.dumps() == written(nb)
        nb.widget_state = None
        assert "widgets" not in nb.metadata


class TestCost:
    def test_a_save_serialises_what_changed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made = []
        real = notebook_module._cell_json

        def counting(cell: dict[str, Any]) -> str:
            made.append(cell["id"])
            return real(cell)

        monkeypatch.setattr(notebook_module, "_cell_json", counting)
        nb = Notebook([code(str(n), id=f"c{n}") for n in range(100)])
        for n in range(100):
            nb.set_outputs(n, [stream("x")])
            nb.set_execution(n, n, TIMING)
            nb.dumps()
        assert len(made) == 100 + 99  # all at the first save, one at each that follows
        nb.dumps()
        assert len(made) == 199

    def test_outputs_are_asked_for_only_when_needed(self) -> None:
        asked = []

        def outputs() -> Sequence[dict[str, Any]]:
            asked.append(1)
            return [stream(f"asked {len(asked)}")]

        nb = Notebook([code()])
        for _ in range(1000):
            nb.set_outputs(0, outputs)
        nb.set_execution(0, 1)
        assert asked == []
        assert b"asked 1" in nb.dumps()
        nb.dumps()
        assert nb.cell(0)["outputs"] == [stream("asked 1")]
        nb.set_outputs(0, outputs)
        assert b"asked 2" in nb.dumps()

    def test_sources_are_shared_by_instances(self) -> None:
        cells = [code(f"shared {n}") for n in range(10)]
        Notebook(cells).dumps()
        misses = notebook_module._source_json.cache_info().misses
        Notebook(cells).dumps()
        assert notebook_module._source_json.cache_info().misses == misses


class TestFailure:
    def test_says_what_and_where_and_links(self) -> None:
        error = ErrorInfo("cell", "ValueError", "no <b>\n\n$x$ `y`", 3, 41)
        banner, anchor = failure_cells(error, Status.FAILED, "flow/a&b.py")
        assert banner.tags == (Tag.BANNER,)
        assert Status.FAILED.colour in banner.source
        assert "✗ flow/a&amp;b.py: failed" in banner.source
        assert "ValueError: no &lt;b&gt;<br>&#36;x&#36; &#96;y&#96;" in banner.source
        assert "In cell 3, line 41 of flow/a&amp;b.py" in banner.source
        assert 'href="#ductaflow-failing-cell"' in banner.source
        assert "\n\n" not in banner.source, "a blank line would end the HTML block"
        assert anchor is not None
        assert anchor.tags == (Tag.BANNER,)
        assert '<a id="ductaflow-failing-cell"></a>' in anchor.source

    def test_without_a_failing_cell(self) -> None:
        error = ErrorInfo("start", "KernelStartError", "no such interpreter")
        banner, anchor = failure_cells(error, Status.DIED, "a.py")
        assert anchor is None
        assert "href" not in banner.source

    @pytest.mark.parametrize(
        ("type_", "message", "told"),
        [
            ("E", "", "<code>E</code>"),
            ("E", "E: x", "<code>E: x</code>"),
            ("", "x", "<code>x</code>"),
        ],
    )
    def test_says_it_once(self, type_: str, message: str, told: str) -> None:
        banner, _ = failure_cells(ErrorInfo("cell", type_, message, 0), Status.FAILED, "a.py")
        assert told in banner.source
        assert "a cell inserted by ductaflow" in banner.source

    def test_a_long_message_is_cut(self) -> None:
        banner, _ = failure_cells(ErrorInfo("cell", "E", "x" * 10_000, 1), Status.FAILED, "a.py")
        assert len(banner.source) < 3000

    def test_shows_in_html(self) -> None:
        from nbconvert.filters import markdown2html

        error = ErrorInfo("cell", "E", "a * b * c $z$", 1, 2)
        banner, anchor = failure_cells(error, Status.FAILED, "a.py")
        assert anchor is not None
        html = markdown2html(banner.source)
        assert "<code>E: a * b * c &#36;z&#36;</code>" in html
        assert f'href="#{FAILING_ANCHOR}"' in html
        assert f'<a id="{FAILING_ANCHOR}"></a>' in markdown2html(anchor.source)
