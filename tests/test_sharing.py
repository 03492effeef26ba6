"""Two users of one group work in one folder."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

GROUP = 54321
USERS = (54322, 54323)
FLOW = """\
# %% tags=["parameters"]
config = {"a": 1}

# %%
from pathlib import Path
Path("out.txt").write_text("x")
"""
WORK = """\
import sys
from ductaflow import collate, export, get_all_instances, runs_table, run_step_flow, sweep, thin
root, force = sys.argv[1], len(sys.argv) > 2
runs = sweep("g", [{"a": 1}, {"a": 2}], root=root, instance="a{a}", force=force, progress=False)
assert all(run.ok for run in runs), runs
assert len(get_all_instances("g", root=root)) == 2
collate(["g"], root=root)
export(runs, f"{root}/delivered/{{instance}}")
thin(runs)
"""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.getuid() != 0 or shutil.which("setpriv") is None,
    reason="only root can work as two users",
)


@pytest.fixture
def shared():
    """A project that the group shares, where both users can get at it."""
    root = Path(tempfile.mkdtemp(prefix="shared"))
    (root / "project" / "flow").mkdir(parents=True)
    (root / "project" / "flow" / "g.py").write_text(FLOW, "utf-8")
    root.chmod(0o755)
    for folder in (root / "project", root / "project" / "flow"):
        os.chown(folder, -1, GROUP)
        folder.chmod(0o2775)
    yield root / "project"
    shutil.rmtree(root)


def work(root, user, *args):
    home = root.parent / str(user)
    home.mkdir(exist_ok=True)
    os.chown(home, user, user)
    # The interpreter may lie where this user cannot look: it may read all, and write as it is.
    become = [
        "setpriv", f"--reuid={user}", f"--regid={user}", f"--groups={GROUP}",
        "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
    ]  # fmt: skip
    done = subprocess.run(
        [*become, sys.executable, "-c", WORK, str(root), *args], cwd=root, umask=0o002,
        env={"HOME": str(home), "PATH": os.environ["PATH"], "TMPDIR": str(home)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_either_may_do_what_the_other_did(shared):
    work(shared, USERS[0], "force")
    work(shared, USERS[1], "force")
    work(shared, USERS[0])
    for path in [*(shared / "runs").rglob("*"), *(shared / "delivered").rglob("*")]:
        facts = path.stat()
        wanted = 0o2775 if path.is_dir() else 0o664
        assert (stat.S_IMODE(facts.st_mode), facts.st_gid) == (wanted, GROUP), path
