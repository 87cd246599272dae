"""Nearest photos of a photo, an id or a code, and their HTML report."""
