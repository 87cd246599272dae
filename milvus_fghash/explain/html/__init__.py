"""The HTML pages of an explanation."""
