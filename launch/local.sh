#!/usr/bin/env bash
# Starts a command in N processes on this machine, joined over jax.distributed.
#
#   launch/local.sh 2 python -m jaxdistill.launch --config configs/digits/kd.py --workdir runs/two
#
#   launch/local.sh --dry-run 2 COMMAND...   # prints what would be started
#
# Process 0 writes to this terminal, the others to local-I.log in this folder. Ends with the first status
# that is not 0, after stopping the rest.
set -u
dry=""
if [ "${1:-}" = --dry-run ]; then dry=yes && shift; fi
if [ $# -lt 2 ] || ! [ "$1" -ge 1 ] 2>/dev/null; then
  echo "usage: $0 [--dry-run] N COMMAND..." >&2
  exit 2
fi
count=$1
shift
port=${PORT:-$((20000 + RANDOM % 20000))}
pids=()
stop() { kill -TERM "${pids[@]}" 2>/dev/null; }
trap stop INT TERM
for ((i = 0; i < count; i++)); do
  out=/dev/stdout
  [ "$i" -gt 0 ] && out=local-$i.log
  join=(--coordinator="localhost:$port" --processes="$count" --process="$i")
  if [ "$dry" ]; then
    echo "$* ${join[*]} >$out"
    continue
  fi
  "$@" "${join[@]}" >"$out" 2>&1 &
  pids+=($!)
done
[ -z "$dry" ] || exit 0
status=0
for ((i = 0; i < count; i++)); do
  wait -n || { code=$?; [ "$status" -eq 0 ] && status=$code && stop; }
done
exit "$status"
