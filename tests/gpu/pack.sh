#!/usr/bin/env bash
# Gather what a machine with one GPU lacks, for a machine without a network: tests/gpu/pack.sh [FOLDER]
# Any Python from 3.11 on with pip will do. docs/gpu.md says what the machine must have, and what to do with the pack.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec "${PYTHON:-python3}" -m tests.gpu.pack "${1:-build/gpu/pack}" "${@:2}"
