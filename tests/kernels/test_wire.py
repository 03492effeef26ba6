"""Messages of a flow's kernel: the same as jupyter_client's, with less work for each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import zmq
from ductaflow_kernels.pool import KernelPool
from ductaflow_kernels.spec import KernelRequest, own_interpreter
from hypothesis import given
from hypothesis import strategies as st
from jupyter_client.session import Session
from kernel_client import SOURCES, inside, printed, run, text

FlowSession = inside("kernel.session").FlowSession

KEY = b"k" * 32
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)  # fmt: skip
CONTENT = st.dictionaries(st.text(), JSON)


def session(kind: Any) -> Any:
    return kind(key=KEY, username="u")


def read(by: Any, frames: list[Any], **options: Any) -> dict[str, Any]:
    idents, rest = by.feed_identities(frames, **options)
    assert idents == [b"one", b"two"]
    message: dict[str, Any] = by.deserialize(rest, **options)
    return message


@given(CONTENT, CONTENT, st.sampled_from([(FlowSession, Session), (Session, FlowSession)]))
def test_either_reads_what_the_other_writes(
    content: dict[str, Any], metadata: dict[str, Any], kinds: tuple[Any, Any]
) -> None:
    """Headers, dates, content, metadata and buffers."""
    writer, reader = map(session, kinds)
    parent = writer.msg("execute_request", {})
    message = writer.msg("stream", content, parent=parent, metadata=metadata)
    frames = [*writer.serialize(message, [b"one", b"two"]), b"buffer"]
    found = read(reader, frames)
    assert found["header"] == message["header"]
    assert found["parent_header"] == parent["header"]
    assert isinstance(found["parent_header"]["date"], datetime)
    assert (found["content"], found["metadata"]) == (content, metadata)
    assert [bytes(b) for b in found["buffers"]] == [b"buffer"]


@pytest.mark.parametrize("content", [True, False])
def test_frames_are_read_as_bytes(content: bool) -> None:
    """A stream hands them on uncopied; a packed content may stay packed."""
    ours, theirs = session(FlowSession), session(Session)
    message = theirs.msg("execute_request", {"code": "1"})
    frames = [zmq.Frame(f) for f in theirs.serialize(message, [b"one", b"two"])]
    frames.append(zmq.Frame(b"buffer"))
    idents, rest = ours.feed_identities(frames, copy=False)
    assert idents == [b"one", b"two"]
    found = ours.deserialize(rest, content=content, copy=False)
    assert found["content"] == ({"code": "1"} if content else b'{"code": "1"}')
    assert bytes(found["buffers"][0]) == b"buffer"


def test_a_packed_parent_is_that_of_its_message() -> None:
    """It is packed once for all that answer the same request, and anew for the next."""
    ours, theirs = session(FlowSession), session(Session)
    for _ in range(2):
        parent = theirs.msg("execute_request", {})
        for _ in range(2):
            frames = ours.serialize(ours.msg("status", {}, parent=parent), [b"one", b"two"])
            assert read(theirs, frames)["parent_header"] == parent["header"]


@pytest.mark.parametrize("content", [None, "{}", b"{}", {}])
def test_content_that_is_packed_or_missing(content: Any) -> None:
    """As a message is relayed, or has none."""
    ours = session(FlowSession)
    message = {**ours.msg("status", {}), "content": content}
    assert read(session(Session), ours.serialize(message, [b"one", b"two"]))["content"] == {}


def test_dates_of_other_forms_and_what_is_none() -> None:
    """Python 3.10 cannot read the first by itself, the second is local time, the last is kept."""
    ours = session(FlowSession)
    message = ours.msg("status", {})
    message["header"]["date"] = "2026-11-25T10:00:00.5Z"
    found = read(ours, ours.serialize(message, [b"one", b"two"]))
    assert found["header"]["date"].isoformat() == "2026-11-25T10:00:00.500000+00:00"
    message["header"]["date"] = "2026-11-25T10:00:00"
    with pytest.warns(DeprecationWarning, match="naive"):
        found = read(ours, ours.serialize(message, [b"one", b"two"]))
    assert found["header"]["date"].tzinfo is not None
    message["header"]["date"] = "soon"
    found = read(ours, ours.serialize(message, [b"one", b"two"]))
    assert found["header"]["date"] == "soon"


def test_messages_that_are_forged_repeated_or_cut_are_refused() -> None:
    """As by jupyter_client."""
    ours = session(FlowSession)
    _, frames = ours.feed_identities(ours.serialize(ours.msg("status", {})))
    with pytest.raises(ValueError, match="Invalid Signature"):
        session(FlowSession).deserialize([frames[0], *frames[1:4], b'{"a": 1}'])
    with pytest.raises(ValueError, match="Unsigned"):
        ours.deserialize([b"", *frames[1:]])
    with pytest.raises(TypeError, match="malformed"):
        ours.deserialize(frames[:4])
    ours.deserialize(frames)
    with pytest.raises(ValueError, match="Duplicate"):
        ours.deserialize(frames)
    with pytest.raises(ValueError, match="IDS"):
        ours.feed_identities([b"one", b"two"])


def test_what_is_not_json_is_packed_as_jupyter_client_does() -> None:
    """With its warning; a date is a string."""
    ours = session(FlowSession)
    with pytest.warns(UserWarning, match="serialization failed"):
        assert b"nan" in ours.serialize(ours.msg("status", {"a": float("nan")}))[-1]
    date = datetime(1970, 1, 1, tzinfo=timezone.utc)
    assert b"1970" in ours.serialize(ours.msg("status", {"a": date}))[-1]


# --- in kernels -----------------------------------------------------------------------------------


@pytest.fixture(params=SOURCES)
def pool(request: pytest.FixtureRequest) -> Iterator[KernelPool]:
    with KernelPool(managed=SOURCES[request.param]()) as pool:
        yield pool


def request_in(folder: Path) -> KernelRequest:
    inherited = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}
    return KernelRequest(own_interpreter(), folder, inherited)


def test_context_variables_outlive_a_cell(pool: KernelPool, tmp_path: Path) -> None:
    """All cells run in one context, as in any kernel."""
    kernel = pool.lease(request_in(tmp_path))
    run(kernel, "import contextvars; v = contextvars.ContextVar('v'); v.set(1)")
    run(kernel, "v.set(v.get() + 1)")
    assert text(run(kernel, "import asyncio; await asyncio.sleep(0); print(v.get())")) == "2\n"
    assert printed(kernel, "v.get()") == 2


def test_what_an_async_cell_has_begun_goes_on_between_cells(
    pool: KernelPool, tmp_path: Path
) -> None:
    """Cells that were sent ahead leave room for the event loop, and run in order."""
    kernel = pool.lease(request_in(tmp_path))
    begin = """import asyncio
seen = []
async def tick():
    for i in range(50):
        seen.append("tick")
        await asyncio.sleep(0)
task = asyncio.ensure_future(tick())"""
    end = """await task
print([s for s in seen if s != "tick"] == list(range(20)), seen.index("tick") < seen.index(19))"""
    cells = [begin, *(f"seen.append({i})" for i in range(20)), end]
    assert text(run(kernel, *cells)).strip() == "True True"


def test_many_requests_at_once_are_all_answered_in_order(pool: KernelPool, tmp_path: Path) -> None:
    """However many wait in the socket."""
    kernel = pool.lease(request_in(tmp_path))
    asked = [kernel.execute(f"{i}") for i in range(300)]
    answered: list[str] = []
    while len(answered) < len(asked):
        for message in kernel.poll(10):
            if message.type == "execute_reply":
                assert message.content["status"] == "ok"
                answered.append(message.parent)
    assert answered == asked


def test_a_large_reply_arrives_whole(pool: KernelPool, tmp_path: Path) -> None:
    """It is not copied, so it leaves after the call that sends it."""
    kernel = pool.lease(request_in(tmp_path))
    run(kernel, "big = 'x' * 3_000_000")
    asked = kernel.execute("raise ValueError(big)")
    while True:
        for message in kernel.poll(10):
            if message.parent == asked and message.type == "execute_reply":
                assert len(message.content["evalue"]) == 3_000_000
                return
