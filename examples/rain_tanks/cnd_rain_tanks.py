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

from ductaflow import RunFailed, run_step_flow

# A script knows its own file; a notebook is opened in its own folder.
HERE = Path(__file__).resolve().parent if "__file__" in globals() else Path.cwd()


def run(step, instance, config):
    """Run one instance and print a line about it; a failed run comes back like any other."""
    try:
        done = run_step_flow(HERE / "flow" / f"{step}.py", step, instance, config, root=HERE)
    except RunFailed as error:
        done = error.run
    status = f"{done.status.symbol} {done.status.label}"
    print(f"{done.label:<40} {status:<12} {done.duration:6.2f} s", flush=True)
    return done


def check(runs):
    """Stop here if a run failed; its notebook and report show where."""
    failed = [done.label for done in runs if not done.ok]
    if failed:
        raise RuntimeError(f"failed: {', '.join(failed)}; see the reports in {HERE / 'runs'}")


# %% [markdown]
# ## The table of scenarios
#
# An empty cell means: as in `BASE`. `convert_dtypes` keeps 120 m² from becoming 120.0 where other
# rows leave the column empty. Years are names here, not numbers.

# %%
BASE = {
    "period": "2012-2015",
    "use": "toilets and laundry",
    "roof": {"roof_m2": 120, "runoff_coefficient": 0.85, "first_flush_mm": 0.5},
    "tank": {"tank_m3": 5},
    "household": {"people": 3, "litres_per_person": 45},
    "garden": {"garden_m2": 0, "garden_mm_per_day": 2.5, "garden_months": [5, 6, 7, 8, 9]},
}


def filled_in(base, given):
    """`base` with the values that the table gives, wherever they stand in it."""
    return {
        key: filled_in(value, given) if isinstance(value, dict) else given.get(key, value)
        for key, value in base.items()
    }


scenarios = pd.read_csv(HERE / "inputs" / "scenarios.csv", dtype={"period": "string"})
scenarios = scenarios.convert_dtypes().set_index("scenario")
configs = {name: filled_in(BASE, row.dropna().to_dict()) for name, row in scenarios.iterrows()}

# %% [markdown]
# ## 1. Weather
#
# Nothing that follows makes sense without it, so a failure here ends the study.

# %%
weather = {}
for period in sorted({config["period"] for config in configs.values()}):
    first, _, last = period.partition("-")
    config = {
        "source": "../../../inputs/seattle-weather.csv",
        "first_year": int(first),
        "last_year": int(last or first),
        "wet_day_mm": 1.0,
    }
    weather[period] = run("prepare_weather", period, config)
check(weather.values())

# %% [markdown]
# ## 2. One run for each scenario
#
# One that fails does not keep the others from running.

# %%
runs = {name: run("simulate_tank", name, config) for name, config in configs.items()}

# %% [markdown]
# ## 3. Side by side

# %%
succeeded = [name for name, done in runs.items() if done.ok]
report = run("compare_tanks", "all", {"step": "simulate_tank", "scenarios": succeeded})

print(f"\nThe answer is in {report.html}")
print(f"and the days behind it in {report.dir.parents[1] / 'simulate_tank'}")
check([*runs.values(), report])
