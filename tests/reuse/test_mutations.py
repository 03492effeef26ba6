"""For each kind of change, exactly the instances that must run again: none missing, none extra."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from ductaflow_kernels import pool
from ductaflow_kernels.pool import KernelPool, close_shared_pool
from ductaflow_kernels.sources import forked
from ductaflow_kernels.sources import spawned as sources
from ductaflow_kernels.sources.spawned import PrespawnedSource

from ductaflow import sweep
from ductaflow.execution.runner import find_reusable
from ductaflow.history.catalog import all_runs
from ductaflow.project.environment import kernel_environment
from ductaflow.reuse.interpreters import Interpreters
from ductaflow.reuse.repeat import plan_again

# --- the project ---------------------------------------------------------------------------------

READ_IN_PYTHON = {
    "open": "open(file).read()",
    "pathlib": "Path(file).read_bytes()",
    "csv": "pd.read_csv(file)",
    "json": "pd.read_json(file)",
    "pickle": "pd.read_pickle(file)",
    "numpy": "np.load(file)",
    "excel": "pd.read_excel(file)",
    "sqlite": "sqlite3.connect(file).execute('select * from t').fetchall()",
    "joblib": "import joblib; joblib.load(file)",
    "pil": "import PIL.Image; PIL.Image.open(file).load()",
    "imread": "import matplotlib.image; matplotlib.image.imread(file)",
    "subprocess": "subprocess.run(['cat', file], check=True, capture_output=True)",
    "multiprocessing": "import multiprocessing as mp\n"
    "    with mp.get_context('fork').Pool(1) as workers: workers.apply(Path(file).read_text)",
    "config": "None",
    "declared": "reads(file)",
    "present": "assert Path(file).exists()",
    "variable": "os.environ.get('FLOW_VARIABLE')",
}
"""What can be seen everywhere: by what Python opens, or is given."""

READ_NATIVELY = {
    "parquet": "pd.read_parquet(file)",
    "feather": "pd.read_feather(file)",
    "arrow": "import pyarrow.parquet as pq; pq.read_table(file)",
    "dataset": "import pyarrow.dataset as ds; ds.dataset(file, format='parquet').to_table()",
    "polars": "import polars as pl; pl.read_parquet(file)",
    "polars_lazy": "import polars as pl; pl.scan_csv(file).collect()",
    "duckdb": "import duckdb; duckdb.sql(f\"select * from '{file}'\").fetchall()",
    "duckdb_file": "import duckdb; duckdb.connect(file).sql('select * from t').fetchall()",
    "hdf5": "import h5py\n    with h5py.File(file) as h: h['a'][:]",
    "geo": "import geopandas; geopandas.read_file(file)",
    "shell": "get_ipython().system('cat ' + file)",
    "program": "subprocess.run(f'. {file}', shell=True, check=True)",
}
"""What native code or another program opens."""

SUFFIX = {
    "csv": "csv", "json": "json", "pickle": "pkl", "numpy": "npy", "excel": "xlsx",
    "joblib": "joblib", "pil": "png", "imread": "png", "parquet": "parquet", "feather": "feather",
    "arrow": "parquet", "dataset": "parquet", "polars": "parquet", "polars_lazy": "csv",
    "duckdb": "parquet", "duckdb_file": "duckdb", "hdf5": "h5", "geo": "geojson",
}  # fmt: skip

ZONES = '''"""Zones."""
from helper import base


def zones():
    import lazy  # only when it is called
    return base() + lazy.more()
'''

PREP = """# %% tags=["parameters"]
config = {"period": "am", "depth": {"k": 1}}

# %% [markdown]
# Prepare.

# %%
import importlib
import sys
from pathlib import Path

# %%
sys.path.append("../../../code")
import pack.inner
import zones
dynamic = importlib.import_module("dynamic")

# %%
text = Path(f"../../../inputs/{period}.txt").read_text()
total = zones.zones() + dynamic.value + pack.inner.value + k
Path("out.txt").write_text(f"{text.strip()} {total}")
"""

USE = """# %% tags=["parameters"]
config = {"period": "am"}

# %%
from pathlib import Path
text = Path(f"../../prep/{period}/out.txt").read_text()
Path("result.txt").write_text(text.upper())
"""

LOOK = """# %% tags=["parameters"]
config = {"how": "glob"}

# %%
import glob
import os
from pathlib import Path

if how == "glob":
    names = sorted(glob.glob("../../../inputs/some/*.txt"))
elif how == "missing":
    there = Path("../../../inputs/optional.txt").exists()
elif how == "failed_open":
    try:
        open("../../../inputs/override.txt")
    except FileNotFoundError:
        pass
elif how == "instances":
    from ductaflow import get_all_instances
    runs = [run.dir for run in get_all_instances("prep")]
elif how == "own":
    os.makedirs("made", exist_ok=True)
    Path("made/one.txt").write_text("1")
    Path("made/one.txt").read_text()
    Path("beside.txt").exists()
    os.listdir(".")
    os.mkdir("../../../scratch")
    Path("../../../scratch/x").write_text("1")
    assert Path("../../../scratch").exists()
    os.remove("../../../scratch/x")
    os.rmdir("../../../scratch")
    os.access("../../../inputs/am.txt", os.X_OK)
"""


def readers(names: dict[str, str]) -> str:
    branches = "\n".join(f"elif reader == {name!r}:\n    {code}" for name, code in names.items())
    return f"""# %% tags=["parameters"]
config = {{"reader": "", "file": ""}}

# %%
import os, sqlite3, subprocess, sys
from pathlib import Path
import numpy as np
import pandas as pd
from ductaflow import reads

file = str(file)
if not reader:
    pass
{branches}
"""


def write_input(path: Path, kind: str, value: int) -> None:
    """A file of that kind with other content for another value."""
    frame = pd.DataFrame({"a": [value, 2, 3]})
    if kind in ("parquet", "arrow", "polars", "duckdb"):
        frame.to_parquet(path)
    elif kind == "dataset":
        path.mkdir(exist_ok=True)
        frame.to_parquet(path / "part-0.parquet")
    elif kind in ("csv", "polars_lazy"):
        frame.to_csv(path)
    elif kind == "json":
        frame.to_json(path)
    elif kind == "feather":
        frame.to_feather(path)
    elif kind == "pickle":
        frame.to_pickle(path)
    elif kind == "excel":
        frame.to_excel(path)
    elif kind == "numpy":
        import numpy as np

        np.save(path, np.array([value]))
    elif kind == "sqlite":
        path.unlink(missing_ok=True)
        connection = sqlite3.connect(path)
        connection.execute("create table t (a)")
        connection.execute("insert into t values (?)", [value])
        connection.commit()
        connection.close()
    elif kind == "joblib":
        import joblib

        joblib.dump([value], path)
    elif kind in ("pil", "imread"):
        import PIL.Image

        PIL.Image.new("RGB", (4, 4), (value, 0, 0)).save(path)
    elif kind == "duckdb_file":
        import duckdb

        path.unlink(missing_ok=True)
        with duckdb.connect(str(path)) as connection:
            connection.sql(f"create table t as select {value} as a")
    elif kind == "hdf5":
        import h5py

        with h5py.File(path, "w") as file:
            file["a"] = [value]
    elif kind == "geo":
        path.write_text(
            '{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": '
            f'{{"a": {value}}}, "geometry": {{"type": "Point", "coordinates": [0, 0]}}}}]}}'
        )
    else:
        path.write_text(f"a={value}\n")


def input_name(kind: str) -> str:
    return f"{kind}.{SUFFIX.get(kind, 'txt')}"


def build(root: Path, kinds: dict[str, str]) -> None:
    """The files of the project."""
    for folder in ("flow", "code/pack", "inputs/some"):
        (root / folder).mkdir(parents=True)
    files = {
        "flow/prep.py": PREP,
        "flow/use.py": USE,
        "flow/look.py": LOOK,
        "flow/read.py": readers(kinds),
        "code/zones.py": ZONES,
        "code/helper.py": "def base():\n    return 1\n",
        "code/lazy.py": "def more():\n    return 2\n",
        "code/dynamic.py": "value = 3\n",
        "code/unused.py": "value = 4\n",
        "code/pack/__init__.py": "",
        "code/pack/inner.py": "from .beside import value\n",
        "code/pack/beside.py": "value = 5\n",
        "inputs/am.txt": "morning\n",
        "inputs/pm.txt": "evening\n",
        "inputs/unused.txt": "nobody\n",
        "inputs/some/one.txt": "1\n",
    }
    for name, text in files.items():
        (root / name).write_text(text)
    for kind in kinds:
        write_input(root / "inputs" / input_name(kind), kind, 1)


def run_all(root: Path, kinds: dict[str, str]) -> None:
    periods = [{"instance": p, "period": p, "depth": {"k": 1}} for p in ("am", "pm")]
    reads = [
        {"instance": kind, "reader": kind, "file": f"../../../inputs/{input_name(kind)}"}
        for kind in kinds
    ]
    looks = ["glob", "missing", "failed_open", "instances", "own"]
    for flow, rows, config in (
        ("prep", periods, ["period", "depth"]),
        ("use", periods, ["period"]),
        ("look", [{"instance": how, "how": how} for how in looks], ["how"]),
        ("read", reads, ["reader", "file"]),
    ):
        runs = sweep(flow, rows, config=config, root=root, progress=False, workers=2)
        runs.raise_if_failed()


# The first test of each way makes all its runs, which takes minutes where others use the machine.
pytestmark = pytest.mark.timeout(900)


# --- the runs, made once in each way -------------------------------------------------------------


@pytest.fixture(scope="module", params=["forked", "prespawned", "unwatched"])
def studied(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, dict[str, str]]]:
    """The project with all its runs; `unwatched` is where nothing but Python can be observed."""
    kinds = READ_IN_PYTHON if request.param == "unwatched" else READ_IN_PYTHON | READ_NATIVELY
    root = tmp_path_factory.mktemp(request.param) / "study"
    build(root, kinds)
    close_shared_pool()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOW_VARIABLE", "before")
        if request.param == "unwatched":
            patch.setattr(forked, "observer_address", lambda: "")
            patch.setattr(sources, "observer_address", lambda: "")
        if request.param == "prespawned":
            made = os.getpid(), KernelPool(managed=PrespawnedSource())
            patch.setattr(pool, "_shared", made)
        run_all(root, kinds)
        close_shared_pool()
        expected = "python" if request.param == "unwatched" else "native"
        assert {run.record.observed for run in all_runs(root)} == {expected}
        yield root, kinds


@pytest.fixture
def study(
    studied: tuple[Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A copy of it, to be changed: in another folder all must hold as well."""
    root = tmp_path / "moved"
    shutil.copytree(studied[0], root)
    monkeypatch.setenv("FLOW_VARIABLE", "before")
    return root


def stale(root: Path) -> set[str]:
    """What would run now."""
    interpreters = Interpreters(kernel_environment(root))
    found = set()
    for run in all_runs(root):
        _, decision = find_reusable(plan_again(run, root), interpreters)
        if not decision.reuse:
            print(run.label, decision)  # for whoever reads a failure
            found.add(run.label)
    return found


def edit(root: Path, name: str, old: str, new: str) -> None:
    text = (root / name).read_text()
    assert old in text
    (root / name).write_text(text.replace(old, new))


# --- changes -------------------------------------------------------------------------------------

PREPS = {"prep/am", "prep/pm"}
USES = {"use/am", "use/pm"}


def test_nothing_changed(study: Path) -> None:
    assert stale(study) == set()


HARMLESS: dict[str, Callable[[Path], object]] = {
    "a comment in a flow": lambda r: edit(r, "flow/prep.py", "import sys", "import sys  # paths"),
    "formatting": lambda r: edit(
        r, "flow/prep.py", "zones.zones() + dynamic", "zones.zones()+dynamic"
    ),
    "markdown": lambda r: edit(r, "flow/prep.py", "# Prepare.", "# Prepare all of it."),
    "a cell of comments": lambda r: edit(
        r, "flow/prep.py", "# %%\nsys.path", "# %%\n# Paths.\n\n# %%\nsys.path"
    ),
    "a comment in a module": lambda r: edit(r, "code/helper.py", "return 1", "return 1  # one"),
    "a module nobody imports": lambda r: edit(r, "code/unused.py", "4", "5"),
    "a file nobody reads": lambda r: edit(r, "inputs/unused.txt", "nobody", "no one"),
    "a touched input": lambda r: os.utime(r / "inputs" / "am.txt"),
    "a touched module": lambda r: os.utime(r / "code" / "zones.py"),
    "a touched flow": lambda r: os.utime(r / "flow" / "prep.py"),
    "a new module beside": lambda r: (r / "code" / "fresh.py").write_text("x = 1\n"),
    "a new input beside": lambda r: (r / "inputs" / "fresh.txt").write_text("x"),
    "a new file in a run's folder": lambda r: (r / "runs/look/own/beside.txt").write_text("x"),
    "an output written again with the same bytes": lambda r: (
        r / "runs/prep/am/out.txt"
    ).write_text((r / "runs/prep/am/out.txt").read_text()),
    "a flow of another step": lambda r: (r / "flow" / "fresh.py").write_text("# %%\n1\n"),
}


@pytest.mark.parametrize("change", HARMLESS)
def test_harmless_changes(study: Path, change: str) -> None:
    HARMLESS[change](study)
    assert stale(study) == set()


CHANGES: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "a flow's code": (lambda r: edit(r, "flow/prep.py", "text.strip()", "text.lower()"), PREPS),
    "a cell split in two": (
        lambda r: edit(r, "flow/prep.py", "import zones\n", "import zones\n\n# %%\n"),
        PREPS,
    ),
    "two cells in one": (lambda r: edit(r, "flow/prep.py", "# %%\nsys.path", "sys.path"), PREPS),
    "a result that is no longer shown": (
        lambda r: edit(r, "flow/prep.py", '{total}")', '{total}");'),
        PREPS,
    ),
    "the parameters' default": (lambda r: edit(r, "flow/prep.py", '"am", "d', '"pm", "d'), PREPS),
    "a module": (lambda r: edit(r, "code/zones.py", "base() +", "base() -"), PREPS),
    "a module's module": (lambda r: edit(r, "code/helper.py", "return 1", "return 7"), PREPS),
    "a module imported in a function": (lambda r: edit(r, "code/lazy.py", "2", "8"), PREPS),
    "a module imported by its name": (lambda r: edit(r, "code/dynamic.py", "3", "9"), PREPS),
    "a package's module": (lambda r: edit(r, "code/pack/beside.py", "5", "6"), PREPS),
    "a package's init": (lambda r: (r / "code/pack/__init__.py").write_text("x = 1\n"), PREPS),
    "a module that is gone": (lambda r: (r / "code/dynamic.py").unlink(), PREPS),
    "an input": (lambda r: edit(r, "inputs/am.txt", "morning", "dawn"), {"prep/am"}),
    "an input of the same size": (
        lambda r: rewrite_in_place(r / "inputs/pm.txt", "EVENING\n"),
        {"prep/pm"},
    ),
    "an input that is gone": (lambda r: (r / "inputs/pm.txt").unlink(), {"prep/pm"}),
    "an output of the run above": (
        lambda r: (r / "runs/prep/am/out.txt").write_text("other"),
        {"use/am"},
    ),
    "an output that is gone": (
        lambda r: (r / "runs/prep/am/out.txt").unlink(),
        {"prep/am", "use/am"},
    ),
    "a report that is gone": (lambda r: (r / "runs/use/am/use.html").unlink(), {"use/am"}),
    "a new file in a folder": (
        lambda r: (r / "inputs/some/two.txt").write_text("2"),
        {"look/glob"},
    ),
    "a file that was looked for": (
        lambda r: (r / "inputs/optional.txt").write_text("x"),
        {"look/missing"},
    ),
    "a file that could not be opened": (
        lambda r: (r / "inputs/override.txt").write_text("x"),
        {"look/failed_open"},
    ),
    "one more instance above": (
        lambda r: shutil.copytree(r / "runs/prep/am", r / "runs/prep/extra"),
        {"look/instances", "prep/extra"},
    ),
}  # fmt: skip


def rewrite_in_place(path: Path, text: str) -> None:
    """Other bytes of the same length; the time stamp tells, to the nanosecond."""
    before = path.stat()
    path.write_text(text)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


@pytest.mark.parametrize("change", CHANGES)
def test_changes(study: Path, change: str) -> None:
    do, expected = CHANGES[change]
    do(study)
    if change == "one more instance above":
        # Its config still says `am`, so its own record is in order but for the name in it.
        expected = {"look/instances"}
    assert stale(study) == expected


@pytest.mark.parametrize("kind", READ_IN_PYTHON | READ_NATIVELY)
def test_every_reader_is_seen(
    studied: tuple[Path, dict[str, str]], study: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind not in studied[1]:
        pytest.skip("not to be seen without an observer")
    file = study / "inputs" / input_name(kind)
    if kind == "variable":
        monkeypatch.setenv("FLOW_VARIABLE", "after")
    elif kind == "present":
        file.unlink()
    else:
        write_input(file, kind, 2)
    assert stale(study) == {f"read/{kind}"}
