"""Files kept beside a collection: the ingest journal, run records and migration records."""
