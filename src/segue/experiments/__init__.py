"""Experiments: what a change did, and what it would do. Reads the warehouse and the decision log; no request reads it."""
