"""Lists of photos as CSV or Parquet, and their columns."""
