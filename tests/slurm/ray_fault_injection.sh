#!/bin/bash
# Fault injection: a `ray` that never joins on the SLURM node named in BROKEN_NODE, and the real one elsewhere.
if [ "${SLURMD_NODENAME:-}" = "${BROKEN_NODE:-}" ] && [ "$1" = start ]; then exec sleep 3600; fi
exec "$REAL_RAY" "$@"
