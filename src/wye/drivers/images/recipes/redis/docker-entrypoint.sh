#!/bin/sh
# Starts Redis as the official image does: redis-server's options may be given alone, root is given up, and
# protected mode is off unless asked for, since a container without a password is otherwise unreachable.
case $1 in
  -* | *.conf) set -- redis-server "$@" ;;
esac
if [ "$1" != redis-server ]; then
  exec "$@"
fi
shift
protected=--protected-mode
case " $* " in
  *" --protected-mode "*) protected= ;;
esac
if [ -f "$1" ]; then
  while read -r name _ || [ -n "$name" ]; do
    if [ "$name" = protected-mode ]; then protected=; fi
  done < "$1"
  configuration=$1
  shift
  set -- "$configuration" ${protected:+$protected no} "$@"
else
  set -- ${protected:+$protected no} "$@"
fi
umask 077
if [ -O /etc ]; then
  # "-O FILE": root owns it. A new volume does not belong to redis yet.
  if [ -O . ]; then chown -R redis:redis .; fi
  exec setpriv --reuid=redis --regid=redis --clear-groups redis-server "$@"
fi
exec redis-server "$@"
