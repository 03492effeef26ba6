# %% [markdown]
# # Nine cells: pandas and one plot

# %% tags=["parameters"]
# ruff: noqa: D100, E402
config = {"seed": 0, "days": 365}

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

# %%
generator = np.random.default_rng(config["seed"])
days = pd.date_range("2024-01-01", periods=config["days"], freq="D")

# %%
weather = pd.DataFrame(
    {
        "rain": generator.gamma(0.4, 5.0, len(days)),
        "warmth": 12 + 8 * np.sin(np.arange(len(days)) / 58) + generator.normal(0, 2, len(days)),
    },
    index=days,
)

# %%
print(weather.head())

# %%
months = weather.groupby(weather.index.month).agg({"rain": "sum", "warmth": "mean"})

# %%
print(months.round(1))

# %%
wettest = months["rain"].idxmax()
print(f"wettest month: {wettest}")

# %%
figure, axes = plt.subplots()
axes.plot(months.index, months["rain"])
axes.set(xlabel="month", ylabel="rain (mm)")
plt.show()

# %%
weather.to_csv("weather.csv")
