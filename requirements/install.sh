#!/usr/bin/env bash
# Install a lock's packages into a Python environment: requirements/install.sh cpu|gpu PYTHON
# Nothing is installed, or run while something is built, whose hash isn't in the locks.
set -euo pipefail
cd "$(dirname "$0")"
device=$1 python=$2 torch_index=${TORCH_CPU_INDEX:-https://download.pytorch.org/whl/cpu}
lists=$(mktemp -d)
trap 'rm -rf "$lists"' EXIT
pip() { "$python" -m pip --disable-pip-version-check -qq "$@"; }
install() { pip install --no-deps --require-hashes "$@"; }

# uv installs the others. There are no wheels of antlr4's runtime and flash-attn: they are built by what has been
# installed by then, setuptools and torch among it.
awk -v to="$lists" '/^[^ #]/ { list = /^uv==/ ? "uv" : /^(antlr4-python3-runtime|flash-attn)==/ ? "built" : "wheels" }
  list { print > (to "/" list ".txt") }' "$device.txt"

if test "$device" = cpu; then
  echo "installing torch …"
  # From wherever pip finds this build, else from PyTorch's index, which then isn't asked for each of the other packages.
  install -r torch-cpu.txt 2>/dev/null || install --index-url "$torch_index" -r torch-cpu.txt
fi

# uv takes a quarter of pip's time. It reads no settings of pip's but the index that is handed to it here, so where it
# doesn't find everything, pip may.
by_uv() {
  local index compile=(--compile-bytecode)
  install -r "$lists/uv.txt" || return
  index=${PIP_INDEX_URL:-$(pip config get global.index-url 2>/dev/null || true)}
  test -z "$index" || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"
  test "${PIP_COMPILE:-1}" != 0 || compile=()
  "$python" -m uv pip install -q --python "$python" --no-deps --require-hashes --only-binary :all: "${compile[@]}" \
    -r "$lists/wheels.txt"
}

echo "installing $(grep -c '==' "$device.txt") pinned packages, a minute or two …"
{ test -e "$lists/uv.txt" && by_uv; } || install --only-binary :all: -r "$lists/wheels.txt"
install --no-build-isolation -r "$lists/built.txt"
