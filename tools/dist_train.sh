#!/usr/bin/env bash
# Train on N processes of this machine:   bash tools/dist_train.sh CONFIG N [options of kovilt train]
# Several machines: the same command on each, with NNODES (how many), NODE_RANK (0, 1, ...), MASTER_ADDR and PORT (of node 0).
# PYTHON=... names the interpreter. With GPUs a process takes one each (NCCL); without, they compute on the CPU (gloo).
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
CONFIG=$1
N=$2
shift 2
exec "${PYTHON:-python}" -m kovilt.cli.launch "$N" train "$CONFIG" --launcher pytorch "$@"
