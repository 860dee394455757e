#!/usr/bin/env bash
# The tests and benchmarks that need a GPU, section by section. A section that fails, or takes longer than its limit
# (LIMIT seconds, if given), leaves the others to run; the exit code is 1 then.
#
#   bash benchmarks/on_gpu.sh OUT [SECTION ...]     sections: parity against_hf meter prefix scaling reproduce base
#
# The folder OUT receives a log of each section and its results. SHORT=1 runs every section at its smallest size.
set -uo pipefail
out=$(realpath -m "${1:?bash benchmarks/on_gpu.sh OUT [SECTION ...]}")
shift
cd "$(dirname "$0")/.."
mkdir -p "$out"
short=${SHORT:-}
failed=()

run() { # run LIMIT_SECONDS NAME COMMAND...: run the command for at most that long, with its output in NAME.log
    local limit=$1 name=$2 start=$SECONDS
    shift 2
    timeout "$limit" "$@" >"$out/$name.log" 2>&1 </dev/null || failed+=("$name ($?)")
    echo "== $name: $((SECONDS - start)) s"
    tail -n "${TAIL:-25}" "$out/$name.log" | cut -c 1-300
}

parity() {
    run "${LIMIT:-120}" parity python3 -m pytest -q -m gpu tests
}

against_hf() {
    run "${LIMIT:-170}" against_hf python3 -m benchmarks.against_hf --device cuda --out "$out/against_hf.json" \
        ${short:+--rounds 2 --batches 8 --train-batches 8 --layers 2}
}

meter() {
    run "${LIMIT:-120}" meter python3 -m benchmarks.vilt_against_meter --out "$out/meter.json" \
        ${short:+--rounds 1 --batch 8 --sides 384}
}

prefix() {
    run "${LIMIT:-60}" prefix python3 -m benchmarks.prefix --device cuda ${short:+--rounds 1 --texts 14}
}

scaling() {
    run "${LIMIT:-60}" scaling python3 -m benchmarks.scaling --device cuda --plot "$out/scaling.png" \
        ${short:+--rounds 1 --pairs 2 --only batch prefix}
}

reproduce() { # the most important tables come first; steps that do not finish in time are missing from the last ones
    local tables
    for tables in ${TABLES:-table2 table3 ablations}; do
        run "${LIMIT:-200}" "reproduce_$tables" python3 -m reproduction "$tables" --seeds 3 --jobs "${JOBS:-12}" \
            --work-dir "$out/reproduce" ${short:+--scale tiny}
    done
}

base() { # training at base size on Rooms through the Runner, with reading of data
    local data=$out/rooms images=${IMAGES:-20000} batch=256
    [ -n "$short" ] && images=200 batch=8
    run 200 base_data python3 -m kovilt rooms "$data" --images "$images" --val-images 200 --workers "$(nproc)"
    run 60 base_tokenizer python3 -m kovilt tokenizer "$data/tokenizer" --vocab-size 1000 --captions "$data/captions" \
        --questions "$data/vqa"
    export KOVILT_AIHUB_101=$data/vqa KOVILT_TOKENIZER=$data/tokenizer
    run "${LIMIT:-200}" base python3 -m kovilt train kovilt_vqa_aihub_scratch --amp --work-dir "$out/base" \
        --cfg-options train_cfg.max_epochs=1 train_dataloader.batch_size="$batch" \
        train_dataloader.num_workers="$(nproc)"
    tail -n 3 "$out/base/metrics.jsonl"
}

for section in "${@:-parity against_hf meter prefix scaling reproduce base}"; do
    for name in $section; do "$name"; done
done
[ ${#failed[@]} -eq 0 ] || echo "failed: ${failed[*]}"
[ ${#failed[@]} -eq 0 ]
