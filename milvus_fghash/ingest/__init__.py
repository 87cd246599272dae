"""Photos into a collection, resumable and incremental; verification and deletion."""
