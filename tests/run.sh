#!/bin/bash
# All tests of coapgw on a Debian 12 machine, as root:
#
#   tests/run.sh         everything, about 16 minutes on two cores
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
fuzz_seconds=${FUZZ_SECONDS:-45}

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
        tail -n 60 "$log" | sed 's/^/        /'
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

# build PRESET ARGUMENTS...
build() {
    cmake --preset "$1" && cmake --build --preset "$@"
}

# side_by_side: how many end-to-end tests at a time. They wait most of the time; each may want 1 GiB.
side_by_side() {
    local most room
    most=$((3 * $(nproc)))
    room=$(awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo)
    echo $((room < 1 ? 1 : room < most ? room : most))
}

# unit PRESET: all that ctest knows, the simulator's seeds among it. Some wait for a Redis or a clock.
unit() {
    local line total bad
    step "ctest-$1" ctest --test-dir "build/$1" --output-on-failure --no-tests=error \
        --parallel $((2 * $(nproc)))
    line=$(grep -E 'tests? failed out of' "$log" || true)
    total=$(grep -oE 'out of [0-9]+' <<<"$line" | grep -oE '[0-9]+' || echo 0)
    bad=$(number_before 'tests? failed' "$line")
    count_cases $((total - bad)) "$bad"
}

# pytest_run NAME BINARY MARKS ARGUMENTS...
pytest_run() {
    local name=$1 binary=$2 marks=$3 line
    shift 3
    rm -f "$logs/$name.xml"
    step "$name" env COAPGW="$binary" /usr/bin/python3 -B -m pytest -p no:cacheprovider -q -rsf \
        --durations=15 --junitxml="$logs/$name.xml" -m "$marks" "$@" tests/e2e
    line=$(tail -n 1 "$log")
    count_cases "$(number_before passed "$line")" \
        $(($(number_before failed "$line") + $(number_before 'errors?' "$line")))
    printf '        %s\n' "$line"
}

# e2e NAME BINARY [MARK]: side by side.
e2e() {
    pytest_run "e2e-$1" "$2" "${3:+$3 and }not alone" -n "$(side_by_side)" --dist loadgroup
}

# e2e_alone NAME BINARY [MARK]: those that want the machine for themselves.
e2e_alone() {
    pytest_run "e2e-$1-alone" "$2" "${3:+$3 and }alone"
}

# beside COMMAND...: checks in the background, with what the tests in the foreground leave of the
# CPUs. joined: waits for them and counts them.
beside() {
    rm -f "$logs/beside"
    counted "$@" &
}

counted() {
    local passed=0 failed=0
    renice -n 19 -p "$BASHPID" >/dev/null
    "$@"
    echo "$passed $failed" >"$logs/beside"
}

joined() {
    local ok=0 bad=1
    wait
    read -r ok bad <"$logs/beside" || true
    passed=$((passed + ok))
    failed=$((failed + bad))
}

other_builds() {
    check build-debug build debug
    check build-clang build clang
    check build-fuzz build fuzz --target tests/fuzz/all
}

# Each behaviour in tests/conformance.tsv, by the results of ctest and of the end-to-end suite.
conformance() {
    local line
    step conformance /usr/bin/python3 -B tests/conformance.py --pytest "$logs/e2e-release.xml" \
        --pytest "$logs/e2e-release-alone.xml" --ctest build/release/Testing/Temporary/LastTest.log
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

# fuzzed PROCESS OUTPUT: waits for one that runs.
fuzzed() {
    local status=0
    wait "$1" || status=$?
    cat "$2"
    return "$status"
}

# fuzz_all: all targets at the same time, each is a test.
fuzz_all() {
    local target name names=()
    local -A processes
    while read -r target; do
        name=$(basename "$target")
        names+=("$name")
        fuzz "$target" >"$logs/$name.out" 2>&1 </dev/null &
        processes[$name]=$!
    done < <(find build/fuzz/tests/fuzz -maxdepth 1 -type f -executable | sort)
    for name in "${names[@]}"; do
        check "$name" fuzzed "${processes[$name]}" "$logs/$name.out"
        rm -f "$logs/$name.out"
    done
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
    e2e core build/release/coapgw core
    e2e_alone core build/release/coapgw core
    finish
    exit
fi

beside other_builds
e2e release build/release/coapgw
joined
e2e_alone release build/release/coapgw
conformance
check compare-smoke bench/compare.sh --smoke --json "$logs/compare.json" --plots "$logs/compare"
unit debug
e2e sanitizers build/debug/coapgw core
e2e_alone sanitizers build/debug/coapgw core
fuzz_all
finish
