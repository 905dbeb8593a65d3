"""Memorization tables: schemas, the Parquet store, and the DuckDB connection that joins them with an index."""
