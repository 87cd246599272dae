"""A catalog under a new model: reindex, compare, promote and roll back."""
