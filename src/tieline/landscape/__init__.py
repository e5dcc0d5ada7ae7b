"""What a landscape declares, and what was observed of it."""
