#!/usr/bin/env bash
# What one GPU shows, in at most seven minutes: tests/gpu/run.sh [--out FOLDER] [--only PART,…]; docs/gpu.md
set -euo pipefail
cd "$(dirname "$0")/../.."
exec "${PYTHON:-python3}" -m tests.gpu.run "$@"
