"""Expressions as SQL that a person can read: each step a named subquery, from the tables down to the result.

BigQuery runs this very text. No engine, client or connection is needed to write it.
"""

from __future__ import annotations

import ibis.backends.sql.compilers as compilers
import ibis.expr.types as ir
import sqlglot.expressions as sge
from sqlglot.optimizer.eliminate_subqueries import eliminate_subqueries
from sqlglot.optimizer.simplify import simplify_parens

DIALECTS = {"duckdb": "duckdb", "spark": "spark", "bigquery": "bigquery"}


def select(engine: str, rows: ir.Table) -> str:
    """The expression as one SELECT in the engine's SQL."""
    dialect = DIALECTS[engine]
    compiled = _compiler(engine).to_sqlglot(rows)
    clear = compiled.transform(lambda node: _clear(node, dialect))
    return str(eliminate_subqueries(clear).sql(dialect, pretty=True))


def _compiler(engine: str) -> compilers.SQLGlotCompiler:
    if engine == "spark":
        # Why: Ibis compiles for Spark only once Spark's options are there.
        from ibis.backends.pyspark import Backend

        Backend.register_options()
        return compilers.pyspark.compiler
    return compilers.bigquery.compiler if engine == "bigquery" else compilers.duckdb.compiler


def _clear(node: sge.Expr, dialect: str) -> sge.Expr:
    if isinstance(node, sge.DateFromParts):
        year, month, day = (int(node.args[part].name) for part in ("year", "month", "day"))
        return sge.cast(sge.Literal.string(f"{year:04}-{month:02}-{day:02}"), "date")
    if isinstance(node, sge.Identifier) and node.name.startswith("ibis_bq_arr_contains_"):
        node.set(
            "this", "element"
        )  # Why: Ibis makes up another name each time. Each is known in its own subquery only.
    if isinstance(node, sge.Star) and node.args.get("except_"):
        # Why: Ibis lists them in the order of a set, which no two processes share.
        node.set("except_", sorted(node.args["except_"], key=lambda column: column.name))
    if dialect == "bigquery" and isinstance(node, sge.Anonymous) and node.name == "bit_length":
        return sge.Mul(
            this=sge.Literal.number(8),
            expression=sge.Anonymous(this="BYTE_LENGTH", expressions=node.expressions),
        )
    if isinstance(node, sge.Paren):
        return simplify_parens(node, dialect)
    return node
