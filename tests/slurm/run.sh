#!/bin/bash
# Runs the job that `mrpo launch slurm` renders on a real SLURM of three nodes on this machine, from start to end.
#
#   run.sh resume             the wall-clock signal, a requeue, and a second attempt that goes on (a counter, no training)
#   run.sh rollout-nodes      the same as a heterogeneous job: a trainer node and a rollout node
#   run.sh seeds              the same as a job array: two jobs at once on one machine
#   run.sh lost-node          a node that never joins is named, and left out of the next attempt (a counter, no training)
#   run.sh train [key=value…] the real `mrpo train` on two nodes: preempted by `scancel --signal` after its third step, later
#                             signalled before its wall-clock limit, requeued each time, and every step once in the end
#   run.sh train-apart …      the same as a heterogeneous job: a trainer node and a rollout node
#   run.sh compare            a grid of two cells, as `mrpo compare` submits it, with the real `mrpo train`: one task after
#                             the other, none submitted twice, and compared in the end
#
# FOLDER (default: a new temporary one, kept only if something fails) gets all files. TIME_LIMIT and SAVE_SECONDS set when
# the signal comes. Needs what cluster.sh needs, and mrpo on the PATH.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
scenario=${1:-resume}
shift || true
folder=${FOLDER:-$(mktemp -d /tmp/mrpo-slurm-XXXXXX)}
mkdir -p "$folder/bin" "$folder/lab"

fail() {
  echo "FAILED: $*. Everything is in $folder" >&2
  for log in "$folder"/lab/logs/*.log "$folder"/lab/logs/*/*/train.log; do
    printf '\n== %s\n' "$log"
    tail -n 40 "$log"
  done >&2
  exit 1
}

trap '"$here/cluster.sh" down "$folder/slurm"' EXIT
"$here/cluster.sh" up "$folder/slurm"
export SLURM_CONF=$folder/slurm/slurm.conf

setup=()
if [[ "$scenario" != train* && "$scenario" != compare ]]; then # the counter and the broken node come first on the job's PATH
  printf '#!/bin/bash\nexec python %s "$@"\n' "$here/counting_fault_injection.py" > "$folder/bin/mrpo"
  cp "$here/ray_fault_injection.sh" "$folder/bin/ray"
  chmod +x "$folder/bin/"*
  setup=("export REAL_RAY=$(command -v ray)" "export PATH=$folder/bin:\$PATH")
  [ "$scenario" != lost-node ] || setup+=("export BROKEN_NODE=n2")
fi
case $scenario in
  rollout-nodes | train-apart) nodes='{trainer: {nodes: 1, cpus_per_node: 2}, rollout: {nodes: 1, cpus_per_node: 2}' ;;
  compare) nodes='{at_once: 1, trainer: {nodes: 1, cpus_per_node: 2}' ;;
  seeds) nodes='{seeds: [0, 1], trainer: {nodes: 1, cpus_per_node: 2}' ;;
  *) nodes='{trainer: {nodes: 2, cpus_per_node: 2, partition: main}' ;;
esac
[ "$scenario" != compare ] || TIME_LIMIT=${TIME_LIMIT:-00:20:00} # none is out of time
if [[ "$scenario" = train* ]]; then
  TIME_LIMIT=${TIME_LIMIT:-00:04:00} SAVE_SECONDS=${SAVE_SECONDS:-120}
  steps=${STEPS:-40}
  [ $# -gt 0 ] || set -- recipe=quickstart
  [ "$scenario" = train-apart ] || set -- "$@" trainer.nnodes=2 trainer.n_gpus_per_node=1
  set -- "$@" trainer.total_training_steps="$steps" interrupt.grace=90 interrupt.slurm_margin=60
fi
lines=$(printf "'%s', " "${setup[@]}")
cat > "$folder/lab/slurm.yaml" << YAML
$nodes, setup: [${setup:+$lines}],
 time: "${TIME_LIMIT:-00:05:00}", save_seconds: ${SAVE_SECONDS:-150}, join_seconds: ${JOIN_SECONDS:-90}, attempts: 9}
YAML

cd "$folder/lab"
[ $# -gt 0 ] || set -- recipe=quickstart
if [ "$scenario" = compare ]; then
  grid() { # grid WHAT-IT-HAS-TO-SAY SETTING…
    local wanted=$1
    shift
    mrpo compare "$@" seed=0,1 trainer.total_training_steps="${STEPS:-2}" cluster=slurm.yaml \
      --out "$folder/grid" | tee "$folder/said"
    grep -q "$wanted" "$folder/said" || fail "mrpo compare did not say: $wanted"
  }
  grid '0 of 2 cells done, 2 submitted, 0 under way' "$@"
  grid '0 of 2 cells done, 0 submitted, 2 under way' "$@"
  for _ in $(seq "${SECONDS_TO_END:-900}"); do
    [ -n "$(squeue --me --noheader)" ] || break
    sleep 1
  done
  grid '2 of 2 cells done, 0 submitted, 0 under way' "$@"
  [ -s "$folder/grid/compare.md" ] || fail "there is no comparison"
  echo "ok: $scenario"
  [ -n "${FOLDER:-}" ] || rm -rf "$folder"
  exit
fi
mrpo launch slurm "$@" cluster=slurm.yaml run_dir="$folder/run" | tee "$folder/submitted"
job=$(grep -o '[0-9]*$' "$folder/submitted" | tail -n 1)
if [[ "$scenario" = train* ]]; then
  for _ in $(seq 240); do
    [ "$(wc -l 2> /dev/null < "$folder/run/metrics.jsonl" || echo 0)" -lt 3 ] || break
    sleep 1
  done
  scancel --signal=USR1 --batch "$job"
fi
for _ in $(seq "${SECONDS_TO_END:-900}"); do
  left=$(squeue --noheader --format=%T --job "$job" 2> /dev/null) || break
  [ -n "$left" ] || break
  sleep 1
done
[ -z "$left" ] || fail "job $job is $left"
cat logs/*.log
for log in logs/*.log; do
  grep -q 'mrpo train ended with 0' "$log" || fail "the last attempt did not end with 0"
  id=${log##*-}
  scratch=/tmp/mrpo-${id%.log}-
  ! pgrep -af "$scratch" || fail "processes are left"
  ! compgen -G "$scratch*" || fail "$scratch is left"
done

went_on() { # went_on RUN_FOLDER NODES
  grep -q 'mrpo train ended with 75' logs/*.log || fail "no attempt saved and asked to be requeued"
  python - "$1/count.json" "$2" << 'PY' || fail "the counter of $1 did not go on"
import json, sys
first, second = json.load(open(sys.argv[1]))
assert first["to"] > 0 and second["from"] == first["to"], (first, second)
assert all(a["nodes"] == a["ran_on"] and len(a["nodes"]) == int(sys.argv[2]) for a in (first, second)), (first, second)
PY
}

every_step_once() { # every_step_once RUN_FOLDER STEPS
  [ "$(grep -c 'mrpo train ended with 75' logs/*.log)" -ge 2 ] || fail "it was not preempted and then out of time"
  python - "$1" "$2" << 'PY' || fail "a step is lost, or was made twice"
import json, sys
from pathlib import Path
run, steps = Path(sys.argv[1]), int(sys.argv[2])
made = [json.loads(line)["step"] for line in open(run / "metrics.jsonl")]
resumed = [e["detail"] for e in map(json.loads, open(run / "events.jsonl")) if e["phase"] == "resume"]
print(f"steps {made[0]} to {made[-1]}, each once; resumed: {resumed}")
assert made == list(range(1, steps + 1)), made
assert sorted(int(file.stem) for file in (run / "rollouts").iterdir()) == made
PY
}

case $scenario in
  train*) every_step_once "$folder/run" "$steps" ;;
  resume) went_on "$folder/run" 2 ;;
  rollout-nodes) went_on "$folder/run" 2 && grep -q '"mrpo_rollout": "n[1-3]"' "$folder/run/count.json" ;;
  seeds)
    went_on "$folder/run-seed-0" 1 && went_on "$folder/run-seed-1" 1
    ! grep 'pending execution' logs/*.log || fail "one task's requeue touched the other"
    ;;
  lost-node)
    grep -q 'these nodes have not joined Ray: n2' logs/*.log || fail "the lost node was not named"
    grep -q 'on n1 n3,' logs/*.log || fail "the next attempt was not on the other nodes"
    ;;
esac
echo "ok: $scenario"
[ -n "${FOLDER:-}" ] || rm -rf "$folder"
