# %% [markdown]
# # {title}
#
# The conductor: it says which flows run with which configs. Open it as a notebook and run it cell by
# cell, or run it all as a script: `{command}`.

# %%
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent if "__file__" in globals() else Path.cwd()
sys.path.insert(0, str(ROOT / "code"))

from ductacore import run_step_flow, sweep

# %% [markdown]
# ## 1. Measure: one run for each cup
#
# A row is an instance: `runs/measure_cooling/porcelain/` and so on, each with its executed notebook,
# report, log, config and data. What a row gives goes over the default in the flow's parameters cell.
# A pandas data frame or a `.csv` file would do as well.

# %%
cups = [
    {"instance_name": "porcelain", "cooling_per_minute": 0.05, "seed": 1},
    {"instance_name": "thermos", "cooling_per_minute": 0.008, "seed": 2},
    {"instance_name": "paper", "cooling_per_minute": 0.035, "seed": 3},
]
measured = sweep("flow/measure_cooling.py", cups, root=ROOT).raise_if_failed()
measured

# %% [markdown]
# ## 2. Fit: one run for each of those

# %%
for run in measured:
    fit = run_step_flow(
        notebook_path="flow/fit_cooling.py",
        step_name="fit_cooling",
        instance_name=run.instance,
        config={"measured": run.instance},
        root=ROOT,
    )
    print(f"{run.instance}: half as warm every {fit.record.metrics['half_life_minutes']} minutes")

print(f"\nA report: {fit.html}")
