"""Experiments: who is in them, what is measured, and what may be concluded."""
