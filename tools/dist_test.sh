#!/usr/bin/env bash
# Evaluate on N processes of this machine:   bash tools/dist_test.sh CONFIG CHECKPOINT N [options of kovilt test]
# Several machines: the same command on each, with NNODES (how many), NODE_RANK (0, 1, ...), MASTER_ADDR and PORT (of node 0).
# PYTHON=... names the interpreter. With GPUs a process takes one each (NCCL); without, they compute on the CPU (gloo).
set -euo pipefail
if [ $# -lt 3 ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
CONFIG=$1
CHECKPOINT=$2
N=$3
shift 3
exec "${PYTHON:-python}" -m kovilt.cli.launch "$N" test "$CONFIG" "$CHECKPOINT" --launcher pytorch "$@"
