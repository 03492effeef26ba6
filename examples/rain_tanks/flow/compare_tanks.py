# %% [markdown]
# # How big a tank does the house need?
#
# The runs of the tank model side by side. Each was made from one row of `inputs/scenarios.csv`;
# its own report shows the days behind the numbers.

# %% tags=["parameters"]
config = {
    "step": "simulate_tank",
    "scenarios": ["laundry_1m3", "laundry_2.5m3", "laundry_5m3", "laundry_10m3"],
}

# %%
import json
import sys

import matplotlib.pyplot as plt
import pandas as pd
from ductaflow import get_all_instances

sys.path.append("../../../code")
from figure_style import GARDEN, INK, RAIN, use_style

use_style()

# %% [markdown]
# ## What the runs say
#
# Only runs that succeeded count, and only those asked for: a folder left from an earlier table
# does not slip in.

# %%
runs = {run.instance: run for run in get_all_instances(step)}
if not scenarios:
    raise ValueError("there is nothing to compare")
missing = [name for name in scenarios if name not in runs]
if missing:
    raise ValueError(f"{step} has no successful run of {', '.join(missing)}")

rows = []
for name in scenarios:
    run = runs[name]
    setup = run.config
    rows.append(
        {
            "scenario": name,
            "use": setup["use"],
            "period": setup["period"],
            "roof_m2": setup["roof"]["roof_m2"],
            "tank_m3": setup["tank"]["tank_m3"],
            **json.loads((run.dir / "summary.json").read_text()),
        }
    )
comparison = pd.DataFrame(rows)
comparison.to_csv("comparison.csv", index=False)

table = pd.DataFrame(
    {
        "scenario": comparison.scenario,
        "tank (m³)": comparison.tank_m3,
        "roof (m²)": comparison.roof_m2,
        "period": comparison.period,
        "demand (m³/year)": comparison.demand_m3_per_year.round(1),
        "reliability (%)": (100 * comparison.reliability).round(1),
        "overflow (%)": (100 * comparison.overflow_share).round(1),
        "longest gap (days)": comparison.longest_gap_days,
    }
).set_index("scenario")
table

# %% [markdown]
# ## Reliability against size
#
# Lines join the houses that differ in nothing but the tank. Hollow marks are variations of one of
# them: another roof, another period.

# %%
usual = ["roof_m2", "period"]
base = comparison[usual].mode().iloc[0]
is_base = (comparison[usual] == base).all(axis="columns")
colours = dict(zip(comparison.use.unique(), [RAIN, INK, GARDEN], strict=False))

fig, ax = plt.subplots(figsize=(8, 4.4), layout="constrained")
for use, group in comparison[is_base].sort_values("tank_m3").groupby("use", sort=False):
    ax.plot(group.tank_m3, 100 * group.reliability, "o-", color=colours[use], label=use)
for row in comparison[~is_base].itertuples():
    x, y, colour = row.tank_m3, 100 * row.reliability, colours[row.use]
    ax.plot(x, y, "o", markersize=8, markerfacecolor="white", markeredgecolor=colour)
    change = f"{row.roof_m2:g} m² of roof" if row.roof_m2 != base.roof_m2 else f"in {row.period}"
    ax.text(x + 0.2, y, change, va="center", color=colour, fontsize=9)
ax.set(xlabel="tank (m³)", ylabel="share of demand met (%)", ylim=(0, 100), xlim=(0, None))
ax.set_title(f"What a tank can do in Seattle, {base.roof_m2:g} m² of roof, {base.period}")
ax.legend(title="rainwater used for", alignment="left", loc="lower right")
plt.show()

# %% [markdown]
# ## What the next cubic metre is worth
#
# Each further cubic metre of a tank fills and empties less often than the one before. For every
# step up in size: the water saved in a year, in all and for each cubic metre of tank added.

# %%
base_runs = comparison[is_base].sort_values("tank_m3")
steps = []
for use, group in base_runs.groupby("use", sort=False):
    for small, large in zip(group.itertuples(), group.iloc[1:].itertuples(), strict=False):
        gain = large.supplied_m3_per_year - small.supplied_m3_per_year
        size = large.tank_m3 - small.tank_m3
        growth = f"{small.tank_m3:g} → {large.tank_m3:g}"
        steps.append((use, growth, round(gain, 1), round(gain / size, 1)))
heads = ["rainwater used for", "tank (m³)", "saved more (m³/year)", "per m³ of tank added"]
pd.DataFrame(steps, columns=heads).set_index(heads[:2])

# %% [markdown]
# ## The answer
#
# Four years are too few to speak of rare droughts, and a day is too coarse for cloudbursts that
# overrun a gutter. Within these limits:

# %%
for use, group in base_runs.groupby("use", sort=False):
    enough = group[group.reliability >= 0.8]
    if len(enough):
        best = enough.iloc[0]
        verdict = f"{best.tank_m3:g} m³ are the smallest tank tried that meets 80% of the demand"
    else:
        best = group.iloc[-1]
        verdict = f"even {best.tank_m3:g} m³ meet only {best.reliability:.0%} of the demand"
    print(f"{use}: {verdict}; longest gap {best.longest_gap_days} days.")
print()
for row in comparison[~is_base].itertuples():
    twin = base_runs[(base_runs.use == row.use) & (base_runs.tank_m3 == row.tank_m3)]
    for usually in twin.reliability:
        print(f"{row.scenario}: {row.reliability:.0%} of the demand met instead of {usually:.0%}.")
