"""`from ductacore import ...` wherever ductaflow is installed; a project's own copy wins."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import Project


def python(code: str, cwd: Path) -> str:
    env = {k: v for k, v in os.environ.items() if k != "DUCTAFLOW_ROOT"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_is_ductaflow_anywhere(tmp_path: Path) -> None:
    assert python(
        "from ductacore import run_step_flow, make_new_ductaflow_instance, __version__; "
        "import ductacore, ductaflow; from ductacore import *; "
        "print(ductacore.sweep is ductaflow.sweep, dir(ductacore) == sorted(ductaflow.__all__))",
        tmp_path,
    ) == "True True"  # fmt: skip
    with pytest.raises(ImportError):
        from ductacore import no_such_name  # noqa: F401


def test_a_flow_imports_it_where_there_is_no_code_folder(project: Project) -> None:
    project.write("f", "from ductacore import record\nrecord(x=1)")
    assert project.run("f").record.metrics == {"x": 1}


@pytest.mark.parametrize("how", ["sys.path.append('{code}')", "sys.path.insert(0, '{code}')", "0"])
def test_a_projects_own_wins(project: Project, how: str) -> None:
    (project.root / "code").mkdir()
    own = project.root / "code" / "ductacore.py"
    own.write_text("whose = 'ours'\n")
    code = f"import sys; {how}; from ductacore import whose; print(whose)"
    assert python(code.format(code="code"), project.root) == "ours"
    project.write(
        "f",
        "import sys\n" + how.format(code="../../../code") + "\nimport ductacore",
        "open('which.txt', 'w').write(ductacore.__file__ + ductacore.whose)",
    )
    run = project.run("f")
    file, _, whose = (run.dir / "which.txt").read_text().rpartition(".py")
    assert (Path(f"{file}.py").resolve(), whose) == (own, "ours")
    assert project.run("f").reused
    own.write_text("whose = 'newer'\n")
    assert not project.run("f").reused


def test_it_is_in_the_wheel(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    if not (root / "pyproject.toml").is_file():
        pytest.skip("run against an installed wheel")
    hatchling = pytest.importorskip("hatchling.builders.wheel")
    builder = hatchling.WheelBuilder(str(root))
    (wheel,) = builder.build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "ductacore.py" in names
    assert "ductaflow/__init__.py" in names
    assert "ductaflow_kernels/__init__.py" in names
