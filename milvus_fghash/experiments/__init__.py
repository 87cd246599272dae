"""Trainings of many methods, heads, code lengths and seeds as one resumable grid, with tables and plots."""
