"""Engines: where tables live and expressions run."""
