#!/usr/bin/env bash
# Runs a command under SLURM, one process per GPU, and again after each time limit or preemption until it is done.
#
#   sbatch --nodes=2 launch/slurm.sh python -m jaxdistill.launch --config configs/digits/kd.py --workdir runs/digits
#   launch/slurm.sh --dry-run python -m jaxdistill.launch ...   # prints the commands and runs none
#
# A sweep as an array job, the shared stages first, then a task for each run:
#
#   sweep="jaxdistill sweep digits/kd --workdir runs/sweep --values terms.kd.temperature=1,2,4"
#   job=$(sbatch --parsable launch/slurm.sh $sweep --shared)
#   job=$(sbatch --parsable --dependency=afterok:$job --array=0-2 launch/slurm.sh $sweep --only task)
#
# The #SBATCH lines are defaults; options of sbatch go before the script's name and win over them. Start it in an
# environment that has the package (a virtual environment or a module, loaded before sbatch). The workdir and the
# data must be in a folder that every node sees.
#
# Three minutes before the time limit, and when a higher priority takes the nodes, SLURM sends SIGTERM: all
# processes save at one agreed step and end with status 143, and the job is put back into the queue.
#
# One process per node instead: sbatch --ntasks-per-node=1 (each takes all GPUs of its node).
# Without GPUs: sbatch --gpus-per-node=0 --ntasks-per-node=1.
#
#SBATCH --job-name=jaxdistill
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -u
RESTARTS=${RESTARTS:-20}
dry=""
if [ "${1:-}" = --dry-run ]; then dry=yes && shift; fi
if [ $# -eq 0 ]; then
  echo "usage: sbatch [OPTIONS] $0 COMMAND..." >&2
  exit 2
fi
if [ -z "$dry" ] && [ -z "${SLURM_JOB_ID:-}" ]; then
  echo "error: this is no SLURM job; start it with sbatch $0 $*" >&2
  exit 2
fi

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

# JAX takes the GPU of the process's number on its node, so each process must see all of them (no --gpus-per-task),
# and a process alone on its node needs their numbers.
if [ "${SLURM_NTASKS_PER_NODE:-4}" = 1 ] && [ "${SLURM_GPUS_ON_NODE:-0}" -gt 1 ]; then
  JAX_LOCAL_DEVICE_IDS=$(seq -s, 0 $((SLURM_GPUS_ON_NODE - 1)))
  export JAX_LOCAL_DEVICE_IDS
fi

status=0
call srun --kill-on-bad-exit=1 "$@" --distributed || status=$?
case $status in
  0 | 1 | 2) [ -z "$dry" ] && exit "$status" ;;
esac
# Stopped by a signal (128 and more), or another process is gone (75): the same command goes on.
if [ "${SLURM_RESTART_COUNT:-0}" -ge "$RESTARTS" ]; then
  echo "error: restarted $RESTARTS times; sbatch the same command again to go on, RESTARTS=N to allow more" >&2
  exit "$status"
fi
call scontrol requeue "${SLURM_JOB_ID:-JOB}"
