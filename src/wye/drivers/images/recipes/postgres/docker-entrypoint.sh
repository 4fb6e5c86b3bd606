#!/bin/sh
# Starts PostgreSQL. On a data directory that is initialised this is two tests and one exec: forks start often.
# /var/run may be a fresh tmpfs. "-O FILE" is a test for our user id that starts no program.
case $1 in
  -*) set -- postgres "$@" ;;
esac
if [ "$1" != postgres ]; then
  exec "$@"
fi
case " $* " in
  *" --help "* | *" -? "* | *" --version "* | *" -V "* | *" --describe-config "*) exec "$@" ;;
esac
if [ ! -d /var/run/postgresql ]; then
  mkdir -p /var/run/postgresql && chmod 3777 /var/run/postgresql
  if [ -O /etc ]; then chown postgres:postgres /var/run/postgresql; fi
fi
if [ ! -s "$PGDATA/PG_VERSION" ] || [ -d "$PGDATA/.initialising" ]; then
  /usr/local/lib/initialise-postgres "$@" || exit
fi
if [ -O /etc ]; then
  exec setpriv --reuid=postgres --regid=postgres --init-groups "$@"
fi
exec "$@"
