"""Photos -> shards of ready rows as Parquet files -> Milvus' bulk import."""
