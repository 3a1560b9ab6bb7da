"""The tables, one Ibis expression each, and the contract they must keep.

Expressions in, expressions out: no engine is named here, so that each runs on DuckDB, Spark and BigQuery alike.
"""
