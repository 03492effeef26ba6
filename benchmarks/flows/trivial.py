# %% [markdown]
# # Three trivial cells

# %% tags=["parameters"]
# ruff: noqa: D100
config = {"seed": 0}

# %%
seed = config["seed"]

# %%
double = 2 * seed

# %%
print(seed, double)
