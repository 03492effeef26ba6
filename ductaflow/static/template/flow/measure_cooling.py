# %% [markdown]
# # A cup of coffee cools
#
# The first of two example flows: it "measures" how a cup of coffee cools, with an instrument that is
# not quite exact, and writes `temperatures.csv` for the next flow. Put your own first step here.

# %% tags=["parameters"]
config = {
    "start_temperature": 85.0,  # °C
    "room_temperature": 20.0,  # °C
    "cooling_per_minute": 0.05,  # share of the difference that is lost each minute
    "instrument": {"every_minutes": 2, "minutes": 60, "error": 0.4},
    "seed": 1,
}

# %% [markdown]
# The next cell lets this file be run in three ways: by the conductor, cell by cell in Jupyter or
# VS Code, and as a script: `python flow/measure_cooling.py --output-dir runs/measure_cooling/by_hand`.

# %%
import csv
import math
import random
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent if "__file__" in globals() else Path.cwd()
ROOT = next(folder for folder in (HERE, *HERE.parents) if (folder / "code/ductacore.py").is_file())
sys.path.insert(0, str(ROOT / "code"))

from ductacore import is_notebook_execution, load_cli_config, record, unpack_config

if not is_notebook_execution():
    config = load_cli_config(config, "Measure how a cup of coffee cools")
globals().update(unpack_config(config))

# %% [markdown]
# ## Measure

# %%
random.seed(seed)
rows = []
for minute in range(0, minutes + 1, every_minutes):
    decay = math.exp(-cooling_per_minute * minute)
    truth = room_temperature + (start_temperature - room_temperature) * decay
    rows.append((minute, round(truth + random.gauss(0, error), 2)))

with open("temperatures.csv", "w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["minute", "temperature"])
    writer.writerows(rows)

# %% [markdown]
# ## What came of it

# %%
for minute, temperature in rows[:: max(1, len(rows) // 12)]:
    print(f"{minute:4d} min {temperature:6.1f} °C  {'█' * round(temperature / 2)}")

# %%
record(measurements=len(rows), last_temperature=rows[-1][1])
f"{len(rows)} temperatures, from {rows[0][1]} to {rows[-1][1]} °C"
