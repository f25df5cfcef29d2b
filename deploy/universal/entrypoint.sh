#!/bin/bash
# For `docker run`: installs what is pinned, then runs the given command, or a shell, in a login shell. Carrel does not
# run the entry point of images; its commands are run by login shells, which read the pins by themselves.
set -euo pipefail

/usr/local/bin/setup_universal
if [[ $# -eq 0 ]]; then
  exec bash --login
fi
exec bash --login -c 'exec "$@"' bash "$@"
