#!/usr/bin/env bash
# Installs the clients that we did not write into a folder, where the tests find them:
#     bash tests/external/install.sh FOLDER
# Prints assignments of the environment variables that tell the tests; everything else goes to stderr.
# May run again on the same folder. The AWS CLI gets a virtual environment of its own: it pins another
# botocore than aiobotocore does.
set -euo pipefail

if [ $# -ne 1 ]; then
    echo >&2 "usage: $0 FOLDER"
    exit 2
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)

if ! "$folder/aws/bin/aws" --version >&2 2>/dev/null; then
    "${PYTHON:-python3}" -m venv --clear "$folder/aws" >&2
    "$folder/aws/bin/python" -m pip install --quiet --disable-pip-version-check awscli >&2
    "$folder/aws/bin/aws" --version >&2
fi

if [ ! -f "$folder/node/node_modules/@aws-sdk/client-rum/package.json" ]; then
    mkdir -p "$folder/node"
    # A package.json of its own, so that npm does not look for one in the folders above.
    [ -f "$folder/node/package.json" ] || echo '{"private":true}' >"$folder/node/package.json"
    npm install --prefix "$folder/node" --loglevel=error --no-audit --no-fund --no-package-lock @aws-sdk/client-rum >&2
fi

printf 'RUMBUFFER_AWS_CLI=%q\n' "$folder/aws/bin/aws"
printf 'RUMBUFFER_NODE_MODULES=%q\n' "$folder/node/node_modules"
