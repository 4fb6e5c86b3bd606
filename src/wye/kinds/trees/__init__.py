"""Everything below an environment's root that no server holds: files, and the SQLite databases among them."""
