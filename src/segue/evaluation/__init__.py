"""Offline evidence: metrics, intervals, temporal protocols and published benchmarks.

This room reads arrays and returns numbers; nothing on the request path imports it.
"""
