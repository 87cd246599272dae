"""The adapter to Milvus: connections, collections, rows, filters and aliases."""
