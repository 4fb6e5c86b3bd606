"""SQLite: what a fork changed in a database file, its three-way merge, and its application in one transaction."""
