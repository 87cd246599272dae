"""Measure methods and code lengths on a user's own photos, and say which fit."""
