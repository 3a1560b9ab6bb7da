"""Segue: the recommendations platform of a music streaming service."""

__version__ = "0.1.0"
