#!/usr/bin/env bash
# Start N processes of a kovilt command by torchrun, for dist_train.sh and dist_test.sh:   bash tools/dist_run.sh N COMMAND [...]
# On one machine torchrun takes a free port. On several machines, or with PORT set, it is PORT (29500). MAX_RESTARTS (0): how often
# torchrun starts all processes again when one has died; they continue from the latest checkpoint. SIGTERM, SIGINT and SIGUSR1 reach
# the processes, which save; the exit code is then 75.
set -euo pipefail
PYTHON=${PYTHON:-python}
N=$1
shift
[[ "${MAX_RESTARTS:-0}" =~ ^[0-9]{1,4}$ ]] || { echo "error: MAX_RESTARTS is '$MAX_RESTARTS'; it must be a number" >&2; exit 2; }
for NUMBER in "N=$N" "NNODES=${NNODES:-1}" "PORT=${PORT:-29500}"; do
    [[ "${NUMBER#*=}" =~ ^[1-9][0-9]{0,4}$ ]] || { echo "error: ${NUMBER%%=*} is '${NUMBER#*=}'; it must be a number of at least 1" >&2; exit 2; }
done
[[ "${NODE_RANK:-0}" =~ ^[0-9]{1,4}$ ]] && [ "${NODE_RANK:-0}" -lt "${NNODES:-1}" ] ||
    { echo "error: NODE_RANK is '${NODE_RANK:-0}'; it must be a number from 0 to $((${NNODES:-1} - 1))" >&2; exit 2; }
if [ "${NNODES:-1}" = 1 ] && [ -z "${PORT:-}" ]; then
    PLACE=(--standalone --local-addr=127.0.0.1)
else
    PLACE=(--nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}"
        --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${PORT:-29500}")
    if [ "${NODE_RANK:-0}" = 0 ] && ! "$PYTHON" -c 'if True:
        import socket, sys
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("", int(sys.argv[1])))' "${PORT:-29500}" 2> /dev/null; then
        echo "error: PORT ${PORT:-29500} is taken on this machine; set PORT to a free one, the same on all machines" >&2
        exit 2
    fi
fi
CPUS=$(getconf _NPROCESSORS_ONLN 2> /dev/null || echo "$N")
if [ "$N" -gt "$CPUS" ]; then
    echo "warning: $N processes share the $CPUS CPUs of this machine" >&2
fi
KOVILT_EXIT_CODE_FILE=$(mktemp)
export KOVILT_EXIT_CODE_FILE
trap 'rm -f "$KOVILT_EXIT_CODE_FILE"' EXIT
"$PYTHON" -m torch.distributed.run "${PLACE[@]}" --nproc-per-node="$N" --max-restarts="${MAX_RESTARTS:-0}" \
    --signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 --shutdown-timeout=120 --module kovilt "$@" &
CHILD=$!
for SIGNAL in TERM INT USR1; do
    # shellcheck disable=SC2064  # both are known now
    trap "kill -$SIGNAL $CHILD 2> /dev/null || true" "$SIGNAL"
done
CODE=0
wait "$CHILD" || CODE=$?
while kill -0 "$CHILD" 2> /dev/null; do # a signal has ended the waiting, not the process
    CODE=0
    wait "$CHILD" || CODE=$?
done
if [ -s "$KOVILT_EXIT_CODE_FILE" ]; then
    CODE=$(cat "$KOVILT_EXIT_CODE_FILE")
fi
exit "$CODE"
