#!/bin/sh
# Makes a first user of the dashboard where there is none, with a random password that is shown once.
set -eu
cd "$(dirname "$0")"
users() { docker compose run --rm --no-deps -T dashboard users "$@"; }
case $(users list --json) in
  *'"name"'*)
    echo "users of your own (docker compose run --rm dashboard users list)"
    exit 0
    ;;
esac
password=$(LC_ALL=C tr -dc 'A-Za-z0-9' </dev/urandom | head -c 20 || true)
printf '%s\n' "$password" | users create admin --stdin >/dev/null
echo "admin, $password (shown this once)"
