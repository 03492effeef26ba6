# %% [markdown]
# # How fast does it cool?
#
# The second example flow: it reads what an instance of `measure_cooling` has left, and fits Newton's
# law of cooling, $T(t) = T_r + (T_0 - T_r)\,e^{-kt}$, by a straight line through the logarithms.

# %% tags=["parameters"]
config = {
    "measured": "porcelain",  # an instance of measure_cooling
    "room_temperature": 20.0,  # °C
    "ignore_below": 2.0,  # °C above the room: there, errors swamp what is left to measure
}

# %%
import csv
import json
import math
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent if "__file__" in globals() else Path.cwd()
ROOT = next(folder for folder in (HERE, *HERE.parents) if (folder / "code/ductacore.py").is_file())
sys.path.insert(0, str(ROOT / "code"))

from ductacore import is_notebook_execution, load_cli_config, record, unpack_config

if not is_notebook_execution():
    config = load_cli_config(config, "Fit how a cup of coffee cools")
globals().update(unpack_config(config))

# %% [markdown]
# ## What was measured

# %%
source = ROOT / "runs" / "measure_cooling" / measured / "temperatures.csv"
with source.open(encoding="utf-8", newline="") as file:
    rows = [(float(row["minute"]), float(row["temperature"])) for row in csv.DictReader(file)]
usable = [(t, math.log(T - room_temperature)) for t, T in rows if T - room_temperature > ignore_below]
print(f"{len(rows)} temperatures, {len(usable)} of them usable")

# %% [markdown]
# ## The fit

# %%
n = len(usable)
mean_t = sum(t for t, _ in usable) / n
mean_y = sum(y for _, y in usable) / n
spread = sum((t - mean_t) ** 2 for t, _ in usable)
slope = sum((t - mean_t) * (y - mean_y) for t, y in usable) / spread
fit = {
    "cooling_per_minute": round(-slope, 5),
    "start_temperature": round(room_temperature + math.exp(mean_y - slope * mean_t), 2),
    "half_life_minutes": round(math.log(2) / -slope, 2),
}
with open("fit.json", "w", encoding="utf-8") as file:
    json.dump(fit, file, indent=2)

# %%
record(**fit)
fit
