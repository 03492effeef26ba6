"""What a run asked of the import system, it depends on: what is there or not, and comes first."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import stale
from ductaflow_kernels import pool
from ductaflow_kernels.pool import KernelPool, close_shared_pool
from ductaflow_kernels.sources import forked
from ductaflow_kernels.sources import spawned as sources
from ductaflow_kernels.sources.spawned import PrespawnedSource
from hypothesis import given
from hypothesis import strategies as st

from ductaflow import Run, accept, run_step_flow, sweep
from ductaflow.reuse.importables import changes, describe, found_in, renewed


class Case(NamedTuple):
    """A way to import, and a change after which the answer is another one; or not."""

    code: str
    change: Callable[[Path, Path], object]  # given the case's own folder, and the run's
    stale: bool = True


def put(name: str, text: str = "V = 2\n") -> Callable[[Path, Path], object]:
    def change(box: Path, _: Path) -> None:
        (box / name).parent.mkdir(parents=True, exist_ok=True)
        (box / name).write_text(text)

    return change


def put_in_run(name: str) -> Callable[[Path, Path], object]:
    return lambda _, run: (run / name).write_text("V = 3\n")


def pack(archive: Path, text: str) -> None:
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("packed.py", text)


def take(name: str) -> Callable[[Path, Path], object]:
    return lambda box, _: (box / name).unlink()


OPTIONAL = """
    try:
        from local_settings import V
    except ImportError:
        V = 1
"""
LATER = "sys.path.append(str(box / 'later'))" + OPTIONAL

CASES = {
    "optional": Case(OPTIONAL, put("local_settings.py")),
    "optional package": Case(OPTIONAL, put("local_settings/__init__.py")),
    "optional, a plain folder": Case(OPTIONAL, put("local_settings/data.txt")),
    "optional extension": Case(OPTIONAL, put("local_settings.cpython-39-x86_64-linux-gnu.so")),
    "optional bytecode": Case(OPTIONAL, put("local_settings.pyc")),
    "optional, of another name": Case(OPTIONAL, put("local_settings_old.py"), stale=False),
    "optional, a text": Case(OPTIONAL, put("local_settings.txt"), stale=False),
    "optional, in the run's folder": Case(OPTIONAL, put_in_run("local_settings.py")),
    "optional, in a folder that is not there yet": Case(LATER, put("later/local_settings.py")),
    "found by find_spec": Case("importlib.util.find_spec('known')", take("known.py")),
    "not found by find_spec": Case("importlib.util.find_spec('unknown')", put("unknown.py")),
    "not found by import_module": Case("""
    try: importlib.import_module('unknown')
    except ModuleNotFoundError: pass""", put("unknown.py")),
    "a module of a package": Case("""
    try: from pack import extra
    except ImportError: pass""", put("pack/extra.py")),
    "a package becomes one with a module": Case("import pack.inner", put("pack/other.py"), False),
    "a module becomes a package": Case("import known", put("known/__init__.py")),
    "an extension comes before a module": Case("import known", put("known.abi3.so")),
    "one that comes before": Case("sys.path.append(str(box / 'far')); import distant",
        put("distant.py")),
    "one that comes after": Case("import known; sys.path.append(str(box / 'far'))",
        put("far/known.py"), False),
    "before an installed one": Case("import pandas", put("pandas.py")),
    "before one that an installed one needs": Case("import pandas", put("dateutil.py"),
        False),  # the kernel itself has imported it
    "before an installed one, in the run's folder": Case("import pandas", put_in_run("pandas.py")),
    "a folder named as an installed one": Case("import pandas", put("pandas/x.csv"), False),
    "another part of a namespace": Case("sys.path.append(str(box / 'far')); import spaced",
        put("far/spaced/x.py")),
    "a part of a namespace becomes a package": Case("import spaced.one",
        put("spaced/__init__.py", "")),
    "what a library looked for": Case("import pandas", put("numexpr.py"), False),
    "iter_modules": Case("[m.name for m in pkgutil.iter_modules([str(box / 'pack')])]",
        put("pack/extra.py")),
    "walk_packages": Case("[m.name for m in pkgutil.walk_packages([str(box)])]",
        put("pack/extra.py")),
    "resources": Case("""
    import pack
    [p.name for p in importlib.resources.files('pack').iterdir()]""", put("pack/table.txt")),
    "a resource": Case("importlib.resources.files('pack').joinpath('x.txt').read_text()",
        put("pack/x.txt", "other")),
    "no such resource": Case("importlib.resources.files('pack').joinpath('y.txt').is_file()",
        put("pack/y.txt")),
    "made by the run itself": Case("""
    Path('made.py').write_text('V = 1')
    import made""", put("nothing.py"), False),
    "made and removed by the run itself": Case("""
    Path('made.py').write_text('V = 1')
    import made
    os.remove('made.py')""", put("nothing.py"), False),
    "made by the run after it was looked for": Case("""
    try: import made
    except ImportError: Path('made.py').write_text('V = 1')""", put("nothing.py"), False),
    "an archive on the path": Case("sys.path.append(str(box / 'lib.zip')); import packed",
        lambda box, _: pack(box / "lib.zip", "V = 2")),
    # The next is not observed.
    "a package in the project": Case("importlib.metadata.entry_points(group='new.points')",
        put("new-1.0.dist-info/entry_points.txt", "[new.points]\na = b:c\n"), False),
    "a module of the standard library": Case("import wave", put("wave.py")),
    "which comes before the run's folder": Case("import wave", put_in_run("wave.py"), False),
    "no name at all": Case("""
    try: importlib.import_module('strange name = / 1')
    except ImportError: pass""", put("nothing.py"), False),
}  # fmt: skip

FLOW = """# %% tags=["parameters"]
config = {"how": "", "box": ""}

# %%
import importlib
import importlib.metadata
import importlib.resources
import importlib.util
import os
import pkgutil
import sys
from pathlib import Path

box = Path(box).resolve()
sys.path.insert(1, str(box))
if not how:
    pass
"""


def build_box(box: Path) -> None:
    files = {
        "known.py": "V = 1\n",
        "far/distant.py": "V = 1\n",
        "pack/__init__.py": "",
        "pack/inner.py": "",
        "pack/x.txt": "text",
        "spaced/one.py": "",
    }
    for name, text in files.items():
        (box / name).parent.mkdir(parents=True, exist_ok=True)
        (box / name).write_text(text)
    pack(box / "lib.zip", "V = 1")


def use(patch: pytest.MonkeyPatch, way: str) -> None:
    """Have runs made on kernels of a kind."""
    close_shared_pool()
    if way == "unwatched":
        patch.setattr(forked, "observer_address", lambda: "")
        patch.setattr(sources, "observer_address", lambda: "")
    elif way == "prespawned":
        patch.setattr(pool, "_shared", (os.getpid(), KernelPool(managed=PrespawnedSource())))


@pytest.fixture(scope="module", params=["forked", "prespawned", "unwatched"])
def imported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which all cases have run."""
    root = tmp_path_factory.mktemp(request.param) / "study"
    (root / "flow").mkdir(parents=True)
    branches = [f"elif how == {how!r}:\n    {case.code}\n" for how, case in CASES.items()]
    (root / "flow" / "ask.py").write_text(FLOW + "".join(branches))
    rows = []
    for number, how in enumerate(CASES):
        build_box(root / "boxes" / str(number))
        rows.append({"instance": str(number), "how": how, "box": f"../../../boxes/{number}"})
    with pytest.MonkeyPatch.context() as patch:
        use(patch, request.param)
        config = ["how", "box"]
        runs = sweep("ask", rows, config=config, root=root, progress=False, workers=2)
        runs.raise_if_failed()
        close_shared_pool()
    return root


def test_exactly_what_was_asked_counts(imported: Path, tmp_path: Path) -> None:
    assert stale(imported) == {}
    root = tmp_path / "moved"
    shutil.copytree(imported, root)
    assert stale(root) == {}
    for number, case in enumerate(CASES.values()):
        case.change(root / "boxes" / str(number), root / "runs" / "ask" / str(number))
    found = stale(root)
    assert set(found) == {how for how, case in CASES.items() if case.stale}, found


# --- what is recorded ----------------------------------------------------------------------------


def imports_of(run: Run) -> dict[str, str]:
    return {fact.path: fact.answer for fact in run.record.inputs if fact.role == "imports"}


def small(root: Path, code: str) -> Path:
    (root / "flow").mkdir(exist_ok=True)
    (root / "ductaflow.toml").touch()
    text = f'# %% tags=["parameters"]\nconfig = {{}}\n# %%\n{code}\n'
    (root / "flow" / "ask.py").write_text(text)
    return root


def again(root: Path) -> str:
    """Why the flow's instance would run again; empty if it would not."""
    run = run_step_flow("ask", "ask", "a", {}, root=root)
    return "" if run.reused else "; ".join(map(str, run.reasons))


KERNEL_S_OWN = {"IPython", "dateutil"}  # a forked one has all of it that a flow may lead to


def test_all_kernels_record_the_same(tmp_path: Path) -> None:
    code = "import pandas as pd\nimport sklearn.linear_model\ntry: import local_settings\n"
    code += "except ImportError: pass\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])"
    root = small(tmp_path, code)
    found = {}
    for way in ("forked", "prespawned"):
        with pytest.MonkeyPatch.context() as patch:
            use(patch, way)
            run = run_step_flow("ask", "ask", "a", {}, root=root, force=True, html=False)
            close_shared_pool()
        versions = {n: v for n, v in run.record.packages.items() if n not in KERNEL_S_OWN}
        found[way] = {"imports": imports_of(run), **versions}
    assert found["forked"] == found["prespawned"]
    assert found["prespawned"]["local_settings"] == ""
    assert "local_settings/=" in found["prespawned"]["imports"]["runs/ask/a"]


def test_the_reasons_name_module_and_folder(tmp_path: Path) -> None:
    root = small(tmp_path, "import sys; sys.path.append('../../../lib')\nimport helper" + OPTIONAL
        .replace("\n    ", "\n"))  # fmt: skip
    (root / "lib").mkdir()
    (root / "lib" / "helper.py").write_text("")
    assert again(root) == "it has not run yet"
    assert again(root) == ""
    (root / "lib" / "local_settings.py").write_text("V = 2")
    assert again(root) == "lib has the module local_settings now"
    assert again(root) == ""
    (root / "lib" / "helper").mkdir()
    (root / "lib" / "helper" / "__init__.py").write_text("")
    accept("ask", "a", root=root)
    assert again(root) == ""
    (root / "lib" / "local_settings.py").unlink()
    reasons = again(root)
    assert "lib has no module local_settings any more" in reasons
    assert again(root) == ""


def test_the_root_on_the_python_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in a moved project."""
    root = small(tmp_path / "study" if (tmp_path / "study").mkdir() is None else tmp_path,
        OPTIONAL.replace("\n    ", "\n"))  # fmt: skip
    monkeypatch.setenv("PYTHONPATH", str(root))
    assert again(root) == "it has not run yet"
    moved = tmp_path / "moved"
    shutil.move(root, moved)
    monkeypatch.setenv("PYTHONPATH", str(moved))
    assert again(moved) == ""
    (moved / "local_settings.py").write_text("V = 2")
    assert again(moved) == ". has the module local_settings now"


# --- pure ----------------------------------------------------------------------------------------

_FILES = st.sampled_from(
    ["a.py", "a.pyc", "a.abi3.so", "a/__init__.py", "a/x.txt", "b.py", "b.txt", "a-b.py"]
)


@given(st.sets(_FILES), st.sets(_FILES))
def test_what_python_would_find_changes_with_the_answer(
    tmp_path_factory: pytest.TempPathFactory, before: set[str], after: set[str]
) -> None:
    folder = tmp_path_factory.mktemp("names")

    def make(names: set[str]) -> list[str]:
        shutil.rmtree(folder)
        folder.mkdir()
        for name in sorted(names):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).touch()
        return [_found_by_python(folder, name) for name in ("a", "b", "a-b")]

    asked = ["a/", "b/", "a-b/"]
    first = make(before)
    answer = describe(found_in(str(folder), asked))
    assert renewed(answer, str(folder)) == answer
    assert not [*changes(answer, str(folder))]
    assert bool(first != make(after)) == bool([*changes(answer, str(folder))])


def _found_by_python(folder: Path, name: str) -> str:
    from importlib.machinery import PathFinder

    spec = PathFinder.find_spec(name, [str(folder)])
    PathFinder.invalidate_caches()
    if spec is None:
        return ""
    return spec.origin or "namespace"
