# %% [markdown]
# # How big a rainwater tank does a house need?
#
# The conductor of the study. It runs three steps, each an ordinary notebook in `flow/`:
#
# 1. `prepare_weather`: once for each period of weather;
# 2. `simulate_tank`: once for each row of `inputs/scenarios.csv`;
# 3. `compare_tanks`: once, over the results of all of them.
#
# Open it as a notebook, or run it from anywhere: `python examples/rain_tanks/cnd_rain_tanks.py`.

# %%
from pathlib import Path

import pandas as pd

from ductaflow import collate, run_step_flow, sweep

# A script knows its own file; a notebook is opened in its own folder.
HERE = Path(__file__).resolve().parent if "__file__" in globals() else Path.cwd()

# %% [markdown]
# ## The table of scenarios
#
# One row for each run; a dotted column is a key in a nested dict. What a row gives goes over the
# default in the flow's parameters cell, and an empty cell leaves that. Years are names here, not
# numbers; `convert_dtypes` keeps 120 m² from becoming 120.0 where other rows leave a column empty.

# %%
USUAL_PERIOD = "2012-2015"


def config_of(row):
    """What the flow gets of a row."""
    about_it = ("scenario", "client")
    return {key: value for key, value in row.items() if key not in about_it and pd.notna(value)}


scenarios = pd.read_csv(HERE / "inputs" / "scenarios.csv", dtype={"period": "string"})
scenarios = scenarios.convert_dtypes().set_index("scenario")
scenarios

# %% [markdown]
# ## 1. Weather
#
# Nothing that follows makes sense without it, so a failure here ends the study.

# %%
periods = sorted({USUAL_PERIOD, *scenarios["period"].dropna()})
weather = pd.DataFrame(
    {
        "source": "../../../inputs/seattle-weather.csv",
        "first_year": [int(period[:4]) for period in periods],
        "last_year": [int(period[-4:]) for period in periods],
        "wet_day_mm": 1.0,
    },
    index=pd.Index(periods, name="instance_name"),
)
prepared = sweep(HERE / "flow" / "prepare_weather.py", weather, root=HERE).raise_if_failed()

# %% [markdown]
# ## 2. One run for each scenario
#
# One that fails does not keep the others from running. Who asked for a scenario gets its report and
# its data, in a folder of their own.

# %%
runs = sweep(
    HERE / "flow" / "simulate_tank.py",
    scenarios,
    config=config_of,
    export_to=str(HERE / "deliveries/{client}/{scenario}"),
    export_files=["*.html", "*.csv"],
    root=HERE,
)
results = runs.frame().set_index("scenario")
print(results[["client", "status", "reliability", "longest_gap_days"]].to_string())

# %% [markdown]
# ## 3. Side by side

# %%
succeeded = [run.instance for run in runs.ok]
config = {"step": "simulate_tank", "scenarios": succeeded}
report = run_step_flow(
    HERE / "flow" / "compare_tanks.py", "compare_tanks", "all", config, root=HERE
)

# %% [markdown]
# ## 4. All of it on one page

# %%
page = collate(root=HERE, title="Rainwater tanks in Seattle")
print(f"\nEvery run is on {page}")
print(f"The answer is in {report.html}")
print(f"the days behind it in {HERE / 'runs' / 'simulate_tank'}")
print(f"and what the clients get in {HERE / 'deliveries'}")
runs.raise_if_failed()
