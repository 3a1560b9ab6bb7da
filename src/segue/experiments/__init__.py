"""Experiments: their files, who gets what, what is measured, and what came of it."""
