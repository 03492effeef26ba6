"""Comments that jupytext takes for commands, and text whose line ends are not Python's."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Project
from hypothesis import given
from hypothesis import strategies as st

from ductaflow import FlowError, FlowSyntaxError, sweep
from ductaflow.cli.main import main
from ductaflow.flows.commands import command_notes
from ductaflow.flows.reading import parse_flow, read_flow

HEAD = '# %% tags=["parameters"]\nconfig = {}\n# %%\n'


def notes_of(line: str) -> list[str]:
    flow = parse_flow(Path("/p/flow/f.py"), f"{HEAD}x = 1\n{line}\n".encode())
    return [note.message for note in command_notes(flow)]


@pytest.mark.parametrize(
    ("comment", "what"),
    [
        ("# cp of the input", "a shell command, `cp of the input`"),
        ("# rm old", "a shell command, `rm old`"),
        ("#rm old", "a shell command, `rm old`"),
        ("# ls", "a shell command, `ls`"),
        ("# !important", "a shell command, `!important`"),
        ("# files = !ls", "a shell command, `files = !ls`"),
        ("# %d is a format", "a magic of IPython, `%d is a format`"),
        ("# ?maybe", "a question for help, `?maybe`"),
        ("# why?", "a question for help, `why?`"),
    ],
)
def test_the_note_names_line_and_remedy(comment: str, what: str) -> None:
    (note,) = notes_of(comment)
    assert note.startswith(f"f.py:5: the comment `{comment.strip()}` is taken for {what}. ")
    remedy = note.split("begin it with another word, as `")[1].split("`")[0]
    assert notes_of(remedy) == []
    meant = note.split("if it is meant, write `")[1].split("`")[0]
    assert notes_of(meant) == []


@pytest.mark.parametrize(
    "line",
    ["# %matplotlib inline", "# %load_ext autoreload", "%d", "!ls", "# copyright", "# plain",
     's = """\n# rm inside\n"""', "# Note: rm old", "# remove the old", "# 5 % of it"],
)  # fmt: skip
def test_what_is_meant_or_harmless_has_no_note(line: str) -> None:
    assert notes_of(line) == []


def test_magics_of_an_extension_are_meant() -> None:
    assert notes_of("# %load_ext sql\n# %sql select 1") == []


def test_a_command_that_runs_is_noted_where_people_look(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.write("f", "# !true of all inputs", "print('on')")
    run = project.run("f")
    (note,) = [n.message for n in run.notes if n.kind == "command"]
    assert note.startswith("f.py:5: the comment `# !true of all inputs`")
    assert note in run.log.read_text()
    assert "true of all inputs" in run.notebook.read_text().partition("print")[0]
    assert main(["run", "f"]) == 0
    assert f"note: {note}" in capsys.readouterr().err


def test_the_error_says_it_too(project: Project) -> None:
    project.write("f", "x = 1\n# cp of the input\nprint(x)")
    expected = r"the comment `# cp of the input` is taken for a shell command.*# Note: cp of"
    with pytest.raises(FlowSyntaxError, match=expected) as e:
        project.run("f")
    assert e.value.run.error is not None
    assert e.value.run.error.line == 6
    with pytest.raises(FlowError, match=expected):
        sweep("f", [{"instance": "a"}])


# --- line ends ----------------------------------------------------------------------------------

ODD = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"


@given(st.text(st.sampled_from(f"ab {ODD}\ue000"), min_size=1, max_size=12))
def test_strings_keep_their_value(text: str) -> None:
    source = f's = "x{text}x"\nt = 1'
    flow = parse_flow(Path("/p/flow/f.py"), f"{HEAD}{source}\n\n# %%\nlast\n".encode())
    assert [cell.source for cell in flow.cells] == ["config = {}", source, "last"]
    assert [cell.line for cell in flow.cells] == [2, 4, 8]


def test_form_feeds_between_cells_stand_between_them() -> None:
    text = f"{HEAD}a = 1\n\x0c\n# %%\nb = 2\n\x0c# %%\nc = 3\n"
    flow = parse_flow(Path("/p/flow/f.py"), text.encode())
    assert [cell.source.strip() for cell in flow.cells] == [
        "config = {}",
        "a = 1",
        "b = 2",
        "c = 3",
    ]
    assert [cell.line for cell in flow.cells] == [2, 4, 7, 9]


def test_a_kernel_sees_them_and_lines_are_right(project: Project) -> None:
    sep = "\u2028"
    project.write("f", f's = "a{sep}b\x0cc"\nprint(ascii(s), len(s))', f'"{sep}"\n1 / 0')
    from ductaflow import CellFailed

    with pytest.raises(CellFailed) as e:
        project.run("f")
    run = e.value.run
    assert "'a\\u2028b\\x0cc' 5" in run.log.read_text()
    assert run.error is not None
    assert run.error.line == 10


def test_every_cell_of_a_percent_file_has_a_line(tmp_path: Path) -> None:
    text = (
        HEAD + 'x = 1\n# %% [raw]\n# raw\n# %% language="bash"\n# ls\n# %%\n# ls \\\n# -l\ny = 2\n'
    )
    file = tmp_path / "f.py"
    file.write_text(text)
    flow = read_flow(file)
    for cell in flow.cells:
        assert cell.line is not None, cell
