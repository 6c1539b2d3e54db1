#!/bin/bash
# All tests of coapgw on a Debian 12 machine, as root:
#
#   tests/run.sh         everything, about half an hour on two cores
#   tests/run.sh quick   one build, its unit tests and the core of the end-to-end suite
#
# Missing packages are installed. Builds go to build/, the output of each step to build/logs/. The
# last line is the sum: "N passed, N failed"; the status is 0 when nothing failed.
set -euo pipefail

cd "$(dirname "$(readlink -f "$0")")/.."

mode=${1-full}
logs=build/logs
passed=0
failed=0
fuzz_seconds=${FUZZ_SECONDS:-30}

if [[ $mode != full && $mode != quick ]]; then
    sed -n '2,8s/^# \{0,1\}//p' "$0"
    exit 2
fi
if ((EUID != 0)); then
    echo "tests/run.sh: run it as root; the tests make network namespaces and devices" >&2
    exit 1
fi

# step NAME COMMAND...: runs it with its output in a log. Sets `status`; counts nothing.
step() {
    local name=$1 begun=$SECONDS
    shift
    log=$logs/$name.log
    status=0
    "$@" >"$log" 2>&1 </dev/null || status=$?
    if ((status == 0)); then
        printf 'ok      %-28s %4d s\n' "$name" $((SECONDS - begun))
    else
        printf 'FAILED  %-28s %4d s, status %d: %s\n' "$name" $((SECONDS - begun)) "$status" "$log"
        tail -n 40 "$log" | sed 's/^/        /'
    fi
}

# check NAME COMMAND...: a step that is one test.
check() {
    step "$@"
    if ((status == 0)); then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
    fi
}

# number_before WORD TEXT: the number that stands before a word, or 0.
number_before() {
    grep -oE "[0-9]+ $1" <<<"$2" | tail -n 1 | cut -d ' ' -f 1 | grep . || echo 0
}

# count_cases OK BAD: adds what a test runner has counted. A runner that failed without a failed
# case has failed itself.
count_cases() {
    passed=$((passed + $1))
    failed=$((failed + $2))
    if ((status != 0 && $2 == 0)); then
        failed=$((failed + 1))
    fi
}

build() {
    cmake --preset "$1" && cmake --build --preset "$1"
}

# unit PRESET: all that ctest knows, the simulator's seeds among it.
unit() {
    local line total bad
    step "ctest-$1" ctest --test-dir "build/$1" --output-on-failure --no-tests=error
    line=$(grep -E 'tests? failed out of' "$log" || true)
    total=$(grep -oE 'out of [0-9]+' <<<"$line" | grep -oE '[0-9]+' || echo 0)
    bad=$(number_before 'tests? failed' "$line")
    count_cases $((total - bad)) "$bad"
}

# e2e NAME BINARY PYTEST_ARGUMENTS...
e2e() {
    local name=$1 binary=$2 line
    shift 2
    rm -f "$logs/e2e-$name.xml"
    step "e2e-$name" env COAPGW="$binary" /usr/bin/python3 -B -m pytest -p no:cacheprovider -q -rsf \
        --durations=15 --junitxml="$logs/e2e-$name.xml" "$@" tests/e2e
    line=$(tail -n 1 "$log")
    count_cases "$(number_before passed "$line")" \
        $(($(number_before failed "$line") + $(number_before 'errors?' "$line")))
    printf '        %s\n' "$line"
}

# Each behaviour in tests/conformance.tsv, by the results of ctest and of the end-to-end suite.
conformance() {
    local line
    step conformance /usr/bin/python3 -B tests/conformance.py --pytest "$logs/e2e-release.xml" \
        --ctest build/release/Testing/Temporary/LastTest.log
    line=$(tail -n 1 "$log")
    count_cases "$(number_before passed "$line")" "$(number_before failed "$line")"
}

sources() {
    find config dpdk gateway modules bench tests tools -name "$1" -print0
}

format_check() {
    sources '*.[ch]' | xargs -0 clang-format --dry-run --Werror
}

# fuzz TARGET: in a folder of its own, which keeps what was found from run to run.
fuzz() {
    local target=$1 work
    work=build/fuzz/run/$(basename "$target")
    mkdir -p "$work"
    "$target" -max_total_time="$fuzz_seconds" -print_final_stats=1 -timeout=10 \
        -artifact_prefix="$work-" "$work"
}

finish() {
    echo "$passed passed, $failed failed"
    ((failed == 0))
}

mkdir -p "$logs"
step packages tests/packages.sh build demo test bench
((status == 0)) || exit 1

check build-release build release
unit release
check format format_check
check conformance-checker /usr/bin/python3 -B tests/conformance_test.py
check bench-report /usr/bin/python3 -B tests/report_test.py
check shellcheck shellcheck quickstart.sh tests/run.sh tests/packages.sh .ci/run bench/*.sh
if [[ $mode == quick ]]; then
    e2e core build/release/coapgw -m core
    finish
    exit
fi

check build-clang build clang
check compare-smoke bench/compare.sh --smoke --json "$logs/compare.json" --plots "$logs/compare"
check build-debug build debug
unit debug
check build-fuzz build fuzz
e2e release build/release/coapgw
conformance
e2e sanitizers build/debug/coapgw -m core
while read -r target; do
    check "$(basename "$target")" fuzz "$target"
done < <(find build/fuzz/tests/fuzz -maxdepth 1 -type f -executable)
finish
