"""The estimators, on arrays and sums: no tables, no files. `docs/concepts/experiments.md` has the formulae and their sources."""
