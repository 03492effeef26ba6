"""Another environment: what counts is which versions the interpreter has that would run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from ductaflow.reuse.packages import versions

CONDUCT = """
import json, sys
from ductaflow import run_step_flow
given = json.loads(sys.argv[1])
run = run_step_flow("flow", "flow", "a", {}, html=False, **given)
print(json.dumps([run.reused, "; ".join(map(str, run.reasons)) or str(run.error or "")]))
"""


@attrs.frozen
class Env:
    """A virtual environment, with our packages beside its own."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def site(self) -> Path:
        return next((self.folder / "lib").glob("python3*")) / "site-packages"

    def install(self, name: str, version: str, text: str = "", site: Path | None = None) -> None:
        """Put a package there, as a wheel would."""
        site = site or self.site
        site.mkdir(parents=True, exist_ok=True)
        (site / f"{name}.py").write_text(text or f"version = {version!r}\n")
        for old in site.glob(f"{name}-*.dist-info"):
            shutil.rmtree(old)
        info = site / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "RECORD").write_text(f"{name}.py,,\n{info.name}/METADATA,,\n")

    def run(self, root: Path, *, flags: tuple[str, ...] = (), **options: object) -> str:
        """Run the flow by a conductor of this environment: empty if it was reused, else why."""
        reused, reasons = json.loads(self.conduct(root, CONDUCT, json.dumps(options), flags=flags))
        return "" if reused else reasons

    def conduct(self, root: Path, code: str, *args: str, flags: tuple[str, ...] = ()) -> str:
        hidden = {"DUCTAFLOW_ROOT", "PYTHONPATH", "VIRTUAL_ENV"}
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        environment |= {"HOME": str(root.parent / "home")}
        done = subprocess.run(
            [self.python, *flags, "-c", code, *args],
            cwd=root, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]


@pytest.fixture
def make_env(tmp_path: Path) -> Callable[[str], Env]:
    def make(name: str) -> Env:
        folder = tmp_path / name
        venv.create(folder, with_pip=False, symlinks=True)
        env = Env(folder)
        ours = [path for path in sys.path if path and Path(path).is_dir()]
        library = os.path.dirname(os.__file__)
        mine = [path for path in ours if not path.startswith(library + os.sep) or "site-" in path]
        (env.site / "ours.pth").write_text("\n".join(p for p in mine if p != library))
        return env

    return make


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "flow").mkdir(parents=True)
    (tmp_path / "home").mkdir()
    (folder / "ductaflow.toml").touch()
    write(folder, "import fakelib; print(fakelib.version)")
    return folder


def write(root: Path, code: str) -> None:
    text = f'# %% tags=["parameters"]\nconfig = {{}}\n# %%\n{code}\n'
    (root / "flow" / "flow.py").write_text(text)


def test_versions_count_and_places_do_not(
    make_env: Callable[[str], Env], root: Path, tmp_path: Path
) -> None:
    one, same, other = make_env("one"), make_env("same"), make_env("other")
    one.install("fakelib", "3.1.1")
    same.install("fakelib", "3.1.1")
    other.install("fakelib", "3.1.0")
    assert one.run(root) == "it has not run yet"
    for env in (one, same, one, same):
        assert env.run(root) == "", "two people with an environment each"
    assert other.run(root) == "fakelib was 3.1.1, is 3.1.0"
    assert one.run(root) == "fakelib was 3.1.0, is 3.1.1"
    shutil.rmtree(one.folder)
    assert same.run(root) == "", "where it ran, is gone"
    moved = tmp_path / "elsewhere" / "moved"
    shutil.copytree(root, moved)
    (moved.parent / "home").mkdir()
    shutil.rmtree(root)
    assert same.run(moved) == ""
    (same.site / "fakelib.py").unlink()
    shutil.rmtree(same.site / "fakelib-3.1.1.dist-info")
    # The flow fails now: what is asked is only whether it would be reused.
    explain = "from ductaflow import explain; print(explain('flow', 'a', {}).reasons[0])"
    assert same.conduct(moved, explain) == "fakelib was 3.1.1, is not installed"


def test_user_site_and_path_files(
    make_env: Callable[[str], Env], root: Path, tmp_path: Path
) -> None:
    """Packages are found where the interpreter finds them, in its order."""
    env = make_env("env")
    config = env.folder / "pyvenv.cfg"
    config.write_text(config.read_text().replace("packages = false", "packages = true"))
    added, user = tmp_path / "added", tmp_path / "home/.local/lib" / env.site.parent.name
    env.install("fakelib", "1.0", site=added)
    (env.site / "added.pth").write_text(f"{added}\n")
    assert env.run(root) == "it has not run yet"
    assert env.run(root) == ""
    record = json.loads((root / "runs/flow/a/run.json").read_text())
    assert record["packages"] == {"fakelib": "1.0"}
    env.install("fakelib", "1.1", site=added)
    assert env.run(root) == "fakelib was 1.0, is 1.1"
    env.install("fakelib", "2.0", site=user / "site-packages")
    assert env.run(root) == "", "the user's comes last"
    (env.site / "added.pth").unlink()
    assert env.run(root) == "fakelib was 1.1, is 2.0"
    assert env.run(root) == ""
    # What the conductor itself was told does not count: its kernels are told nothing of it.
    assert env.run(root, flags=("-s",)) == ""
    env.install("fakelib", "3.0", site=tmp_path / "more" / "site-packages")
    first = f"import sys; sys.path.insert(0, {str(tmp_path / 'more/site-packages')!r})\n"
    told = env.conduct(root, first + CONDUCT, "{}")
    assert json.loads(told)[0], "what a conductor adds to its own path, its kernels lack"


def test_a_kernelspec_s_interpreter_is_asked(
    make_env: Callable[[str], Env], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conductor, kernel = make_env("conductor"), make_env("kernel")
    conductor.install("fakelib", "9.9")
    kernel.install("fakelib", "1.0")
    folder = tmp_path / "jupyter" / "kernels" / "theirs"
    folder.mkdir(parents=True)
    argv = [str(kernel.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Theirs", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    assert conductor.run(root, kernel_name="theirs") == "it has not run yet"
    assert conductor.run(root, kernel_name="theirs") == ""
    kernel.install("fakelib", "1.1")
    assert conductor.run(root, kernel_name="theirs") == "fakelib was 1.0, is 1.1"
    kernel.install("fakelib", "9.9")
    assert "fakelib was 1.1" in conductor.run(root, kernel_name="theirs")
    assert conductor.run(root) == "", "the conductor's own has the same"
    shutil.rmtree(folder)
    explain = (
        "from ductaflow import update; "
        "print([*map(str, update(dry_run=True, progress=False)[0].reasons)])"
    )
    told = conductor.conduct(root, explain)
    assert "no kernelspec is named 'theirs'" in told


def test_the_version_of_python_counts(make_env: Callable[[str], Env], root: Path) -> None:
    env = make_env("env")
    env.install("fakelib", "1.0")
    assert env.run(root)
    path = root / "runs/flow/a/run.json"
    record = json.loads(path.read_text())
    now = record["environment"]["python"]
    record["environment"]["python"] = "3.9.1"
    path.write_text(json.dumps(record))
    assert env.run(root) == f"Python was 3.9.1, is {now}"
    assert env.run(root) == ""


def test_what_is_being_developed_is_code(
    make_env: Callable[[str], Env], root: Path, tmp_path: Path
) -> None:
    """An editable install is a folder in a `.pth` file, without an installed package in it."""
    env = make_env("env")
    source = tmp_path / "source" / "src"
    source.mkdir(parents=True)
    (source / "fakelib.py").write_text("version = 1")
    (env.site / "__editable__.fakelib.pth").write_text(str(source))
    assert env.run(root) == "it has not run yet"
    assert env.run(root) == ""
    (source / "fakelib.py").write_text("version = 2")
    assert env.run(root) == f"{source}/fakelib.py changed"


QUESTIONS = """
import importlib.metadata as metadata
import importlib.util
try: import extra
except ImportError: pass
importlib.util.find_spec("found"), importlib.util.find_spec("bare")
names = {point.name for point in metadata.entry_points(group="my.plugins")}
import plugins
plugins.found()
try: metadata.version("Some.Tool")
except metadata.PackageNotFoundError: pass
"""


PLUGINS = """
import importlib.metadata
def found():
    return [each for each in importlib.metadata.distributions() if each.entry_points]
"""


def test_what_was_asked_of_packages_that_are_not_imported(
    make_env: Callable[[str], Env], root: Path
) -> None:
    env = make_env("env")
    write(root, QUESTIONS)
    env.install("found", "1.0")
    env.install("plugin", "1.0")
    env.install("plugins", "1.0", PLUGINS)
    assert env.run(root) == "it has not run yet"

    def why() -> str:
        return env.conduct(root, "from ductaflow import explain; print(explain('flow', 'a', {}))")

    assert why() == "unchanged since its last run"
    env.install("other", "1.0")
    env.install("plugin", "1.1")
    points = env.site / "plugin-1.1.dist-info" / "entry_points.txt"
    points.write_text("[your.plugins]\nb = plugin:b\n")
    assert why() == "unchanged since its last run", (
        "only a library has asked for these, and does not say so"
    )
    env.install("plugin", "1.2")
    points = env.site / "plugin-1.2.dist-info" / "entry_points.txt"
    points.write_text("[my.plugins]\na = plugin:a\n")
    assert why() == "entry points of my.plugins are not the same any more"
    assert env.run(root)
    env.install("extra", "1.0")
    env.install("found", "2.0")
    env.install("Some_Tool", "0.1")
    (env.site / "bare.py").touch()
    assert sorted(why().split("; ")) == [
        "Some.Tool was not installed, is 0.1",
        "bare was not installed, is there, of no known version",
        "extra was not installed, is 1.0",
        "found was 1.0, is 2.0",
    ]
    assert env.run(root)
    assert env.run(root) == ""


def test_packages_of_the_runs_that_a_run_calls_for(
    make_env: Callable[[str], Env], root: Path
) -> None:
    env = make_env("env")
    env.install("fakelib", "1.0")
    text = (root / "flow" / "flow.py").read_text()
    (root / "flow" / "inner.py").write_text(text)
    write(
        root,
        "from ductaflow import run_step_flow\nrun_step_flow('inner', 'inner', 'a', {}, html=False)",
    )
    assert env.run(root) == "it has not run yet"
    assert env.run(root) == ""
    env.install("fakelib", "1.1")
    assert env.run(root) == "fakelib was 1.0, is 1.1"
    assert env.run(root) == ""


def test_the_first_folder_that_has_a_package_counts(tmp_path: Path) -> None:
    for name, version in (("first", "2.0"), ("second", "1.0")):
        (tmp_path / name / f"fakelib-{version}.dist-info").mkdir(parents=True)
    folders = [str(tmp_path / "first"), str(tmp_path / "second")]
    assert versions(["fakelib"], folders) == {"fakelib": "2.0"}
    assert versions(["fakelib"], reversed(folders)) == {"fakelib": "1.0"}
