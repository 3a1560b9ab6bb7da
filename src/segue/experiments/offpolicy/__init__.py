"""Off-policy evaluation: what another policy would have earned, from the log of the one that ran.

`logged` checks the columns, `estimators` are the formulas (one choice a row), `slates` those of pages, `tuning` sees to
their parameter, `interval` says how far the answer can be trusted, `overlap` whether there can be one, `reward` is the model
of the direct method and the doubly robust ones. `openbandit` and `challenger` bring a log to these columns.
"""
