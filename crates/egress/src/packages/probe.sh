#!/bin/sh
# shellcheck disable=SC2317 # the probes are called by a computed name
# Asks the package managers of an image which hosts they are configured for. One line an answer:
#   tool TAB kind TAB value
# `here` says that the tool is installed, `index` gives an address, `file` begins a configuration file whose lines
# follow as `line`; the other kinds are a tool's own words, read in `reading.rs`. Tools that are missing say nothing.
# Runs in `/`, as the user that commands run as, before anything of a repository is there: a repository must not name
# hosts. Tools are asked at once and side by side; each printf is one short write, so lines stay whole. Arguments name the tools to ask; without any, all.

cd / || exit 1
: "${HOME:=/}"
LC_ALL=C
COREPACK_ENABLE_NETWORK=0
COREPACK_ENABLE_DOWNLOAD_PROMPT=0
COMPOSER_ALLOW_SUPERUSER=1
DOTNET_NOLOGO=1
DOTNET_CLI_TELEMETRY_OPTOUT=1
GOTOOLCHAIN=local
NO_COLOR=1
export HOME LC_ALL COREPACK_ENABLE_NETWORK COREPACK_ENABLE_DOWNLOAD_PROMPT COMPOSER_ALLOW_SUPERUSER
export DOTNET_NOLOGO DOTNET_CLI_TELEMETRY_OPTOUT GOTOOLCHAIN NO_COLOR

has() { command -v "$1" >/dev/null 2>&1; }

exec 3>&1

# ask PROGRAM ARGUMENT...: what it prints. One that takes too long is told as `late`, past the pipe that it writes into.
if has timeout; then
  ask() {
    timeout 10 "$@" </dev/null 2>/dev/null 3>&-
    # 124 from coreutils, 143 from busybox.
    case $? in 124 | 143) printf '%s\tlate\t\n' "$tool" >&3 ;; esac
  }
else
  ask() { "$@" </dev/null 2>/dev/null 3>&-; }
fi

# tell TOOL KIND: each line of the input as an answer.
tell() {
  head -n 200 | cut -c 1-800 | while IFS= read -r line || [ -n "$line" ]; do
    printf '%s\t%s\t%s\n' "$1" "$2" "$line"
  done
}

here() { printf '%s\there\t\n' "$1"; }

# show TOOL PATTERN FILE...: the lines of those files that match. What looks like a password stays inside.
show() {
  tool=$1
  pattern=$2
  shift 2
  for file in "$@"; do
    if [ ! -f "$file" ] || [ ! -r "$file" ]; then continue; fi
    printf '%s\tfile\t%s\n' "$tool" "$file"
    head -c 65536 "$file" | grep -E "$pattern" |
      sed -E "s/((token|secret|password)[A-Za-z_-]*\"?[[:space:]]*[=:][[:space:]]*)(\"[^\"]*\"|'[^']*')/\1\"\"/g" |
      tell "$tool" line
  done
}

probe_npm() {
  has npm || return
  here npm
  ask npm config get registry | tell npm index
  ask npm config ls | grep ':registry' | tell npm scope
}

probe_pnpm() {
  has pnpm || return
  here pnpm
  ask pnpm config get registry | tell pnpm index
  ask pnpm config list | grep ':registry' | tell pnpm scope
}

probe_yarn() {
  has yarn || return
  here yarn
  case "$(ask yarn --version)" in
    0.* | 1.*) ask yarn config get registry | tell yarn index ;;
    *)
      ask yarn config get npmRegistryServer | tell yarn index
      ask yarn config get npmScopes --json | tell yarn scopes
      ;;
  esac
}

probe_pip() {
  if has pip3; then
    set -- pip3
  elif has pip; then
    set -- pip
  elif has python3 && [ -n "$(ask python3 -m pip --version)" ]; then
    set -- python3 -m pip
  else
    return
  fi
  here pip
  ask "$@" config list | grep -E '(index-url|find-links|no-index)=' | tell pip config
  # The help names the address that is in force, be it built in or configured.
  COLUMNS=800 ask "$@" install --help |
    sed -n 's/.*Base URL of the Python Package Index (default \([^)]*\)).*/\1/p' | tell pip index
}

probe_uv() {
  has uv || return
  here uv
  env | grep -E '^UV_(DEFAULT_INDEX|INDEX_URL|INDEX|EXTRA_INDEX_URL|FIND_LINKS|NO_INDEX)=' | tell uv env
  if [ -n "${UV_CONFIG_FILE:-}" ]; then
    show uv '' "$UV_CONFIG_FILE"
  else
    show uv '' "${XDG_CONFIG_HOME:-$HOME/.config}/uv/uv.toml" /etc/xdg/uv/uv.toml /etc/uv/uv.toml
  fi
}

probe_poetry() {
  has poetry || return
  here poetry
  ask poetry config --list | grep -E '^(repositories\.|plugins\.pypi_mirror)' | tell poetry config
  env | grep -E '^POETRY_(REPOSITORIES_[A-Z0-9_]+_URL|PYPI_MIRROR_URL)=' | tell poetry config
}

probe_cargo() {
  has cargo || return
  here cargo
  env | grep -E '^CARGO_REGISTRIES_[A-Z0-9_]+_INDEX=' | tell cargo env
  home=${CARGO_HOME:-$HOME/.cargo}
  # A `config` without an ending is the older name, and wins where both are there.
  for folder in /.cargo "$home"; do
    if [ -f "$folder/config" ]; then
      show cargo '' "$folder/config"
    else
      show cargo '' "$folder/config.toml"
    fi
  done
}

probe_apt() {
  has apt-get || return
  here apt
  ask apt-get update --print-uris -o Debug::NoLocking=1 |
    sed -n "s|^'\([a-z+]*://[^/']*\).*|\1/|p" | sort -u | tell apt index
}

probe_go() {
  has go || return
  here go
  ask go env GOPROXY | tell go proxy
  ask go env GOSUMDB | tell go sumdb
}

probe_maven() {
  has mvn || return
  here maven
  home=$(ask mvn -v | sed -n 's/^Maven home: //p')
  words='</?(mirror|repositor|pluginRepositor)|<(mirrorOf|url|blocked)>|<!--|-->'
  show maven "$words" "$HOME/.m2/settings.xml" "${home:-/usr/share/maven}/conf/settings.xml"
}

probe_gradle() {
  home=${GRADLE_USER_HOME:-$HOME/.gradle}
  has gradle || [ -d "$home" ] || return
  here gradle
  show gradle '://' "$home"/init.gradle "$home"/init.gradle.kts "$home"/init.d/*.gradle "$home"/init.d/*.gradle.kts \
    "${GRADLE_HOME:-/opt/gradle}"/init.d/*.gradle "${GRADLE_HOME:-/opt/gradle}"/init.d/*.gradle.kts
}

probe_gem() {
  has gem || return
  here gem
  ask gem sources --list | grep '://' | tell gem index
}

probe_bundler() {
  has bundle || return
  here bundler
  ask bundle config list --parseable | grep '^mirror\.' | tell bundler config
}

probe_composer() {
  has composer || return
  here composer
  ask composer config --global --no-interaction --no-plugins --list |
    grep -E '^\[repositories\..*url\]' | tell composer config
}

probe_nuget() {
  if has dotnet; then
    here nuget
    ask dotnet nuget list source --format short | tell nuget source
  elif has nuget; then
    here nuget
    ask nuget sources list -Format Short | tell nuget source
  fi
}

if [ $# -eq 0 ]; then
  set -- npm pnpm yarn pip uv poetry cargo apt go maven gradle gem bundler composer nuget
fi
for tool in "$@"; do
  "probe_$tool" &
done
wait
exit 0
