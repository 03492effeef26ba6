# %% [markdown]
# # One house, one tank
#
# A house collects the rain from its roof in a tank and uses it where drinking water would be
# wasted. On every day of the record we ask: what came in, what was asked for, what could the tank
# give? What it could not give is bought from the mains.

# %% tags=["parameters"]
config = {
    "period": "2012-2015",  # an instance of prepare_weather
    "use": "toilets and laundry",
    "roof": {
        "roof_m2": 120,  # seen from above
        "runoff_coefficient": 0.85,  # what neither splashes, clings nor evaporates
        "first_flush_mm": 0.5,  # dirty first rain of a wet day, led to the drain
    },
    "tank": {"tank_m3": 5},
    "household": {"people": 3, "litres_per_person": 45},  # a day
    "garden": {
        "garden_m2": 0,
        "garden_mm_per_day": 2.5,  # what plants need, from sky or tank
        "garden_months": [5, 6, 7, 8, 9],
    },
}

# %%
import json
import sys

import matplotlib.dates as mdates
import matplotlib.pyplot as plt
import pandas as pd
from ductaflow import record

sys.path.append("../../../code")
from figure_style import MONTHS, PALE, RAIN, SHORT, legend_above, shade_days, use_style
from water_balance import garden_demand, longest_run, roof_runoff, tank_balance

use_style()
weather = pd.read_csv(f"../../prepare_weather/{period}/weather.csv", parse_dates=["date"])

# %% [markdown]
# ## The water balance
#
# Of the rain $P_t$ of day $t$ (mm), the roof of area $A$ delivers to the tank (m³)
#
# $$Q_t = \frac{c\,A}{1000}\,\max(P_t - f,\ 0),$$
#
# where $c$ is the runoff coefficient and $f$ the first flush. The house asks for $D_t$, the same
# every day, and in season the garden for what the rain left wanting. A tank of capacity $C$ that
# held $S_{t-1}$ last evening supplies $Y_t$, spills $O_t$ and keeps $S_t$:
#
# $$Y_t = \min(D_t,\ S_{t-1}), \qquad O_t = \max(S_{t-1} + Q_t - C,\ 0), \qquad
# S_t = S_{t-1} + Q_t - O_t - Y_t.$$
#
# Today's rain can be used from tomorrow on and spills before anything is drawn. This rule, *yield
# after spillage*, errs on the cautious side, as does the start with an empty tank. It also means
# that even a full tank ends the day short of what was drawn.

# %%
balance = weather.assign(
    inflow=roof_runoff(weather.rain_mm, roof_m2, runoff_coefficient, first_flush_mm),
    demand=people * litres_per_person / 1000
    + garden_demand(weather.date, weather.rain_mm, garden_m2, garden_mm_per_day, garden_months),
)
balance = balance.join(tank_balance(balance.inflow, balance.demand, tank_m3))
balance["mains"] = balance.demand - balance.supplied
balance.to_csv("balance.csv", index=False, float_format="%.6f")

left = balance.inflow.sum() - balance.supplied.sum() - balance.overflow.sum()
assert abs(left - balance.stored.iloc[-1]) < 1e-6, "water appeared or went missing"

# %% [markdown]
# ## What the tank achieves
#
# *Reliability* is the share of all water asked for that the tank supplied,
# $R = \sum_t Y_t \big/ \sum_t D_t$. The *longest gap* is the longest run of days on each of which
# some water had to be bought.

# %%
columns = ["inflow", "overflow", "demand", "supplied", "mains"]
short = balance.mains > 1e-9
n_years = len(balance) / 365.25
summary = {
    "demand_m3_per_year": balance.demand.sum() / n_years,
    "supplied_m3_per_year": balance.supplied.sum() / n_years,
    "mains_m3_per_year": balance.mains.sum() / n_years,
    "reliability": balance.supplied.sum() / balance.demand.sum(),
    "overflow_share": balance.overflow.sum() / balance.inflow.sum(),
    "days_short_share": short.mean(),
}
summary = {key: round(float(value), 6) for key, value in summary.items()}
summary["longest_gap_days"] = longest_run(short)
with open("summary.json", "w") as file:
    json.dump(summary, file, indent=2)
record(**summary)

print(
    f"A {tank_m3:g} m³ tank covers {summary['reliability']:.0%} of the demand for {use}; "
    f"{summary['overflow_share']:.0%} of the roof's water overflows, "
    f"the longest gap is {summary['longest_gap_days']} days."
)

# %%
years = balance.groupby(balance.date.dt.year.rename("year"))
by_year = years[columns].sum().add_suffix(" (m³)").round(1)
by_year["reliability (%)"] = (100 * years.supplied.sum() / years.demand.sum()).round(1)
by_year["days short"] = short.groupby(balance.date.dt.year).sum()
by_year

# %%
fig, ax = plt.subplots(figsize=(8, 3.2), layout="constrained")
ax.fill_between(balance.date, balance.stored, color=PALE, linewidth=0)
ax.plot(balance.date, balance.stored, color=RAIN, linewidth=0.8, label="at the end of the day")
shade_days(ax, balance.date, short, "days on which the mains had to help")
ax.axhline(tank_m3, color=RAIN, linewidth=0.8, linestyle="--")
ax.text(1.01, tank_m3, "full", transform=ax.get_yaxis_transform(), va="center", color=RAIN)
ax.set(ylabel="water in the tank (m³)", ylim=(0, 1.05 * tank_m3))
ax.set_xlim(balance.date.min(), balance.date.max())
ax.xaxis.set_major_formatter(mdates.ConciseDateFormatter(ax.xaxis.get_major_locator()))
ax.set_title(f"A {tank_m3:g} m³ tank for {use}, {period}", pad=24)
legend_above(ax)
plt.show()

# %% [markdown]
# ## Where the water comes from, month by month
#
# Mains water in January is the mark of the empty start.

# %%
by_month = balance.groupby(balance.date.dt.month)[["supplied", "mains"]].sum() / len(by_year)

fig, ax = plt.subplots(figsize=(8, 3.2), layout="constrained")
ax.bar(MONTHS, by_month.supplied, color=RAIN, label="from the tank")
ax.bar(MONTHS, by_month.mains, bottom=by_month.supplied, color=SHORT, label="from the mains")
ax.set(ylabel="mean use in the month (m³)")
ax.set_title(f"Water for {use}, {period}", pad=24)
ax.tick_params(axis="x", length=0)
legend_above(ax)
plt.show()
