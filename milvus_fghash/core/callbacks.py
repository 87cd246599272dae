"""Callbacks of long runs: what they call with a message, and what they call with their progress."""

from __future__ import annotations

from collections.abc import Callable

Notify = Callable[[str], object]
"""Called with a message for the user."""
Progress = Callable[[int, int], object]
"""Called with the number of items done and the total."""
StageProgress = Callable[[int, int, str], object]
"""Called with the number of items done, the total, and what the items are."""
