#!/usr/bin/env bash
# The servers that the tests talk to, which pip can't install: PostgreSQL, Mosquitto, and Java and Maven for Kafka, whose
# jars it fetches. Installs what is missing on Debian and Ubuntu, as root or with a sudo that asks for no password.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null || command -v initdb >/dev/null || missing+=(postgresql)
[ -x /usr/sbin/mosquitto ] || command -v mosquitto >/dev/null || missing+=(mosquitto)
command -v java >/dev/null || missing+=(openjdk-17-jre-headless)
command -v mvn >/dev/null || missing+=(maven)

if [ ${#missing[@]} -gt 0 ]; then
  as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
  if ! command -v apt-get >/dev/null || ! "${as_root[@]}" true 2>/dev/null; then
    echo "the tests need servers that aren't on this machine, and are never skipped; install them:" >&2
    echo "  sudo apt-get install ${missing[*]}      (or what they are called here)" >&2
    exit 1
  fi
  echo "installing what the tests need: ${missing[*]}"
  "${as_root[@]}" apt-get -qq update
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -qq install --yes --no-install-recommends -o DPkg::Lock::Timeout=120 "${missing[@]}" >/dev/null
fi
deploy/kafka/kafka.sh fetch >/dev/null
