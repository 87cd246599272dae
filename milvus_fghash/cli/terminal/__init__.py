"""Everything the commands print, and the signals they handle."""
