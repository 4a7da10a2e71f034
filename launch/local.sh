#!/usr/bin/env bash
# Starts a command in N processes on this machine, joined over jax.distributed.
#
#   launch/local.sh 2 python -m jaxdistill.launch --config configs/digits/kd.py --workdir runs/two
#
#   launch/local.sh --dry-run 2 COMMAND...   # prints what would be started
#
# Process 0 writes to this terminal, the others to local-I.log in this folder. Ends with the first status
# that is not 0, after stopping the rest, and with one line on this terminal if no signal to it was the cause.
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
stopping="" started=""
stop() { stopping=yes && { [ -z "$started" ] || kill -TERM "${pids[@]}" 2>/dev/null; }; }
trap stop INT TERM
for ((i = 0; i < count; i++)); do
  join=(--coordinator="localhost:$port" --processes="$count" --process="$i")
  if [ "$dry" ]; then
    echo "$* ${join[*]}$([ "$i" -eq 0 ] || echo " >local-$i.log")"
    continue
  fi
  if [ "$i" -eq 0 ]; then # not by way of /dev/stdout, whose opening would empty a file that this goes to
    "$@" "${join[@]}" 2>&1 &
  else
    "$@" "${join[@]}" >"local-$i.log" 2>&1 &
  fi
  pids+=($!)
done
[ -z "$dry" ] || exit 0
started=yes
[ -z "$stopping" ] || stop # a signal that came while they were being started
status=0 ended=()
while [ "${#ended[@]}" -lt "$count" ]; do # wait -n loses a process that ends before it is called
  for ((i = 0; i < count; i++)); do
    { [ "${ended[i]:-}" ] || kill -0 "${pids[i]}"; } 2>/dev/null && continue
    wait "${pids[i]}"
    code=$?
    ended[i]=yes
    { [ "$code" -eq 0 ] || [ "$status" -ne 0 ]; } && continue
    status=$code
    if [ -z "$stopping" ]; then
      output="above" && [ "$i" -eq 0 ] || output="in local-$i.log"
      echo "$0: process $i ended with status $code, its output is $output; stopping the others" >&2
      stop
    fi
  done
  sleep 0.1
done
exit "$status"
