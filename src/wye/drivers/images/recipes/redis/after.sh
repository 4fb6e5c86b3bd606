install -m 755 /mnt/wye/recipe/docker-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
install -d -m 755 -o redis -g redis /data
