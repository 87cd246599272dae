"""Readers of data sets in their official layouts, and of a plain folder."""
