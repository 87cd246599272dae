"""What a model learned, as pictures: where it looks, what it finds, what each bit stands for."""
