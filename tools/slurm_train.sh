#!/usr/bin/env bash
# Train through Slurm:   GPUS=16 bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [options of kovilt train]
# From the environment: GPUS (16; all processes), GPUS_PER_NODE (8), CPUS_PER_TASK (5), SRUN_ARGS (more options of srun), PORT,
# PYTHON. GPUS_PER_NODE=0 asks for no GPU; the processes, GPUS in all, then compute on CPUs.
set -euo pipefail
if [ $# -lt 4 ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
PARTITION=$1
JOB_NAME=$2
CONFIG=$3
WORK_DIR=$4
shift 4
GPUS=${GPUS:-16}
GPUS_PER_NODE=${GPUS_PER_NODE:-8}
read -r -a MORE <<< "${SRUN_ARGS:-}"
PLACE=()
if [ "$GPUS_PER_NODE" -gt 0 ]; then
    PER_NODE=$((GPUS < GPUS_PER_NODE ? GPUS : GPUS_PER_NODE))
    PLACE=(--gres="gpu:$PER_NODE" --ntasks-per-node="$PER_NODE")
fi
if [ -n "${PORT:-}" ]; then  # else the number of the job gives it
    export MASTER_PORT="$PORT"
fi
exec srun -p "$PARTITION" --job-name="$JOB_NAME" --ntasks="$GPUS" "${PLACE[@]}" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${MORE[@]+"${MORE[@]}"} \
    "${PYTHON:-python}" -u -m kovilt train "$CONFIG" --work-dir "$WORK_DIR" --launcher slurm "$@"
