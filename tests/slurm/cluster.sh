#!/bin/bash
# A real SLURM of three nodes, n1 to n3, that are all this machine: cluster.sh up FOLDER | down FOLDER.
# Needs Debian's slurm-wlm and munge, and root. Everything it makes lies in FOLDER; clients need SLURM_CONF=FOLDER/slurm.conf.
set -euo pipefail
action=$1
folder=$(realpath -m "$2")
here=$(dirname "$(realpath "$0")")

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

up() {
  mkdir -p "$folder/state" "$folder/spool/"n{1,2,3}
  chmod 755 "$folder"
  (umask 077 && head -c 1024 /dev/urandom > "$folder/munge.key")
  munged --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munge.seed" --num-threads=2
  ports=$(free_port),$(free_port),$(free_port)
  sed -e "s|@DIR@|$folder|g" -e "s|@HOST@|$(hostname)|g" -e "s|@PORT@|$(free_port)|" -e "s|@NODE_PORTS@|$ports|" \
    "$here/slurm.conf.in" > "$folder/slurm.conf"
  export SLURM_CONF=$folder/slurm.conf
  slurmctld
  for node in n1 n2 n3; do slurmd -N "$node"; done
  for _ in $(seq 60); do
    [ "$(sinfo --noheader --Node --format=%N --states=idle 2> /dev/null | wc -l)" = 3 ] && return
    sleep 1
  done
  sinfo
  echo "SLURM's nodes did not get ready; logs: $folder" >&2
  return 1
}

down() {
  for file in "$folder"/slurmctld.pid "$folder"/slurmd.*.pid "$folder"/munged.pid; do
    [ ! -s "$file" ] || kill "$(cat "$file")" 2> /dev/null || true
  done
}

"$action"
