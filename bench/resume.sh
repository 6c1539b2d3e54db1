#!/bin/bash
# How long the gateway takes to resume many observe relations after a kill, with what memory, and how
# other requests fare meanwhile. The machine should have nothing else to do. As root:
#
#   bench/resume.sh [BUILD [RELATIONS [SPREAD [WORKERS]]]]
#
# BUILD is the build directory (build/release), RELATIONS as many devices of a simulated fleet
# (200000), SPREAD is store.resume_spread (10s).
set -euo pipefail

cd "$(dirname "$(readlink -f "$0")")/.."

build=$(readlink -f "${1:-build/release}")
COAPGW=$build/coapgw COAPGW_RELATIONS=${2:-200000} COAPGW_SPREAD=${3:-10s} COAPGW_WORKERS=${4:-1} \
    /usr/bin/python3 -B -m pytest -p no:cacheprovider -q -s tests/e2e/test_resume.py
