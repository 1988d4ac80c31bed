#!/bin/sh
# Brings the production profile up on this machine: checks what it needs, writes .env and random
# secrets, builds the images, starts everything, runs the pipeline once and verifies every service.
#
#   ./setup.sh                     with simulated history
#   ./setup.sh --data FOLDER       with your own: FOLDER/mapping.toml and the files it names
#   ./setup.sh --prepare           only .env, secrets and generated files; starts nothing
#
# Run it again at any time: what is there stays, secrets above all.
set -eu
cd "$(dirname "$0")"
umask 077

say() { printf '\n== %s\n' "$*"; }
die() {
  printf 'setup.sh: %s\n' "$*" >&2
  exit 1
}

data=""
prepare_only=""
while [ $# -gt 0 ]; do
  case $1 in
    --data)
      [ $# -ge 2 ] || die "--data needs a folder with a mapping.toml."
      data=$2
      shift
      ;;
    --prepare) prepare_only=yes ;;
    *) die "unknown argument '$1'. See the first lines of this file." ;;
  esac
  shift
done
if [ -n "$data" ]; then
  [ -f "$data/mapping.toml" ] || die "there is no $data/mapping.toml. See docs/sources.md."
  data=$(cd "$data" && pwd)
fi

# ------------------------------------------------------------------------------- what is needed
[ -r /dev/urandom ] || die "there is no /dev/urandom to draw secrets from."
if [ -z "$prepare_only" ]; then
  command -v docker >/dev/null ||
    die "docker is not installed. See https://docs.docker.com/engine/install/"
  docker info >/dev/null 2>&1 ||
    die "docker does not answer. Start it (systemctl start docker), or join the group docker."
  version=$(docker compose version --short 2>/dev/null) ||
    die "the Compose plugin is missing: install docker-compose-plugin."
  case ${version#v} in
    [01].* | 2.[0-9].* | 2.1[0-9].* | 2.2[0-2].*)
      die "Docker Compose $version is too old; 2.23 or newer is needed."
      ;;
  esac
  memory_kib=$(awk '/^MemTotal/ { print $2 }' /proc/meminfo 2>/dev/null || echo 99999999)
  [ "$memory_kib" -ge 7500000 ] || die "8 GB of memory are needed; this machine has less."
  free_kib=$(df -Pk . | awk 'NR == 2 { print $4 }')
  [ "$free_kib" -ge 15000000 ] || die "15 GB of free disk are needed for images and data."
fi

# --------------------------------------------------------------------------------- .env, secrets
if [ ! -f .env ]; then
  cp .env.example .env
  echo "Wrote .env; ports, replicas, currency and mail are set there."
fi
value_of() { sed -n "s/^$1=//p" .env | tail -n 1; }

mkdir -p secrets generated
chmod 700 secrets
random() { # letters and digits, so that they fit into URLs
  LC_ALL=C tr -dc 'A-Za-z0-9' </dev/urandom | head -c "$1" || true
}
secret() { # NAME CONTENT: written once
  [ -f "secrets/$1" ] || printf '%s' "$2" >"secrets/$1"
}
derived() { # NAME CONTENT: follows others and .env
  rm -f "secrets/$1"
  printf '%s' "$2" >"secrets/$1"
}
held() { cat "secrets/$1"; }

for name in postgres sentinel scorer monitor feast mlflow airflow redis grafana; do
  secret "${name}_password" "$(random 40)"
done
secret s3_access_key "$(random 20)"
secret s3_secret_key "$(random 40)"
secret airflow_jwt_secret "$(random 80)"
# 32 random bytes in URL-safe base64.
secret airflow_fernet_key "$(head -c 32 /dev/urandom | base64 | tr '+/' '-_')"
secret airflow_passwords.json "{\"admin\": \"$(random 24)\"}"
secret smtp_password ""
# Keys of the scoring API, one for each service that asks it: an id, and 43 characters of 62, which
# are 256 bits. The pepper makes what is kept of them, and stays out of the database.
secret access_pepper "$(random 64)"
# Draws who is let through by the control group: the same one in every scorer and in the jobs.
secret control_group_secret "$(random 64)"
for name in airflow dashboard pipeline prometheus sender; do
  secret "${name}_key" "$name.snt_$(random 43)"
done
# The key that signs models: 32 random bytes in hex. Its public key is added below.
secret model_signing_key "$(head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n')"
secret model_trusted_keys ""

derived ledger_url "postgresql://sentinel:$(held sentinel_password)@postgres:5432/sentinel"
derived scorer_ledger_url \
  "postgresql://sentinel_scorer:$(held scorer_password)@postgres:5432/sentinel"
derived monitor_ledger_url \
  "postgresql://sentinel_monitor:$(held monitor_password)@postgres:5432/sentinel"
derived feast_registry_url \
  "postgresql+psycopg://feast:$(held feast_password)@postgres:5432/feast_registry"
derived mlflow_database_url "postgresql://mlflow:$(held mlflow_password)@postgres:5432/mlflow"
derived airflow_database_url \
  "postgresql+psycopg2://airflow:$(held airflow_password)@postgres:5432/airflow_db"
# Users of Redis. Each has a password made of the admin's, from which nobody gets back to that one.
redis_password_of() {
  [ "$1" != admin ] || { held redis_password && return; }
  printf '%s:%s' "$1" "$(held redis_password)" | sha256sum | cut -c1-40
}
redis_url() { printf 'redis://%s:%s@redis:6379/%s' "$1" "$(redis_password_of "$1")" "$2"; }
redis_users() {
  while read -r word name rest; do
    digest=$(redis_password_of "$name" | tr -d '\n' | sha256sum | cut -d' ' -f1)
    printf '%s %s %s\n' "$word" "$name" "$(printf '%s' "$rest" | sed "s/PASSWORD/#$digest/")"
  done <redis/users.acl
}
derived state_url "$(redis_url jobs 0)"
derived feast_online_url "$(redis_url feast 1)"
derived scorer_state_url "$(redis_url scorer 0)"
derived scorer_online_url "$(redis_url history 1)"
derived functions_state_url "$(redis_url functions 0)"
derived redis_health_password "$(redis_password_of health)"
derived redis_users.acl "$(redis_users)
"
rm -f secrets/redis_auth.conf
derived s3_identities.json "{\"identities\": [{\"name\": \"sentinel\", \"credentials\": [{
  \"accessKey\": \"$(held s3_access_key)\", \"secretKey\": \"$(held s3_secret_key)\"}],
  \"actions\": [\"Admin\", \"Read\", \"Write\", \"List\", \"Tagging\"]}]}"

smtp_host=$(value_of SMTP_HOST)
smtp_port=$(value_of SMTP_PORT)
smtp_tls=$(value_of SMTP_TLS)
[ "$smtp_tls" = true ] && no_tls=false || no_tls=true
derived airflow_connections.json "{\"smtp_default\": {\"conn_type\": \"smtp\",
  \"host\": \"${smtp_host:-localhost}\", \"port\": ${smtp_port:-587},
  \"login\": \"$(value_of SMTP_USER)\", \"password\": \"$(held smtp_password)\",
  \"extra\": {\"disable_ssl\": true, \"disable_tls\": $no_tls}}}"
# Containers read them as other users; nobody else gets through the folder.
chmod 444 secrets/*

# In a sed replacement & and \ and the separator mean something.
rm -f generated/alertmanager.yml
webhook=$(value_of ALERTS_WEBHOOK)
hooks="[]"
[ -z "$webhook" ] || hooks="[{url: \"$webhook\", send_resolved: true}]"
quoted() { printf '%s' "$1" | sed 's/[&|\\]/\\&/g'; }
sed -e "s|smtp.example.com:587|$(quoted "${smtp_host:-localhost}"):$(quoted "${smtp_port:-587}")|" \
  -e "s|sentinel@example.com|$(quoted "$(value_of SMTP_FROM)")|" \
  -e "s|oncall@example.com|$(quoted "$(value_of ALERTS_TO)")|" \
  -e "s|smtp_auth_username: \"\"|smtp_auth_username: \"$(quoted "$(value_of SMTP_USER)")\"|" \
  -e "s|smtp_require_tls: true|smtp_require_tls: ${smtp_tls:-true}|" \
  -e "s|webhook_configs: \[\]|webhook_configs: $(quoted "$hooks")|" \
  ../../monitoring/alertmanager/alertmanager.yml >generated/alertmanager.yml
chmod 444 generated/alertmanager.yml
chmod 755 generated

if [ -n "$prepare_only" ]; then
  echo "Wrote .env, secrets/ and generated/. Nothing was started."
  exit 0
fi

# ------------------------------------------------------------------------------------ bring it up
[ -z "$data" ] || export DATA_FOLDER="$data"
job() { docker compose run --rm --no-deps pipeline "$@"; }

say "Building the images"
docker compose --profile jobs build

public_key=$(job models signing-key | head -n 1)
case $(held model_trusted_keys) in
  *"$public_key"*) ;;
  *)
    derived model_trusted_keys "$(held model_trusted_keys) $public_key"
    chmod 444 secrets/model_trusted_keys
    ;;
esac

ask_mlflow() {
  docker compose exec -T mlflow python -m sentinel.cli.ask "http://127.0.0.1:5000$1" >/dev/null 2>&1
}
patiently() { # TRIES COMMAND...: until it succeeds, with five seconds between
  tries=$1
  shift
  until "$@"; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || return 1
    sleep 5
  done
}

say "Starting the stores, MLflow (which makes its bucket) and the ledger's tables"
docker compose up --detach postgres redis s3 mlflow
patiently 36 ask_mlflow /health || die "MLflow does not answer: docker compose logs mlflow s3 postgres"
# A database of an older version has no roles for scorers and the monitor yet. One that runs was
# started without the password of a role that is new: it is started anew then.
docker compose exec -T postgres sh <postgres/roles.sh
docker compose run --rm migrate
docker compose run --rm keys
say "Making a first user of the dashboard, where there is none"
first_user=$(./first_user.sh)

if ask_mlflow '/api/2.0/mlflow/registered-models/alias?name=sentinel-fraud&alias=champion'; then
  say "A model is in charge already; the pipeline is Airflow's from here on"
else
  say "Running the pipeline once"
  if [ -n "$data" ]; then
    job import /data/mapping.toml
  else
    job import simulator
  fi
  job features apply
  job features materialize
  job train
  job promote
fi

say "Starting everything"
docker compose up --detach

say "Verifying"
verify_quietly() { ./verify_setup.sh >generated/verify.log 2>&1; }
well=yes
patiently 36 verify_quietly || well=""
cat generated/verify.log
[ -n "$well" ] || die "not all is well; see the lines above and: docker compose ps --all"

port() { value_of "$1"; }
cat <<END

  Scoring API   http://localhost:$(port API_PORT)    Authorization: Bearer, secrets/sender_key
  Dashboard     http://localhost:$(port DASHBOARD_PORT)    $first_user
  MLflow        http://localhost:$(port MLFLOW_PORT)
  Airflow       http://localhost:$(port AIRFLOW_PORT)    admin, secrets/airflow_passwords.json
  Grafana       http://localhost:$(port GRAFANA_PORT)    admin, secrets/grafana_password
  Prometheus    http://localhost:$(port PROMETHEUS_PORT)
  Alertmanager  http://localhost:$(port ALERTMANAGER_PORT)

Keys for those who send payments: docker compose run --rm keys create shop-a --scope score
Stop it with ./teardown.sh; the data stays. docs/production.md says the rest.
END
