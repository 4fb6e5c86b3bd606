"""Files: what a fork changed in volumes and layers, its three-way merge, and its application to a live tree."""
