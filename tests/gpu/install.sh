#!/usr/bin/env bash
# Join this folder's parts, check them, and install them into a new folder, beside what this machine's Python has:
#   install.sh FOLDER CHECKOUT [COMMAND …]      COMMAND is then started in CHECKOUT, with FOLDER/bin in front of PATH
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$1 checkout=$(cd "$2" && pwd)
shift 2
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' || { echo "$python is not Python 3.12"; exit 2; }

(cd "$here" && sha256sum --quiet --check SHA256SUMS)
"$python" -m venv --without-pip "$folder"
site=$("$folder/bin/python" -c 'import site; print(site.getsitepackages()[0])')
cat "$here"/site.tar.xz.* | "$python" -c '
import sys, tarfile
with tarfile.open(fileobj=sys.stdin.buffer, mode="r|xz") as archive:
    archive.extractall(sys.argv[1], filter="fully_trusted")' "$site"
# What the machine has comes after the pack; "$python" may be of a virtual environment itself.
"$python" -c 'import site; print(*(f"import site; site.addsitedir({p!r})" for p in site.getsitepackages()), sep="\n")' >"$site/there.pth"
"$folder/bin/python" - "$here/there.txt" <<'EOF'
import importlib.metadata, sys
def lacks(name):
    try:
        return not importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return True
if missing := [name for name in open(sys.argv[1]).read().split() if lacks(name)]:
    sys.exit(f"this machine's Python lacks {', '.join(missing)}, which the pack relies on")
EOF
echo "$checkout" >"$site/mrpo.pth"
printf '#!/bin/sh\nexec "%s" -m mrpo.cli.main "$@"\n' "$(cd "$folder" && pwd)/bin/python" >"$folder/bin/mrpo"
chmod +x "$folder/bin/mrpo"
"$folder/bin/python" -m compileall -q -j 0 "$site" >/dev/null || true # some packages hold templates that aren't Python
echo "installed into $folder"
if [ $# -gt 0 ]; then
  cd "$checkout"
  PATH=$(cd "$folder" && pwd)/bin:$PATH exec "$@"
fi
