#!/bin/sh
# The roles that scorers and the monitor use: they own nothing. `sentinel ledger migrate` grants the
# one reading and inserting, the other reading and the record of drift.
# Runs when the volume is empty, and again whenever setup.sh or restore.sh does.
set -eu
for name in scorer monitor; do
  role=sentinel_$name
  password=$(cat "${SECRETS:-/run/secrets}/${name}_password")
  psql --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres \
    --set role="$role" --set password="$password" <<'SQL'
SELECT format('CREATE ROLE %I LOGIN', :'role')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec
ALTER ROLE :"role" NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'password';
SELECT format('GRANT CONNECT ON DATABASE sentinel TO %I', :'role')
WHERE EXISTS (SELECT FROM pg_database WHERE datname = 'sentinel') \gexec
SQL
done
