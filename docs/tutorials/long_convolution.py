# %% [markdown]
# # Title
