"""What a model learned, as a page: where it looks, which photos it finds, what each bit encodes."""
