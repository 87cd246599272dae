"""Import jobs of a Milvus server, by REST and by gRPC."""
