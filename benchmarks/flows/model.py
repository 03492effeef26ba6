# %% [markdown]
# # A small model: the imports are what it costs

# %% tags=["parameters"]
# ruff: noqa: D100, E402, F401
config = {"seed": 0, "samples": 300}

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import stats
from sklearn.linear_model import Ridge
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

# %%
generator = np.random.default_rng(config["seed"])
inputs = pd.DataFrame(generator.normal(size=(config["samples"], 4)), columns=list("abcd"))
target = inputs @ np.array([1.0, -2.0, 0.5, 0.0]) + generator.normal(0, 0.3, len(inputs))

# %%
seen, unseen, known, unknown = train_test_split(inputs, target, random_state=config["seed"])
model = make_pipeline(StandardScaler(), Ridge(alpha=1.0)).fit(seen, known)

# %%
residuals = unknown - model.predict(unseen)
print(f"R² {model.score(unseen, unknown):.3f}")

# %%
print(stats.shapiro(residuals))

# %%
print(pd.Series(model[-1].coef_, index=inputs.columns).round(3))
