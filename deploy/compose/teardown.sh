#!/bin/sh
# Stops the production profile. Volumes, .env and secrets stay, so that ./setup.sh goes on from here.
#
#   ./teardown.sh             stop and remove the containers
#   ./teardown.sh --volumes   and delete all data, after a question; --yes answers it
set -eu
cd "$(dirname "$0")"
volumes=""
yes=""
for argument in "$@"; do
  case $argument in
    --volumes) volumes=yes ;;
    --yes) yes=yes ;;
    *)
      echo "teardown.sh: unknown argument '$argument'. See the first lines of this file." >&2
      exit 1
      ;;
  esac
done
if [ -z "$volumes" ]; then
  docker compose --profile jobs down --remove-orphans
  echo "Stopped. The data is kept; ./setup.sh starts it again."
  exit 0
fi
if [ -z "$yes" ]; then
  printf 'Delete ledger, models, state, users and all other data of this deployment? [y/N] '
  read -r answer
  case $answer in
    y | yes) ;;
    *)
      echo "Nothing was changed."
      exit 1
      ;;
  esac
fi
docker compose --profile jobs down --remove-orphans --volumes
echo "Stopped, and all data deleted, with users of the dashboard and keys that were made by hand."
echo ".env and secrets/ are kept: ./setup.sh goes on with the same passwords and keys."
