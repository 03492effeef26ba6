"""`verify`: what would be reused is run again in a scratch folder, and compared."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

import ductaflow
from ductaflow import DuctaflowError, get_all_instances, sweep, verify
from ductaflow.model.verification import VerificationOutcome
from ductaflow.reuse.scratchtree import scratch_tree


def tree(root):
    """Every file below a folder, with its bytes, but for the index and locks."""
    files = (p for p in root.rglob("*") if p.is_file() and not p.name.startswith(".ductaflow"))
    return {path: path.read_bytes() for path in files}


VOLATILE = """\
import datetime, os, time, uuid, tempfile
folder = tempfile.mkdtemp()
os.rmdir(folder)
print(object(), uuid.uuid4(), os.getpid(), os.getcwd(), folder)
print(datetime.datetime.now(), time.time(), time.ctime(), datetime.date.today())
print(f"took {time.perf_counter() * 0 + (time.time() % 1) / 10:.4f} s")
open("out.csv", "w").write("a,b\\n1,2\\n")"""
FIGURE = """\
import matplotlib
matplotlib.use("agg")
import matplotlib.pyplot as plt
fig, ax = plt.subplots()
ax.plot([1, 2])
fig.savefig("f.svg"); fig.savefig("f.pdf"); fig.savefig("f.png", metadata={"Comment": str(id(ax))})
import gzip, zipfile, time, pandas as pd
with gzip.open("t.gz", "wt") as f: f.write("x")
with zipfile.ZipFile("t.zip", "w") as z: z.writestr(zipfile.ZipInfo("a", time.localtime()[:6]), "x")
pd.DataFrame({"x": [1.0, float("nan")]}).to_parquet("t.parquet")"""


def test_what_is_of_one_run_only_does_not_count(project):
    project.write("net", VOLATILE)
    project.write("figure", FIGURE)
    for name in ("net", "figure"):
        run = project.run(name)
        before = tree(project.root)
        found = verify(name, "a")
        assert found.outcome is VerificationOutcome.REPRODUCES, str(found)
        assert bool(found)
        assert tree(project.root) == before
        assert verify(run).ok
        assert verify(f"{name}/a").ok
    assert [run.instance for run in get_all_instances("net", status=None)] == ["a"]
    assert not list(project.root.glob(".ductaflow-verify-*"))


def test_a_difference_says_where_and_why(project):
    # Native code asks for a variable, which nobody sees.
    project.write(
        "net",
        "print('always')",
        "import ctypes\ngetenv = ctypes.CDLL(None).getenv\ngetenv.restype = ctypes.c_char_p\n"
        "text = getenv(b'HIDDEN').decode()\nprint('it is', text)\n"
        "open('out.csv', 'w').write('a\\n' + text)\nfrom ductaflow import record\n"
        "record(size=len(text))",
    )
    os.environ["HIDDEN"] = "one"
    try:
        project.run("net")
        assert verify("net", "a").ok
        os.environ["HIDDEN"] = "three"
        if not ductaflow.explain("net", "a"):
            pytest.skip("that read is observed")
        found = verify("net", "a")
    finally:
        del os.environ["HIDDEN"]
    assert found.outcome is VerificationOutcome.DIFFERS
    where = [difference.where for difference in found.differences]
    assert where == ["metric size", "cell 3", "out.csv"]
    assert found.differences[1].before == "it is one"
    assert found.differences[1].after == "it is three"
    for text in (str(found), repr(found), found._repr_html_()):
        assert "net/a differs in metric size, cell 3 and out.csv" in text
    json.dumps(found.to_json())


def test_a_file_whose_size_and_time_hide_that_it_changed_is_named(project):
    data = project.root / "data.txt"
    data.write_text("one")
    project.write("net", "print(open('../../../data.txt').read())")
    project.run("net")
    found = data.stat()
    record = project.root / "runs/net/a/run.json"
    data.write_text("two")
    os.utime(data, ns=(found.st_atime_ns, found.st_mtime_ns))
    if not ductaflow.explain("net", "a"):
        pytest.skip("such a change is seen")
    result = verify("net", "a")
    assert [d.where for d in result.differences] == ["cell 2"]
    assert "data.txt has other bytes than before" in str(result.causes[0])
    assert record.is_file()


def test_an_input_that_the_record_lacks_is_named(project):
    (project.root / "more.txt").write_text("one")
    project.write("net", "print(open('../../../more.txt').read())")
    run = project.run("net")
    record = json.loads(run.paths.record.read_text())
    record["inputs"] = [fact for fact in record["inputs"] if fact["path"] != "more.txt"]
    run.paths.record.write_text(json.dumps(record))
    (project.root / "more.txt").write_text("other")
    found = verify("net", "a")
    assert found.outcome is VerificationOutcome.DIFFERS
    assert [(cause.kind, cause.path) for cause in found.causes] == [("data", "more.txt")]
    assert "which its record does not list and has changed since" in str(found)


def test_relative_paths_names_and_neighbours_are_as_in_runs(project):
    (project.root / "inputs").mkdir()
    (project.root / "inputs/x.txt").write_text("x")
    project.write("prep", "open('out.txt', 'w').write('made')")
    project.run("prep")
    project.write(
        "net",
        "import os\nfrom pathlib import Path\nprint(Path.cwd().name, Path.cwd().parent.name)\n"
        "print(open('../../prep/a/out.txt').read(), open('../../../inputs/x.txt').read())\n"
        "print(sorted(str(p) for p in Path('../..').rglob('out.txt')), sorted(os.listdir('..')))\n"
        "from ductaflow import get_all_instances\nprint(get_all_instances('prep'))\n"
        "Path('deep/er').mkdir(parents=True, exist_ok=True)\n"
        "Path('deep/er/out.bin').write_bytes(b'1')",
    )
    project.run("net")
    found = verify("net", "a")
    assert found.ok, str(found)


def test_what_cannot_be_run_again_safely_is_refused(project):
    project.write("out", "open('../../../shared.txt', 'a').write('x')")
    project.run("out")
    found = verify("out", "a")
    assert found.outcome is VerificationOutcome.REFUSED
    assert "it writes outside its folder: shared.txt" in str(found)
    assert (project.root / "shared.txt").read_text() == "x"
    project.write(
        "own",
        "import os\nfolder = os.environ['DUCTAFLOW_ROOT'] + '/runs/own/a/'\nimport time\n"
        "open(folder + 'o.txt', 'w').write(str(time.time_ns()))",
    )
    project.run("own")
    before = (project.root / "runs/own/a/o.txt").read_text()
    found = verify("own", "a")
    assert found.outcome is VerificationOutcome.REFUSED
    assert "by an absolute path" in str(found)
    assert (project.root / "runs/own/a/o.txt").read_text() == before


def test_what_would_run_anyway_is_stale(project):
    flow = project.write("net", "print(1)")
    project.run("net")
    flow.write_text(flow.read_text() + "\n# %%\nprint(2)\n")
    found = verify("net", "a")
    assert found.outcome is VerificationOutcome.STALE
    assert [reason.kind for reason in found.reasons] == ["code"]
    with pytest.raises(DuctaflowError, match="there is no run net/b"):
        verify("net", "b")


def test_a_sweep_verifies_a_part_of_what_it_reuses(project):
    project.write(
        "net", "import random\nprint(config['n'], random.random())", parameters="config = {'n': 0}"
    )
    rows = [{"instance": f"i{n}", "n": n} for n in range(3)]
    first = sweep("net", rows, progress=False, verify=0.02)
    assert len(first.verified) == 0  # nothing was reused
    again = sweep("net", rows, progress=False, verify=0.02)
    assert len(again.verified) == 1
    assert again.verified[0].outcome is VerificationOutcome.DIFFERS  # random numbers
    assert "may depend on the time, on random numbers" in again.summary()
    assert len(sweep("net", rows, progress=False, verify=1).verified.differing) == 3
    for wrong in (-1, 2, float("nan")):
        with pytest.raises(ValueError, match="verify must be from 0 to 1"):
            sweep("net", rows, verify=wrong)
    with pytest.raises(TypeError, match="verify must be a number"):
        sweep("net", rows, verify="all")
    with pytest.raises(ValueError, match="dry_run runs nothing"):
        sweep("net", rows, verify=1, dry_run=True)


def test_scratch_folders_of_several_threads_do_not_remove_each_other(tmp_path):
    names = [f"i{n}" for n in range(8)]
    for name in names:
        (tmp_path / "runs/step" / name).mkdir(parents=True)

    def make_and_leave(name):
        for _ in range(30):
            with scratch_tree(tmp_path, "step", name, ()) as (_, folder):
                assert folder.is_dir()

    with ThreadPoolExecutor(len(names)) as threads:
        list(threads.map(make_and_leave, names))
    assert not list(tmp_path.glob(".ductaflow-verify-*"))


def test_the_command_tells_by_its_exit_code(project, capsys):
    from ductaflow.cli.main import main

    project.write("same", "print(1)")
    project.write("other", "import random\nprint(random.random())")
    project.run("same")
    project.run("other")
    assert main(["verify", "same/a", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["outcome"] == "reproduces"
    assert main(["verify"]) == 1
    assert "other/a differs in cell 2" in capsys.readouterr().out
    assert main(["verify", "--step", "same", "--sample", "0.02"]) == 0
    assert main(["verify", "--sample", "3"]) == 2


def test_what_a_killed_verification_left_is_removed_by_the_next(project):
    project.write(
        "net",
        "import os, pathlib\nif pathlib.Path('../../../kill').exists(): os.kill(os.getppid(), 9)",
    )
    project.run("net")
    left = project.root / ".ductaflow-verify-left"
    (left / "deep").mkdir(parents=True)
    (left / "link").symlink_to(project.root / "flow")
    assert verify("net", "a").ok
    assert not left.exists()
    assert (project.root / "flow/net.py").is_file()
