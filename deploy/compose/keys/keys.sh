#!/bin/sh
# Makes the keys that setup.sh wrote known to the scorers; run again, it changes nothing that is so.
# A file with another secret of the same id renews the key; a key that was revoked stays revoked.
# With arguments it is `sentinel keys`: docker compose run --rm keys create shop-a --scope score
set -eu
[ $# -eq 0 ] || exec sentinel keys "$@"

failed=""
known() { # SERVICE SCOPES [ORIGIN of labels]
  file=${SECRETS:-/run/secrets}/$1_key
  id=$(cut -d. -f1 "$file")
  if said=$(sentinel keys create "$id" --name "$1" --scope "$2" ${3:+--origin "$3"} \
    --key-file "$file" 2>&1); then
    echo "The key $id of $1 may be used for $2."
    return
  fi
  case $said in
    *"is revoked"*)
      echo "The key $id of $1 is revoked and stays so; secrets/$1_key with a new id makes another."
      ;;
    *"already"*)
      sentinel keys rotate "$id" --key-file "$file" || failed=yes
      ;;
    *)
      printf '%s\n' "$said" >&2
      failed=yes
      ;;
  esac
}

known airflow features,models
known dashboard decisions,models,metrics,label analyst
known pipeline features,models
known prometheus metrics
known sender score,label
[ -z "$failed" ]
