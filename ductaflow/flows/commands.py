"""Comments that are no comments: what jupytext has made commands of, and how to write it.

In text flows jupytext takes a comment that looks like a magic or a shell command for one, as it
writes such lines itself: `# rm old` becomes `rm old`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from ductaflow.model.flows import Cell, Flow, Uncommented
from ductaflow.model.kinds import NoteKind
from ductaflow.model.plans import Note


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SHELL = re.compile(r"^(?:[\w$]+\s*=\s*)?!")
_MAGIC = re.compile(r"^(?:[\w$]+\s*=\s*)?(%+)([A-Za-z]\w*)")
_KNOWN = _words(
    "alias alias_magic autoawait autocall automagic autoreload autosave bookmark cache cat cd "
    "clear code_wrap colors conda config connect_info cp debug dhist dirs doctest_mode ed "
    "edit env gui hist history killbgscripts ldir less load load_ext loadpy logoff logon "
    "logstart logstate logstop ls lsmagic macro magic mamba man matplotlib micromamba mkdir "
    "more mprun memit mv notebook page pastebin pdb pdef pdoc pfile pinfo pinfo2 pip popd "
    "pprint precision prun psearch psource pushd pwd pycat pylab qtconsole quickref recall "
    "rehashx reload_ext rep rerun reset reset_selective rm rmdir run save sc set_env store sx "
    "system tb time timeit unalias unload_ext uv who who_ls whos xdel xmode bash capture html "
    "HTML javascript js latex markdown perl pypy python python2 python3 ruby script sh svg "
    "SVG writefile file "
)
"""All magics that come with IPython."""


def uncommented(cells: Sequence[Cell], lines: Sequence[str]) -> Iterator[Uncommented]:
    """The comments of a text flow that are commands in its cells.

    Args:
        cells: Its cells, with their lines.
        lines: The file's lines.
    """
    for cell in cells:
        if cell.kind != "code" or cell.line is None or cell.source.startswith("%%"):
            continue
        goes_on = False  # from the line before
        for number, command in enumerate(cell.source.split("\n"), cell.line):
            written = lines[number - 1].strip() if number <= len(lines) else ""
            taken = command.strip()
            is_taken = written[:1] == "#" and written != taken and written.endswith(taken)
            if taken and is_taken and not goes_on:
                yield Uncommented(cell.number, number, written, taken)
            goes_on = is_taken and taken.endswith("\\")


def command_notes(flow: Flow) -> tuple[Note, ...]:
    """A note for each comment that runs as a command, but for magics that are surely meant."""
    extended = any("load_ext" in line.taken for line in flow.uncommented) or any(
        "load_ext" in cell.source for cell in flow.cells
    )
    return tuple(
        Note(NoteKind.COMMAND, f"{flow.path.name}:{line.line}: {describe(line)}")
        for line in flow.uncommented
        if not _is_meant(line.taken, extended=extended)
    )


def describe(line: Uncommented) -> str:
    """What a comment is taken for, and how to write it."""
    shown = line.taken
    plain = shown if _SHELL.match(shown) or _MAGIC.match(shown) or "?" in shown else f"!{shown}"
    return (
        f"the comment `{line.written}` is taken for {_what(shown)}, `{shown}`. If it is a comment, "
        f"begin it with another word, as `# Note: {shown}`; if it is meant, write `{plain}` "
        "without the `#`."
    )


def hint(lines: Iterable[Uncommented], line: int | None) -> str:
    """What to add to the message of an error at a line; empty unless a comment there caused it."""
    found = next((one for one in lines if one.line == line), None)
    return "" if found is None else f". Here {describe(found)}"


def _what(command: str) -> str:
    if _SHELL.match(command):
        return "a shell command"
    if _MAGIC.match(command):
        return "a magic of IPython"
    return "a question for help" if "?" in command else "a shell command"


def _is_meant(command: str, *, extended: bool) -> bool:
    match = _MAGIC.match(command)
    return match is not None and (extended or match[2] in _KNOWN)
