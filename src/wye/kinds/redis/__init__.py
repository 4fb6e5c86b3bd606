"""Redis and Valkey: what a fork changed in its keys, its three-way merge, and its application in one script."""
