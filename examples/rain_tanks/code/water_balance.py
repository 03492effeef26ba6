"""The daily water balance of a rainwater tank. Volumes in m³, rain in mm, areas in m²."""

import pandas as pd


def roof_runoff(rain_mm, roof_m2, runoff_coefficient, first_flush_mm):
    """Water that reaches the tank each day, once the first flush has gone to the drain."""
    return runoff_coefficient * roof_m2 * (rain_mm - first_flush_mm).clip(lower=0) / 1000


def garden_demand(dates, rain_mm, garden_m2, garden_mm_per_day, garden_months):
    """Water for the garden each day: what its plants need in the season, less the rain."""
    in_season = dates.dt.month.isin(garden_months)
    return garden_m2 * (garden_mm_per_day - rain_mm).clip(lower=0).where(in_season, 0.0) / 1000


def tank_balance(inflow, demand, tank_m3):
    """Step a tank through the days by the rule «yield after spillage»; it starts empty.

    Args:
        inflow: Water that comes in each day, a Series.
        demand: Water asked of it each day, a Series.
        tank_m3: Its capacity.

    Returns:
        A table with the columns supplied, overflow and stored (at the end of the day).
    """
    stored = 0.0
    days = []
    for coming_in, asked in zip(inflow, demand, strict=True):
        supplied = min(asked, stored)
        overflow = max(stored + coming_in - tank_m3, 0.0)
        stored += coming_in - overflow - supplied
        days.append((supplied, overflow, stored))
    return pd.DataFrame(days, columns=["supplied", "overflow", "stored"], index=inflow.index)


def longest_run(flags):
    """Length of the longest unbroken run of True, in days."""
    flags = flags.astype(bool)
    return int(flags.groupby((~flags).cumsum()).sum().max()) if len(flags) else 0
