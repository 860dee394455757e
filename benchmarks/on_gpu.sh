#!/usr/bin/env bash
# The tests and benchmarks that need a GPU, section by section. A section that fails, or takes longer than its limit
# (LIMIT seconds, if given), leaves the others to run; the exit code is 1 then.
#
#   bash benchmarks/on_gpu.sh OUT [SECTION ...]     sections: parity against_hf meter prefix scaling base epoch reproduce
#
# The folder OUT receives a log of each section and its results. SHORT=1 runs every section at its smallest size.
# TOTAL (seconds, by default 3,000) bounds the whole: what has no time left is not started, and named.
set -uo pipefail
out=$(realpath -m "${1:?bash benchmarks/on_gpu.sh OUT [SECTION ...]}")
shift
cd "$(dirname "$0")/.."
mkdir -p "$out"
short=${SHORT:-}
failed=()

run() { # run LIMIT_SECONDS NAME COMMAND...: run the command for at most that long, with its output in NAME.log
    local limit=$1 name=$2 start=$SECONDS left=$((${TOTAL:-3000} - SECONDS))
    shift 2
    if [ "$left" -le 0 ]; then
        echo "== $name: not started, TOTAL is over"
        failed+=("$name (not started)")
        return
    fi
    [ "$limit" -le "$left" ] || limit=$left
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
        --sides 384 576 ${short:+--rounds 1 --batch 8}
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

data() { # a base-size data set in AI-Hub 101's layout: Rooms, with a tokenizer
    local images=${IMAGES:-100000}
    [ -n "$short" ] && images=200
    export KOVILT_AIHUB_101=$out/rooms/vqa KOVILT_TOKENIZER=$out/rooms/tokenizer KOVILT_PREPARED_VQA=$out/prepared
    [ -d "$out/rooms/tokenizer" ] && return
    run 600 data python3 -m kovilt rooms "$out/rooms" --images "$images" --val-images 200 --workers "$(nproc)"
    run 60 tokenizer python3 -m kovilt tokenizer "$out/rooms/tokenizer" --vocab-size 1000 \
        --captions "$out/rooms/captions" --questions "$out/rooms/vqa"
}

base() { # base size on Rooms through the Runner, from JPEG files
    data
    train base kovilt_vqa_aihub_scratch
}

epoch() { # the same from prepared data, joint and with the image as a prefix: questions a second of the last line
    data
    run 600 prepare python3 -m kovilt prepare kovilt_vqa_aihub "$out/prepared"
    train epoch_joint kovilt_vqa_prepared
    train epoch_prefix kovilt_vqa_prepared model.encoder.type=PrefixViLT
}

train() { # train NAME CONFIG OPTION...: one epoch; the folder NAME receives metrics.jsonl
    local name=$1 config=$2 batch=256
    shift 2
    [ -n "$short" ] && batch=8
    run "${LIMIT:-200}" "$name" python3 -m kovilt train "$config" --amp --work-dir "$out/$name" --cfg-options \
        train_cfg.max_epochs=1 load_from=None train_dataloader.batch_size="$batch" \
        train_dataloader.num_workers="$(nproc)" "$@"
    tail -n 3 "$out/$name/metrics.jsonl"
}

for section in "${@:-parity against_hf meter prefix scaling base epoch reproduce}"; do
    for name in $section; do "$name"; done
done
[ ${#failed[@]} -eq 0 ] || echo "failed: ${failed[*]}"
[ ${#failed[@]} -eq 0 ]
