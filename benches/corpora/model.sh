#!/bin/sh
# Weights of a model: model.sh DIR [BYTES]. Fetches the numpy whose random stream the recipe fixes.
set -eu
out=${1:?usage: model.sh DIR [BYTES]}
venv=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$venv"' EXIT
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --only-binary :all: numpy==2.2.6
"$venv/bin/python3" "$(dirname "$0")/model.py" "$@"
