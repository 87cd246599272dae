"""Checkpoint -> ONNX bundle. The only folder that imports both torch and onnx."""

if __name__ == "exporters":
    raise ImportError("this folder installs as milvus_fghash.exporters; import it by that name")
