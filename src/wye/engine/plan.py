"""From what is wanted and what is there to what must be done. Pure."""
