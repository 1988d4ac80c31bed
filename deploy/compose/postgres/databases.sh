#!/bin/sh
# Runs once, when the volume is empty: a database for each user of this server, each with a role of
# its own that owns it and can open no other.
set -eu

make() {
  database=$1
  role=$2
  password=$(cat "${SECRETS:-/run/secrets}/$3")
  psql --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
    --set database="$database" --set role="$role" --set password="$password" <<'SQL'
CREATE ROLE :"role" LOGIN PASSWORD :'password';
CREATE DATABASE :"database" OWNER :"role";
REVOKE CONNECT ON DATABASE :"database" FROM PUBLIC;
SQL
}

make sentinel sentinel sentinel_password
make feast_registry feast feast_password
make mlflow mlflow mlflow_password
make airflow_db airflow airflow_password
