#!/bin/bash
# Run as the last step of the build, by a login shell of the ordinary user: every tool answers, and a pin of every
# language counts. A build whose image would not do what README.md says fails here.
set -euo pipefail

# shellcheck source=versions.env
. /opt/carrel/versions.env

for command in \
  "python3 --version" "pip --version" "uv --version" "poetry --version" "pipenv --version" "node --version" \
  "npm --version" "pnpm --version" "yarn --version" "bun --version" "rustc --version" "cargo --version" "go version" \
  "ruby --version" "bundle --version" "php --version" "composer --version" "java -version" "gradle --version" \
  "mvn --version" "git --version" "rg --version" "make --version" "gcc --version"; do
  echo "== $command"
  $command
done
if [[ $(uname -m) = x86_64 ]]; then
  swift --version
fi

# pinned LANGUAGE VERSION COMMAND: a login shell with that pin says that version.
pinned() {
  local said
  said=$(env "CARREL_ENV_$1_VERSION=$2" bash --login -c "$3" 2>&1)
  case "$said" in
    *"$2"*) echo "pin of $1 at $2: counts" ;;
    *) echo "pin of $1 at $2 does not count: $said" >&2 && exit 1 ;;
  esac
}
pinned PYTHON "${PYTHON_VERSIONS##* }" "python --version"
pinned NODE "${NODE_VERSIONS##* }" "node --version"
pinned RUST "${RUST_VERSIONS##* }" "rustc --version"
pinned GO "${GO_VERSIONS##* }" "go version"
pinned RUBY "${RUBY_VERSIONS##* }" "ruby --version"
pinned PHP "${PHP_VERSIONS##* }" "php --version"
pinned JAVA "${JAVA_VERSIONS##* }" "java -version"
