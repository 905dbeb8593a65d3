"""Memorization tables: schemas, the Parquet store, and the DuckDB connection over them."""
