"""What a kernel has published last, as it is written down and read."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from ductaflow_kernels.pool import KernelPool
from ductaflow_kernels.session import journal as reading
from ductaflow_kernels.spec import KernelRequest, own_interpreter
from hypothesis import given
from hypothesis import strategies as st
from kernel_client import inside, run, text

writing = inside("kernel.journal")
descriptors = inside("kernel.descriptors")


def unheard(folder: Path, last: str) -> list[list[bytes]]:
    """What a conductor would hear of the messages after one; the files stay."""
    with tempfile.TemporaryDirectory() as copied:
        shutil.copytree(folder, copied, dirs_exist_ok=True)
        words = reading.LastWords(Path(copied))
        found = words.unheard(last)
        words.close()
        return found


def message(number: int, *rest: bytes) -> list[bytes]:
    return [b"topic", b"<IDS|MSG>", b"signed", json.dumps({"msg_id": str(number)}).encode(), *rest]


@given(
    st.lists(st.lists(st.binary(max_size=30), min_size=1, max_size=4), max_size=40),
    st.integers(min_value=-1, max_value=39),
)
def test_what_comes_after_a_message_is_read_as_it_was_sent(
    tmp_path_factory: pytest.TempPathFactory, rests: list[list[bytes]], heard: int
) -> None:
    folder = tmp_path_factory.mktemp("kernel")
    sent = [message(n, *rest) for n, rest in enumerate(rests)]
    journal = writing.Journal(str(folder))
    for frames in sent:
        journal.note(frames)
    after = heard + 1 if heard < len(sent) else 0
    assert unheard(folder, str(heard)) == sent[after:]


def test_the_last_of_many_messages_are_there(tmp_path: Path) -> None:
    journal = writing.Journal(str(tmp_path))
    for n in range(300):
        journal.note(message(n, bytes(100_000)))
    size = sum((tmp_path / name).stat().st_size for name in reading.FILES)
    assert writing.MOST < size <= 2 * writing.MOST
    assert unheard(tmp_path, "270") == [message(n, bytes(100_000)) for n in range(271, 300)]
    assert unheard(tmp_path, "299") == []


def test_a_message_that_is_too_long_is_left_out(tmp_path: Path) -> None:
    journal = writing.Journal(str(tmp_path))
    for n, size in enumerate([1, writing.MOST, 2]):
        journal.note(message(n, bytes(size)))
    assert unheard(tmp_path, "0") == [message(2, bytes(2))]
    assert unheard(tmp_path, "1") == [message(2, bytes(2))]


def test_what_is_too_long_is_not_copied(tmp_path: Path) -> None:
    journal = writing.Journal(str(tmp_path))
    large = bytes(100 << 20)
    tracemalloc.start()
    journal.note(message(0, large))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_what_somebody_else_has_written_there_does_no_harm(tmp_path: Path) -> None:
    journal = writing.Journal(str(tmp_path))
    journal.note(message(0, b"text"))
    for frames in ([b"a"], [b"a", b"b", b"c", b"no JSON", b"d"], [b"a", b"b", b"c", b"[]", b"d"]):
        journal.note(frames)
    journal.note(message(1, b"text"))
    assert message(1, b"text") in unheard(tmp_path, "0")


def test_a_closed_journal_breaks_nothing(tmp_path: Path) -> None:
    journal = writing.Journal(str(tmp_path))
    for file in journal._files:
        os.close(file)
    for n in range(2):
        journal.note(message(n, b"text"))
    assert unheard(tmp_path, "") == []


def test_a_message_that_was_not_written_whole_is_left_out(tmp_path: Path) -> None:
    journal = writing.Journal(str(tmp_path))
    for n in range(3):
        journal.note(message(n, b"text"))
    (file,) = (tmp_path / name for name in reading.FILES if (tmp_path / name).stat().st_size)
    whole = file.read_bytes()
    for cut in range(1, 40):
        file.write_bytes(whole[:-cut])
        assert unheard(tmp_path, "0") == [message(1, b"text")]


@pytest.mark.parametrize("partly", [True, False])
def test_without_room_nothing_old_is_said_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partly: bool
) -> None:
    journal = writing.Journal(str(tmp_path))
    files, write, room = list(journal._files), os.write, 200

    def write_while_there_is_room(file: int, data: bytes) -> int:
        nonlocal room
        if file in files and len(data) > room:
            if not partly:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            data = data[:room]
        room -= len(data) if file in files else 0
        return write(file, data)

    monkeypatch.setattr(os, "write", write_while_there_is_room)
    for n in range(20):
        journal.note(message(n, b"text"))
    assert room < 200
    assert unheard(tmp_path, "19") == []


def test_nothing_is_left_for_others_to_find(tmp_path: Path) -> None:
    journal = writing.Journal(str(tmp_path))
    descriptors.Taken(str(tmp_path / "1t"))
    journal.note(message(0, b"secret"))
    words = reading.LastWords(tmp_path, ("1",))
    assert list(tmp_path.iterdir()) == []
    journal.note(message(1, b"secret"))
    assert words.unheard("0") == [message(1, b"secret")]
    journal.note(message(2, b"secret"))
    assert words.unheard("0") == [message(n, b"secret") for n in (1, 2)]
    words.close()
    assert words.unheard("") == []


def test_what_a_kernel_says_lies_under_no_name(tmp_path: Path) -> None:
    request = KernelRequest(own_interpreter(), tmp_path, dict(os.environ))
    with KernelPool() as pool:
        session = pool.lease(request)
        assert "it is said" in text(run(session, "print('it is said', flush=True)"))
        found = [f for f in session.connection.folder.rglob("*") if f.is_file()]
        assert found
        assert not [f for f in found if b"it is said" in f.read_bytes()]
        pool.retire(session)


def test_a_kernel_without_a_journal_has_said_no_more(tmp_path: Path) -> None:
    assert unheard(tmp_path, "") == []


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    yield reading, writing
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("splices", [True, False], ids=["in a file", "in memory"])
def test_what_is_read_from_a_pipe_is_kept_until_it_is_published(
    tmp_path: Path, pipe: tuple[int, int], splices: bool
) -> None:
    def kept() -> bytes:
        return words.unpublished("1")

    taken = descriptors.Taken(str(tmp_path / "1t"))
    words = reading.LastWords(tmp_path, ("1",))
    taken._splices = splices and taken._splices
    with pytest.raises(BlockingIOError):
        taken.take(pipe[0])
    os.write(pipe[1], b"one")
    assert taken.take(pipe[0]) == b"one"
    mark = taken.size
    os.write(pipe[1], b"two")
    assert taken.take(pipe[0]) == b"two"
    assert kept() == (b"onetwo" if taken._splices else b"")
    taken.forget(mark)
    assert kept() == (b"two" if taken._splices else b"")
    taken.forget(taken.size)
    assert kept() == b""
    os.write(pipe[1], b"three")
    assert taken.take(pipe[0]) == b"three"
    assert kept() == (b"three" if taken._splices else b"")
    words.close()
