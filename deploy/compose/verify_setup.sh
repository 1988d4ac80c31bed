#!/bin/sh
# Checks every service from inside: `sentinel doctor` with the settings of the jobs. Exits with 1 if
# one is not well. Arguments are handed on: ./verify_setup.sh --json
set -eu
cd "$(dirname "$0")"
exec docker compose run --rm --no-deps -T pipeline doctor "$@"
