#!/usr/bin/env bash
# Runs every fuzz target for some seconds: `fuzz/run.sh [SECONDS [TARGET...]]`. Works on a stable toolchain: no sanitizer
# beyond what libFuzzer and the overflow checks see. Needs cargo-fuzz; what a run finds is left in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-10}
shift || true
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    mapfile -t targets < <(cargo fuzz list)
fi
passed=0 failed=0
for target in "${targets[@]}"; do
    # 4 kB a case: long inputs only slow the search down; -rss_limit_mb catches allocations beyond reason.
    mkdir -p "fuzz/corpus/$target" fuzz/target
    corpus=("fuzz/corpus/$target")
    if [ -d "fuzz/seeds/$target" ]; then
        corpus+=("fuzz/seeds/$target")
    fi
    if cargo fuzz run -s none "$target" "${corpus[@]}" -- -max_total_time="$seconds" -max_len=4096 -rss_limit_mb=1024 -timeout=10 \
        >"fuzz/target/$target.log" 2>&1; then
        passed=$((passed + 1))
        echo "fuzz $target: ok, $(grep -o 'Done [0-9]* runs.*' "fuzz/target/$target.log" || true)"
    else
        failed=$((failed + 1))
        echo "fuzz $target: FAILED"
        tail -n 40 "fuzz/target/$target.log"
    fi
done
echo "fuzz: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
