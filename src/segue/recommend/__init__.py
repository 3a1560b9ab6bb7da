"""The request pipeline: hydrate -> sources -> merge -> filters -> features -> scorers -> selector -> side effects."""
