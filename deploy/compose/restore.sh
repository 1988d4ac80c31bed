#!/bin/sh
# Puts a backup back in place of what is there, fills Redis from it and verifies every service.
#
#   ./restore.sh FOLDER         asks first; --yes answers
#
# On a new machine: copy the backup's .env and secrets/ here, run ./setup.sh --prepare, then this.
set -eu
cd "$(dirname "$0")"
folder=""
yes=""
for argument in "$@"; do
  case $argument in
    --yes) yes=yes ;;
    *) folder=$argument ;;
  esac
done
if [ ! -f "$folder/SHA256SUMS" ]; then
  echo "restore.sh: name a folder that backup.sh wrote." >&2
  exit 1
fi
(cd "$folder" && sha256sum --quiet --check SHA256SUMS) || {
  echo "restore.sh: $folder is damaged; nothing was changed." >&2
  exit 1
}
if [ -z "$yes" ]; then
  printf 'Replace the data of this deployment with %s? [y/N] ' "$folder"
  read -r answer
  case $answer in
    y | yes) ;;
    *)
      echo "Nothing was changed."
      exit 1
      ;;
  esac
fi

docker compose stop proxy api follower monitor dashboard mlflow \
  airflow-scheduler airflow-dag-processor airflow-api
docker compose up --detach --wait postgres redis s3

psql() { docker compose exec -T postgres psql --quiet --username postgres --set ON_ERROR_STOP=1 "$@"; }
put_back() { # DATABASE ROLE
  docker compose exec -T postgres dropdb --username postgres --if-exists --force "$1"
  docker compose exec -T postgres createdb --username postgres --owner "$2" "$1"
  psql --dbname postgres --command "REVOKE CONNECT ON DATABASE \"$1\" FROM PUBLIC"
  docker compose exec -T postgres pg_restore --username postgres --exit-on-error \
    --no-owner --role "$2" --dbname "$1" <"$folder/$1.dump"
  echo "Restored database $1."
}
roles() { docker compose exec -T postgres sh <postgres/roles.sh; }
roles # what is saved grants them rights
put_back sentinel sentinel
roles # and they may open the new database
put_back mlflow mlflow
put_back feast_registry feast
put_back airflow_db airflow

docker compose run --rm --no-deps -T --entrypoint python pipeline \
  -m sentinel.object_store.mirror restore <"$folder/stores.tar"

# State and online store of another moment would contradict the ledger. Scorers rebuild the state.
docker compose exec -T redis sh -c \
  'REDISCLI_AUTH="$(cat /run/secrets/redis_password)" redis-cli --user admin flushall' >/dev/null
docker compose run --rm --no-deps -T pipeline ledger migrate
docker compose run --rm --no-deps -T pipeline features materialize --full

docker compose run --rm --no-deps -T keys
if [ -f "$folder/users.json" ]; then # older backups have none
  docker compose run --rm --no-deps -T dashboard users import <"$folder/users.json"
fi
printf 'Dashboard: '
./first_user.sh
docker compose up --detach
tries=36
until ./verify_setup.sh; do
  tries=$((tries - 1))
  [ "$tries" -gt 0 ] || { echo "restore.sh: not all is well; see above." >&2; exit 1; }
  sleep 5
done
echo "Restored $folder."
