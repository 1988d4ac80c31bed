#!/bin/sh
# The role that scorers use: it owns nothing. `sentinel ledger migrate` grants it reading and inserting.
# Runs when the volume is empty, and again whenever setup.sh or restore.sh does.
set -eu
role=sentinel_scorer
password=$(cat "${SECRETS:-/run/secrets}/scorer_password")
psql --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres \
  --set role="$role" --set password="$password" <<'SQL'
SELECT format('CREATE ROLE %I LOGIN', :'role')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec
ALTER ROLE :"role" NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'password';
SELECT format('GRANT CONNECT ON DATABASE sentinel TO %I', :'role')
WHERE EXISTS (SELECT FROM pg_database WHERE datname = 'sentinel') \gexec
SQL
