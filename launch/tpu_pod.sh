#!/usr/bin/env bash
# Runs a command on every worker of a Cloud TPU slice, obtained as a queued resource, until it is done.
#
#   launch/tpu_pod.sh run NAME --zone=us-west4-a --type=v5litepod-16 --bucket=my-bucket --spot -- \
#     python -m jaxdistill.launch --config configs/digits/kd.py --workdir bucket/runs/digits
#   launch/tpu_pod.sh delete NAME --zone=us-west4-a
#
#   --zone=ZONE        where; types by zone: https://cloud.google.com/tpu/docs/regions-zones
#   --type=TYPE        accelerator type, as in v5litepod-16 (16 chips, 4 workers)
#   --runtime=VERSION  of the workers' image; v2-alpha-tpuv5-lite unless given
#   --bucket=BUCKET    Cloud Storage bucket, mounted on every worker as ~/bucket; the workdir belongs there
#   --spot             takes preemptible capacity: cheaper, and gone at any time
#   --retries=N        how often it goes on after a preemption or a lost worker; 20 unless given
#   --delete           deletes the slice when the command is done
#   --dry-run          prints every command and runs none
#
# run: creates the resource NAME if it is not there, waits for it, copies the committed code, installs it with
# jax[tpu], mounts the bucket, starts COMMAND with --distributed on all workers and prints their output, also to
# NAME.log. After a preemption it deletes what is left, creates the resource again and starts the same command,
# which goes on from its last checkpoint. Ends with status 1 or 2 where the command did: more tries change nothing.
#
# Needs gcloud, logged in and with a project. A slice costs from ACTIVE until it is deleted, running or not.
set -euo pipefail

usage() {
  sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "$0" >&2
  exit 2
}

name="" zone="" type="" runtime=v2-alpha-tpuv5-lite bucket="" spot="" retries=20 delete="" dry=""
pause=${PAUSE:-30} # seconds between two requests of the state
[ $# -ge 2 ] || usage
action=$1 name=$2
shift 2
while [ $# -gt 0 ]; do
  case $1 in
    --zone=*) zone=${1#*=} ;;
    --type=*) type=${1#*=} ;;
    --runtime=*) runtime=${1#*=} ;;
    --bucket=*) bucket=${1#*=} ;;
    --retries=*) retries=${1#*=} ;;
    --spot) spot=yes ;;
    --delete) delete=yes ;;
    --dry-run) dry=yes ;;
    --) shift && break ;;
    *) echo "error: unexpected argument $1; see $0 --help" >&2 && exit 2 ;;
  esac
  shift
done
[ -n "$zone" ] || { echo "error: no --zone; name the zone of the slice, --zone=us-west4-a" >&2 && exit 2; }
case $bucket in *://*) echo "error: --bucket=$bucket is a URL; give the bucket's name alone" >&2 && exit 2 ;; esac

call() {
  local word line=()
  if [ -z "$dry" ]; then
    "$@"
    return
  fi
  for word in "$@"; do
    case $word in *[!A-Za-z0-9_./:=@,+-]*) line+=("${word@Q}") ;; *) line+=("$word") ;; esac
  done
  echo "${line[*]}"
}

pretend="" # in a dry run, the state that the resource would be in
state() {
  local describe=(gcloud compute tpus queued-resources describe "$name" --zone="$zone" "--format=value(state.state)")
  if [ "$dry" ]; then
    call "${describe[@]}" >&2
    echo "$pretend"
  else
    "${describe[@]}" 2>/dev/null || true
  fi
}

create() {
  [ -n "$type" ] || { echo "error: no --type; name the accelerator, --type=v5litepod-16" >&2 && exit 2; }
  call gcloud compute tpus queued-resources create "$name" --node-id="$name" --zone="$zone" \
    --accelerator-type="$type" --runtime-version="$runtime" \
    --scopes=https://www.googleapis.com/auth/cloud-platform ${spot:+--spot}
  pretend=ACTIVE
}

remove() {
  call gcloud compute tpus queued-resources delete "$name" --zone="$zone" --force --quiet
  pretend=""
}

acquire() {
  local now
  while now=$(state) && [ "$now" != ACTIVE ]; do
    case $now in
      "") create ;;
      SUSPENDED) remove ;; # preempted
      FAILED)
        echo "error: the request $name failed; gcloud compute tpus queued-resources describe $name --zone=$zone" \
          "has the cause; $0 delete $name --zone=$zone, then start again" >&2
        exit 1
        ;;
      *) echo "$name: $now" && sleep "$pause" ;;
    esac
  done
}

on_all() {
  call gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="$1"
}

install() {
  local archive=${TMPDIR:-/tmp}/$name.tar.gz
  call git -C "$(dirname "$0")/.." archive --format=tar.gz --output="$archive" HEAD &&
    call gcloud compute tpus tpu-vm scp "$archive" "$name:code.tar.gz" --zone="$zone" --worker=all &&
    on_all "$unpack" && if [ "$bucket" ]; then on_all "$mount"; fi
}

# The images' own Python is older than the package takes.
unpack="rm -rf code && mkdir code && tar -xzf code.tar.gz -C code && python3 -m pip install --quiet --user uv \
&& python3 -m uv venv --quiet --allow-existing --python 3.12 venv \
&& python3 -m uv pip install --quiet --python venv/bin/python 'jax[tpu]' ./code"

list=https://packages.cloud.google.com/apt key=/usr/share/keyrings/cloud.google.asc
mount="mountpoint -q bucket || { command -v gcsfuse || { \
curl -fsS $list/doc/apt-key.gpg | sudo tee $key >/dev/null \
&& echo \"deb [signed-by=$key] $list gcsfuse-\$(lsb_release -cs) main\" | sudo tee /etc/apt/sources.list.d/gcsfuse.list \
&& sudo apt-get update -q && sudo apt-get install -qy gcsfuse; } \
&& mkdir -p bucket && gcsfuse --implicit-dirs --rename-dir-limit=100000 $bucket bucket; }"

train() {
  local words
  words=$(printf '%q ' "$@")
  # One that a broken connection left running gets a signal to save and stop; it would hold the chips.
  on_all "pkill -TERM -f '[j]axdistill.launch' && sleep 60; true" &&
    on_all "export PATH=\$HOME/venv/bin:\$PATH; ${words}--distributed; s=\$?; echo \"status \$s of $name\"; exit \$s"
}

case $action in
  delete)
    remove
    exit
    ;;
  run) [ $# -gt 0 ] || { echo "error: no command; give it after --" >&2 && exit 2; } ;;
  *) usage ;;
esac
log=$name.log
[ -z "$dry" ] || log=/dev/null
for ((try = 0; try <= retries; try++)); do
  acquire
  : >>"$log"
  before=$(wc -l <"$log")
  if install && train "$@" 2>&1 | tee -a "$log"; then
    [ -z "$delete" ] || remove
    [ "$delete" ] || echo "$name is done and still costs; $0 delete $name --zone=$zone"
    exit 0
  fi
  failed=$(tail -n "+$((before + 1))" "$log" | sed -n "s/.*status \([12]\) of $name\$/\1/p" | head -n 1)
  [ -z "$failed" ] || exit "$failed"
  echo "$name: interrupted, or a worker is lost; the same command goes on from the last checkpoint ($try of $retries)"
  sleep "$pause"
done
echo "error: $name was interrupted more than $retries times; the same command goes on from the last checkpoint" >&2
exit 75
