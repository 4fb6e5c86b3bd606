"""btrfs: the pool in which environments, their snapshots and the images lie. Entry point: `pool.Pool`."""
