#!/bin/sh
# Install what the peers need, beside them: the Node clients, and the naive script's own, newest libraries.
# Usage: sh benchmarks/peers/install.sh [PYTHON], with the Python that the benchmark is going to run on.
set -eu
here=$(dirname "$0")
python=${1:-python3}
site=$here/site/$("$python" -c "import sys; print(sys.implementation.cache_tag)")
"$python" -m pip install --quiet --no-warn-conflicts --upgrade --target "$site" -r "$here/requirements.txt"
if command -v npm >/dev/null; then
  cd "$here" && npm ci --no-audit --no-fund
else
  echo "npm is not here: the Node peers will not run"
fi
