"""Where the time of an instance goes: cProfile on both sides of the kernel's sockets.

The profiler itself makes everything slower, small calls most: read shares, not times.
"""

from __future__ import annotations

import cProfile
import pstats
import tempfile
from pathlib import Path

from contenders import default_config

_LINES = 30

# Left on after its cell: it goes on in the kernel's main thread, around the later cells.
_BEGIN = """
# %%
import cProfile as _cprofile

_profile = _cprofile.Profile()
_profile.enable()
"""
_END = """
# %%
_profile.disable()
_profile.dump_stats("kernel.prof")
"""


def profile(flow: Path, count: int, folder: Path) -> None:
    """Profile so many runs of a flow and print what took longest, conductor first, then kernel."""
    from ductaflow import run_step_flow

    for seed in range(3):  # imports, templates and caches
        run_step_flow(flow, "profile", f"warm-{seed}", _config(flow, seed), root=folder)
    profiler = cProfile.Profile()
    for seed in range(count):
        profiler.enable()
        run_step_flow(flow, "profile", f"run-{seed}", _config(flow, seed), root=folder)
        profiler.disable()
    _show(f"conductor, main thread, {count} runs of {flow.stem}", pstats.Stats(profiler))

    inside = folder / f"{flow.stem}_profiled.py"
    inside.write_text(_between(flow.read_text("utf-8")), "utf-8")
    stats: pstats.Stats | None = None
    for seed in range(count):
        run = run_step_flow(inside, "inside", f"run-{seed}", _config(flow, seed), root=folder)
        path = str(Path(run.dir) / "kernel.prof")
        if stats is None:
            stats = pstats.Stats(path)
        else:
            stats.add(path)
    if stats is not None:
        _show(f"kernel, main thread, {count} runs of {flow.stem}", stats)


def main_profile(flow: Path, count: int) -> None:
    """`profile`, in a folder that is removed."""
    with tempfile.TemporaryDirectory(prefix="df-profile-") as folder:
        profile(flow, count, Path(folder))


def _config(flow: Path, seed: int) -> dict[str, object]:
    return {**default_config(flow), "seed": seed}


def _between(text: str) -> str:
    """The flow with the profiler switched on before its first cell that is not its parameters."""
    head, mark, rest = text.partition("\n# %%\n")
    return f"{head}\n{_BEGIN}{mark}{rest}{_END}"


def _show(title: str, stats: pstats.Stats) -> None:
    for key in ("tottime", "cumulative"):
        print(f"\n=== {title}: by {key} ===")
        stats.sort_stats(key).print_stats(_LINES)
