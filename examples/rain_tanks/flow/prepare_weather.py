# %% [markdown]
# # How much rain falls?
#
# A tank can only give what the sky gave before. This step takes the daily weather of Seattle,
# checks that no day is missing and no number impossible, and writes the rain of one period as
# `weather.csv` for the steps that follow.
#
# **Source:** daily observations of the US National Oceanic and Atmospheric Administration (NOAA)
# for Seattle, 2012 to 2015, as prepared by the Vega project. Work of the US government, in the
# public domain. Snow counts with the water it melts to.

# %% tags=["parameters"]
config = {
    "source": "../../../inputs/seattle-weather.csv",
    "first_year": 2012,
    "last_year": 2015,
    "wet_day_mm": 1.0,  # a day with less rain than this counts as dry
}

# %%
import sys

import matplotlib.pyplot as plt
import pandas as pd

sys.path.append("../../../code")
from figure_style import INK, MONTHS, PALE, use_style
from water_balance import longest_run

use_style()

# %% [markdown]
# ## Is the record fit for use?
#
# Missing days would look like a drought, and NOAA marks a failed instrument by a large negative
# number. Both are looked for in the whole record, not only in this period, and either stops the
# run.

# %%
record = pd.read_csv(source, parse_dates=["date"])[["date", "precipitation"]]
record = record.rename(columns={"precipitation": "rain_mm"})

calendar = pd.date_range(f"{record.date.min():%Y}-01-01", f"{record.date.max():%Y}-12-31")
problems = {
    "days missing": len(calendar.difference(record.date)),
    "days given twice": int(record.date.duplicated().sum()),
    "days without a number": int(record.rain_mm.isna().sum()),
    "days of negative rain": int((record.rain_mm < 0).sum()),
    "days of more than 300 mm": int((record.rain_mm > 300).sum()),
}
print(f"{len(record):,} days, {record.date.min():%d %B %Y} to {record.date.max():%d %B %Y}")
for problem, days in problems.items():
    print(f"{days:5} {problem}")
if any(problems.values()):
    raise ValueError(f"the record in {source} is not fit for use: {problems}")

# %% [markdown]
# ## The period

# %%
weather = record[record.date.dt.year.between(first_year, last_year)].reset_index(drop=True)
if weather.empty:
    raise ValueError(f"the record has no day from {first_year} to {last_year}")
weather.to_csv("weather.csv", index=False)

years = weather.groupby(weather.date.dt.year.rename("year")).rain_mm.agg(
    **{
        "rain (mm)": "sum",
        "wet days": lambda rain: (rain >= wet_day_mm).sum(),
        "wettest day (mm)": "max",
        "longest dry spell (days)": lambda rain: longest_run(rain < wet_day_mm),
    }
)
years.round(1)

# %% [markdown]
# ## When it falls
#
# What matters for a tank is less the yearly sum than its timing. Seattle's rain comes in the dark
# half of the year; a garden asks for water in the other.

# %%
period = str(first_year) if first_year == last_year else f"{first_year} to {last_year}"


def monthly(table):
    """Sums of rain, a row for each year and a column for each month."""
    by = [table.date.dt.year.rename("year"), table.date.dt.month.rename("month")]
    return table.groupby(by).rain_mm.sum().unstack()


fig, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
mean = monthly(weather).mean()
ax.bar(MONTHS, mean, color=PALE, label=f"mean of {period}" if len(years) > 1 else period)
for number, sums in enumerate(monthly(record).to_numpy()):
    label = "each year of the record" if number == 0 else None
    ax.plot(MONTHS, sums, "_", color=INK, markersize=13, markeredgewidth=1.4, label=label)
ax.set(ylabel="rain in the month (mm)", ylim=(0, None))
ax.set_title(f"Rain by month, Seattle, {period}")
ax.tick_params(axis="x", length=0)
ax.legend()
plt.show()

# %%
summer = weather[weather.date.dt.month.isin([6, 7, 8])].rain_mm.sum() / weather.rain_mm.sum()
print(
    f"{period}: {weather.rain_mm.sum() / len(years):,.0f} mm of rain a year, "
    f"{summer:.0%} of it from June to August."
)
