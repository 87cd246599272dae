"""Shards: Parquet files of rows, built from photos."""
