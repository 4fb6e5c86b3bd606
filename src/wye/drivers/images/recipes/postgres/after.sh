for program in /usr/lib/postgresql/*/bin/*; do
  ln -sf "$program" /usr/local/bin/
done
for sample in /usr/share/postgresql/*/postgresql.conf.sample; do
  sed -i "s/^#*listen_addresses = .*/listen_addresses = '*'/" "$sample"
done
install -m 755 /mnt/wye/recipe/docker-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
install -m 755 /mnt/wye/recipe/initialise.sh /usr/local/lib/initialise-postgres
install -d -m 755 /docker-entrypoint-initdb.d
install -d -m 3777 -o postgres -g postgres /var/run/postgresql
install -d -m 700 -o postgres -g postgres /var/lib/postgresql/data
rm -f /etc/ssl/private/ssl-cert-snakeoil.key /etc/ssl/certs/ssl-cert-snakeoil.pem
