# The ids of the official Debian-based image.
groupadd --system --gid 999 redis
useradd --system --uid 999 --gid 999 --home-dir /data --shell /usr/sbin/nologin redis
