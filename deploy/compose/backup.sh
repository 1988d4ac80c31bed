#!/bin/sh
# Saves everything that cannot be made again into a folder: the four databases, the buckets, the
# workspace, the dashboard's users, .env and the secrets. The services go on meanwhile.
#
#   ./backup.sh            into backups/TIME
#   ./backup.sh FOLDER
#
# The ledger is saved last: what was derived from it (vectors, exports, models) may be older than it,
# never newer. Redis is not saved: restore.sh fills it from the ledger.
set -eu
cd "$(dirname "$0")"
umask 077
folder=${1:-backups/$(date -u +%Y-%m-%dT%H%M%SZ)}
[ ! -e "$folder" ] || { echo "backup.sh: $folder exists already." >&2; exit 1; }
partial=$folder.partial
rm -rf "$partial"
mkdir -p "$partial"

dump() {
  docker compose exec -T postgres pg_dump --username postgres --format custom "$1" >"$partial/$1.dump"
  echo "Saved database $1."
}

dump mlflow
dump feast_registry
dump airflow_db
docker compose run --rm --no-deps -T --entrypoint python pipeline \
  -m sentinel.object_store.mirror save >"$partial/stores.tar"
dump sentinel
docker compose run --rm --no-deps -T dashboard users export >"$partial/users.json"
echo "Saved the users of the dashboard."
cp -R .env secrets "$partial/"
(cd "$partial" && sha256sum -- *.dump stores.tar users.json >SHA256SUMS)
mv "$partial" "$folder"
echo "Saved to $folder. It holds passwords: keep it encrypted, and on another machine."
