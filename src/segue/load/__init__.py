"""Open-loop load on a Segue server: listening sessions arrive when they will, however slow the answers are.

This room is a caller like any other: it knows the HTTP interface and nothing of what is behind it. `run.run` drives a server as
a `plan.Plan` says and returns a `report.Report`; it needs the extra `load`.
"""
