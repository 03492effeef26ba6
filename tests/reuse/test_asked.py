"""What a run asked of the file system, it depends on, and on no more: links, metadata, places."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import pandas as pd
import pytest
from conftest import stale
from ductaflow_kernels.pool import close_shared_pool
from ductaflow_kernels.sources import forked
from ductaflow_kernels.sources import spawned as sources

from ductaflow import accept, run_step_flow, sweep
from ductaflow.execution.runner import find_reusable
from ductaflow.plans.fingerprint import names_hash
from ductaflow.project.environment import kernel_environment
from ductaflow.reuse.interpreters import Interpreters
from ductaflow.reuse.places import is_system
from ductaflow.reuse.repeat import plan_again

pytestmark = pytest.mark.skipif(os.name != "posix", reason="symbolic links")


class Case(NamedTuple):
    """A way to ask, and a change after which the answer is another one; or not."""

    code: str
    change: Callable[[Path], object]
    native: bool = False  # only an observer sees it
    stale: bool = True


def relink(box: Path, target: str = "v2", name: str = "cur") -> None:
    (box / name).unlink()
    (box / name).symlink_to(target)


def later(path: Path) -> None:
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1_000_000_000))


def newest(box: Path) -> None:
    later(box / "v1" / "x.txt")


def longer(box: Path) -> None:
    """More bytes at the same time."""
    path = box / "v1" / "x.txt"
    found = path.stat()
    path.write_text(path.read_text() + "more")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def same_but_bytes(box: Path) -> None:
    for path in (box / "v1/x.txt", box / "v2/x.txt"):
        os.utime(path, ns=(10**18, 10**18))
    relink(box, "v2/x.txt", "file.txt")


def to_folder(box: Path) -> None:
    (box / "v1" / "x.txt").unlink()
    (box / "v1" / "x.txt").mkdir()


def new_beside(box: Path) -> None:
    (box / "v1" / "fresh.txt").write_text("x")


def chained(box: Path) -> None:
    (box / "v2b").symlink_to("v2")
    relink(box, "v2b", "mid")


CASES = {
    # --- links ---
    "folder link": Case("open(f'{box}/cur/x.txt').read()", relink),
    "file link": Case("open(f'{box}/file.txt').read()",
        lambda b: relink(b, "v2/x.txt", "file.txt")),
    "chain": Case("open(f'{box}/chain/x.txt').read()", chained),
    "absolute link": Case("open(f'{box}/absolute/x.txt').read()",
        lambda b: relink(b, str(b / "v2"), "absolute")),
    "link in a link": Case("open(f'{box}/deep/cur/x.txt').read()", relink),
    "behind a link": Case("open(f'{box}/below/../x.txt').read()",
        lambda b: relink(b, "v2/sub", "below")),
    "absolute path": Case("open(os.path.abspath(box) + '/cur/x.txt').read()", relink),
    "glob": Case("glob.glob(f'{box}/cur/*.txt')", relink),
    "pathlib glob": Case("list(Path(box, 'cur').glob('*.txt'))", relink),
    "chdir": Case("os.chdir(f'{box}/cur'); open('x.txt').read()", relink),
    "cwd of a child": Case("subprocess.run(['cat', 'x.txt'], cwd=f'{box}/cur')", relink, True),
    "cd in a shell": Case("subprocess.run(f'cd {box}/cur && cat x.txt', shell=True)", relink, True),
    "readlink in a shell": Case("subprocess.run(['readlink', f'{box}/cur'])", relink, True),
    "resolve": Case("Path(box, 'cur').resolve()", relink),
    "realpath": Case("os.path.realpath(f'{box}/cur/x.txt')", relink),
    "readlink": Case("os.readlink(f'{box}/cur')", relink),
    "islink": Case("os.path.islink(f'{box}/cur')",
        lambda b: ((b / "cur").unlink(), (b / "cur").mkdir())),
    "not yet a link": Case("os.path.islink(f'{box}/v1/sub')",
        lambda b: ((b / "v1/sub").rename(b / "moved"), (b / "v1/sub").symlink_to("../moved"))),
    "walk": Case("list(os.walk(box, followlinks=True))", relink),
    "exists": Case("os.path.exists(f'{box}/cur/x.txt')", relink),
    "samefile": Case("os.path.samefile(f'{box}/cur', f'{box}/v1')", relink),
    "config": Case("None", relink),
    "module": Case("sys.path.append(f'{box}/cur'); import asked_module", relink),
    "declared": Case("reads(f'{box}/cur')", relink),
    "parquet": Case("import pandas as pd; pd.read_parquet(f'{box}/cur/x.parquet')", relink, True),
    "duckdb": Case("import duckdb; duckdb.sql(f\"from '{box}/cur/x.parquet'\").fetchall()", relink,
        True),
    "relinked by the run": Case("""
    for version in ("v1", "v2"):
        os.symlink(version, f"{box}/fresh")
        open(f"{box}/fresh/x.txt").read()
        os.remove(f"{box}/fresh")""", lambda b: (b / "v2/x.txt").write_text("other")),
    "replaced by the run": Case("""
    os.symlink("v1", f"{box}/fresh")
    os.replace(f"{box}/fresh", f"{box}/current")
    open(f"{box}/current/x.txt").read()""", lambda b: relink(b, "v2", "current")),
    # --- as others were caught out ---
    "same size and time": Case("open(f'{box}/file.txt').read()", same_but_bytes),  # cargo 15134
    "shell glob": Case("subprocess.run(f'cat {box}/v1/*.txt', shell=True)", new_beside,
        True),  # tup 214
    "edited behind a link": Case("open(f'{box}/chain/x.txt').read()", longer),  # cms 114
    "module edited behind a link": Case("sys.path.append(f'{box}/cur'); import asked_module",
        lambda b: (b / "v1/asked_module.py").write_text("value = 3\n")),  # aether 623
    "link made by a child": Case("""
    subprocess.run(["ln", "-sfn", "v1", f"{box}/fresh"])
    open(f"{box}/fresh/x.txt").read()""", lambda b: None, True, stale=False),  # snakemake 1927
    "a folder's time": Case("assert os.path.exists(f'{box}/v1')", new_beside,
        stale=False),  # snakemake workflows
    # --- metadata ---
    "getmtime": Case("max(glob.glob(f'{box}/v1/*'), key=os.path.getmtime)", newest),
    "getmtime of a read file":
        Case("open(f'{box}/v1/x.txt').read(); os.path.getmtime(f'{box}/v1/x.txt')", newest),
    "getmtime in threads": Case("""
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor() as pool:
        list(pool.map(os.path.getmtime, [f'{box}/v1/x.txt']))""", newest),
    "getmtime of a folder": Case("os.path.getmtime(f'{box}/v1')", new_beside),
    "stat of a folder": Case("Path(box, 'v1').stat().st_mtime_ns", new_beside),
    "getsize": Case("os.path.getsize(f'{box}/v1/x.txt')", longer),
    "stat": Case("os.stat(f'{box}/v1/x.txt')[8]", newest),
    "lstat": Case("os.lstat(f'{box}/v1/x.txt').st_mtime", newest),
    "Path.stat": Case("max(Path(box, 'v1').iterdir(), key=lambda p: p.stat().st_mtime)", newest),
    "DirEntry.stat": Case("{e.name: e.stat().st_mtime for e in os.scandir(f'{box}/v1')}", newest),
    "DirEntry.is_file": Case("[e.name for e in os.scandir(f'{box}/v1') if e.is_file()]", to_folder),
    "rglob": Case("[p for p in Path(box, 'v1').rglob('*') if p.is_file()]", to_folder),
    "isdir": Case("os.path.isdir(f'{box}/v1/x.txt')", to_folder),
    "isfile": Case("os.path.isfile(f'{box}/v1/x.txt')", to_folder),
    "access": Case("os.access(f'{box}/v1/x.txt', os.X_OK)",
        lambda b: (b / "v1/x.txt").chmod(0o755)),
    "zip": Case("""
    import zipfile
    with zipfile.ZipFile("out.zip", "w") as archive:
        archive.write(f"{box}/v1/x.txt")""", newest),
    "compared": Case("import filecmp; filecmp.cmp(f'{box}/v1/x.txt', f'{box}/v2/x.txt')", newest),
    # --- elsewhere ---
    "listed elsewhere": Case("os.listdir(other)",
        lambda b: (elsewhere(b) / "fresh").write_text("x")),
    "glob elsewhere": Case("glob.glob(f'{other}/*.csv')",
        lambda b: (elsewhere(b) / "fresh.csv").write_text("x")),
    "missing elsewhere": Case("os.path.exists(f'{other}/flag')",
        lambda b: (elsewhere(b) / "flag").touch()),
    "no such file elsewhere": Case("""
    try:
        open(f"{other}/override.json")
    except FileNotFoundError:
        pass""", lambda b: (elsewhere(b) / "override.json").write_text("{}")),
    "present elsewhere": Case("Path(other, 'here').exists()",
        lambda b: (elsewhere(b) / "here").unlink()),
    "newest elsewhere": Case("os.path.getmtime(f'{other}/here')",
        lambda b: later(elsewhere(b) / "here")),
    "listed by a child": Case("subprocess.run(['ls', other])",
        lambda b: (elsewhere(b) / "fresh").write_text("x"), True),
    "read elsewhere": Case("open(f'{other}/here').read()",
        lambda b: (elsewhere(b) / "here").write_text("other")),
    # --- no more than was asked ---
    "touched, read": Case("open(f'{box}/v1/x.txt').read()", newest, stale=False),
    "touched, copied": Case("import shutil; shutil.copy2(f'{box}/v1/x.txt', 'x')", newest,
        stale=False),
    "touched, pandas": Case("import pandas as pd; pd.read_csv(f'{box}/v1/x.txt')", newest,
        stale=False),
    "touched, template": Case("""
    import jinja2
    loader = jinja2.FileSystemLoader(f"{box}/v1")
    jinja2.Environment(loader=loader).get_template("x.txt").render()""", newest, stale=False),
    "touched, size": Case("os.path.getsize(f'{box}/v1/x.txt')", newest, stale=False),
    "touched, st_size": Case("Path(box, 'v1/x.txt').stat().st_size", newest, stale=False),
    "touched, isfile": Case("Path(box, 'v1/x.txt').is_file()", longer, stale=False),
    "longer, exists": Case("os.path.exists(f'{box}/v1/x.txt')", longer, stale=False),
    "new beside, isdir": Case("os.path.isdir(f'{box}/v1')", new_beside, stale=False),
    "new beside, makedirs": Case("os.makedirs(f'{box}/v1', exist_ok=True)", new_beside,
        stale=False),
    "new beside, stat": Case("""
    try:
        os.stat(f'{box}/v1')
    except FileNotFoundError:
        pass""", new_beside, stale=False),
    "same link made anew": Case("open(f'{box}/cur/x.txt').read()", lambda b: relink(b, "v1"),
        stale=False),
    "another link": Case("open(f'{box}/cur/x.txt').read()", lambda b: relink(b, "v2", "mid"),
        stale=False),
    "own files": Case("""
    Path("made").mkdir(exist_ok=True)
    Path("made/x").write_text("x")
    os.path.getmtime("made/x"), os.path.getmtime("made"), os.listdir("made")
    os.symlink("x", "made/link") if not os.path.lexists("made/link") else None
    os.readlink("made/link")
    Path(box, "v1/made.txt").write_text("x")
    os.path.getmtime(f"{box}/v1/made.txt"), os.path.getmtime(f"{box}/v1")""",
        lambda b: None, stale=False),
    "temporary files": Case("""
    import shutil, tempfile
    folder = tempfile.mkdtemp()
    Path(folder, "x").write_text("x")
    os.stat(f"{folder}/x"), os.listdir(folder), Path(folder, "y").exists()
    shutil.rmtree(folder)
    with tempfile.NamedTemporaryFile() as file, tempfile.TemporaryDirectory() as folder:
        os.path.getsize(file.name)
        list(os.scandir(folder))""", lambda b: None, stale=False),
}  # fmt: skip


def elsewhere(box: Path) -> Path:
    return Path((box / "elsewhere").read_text())


def codes() -> str:
    """Each case's code, to be compiled by itself: as a cell of its own would be."""
    return ",\n".join(f"{how!r}: {dedent(case.code)!r}" for how, case in CASES.items())


FLOW = f"""# %% tags=["parameters"]
config = {{"how": "", "box": "", "other": "", "file": ""}}

# %%
import glob, os, subprocess, sys
from pathlib import Path
from ductaflow import reads

# %%
codes = {{ {codes()} }}
exec(codes.get(how, ""))
"""


def build_box(box: Path, other: Path) -> None:
    """The same files for every case."""
    for version in ("v1", "v2"):
        (box / version / "sub").mkdir(parents=True)
        (box / version / "x.txt").write_text(version)
        (box / version / "asked_module.py").write_text(f"value = {version!r}\n")
        pd.DataFrame({"a": [version]}).to_parquet(box / version / "x.parquet")
    links = {
        "cur": "v1", "mid": "v1", "chain": "mid", "deep": ".", "below": "v1/sub",
        "file.txt": "v1/x.txt", "absolute": str(box / "v1"), "current": "v2",
    }  # fmt: skip
    for name, target in links.items():
        (box / name).symlink_to(target)
    other.mkdir(parents=True)
    (other / "here").write_text("x")
    (box / "elsewhere").write_text(str(other))


@pytest.fixture(scope="module", params=["forked", "unwatched"])
def asked(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, list[str]]]:
    """A project, and the cases that have run in it."""
    native = request.param == "forked"
    base = tmp_path_factory.mktemp(request.param)
    root = base / "study"
    (root / "flow").mkdir(parents=True)
    (root / "flow" / "ask.py").write_text(FLOW)
    hows = [how for how, case in CASES.items() if native or not case.native]
    rows = []
    with tempfile.TemporaryDirectory(dir="/dev/shm" if native else base) as others:
        for number, how in enumerate(hows):
            other = Path(others, str(number))
            build_box(root / "inputs" / str(number), other)
            box = f"../../../inputs/{number}"
            file = f"{box}/cur/x.txt" if how == "config" else ""
            rows.append(
                {"instance": str(number), "how": how, "box": box, "other": str(other), "file": file}
            )
        close_shared_pool()
        with pytest.MonkeyPatch.context() as patch:
            if not native:
                patch.setattr(forked, "observer_address", lambda: "")
                patch.setattr(sources, "observer_address", lambda: "")
            config = ["how", "box", "other", "file"]
            runs = sweep("ask", rows, config=config, root=root, progress=False, workers=2)
            runs.raise_if_failed()
            close_shared_pool()
        yield root, hows


def test_exactly_what_was_asked_counts(asked: tuple[Path, list[str]]) -> None:
    root, hows = asked
    assert stale(root) == {}
    for number, how in enumerate(hows):
        CASES[how].change(root / "inputs" / str(number))
    found = stale(root)
    assert set(found) == {how for how in hows if CASES[how].stale}, found


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/usr/lib/python3/x.py", True),
        ("/usr/share/zoneinfo/UTC", True),
        ("/usr/local/lib/libx.so", True),
        ("/usr/local/data/x.csv", False),
        ("/proc/cpuinfo", True),
        ("/dev/null", True),
        ("/dev/shm/x.csv", False),
        ("/run/media/me/stick/x.csv", False),
        ("/run/secrets/key", False),
        ("/run/systemd/resolve/stub-resolv.conf", True),
        ("/run/user/1000/bus", True),
        ("/run/user/1000/gvfs/smb-share/x.csv", False),
        ("/etc/resolv.conf", True),
        ("/etc/myapp.conf", False),
        ("/var/lib/dpkg/status", True),
        ("/var/lib/mydata/x.csv", False),
        ("/mnt/x.csv", False),
        ("/srv/x.csv", False),
        ("/opt/data/x.csv", False),
    ],
)
def test_system_places(path: str, expected: bool) -> None:
    assert is_system(path) == expected


def small(root: Path, code: str) -> None:
    (root / "flow").mkdir(exist_ok=True)
    write(root, "ask", f"from pathlib import Path\nimport os\n{code}")


def write(root: Path, name: str, code: str) -> None:
    parameters = '# %% tags=["parameters"]\nconfig = {}\n'
    (root / "flow" / f"{name}.py").write_text(f"{parameters}\n# %%\n{code}\n")


def again(root: Path) -> str:
    """Why the flow's instance would run again; empty if it would not."""
    run = run_step_flow("ask", "ask", "a", {}, root=root)
    return "" if run.reused else "; ".join(map(str, run.reasons))


def test_a_project_below_a_link(tmp_path: Path) -> None:
    """Where the project itself lies behind links, its own files are not asked for by them."""
    real = tmp_path / "disk" / "study"
    (real / "inputs").mkdir(parents=True)
    (real / "inputs" / "x.txt").write_text("1")
    (tmp_path / "disk" / "beside.txt").write_text("1")
    (tmp_path / "home").symlink_to("disk")
    (tmp_path / "scratch").mkdir()
    (real / "runs").symlink_to(tmp_path / "scratch")
    root = tmp_path / "home" / "study"
    small(root, f"open({str(root / 'inputs/x.txt')!r}).read(); Path({str(root)!r}).resolve()")
    run = run_step_flow("ask", "ask", "a", {}, root=root)
    assert [
        (f.path, f.role) for f in run.record.inputs if f.role not in ("metadata", "imports")
    ] == [("inputs/x.txt", "data")]
    assert again(root) == ""
    small(root, f"open({str(tmp_path / 'home/beside.txt')!r}).read()")
    run = run_step_flow("ask", "ask", "a", {}, root=root)
    links = {f.path for f in run.record.inputs if f.role == "link"}
    assert links == {str(tmp_path / "home")}


def test_a_copied_project_with_absolute_links(tmp_path: Path) -> None:
    """In the copy, its links lead to the first one's files."""
    root = tmp_path / "study"
    (root / "data").mkdir(parents=True)
    (root / "data" / "x.txt").write_text("1")
    (root / "cur").symlink_to(root / "data")
    (root / "near").symlink_to("data")
    small(root, "open('../../../cur/x.txt').read()")
    run_step_flow("ask", "ask", "a", {}, root=root)
    copy = tmp_path / "copy"
    shutil.copytree(root, copy, symlinks=True)
    assert again(copy) == f"cur now leads to {root / 'data'}"
    small(root, "open('../../../near/x.txt').read()")
    run_step_flow("ask", "ask", "a", {}, root=root)
    shutil.rmtree(copy)
    shutil.copytree(root, copy, symlinks=True)
    assert again(copy) == ""


def test_accepted_links_and_metadata(tmp_path: Path) -> None:
    """What is accepted counts from then on as it is now."""
    for version in ("v1", "v2"):
        (tmp_path / "data" / version).mkdir(parents=True)
        (tmp_path / "data" / version / "x.txt").write_text(version)
    (tmp_path / "data" / "cur").symlink_to("v1")
    small(tmp_path, "open('../../../data/cur/x.txt').read(); os.path.getmtime('../../../data/v1')")
    run = run_step_flow("ask", "ask", "a", {}, root=tmp_path)
    assert again(tmp_path) == ""
    relink(tmp_path / "data")
    (tmp_path / "data" / "v1" / "new").touch()
    later(tmp_path / "data" / "v1")
    interpreters = Interpreters(kernel_environment(tmp_path))
    _, decision = find_reusable(plan_again(run, tmp_path), interpreters)
    assert {r.message for r in decision.reasons} == {
        "data/cur now leads to v2",
        "data/v1 has another modification time",
    }
    accept("ask", "a", root=tmp_path)
    assert again(tmp_path) == ""
    (tmp_path / "data" / "v2" / "x.txt").write_text("other")
    assert again(tmp_path) == "data/v2/x.txt changed"


def test_what_a_run_within_asked_counts_for_the_outer_one(tmp_path: Path) -> None:
    (tmp_path / "data" / "v1").mkdir(parents=True)
    (tmp_path / "data" / "v2").mkdir()
    for path in ("v1/x.txt", "v2/x.txt", "y.txt"):
        (tmp_path / "data" / path).write_text("1")
    (tmp_path / "data" / "cur").symlink_to("v1")
    small(
        tmp_path, "open('../../../data/cur/x.txt').read(); os.path.getmtime('../../../data/y.txt')"
    )
    outer = "from ductaflow import run_step_flow\nrun_step_flow('ask', 'ask', 'a', {})"
    write(tmp_path, "outer", outer)
    run_step_flow("outer", "outer", "a", {}, root=tmp_path)

    def reasons() -> set[str]:
        run = run_step_flow("outer", "outer", "a", {}, root=tmp_path)
        return set() if run.reused else {r.kind for r in run.reasons}

    assert reasons() == set()
    later(tmp_path / "data" / "y.txt")
    assert "metadata" in reasons()
    relink(tmp_path / "data")
    assert "link" in reasons()


def test_a_record_of_an_older_version(tmp_path: Path) -> None:
    """Its folders have names without kinds."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").mkdir()
    small(tmp_path, "os.listdir('../../../data')")
    run = run_step_flow("ask", "ask", "a", {}, root=tmp_path)
    path = run.dir / "run.json"
    record = json.loads(path.read_text())
    (folder,) = [f for f in record["inputs"] if f["role"] == "folder"]
    del folder["answer"]
    folder["sha256"] = names_hash(["x"])
    path.write_text(json.dumps(record))
    assert again(tmp_path) == ""
    (tmp_path / "data" / "y").touch()
    assert again(tmp_path) == "data has other files in it"
