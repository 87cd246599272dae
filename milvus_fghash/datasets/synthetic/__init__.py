"""Generated bird drawings."""
