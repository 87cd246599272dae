"""Many trainings side by side: methods, heads, code lengths and seeds, in one resumable grid and one table."""
