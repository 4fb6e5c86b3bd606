#!/bin/bash
# Makes a new database cluster in $PGDATA. $PGDATA/.initialising is there from the first change to the last, so
# that whatever cuts this short, the next start clears the directory and begins again.
set -euo pipefail

fail() {
  printf 'postgres: %s\n' "$*" >&2
  exit 1
}

# VARIABLE, or the content of the file that VARIABLE_FILE names, or a default.
setting() {
  local name=$1 file=$1_FILE default=${2:-}
  if [ -n "${!name:-}" ] && [ -n "${!file:-}" ]; then
    fail "both $name and $file are set; set one of them"
  elif [ -n "${!file:-}" ]; then
    printf -v "$name" '%s' "$(< "${!file}")"
  else
    printf -v "$name" '%s' "${!name:-$default}"
  fi
  export "${name?}"
  unset "$file"
}

if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA"
  chown postgres:postgres "$PGDATA"
  chmod 700 "$PGDATA"
  if [ -n "${POSTGRES_INITDB_WALDIR:-}" ]; then
    mkdir -p "$POSTGRES_INITDB_WALDIR"
    chown -R postgres:postgres "$POSTGRES_INITDB_WALDIR"
    chmod 700 "$POSTGRES_INITDB_WALDIR"
  fi
  # Secrets that only root may read are read before root is given up.
  setting POSTGRES_PASSWORD
  setting POSTGRES_USER postgres
  setting POSTGRES_DB "$POSTGRES_USER"
  setting POSTGRES_INITDB_ARGS
  exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

setting POSTGRES_PASSWORD
setting POSTGRES_USER postgres
setting POSTGRES_DB "$POSTGRES_USER"
setting POSTGRES_INITDB_ARGS
: "${POSTGRES_HOST_AUTH_METHOD:=}"

mkdir -p "$PGDATA"
if [ -d "$PGDATA/.initialising" ]; then
  echo 'postgres: an earlier initialisation was cut short; starting again' >&2
  find "$PGDATA" -mindepth 1 -maxdepth 1 ! -name .initialising -exec rm -rf {} +
  rm -rf "$PGDATA"/.initialising/*
elif [ -n "$(find "$PGDATA" -mindepth 1 -maxdepth 1 ! -name lost+found -print -quit)" ]; then
  fail "$PGDATA is not empty and is no database cluster; use an empty volume"
fi

if [ -z "$POSTGRES_PASSWORD" ] && [ "$POSTGRES_HOST_AUTH_METHOD" != trust ]; then
  fail 'a new database needs a superuser password: set POSTGRES_PASSWORD.
POSTGRES_HOST_AUTH_METHOD=trust instead would let anybody in without a password.'
fi
if [ "$POSTGRES_HOST_AUTH_METHOD" = trust ]; then
  echo 'postgres: warning: POSTGRES_HOST_AUTH_METHOD=trust lets anybody in without a password' >&2
fi

mkdir -p "$PGDATA/.initialising"
new=$PGDATA/.initialising/data
arguments=(--pgdata="$new" --username="$POSTGRES_USER" --no-instructions --no-sync)
if [ -n "${POSTGRES_INITDB_WALDIR:-}" ]; then
  rm -rf "${POSTGRES_INITDB_WALDIR:?}"/*
  arguments+=(--waldir="$POSTGRES_INITDB_WALDIR")
fi
if [ -n "$POSTGRES_PASSWORD" ]; then
  (umask 077 && printf '%s\n' "$POSTGRES_PASSWORD" > "$PGDATA/.initialising/password")
  arguments+=(--pwfile="$PGDATA/.initialising/password")
fi
eval "initdb \"\${arguments[@]}\" $POSTGRES_INITDB_ARGS"
rm -f "$PGDATA/.initialising/password"
method=${POSTGRES_HOST_AUTH_METHOD:-$(postgres -D "$new" -C password_encryption)}
printf '\nhost all all all %s\n' "$method" >> "$new/pg_hba.conf"
find "$new" -mindepth 1 -maxdepth 1 -exec mv -t "$PGDATA" {} +

# Only for the scripts: no network, so that nothing takes the database for ready.
export PGHOST='' PGHOSTADDR=''
pg_ctl --pgdata="$PGDATA" --wait --silent --options="$(printf '%q ' "${@:2}" -c listen_addresses= -p "${PGPORT:-5432}")" start
trap 'pg_ctl --pgdata="$PGDATA" --mode=immediate --silent stop' EXIT

docker_process_sql() {
  PGPASSWORD=${POSTGRES_PASSWORD:-} psql -v ON_ERROR_STOP=1 --no-password --no-psqlrc \
    --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" "$@"
}

if [ "$POSTGRES_DB" != postgres ]; then
  POSTGRES_DB=postgres docker_process_sql --quiet -v name="$POSTGRES_DB" <<< 'CREATE DATABASE :"name";'
fi

shopt -s nullglob
for file in /docker-entrypoint-initdb.d/*; do
  echo "postgres: $file" >&2
  case $file in
    *.sh)
      if [ -x "$file" ]; then "$file"; else . "$file"; fi ;;
    *.sql) docker_process_sql --file="$file" ;;
    *.sql.gz) gzip --decompress --stdout "$file" | docker_process_sql ;;
    *.sql.xz) xz --decompress --stdout "$file" | docker_process_sql ;;
    *.sql.zst) zstd --decompress --stdout "$file" | docker_process_sql ;;
    *) echo "postgres: $file: not a script, ignored" >&2 ;;
  esac
done

trap - EXIT
pg_ctl --pgdata="$PGDATA" --mode=fast --wait --silent stop
sync --file-system "$PGDATA"
rm -rf "$PGDATA/.initialising"
