"""Photos on disk, in archives, lists and stores, read into one `Dataset`."""
