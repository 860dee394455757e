#!/usr/bin/env bash
# The tests and benchmarks that need a GPU, section by section. A section that fails, or takes longer than its limit
# (LIMIT seconds, if given), leaves the others to run; the exit code is 1 then.
#
#   bash benchmarks/on_gpu.sh OUT [SECTION ...]                 SHORT=1: every section at its smallest size
#   DEVICE=cpu bash benchmarks/on_gpu.sh OUT [SECTION ...]      the same on a CPU, to try the script
#
# The folder OUT receives a log of each section and its results. TOTAL (seconds, by default 3,000) bounds the whole:
# what has no time left is not started, and named. What `reproduce` and `reproduce_base` do not finish in their limits, which
# are made for one H200, continues when the script is called again with the same OUT.
set -uo pipefail
sections=(parity against_hf meter prefix scaling base epoch reproduce reproduce_base)
usage="bash benchmarks/on_gpu.sh OUT [SECTION ...]    sections: ${sections[*]}"
[ $# -gt 0 ] || { echo "error: $usage" >&2; exit 2; }
out=$(realpath -m "$1")
shift
device=${DEVICE:-cuda}
short=${SHORT:-}
if [ "$device" = cpu ]; then
    short=1
    export CUDA_VISIBLE_DEVICES= # for commands that take a GPU where there is one
    sections=("${sections[@]:1}") # all tests of `parity` would be skipped
fi
[ $# -gt 0 ] || set -- "${sections[@]}"
for name in "$@"; do
    [[ " ${sections[*]} " = *" $name "* ]] || { echo "error: no section $name for DEVICE=$device; $usage" >&2; exit 2; }
done
cd "$(dirname "$0")/.."
mkdir -p "$out"
failed=()
trap 'kill $(jobs -p); wait; exit 143' INT TERM # what runs ends with the script, and is saved first

run() { # run LIMIT_SECONDS NAME COMMAND...: run the command for at most that long, with its output in NAME.log
    local limit=$1 name=$2 start=$SECONDS left=$((${TOTAL:-3000} - SECONDS))
    shift 2
    [ "$device" != cpu ] || limit=$((10 * limit)) # the limits are made for a GPU and its many cores
    if [ "$left" -le 0 ]; then
        echo "== $name: not started, TOTAL is over"
        failed+=("$name (not started)")
        return
    fi
    [ "$limit" -le "$left" ] || limit=$left
    timeout --kill-after 60 "$limit" "$@" >"$out/$name.log" 2>&1 </dev/null &
    wait $! || failed+=("$name ($?)")
    echo "== $name: $((SECONDS - start)) s"
    tail -n "${TAIL:-25}" "$out/$name.log" | cut -c 1-300
}

parity() {
    run "${LIMIT:-120}" parity python3 -m pytest -q -m gpu tests
}

against_hf() {
    run "${LIMIT:-170}" against_hf python3 -m benchmarks.against_hf --device "$device" --out "$out/against_hf.json" \
        ${short:+--rounds 1 --batches 2 --train-batches 2 --layers 1 --vocabulary 1000}
}

meter() {
    run "${LIMIT:-120}" meter python3 -m benchmarks.vilt_against_meter --device "$device" --out "$out/meter.json" \
        --sides 384 576 ${short:+--scale tiny --rounds 1 --batch 2 --questions 1}
}

prefix() {
    run "${LIMIT:-60}" prefix python3 -m benchmarks.prefix --device "$device" \
        ${short:+--layers 1 --rounds 1 --questions 2 --texts 2}
}

scaling() {
    run "${LIMIT:-60}" scaling python3 -m benchmarks.scaling --device "$device" --plot "$out/scaling.png" \
        ${short:+--layers 1 --rounds 1 --pairs 1 --only batch prefix}
}

reproduce() { # small models; the most important tables come first
    local tables size=(--seeds "${SEEDS:-3}" --jobs "${JOBS:-12}")
    [ -z "$short" ] || size=(--seeds 1 --jobs 2 --scale tiny)
    for tables in ${TABLES:-table2 table3 ablations}; do
        run "${LIMIT:-200}" "reproduce_$tables" python3 -m reproduction "$tables" "${size[@]}" \
            --work-dir "$out/reproduce"
    done
}

reproduce_base() { # models of base size, on a part of the questions about 100,000 images
    local scale=base_short
    [ -z "$short" ] || scale=base_tiny
    base_table "${LIMIT:-540}" table2 $scale
    base_table "${LIMIT:-300}" table3 $scale
}

base_table() { # base_table LIMIT_SECONDS TABLE SCALE
    run "$1" "reproduce_base_$2" python3 -m reproduction "$2" --scale "$3" --seeds "${SEEDS:-1}" --jobs 2 \
        --work-dir "$out/reproduce_base"
}

data() { # Rooms in AI-Hub 101's layout, with a tokenizer; prepared, an image takes 0.6 MB
    local images=${IMAGES:-30000} val_images=500
    [ -z "$short" ] || images=40 val_images=8
    export KOVILT_AIHUB_101=$out/rooms/vqa KOVILT_TOKENIZER=$out/rooms/tokenizer KOVILT_PREPARED_VQA=$out/prepared
    [ ! -d "$out/rooms/tokenizer" ] || return
    run 200 data python3 -m kovilt rooms "$out/rooms" --images "$images" --val-images "$val_images" \
        --workers "$(nproc)"
    run 100 tokenizer python3 -m kovilt tokenizer "$out/rooms/tokenizer" --vocab-size 1000 \
        --captions "$out/rooms/captions" --questions "$out/rooms/vqa"
}

base() { # an epoch at base size through the Runner, from JPEG files
    data
    train base kovilt_vqa_aihub_scratch
}

epoch() { # the same from prepared data, joint and with the image as a prefix: questions a second of the last line
    data
    run 200 prepare python3 -m kovilt prepare kovilt_vqa_aihub "$out/prepared" --workers "$(nproc)"
    train epoch_joint kovilt_vqa_prepared
    train epoch_prefix kovilt_vqa_prepared model.encoder.type=PrefixViLT
}

train() { # train NAME CONFIG OPTION...: one epoch; the folder NAME receives metrics.jsonl
    local name=$1 config=$2 size=(train_dataloader.batch_size=256)
    shift 2
    [ -z "$short" ] || size=(train_dataloader.batch_size=64 model.encoder.hidden_size=16 model.encoder.num_layers=2
        model.encoder.num_heads=2)
    run "${LIMIT:-200}" "$name" python3 -m kovilt train "$config" --amp --work-dir "$out/$name" --cfg-options \
        train_cfg.max_epochs=1 load_from=None train_dataloader.num_workers="$(nproc)" "${size[@]}" "$@"
    tail -n 3 "$out/$name/metrics.jsonl"
}

for name in "$@"; do "$name"; done
[ ${#failed[@]} -eq 0 ] || echo "failed: ${failed[*]}"
[ ${#failed[@]} -eq 0 ]
