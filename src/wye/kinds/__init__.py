"""One kind of state each: prepare a fork, read changes, apply changes."""
