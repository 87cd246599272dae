"""`python -m milvus_fghash` is the command `milvus-fghash`."""

from milvus_fghash.cli import main

main(prog_name="milvus-fghash")
