#!/usr/bin/env bash
# An Apache Kafka broker on this machine, with Java 17 or newer and Maven and without docker (compose.yaml: with docker).
#   kafka.sh start    fetches the jars (44 MB, once), starts the broker, waits until it answers; does nothing if it runs
#   kafka.sh stop     stops it; its data stays
#   kafka.sh fetch    fetches the jars only, and prints the folder that has them
# KAFKA_PORT: where it listens on 127.0.0.1 (9092); its controller is at the next port.
# KAFKA_DIR: its data and its log (build/kafka). KAFKA_JARS: where the folder of jars goes (build/kafka).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$(cd "$here/../.." && pwd)/build/kafka
port=${KAFKA_PORT:-9092}
jars=${KAFKA_JARS:-$build}
dir=${KAFKA_DIR:-$build}
# The name tells which jars these are: another pom.xml, other jars.
lib=$jars/lib-$(cksum <"$here/pom.xml" | cut -d' ' -f1)

fail() {
  printf 'kafka.sh: %s\n' "$@" >&2
  exit 1
}

need_java() {
  local docker="or use docker: docker compose -f deploy/kafka/compose.yaml up --wait" version
  command -v java >/dev/null || fail "java is not found, and Kafka needs Java 17 or newer" \
    "install it (Debian, Ubuntu: apt-get install openjdk-17-jre-headless), $docker"
  version=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
  [ "${version:-0}" -ge 17 ] || fail "Kafka needs Java 17 or newer, and $(command -v java) is Java ${version:-unknown}" \
    "install a newer one (Debian, Ubuntu: apt-get install openjdk-17-jre-headless), $docker"
}

need_maven() {
  command -v mvn >/dev/null || fail "mvn (Maven), which fetches the jars of Kafka, is not found" \
    "install it (Debian, Ubuntu: apt-get install maven), or use docker: docker compose -f deploy/kafka/compose.yaml up --wait"
}

fetch() {
  [ -d "$lib" ] && return
  need_java
  need_maven
  mkdir -p "$jars"
  local part
  part=$(mktemp -d "$jars/fetching.XXXXXX")
  trap 'rm -rf "$part"' EXIT
  mvn --batch-mode --quiet --file "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$part/lib" >"$part/log" 2>&1 ||
    fail "Maven could not fetch the jars of Kafka:" "$(tail -n 20 "$part/log")"
  # Whole at once: another process never sees a folder with a part of the jars.
  [ -d "$lib" ] || mv "$part/lib" "$lib"
  rm -rf "$part"
  trap - EXIT
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

running() { # the process that this script started, not another one that has its id now
  [ -f "$dir/broker.pid" ] && [[ $(ps -ww -p "$(cat "$dir/broker.pid")" -o args=) == *" kafka.Kafka $dir/server.properties" ]]
}

start() {
  if running; then
    port=$(sed -n 's/^advertised.listeners=.*:\([0-9]*\)$/\1/p' "$dir/server.properties")
    echo "Kafka runs already: 127.0.0.1:$port (process $(cat "$dir/broker.pid"), data in $dir)"
    return
  fi
  need_java
  fetch
  local taken
  for taken in "$port" "$((port + 1))"; do
    listens "$taken" && fail "something else listens at 127.0.0.1:$taken" \
      "stop it, or choose another port: KAFKA_PORT=19092 (the broker takes that one and the next)"
  done
  mkdir -p "$dir/data"
  sed "s|@PORT@|$port|g; s|@CONTROLLER_PORT@|$((port + 1))|g; s|@DATA@|$dir/data|g" \
    "$here/server.properties" >"$dir/server.properties"
  local java=(java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1
    "-Dlog4j2.configurationFile=$here/log4j2.properties" -cp "$lib/*")
  "${java[@]}" kafka.tools.StorageTool format --ignore-formatted --cluster-id streamcoreLocalKafka_g \
    --config "$dir/server.properties" >"$dir/format.log" 2>&1 ||
    fail "the storage could not be prepared:" "$(tail -n 20 "$dir/format.log")"
  nohup "${java[@]}" kafka.Kafka "$dir/server.properties" >"$dir/broker.log" 2>&1 </dev/null &
  local pid=$!
  echo "$pid" >"$dir/broker.pid"
  # The port opens only when the broker is ready.
  until listens "$port"; do
    kill -0 "$pid" 2>/dev/null || fail "the broker ended at once; the end of $dir/broker.log:" "$(tail -n 20 "$dir/broker.log")"
    sleep 0.05
  done
  echo "Kafka listens at 127.0.0.1:$port (process $pid, data in $dir)"
}

stop() {
  if ! running; then
    echo "Kafka doesn't run (data in $dir)"
    return
  fi
  local pid
  pid=$(cat "$dir/broker.pid")
  kill -TERM "$pid"
  for _ in $(seq 600); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.05
  done
  if kill -KILL "$pid" 2>/dev/null; then
    echo "Kafka did not stop within 30 s and was killed; its data stays in $dir"
  else
    echo "Kafka is stopped; its data stays in $dir"
  fi
  rm -f "$dir/broker.pid"
}

case ${1:-} in
  start) start ;;
  stop) stop ;;
  fetch) fetch && echo "$lib" ;;
  *) fail "start, stop or fetch?" ;;
esac
