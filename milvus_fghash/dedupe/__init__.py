"""Groups of duplicate photos in a collection."""
