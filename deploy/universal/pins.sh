# Language pins of the universal image. Sourced by every login shell (as /etc/profile.d/carrel-universal.sh), so a pin
# counts in setup, in maintenance and for the agent, without anything having been run before.
#
# CARREL_ENV_<LANGUAGE>_VERSION chooses the version of a language; CODEX_ENV_<LANGUAGE>_VERSION is heard where that is
# not set. A pin wins over files of the repository such as .tool-versions and rust-toolchain.toml.

export MISE_DATA_DIR=/opt/mise
export RUSTUP_HOME=/opt/rustup
# Corepack neither asks nor writes `packageManager` into a repository.
export COREPACK_ENABLE_DOWNLOAD_PROMPT=0 COREPACK_ENABLE_AUTO_PIN=0

case ":$PATH:" in
  *:/opt/mise/shims:*) ;;
  *) PATH="/opt/mise/shims:/opt/rustup/bin:${HOME:-/}/.local/bin:$PATH" ;;
esac
export PATH

# carrel_pin LANGUAGE VARIABLE: the pin of a language into what its version manager reads.
carrel_pin() {
  eval "carrel_pinned=\${CARREL_ENV_${1}_VERSION:-\${CODEX_ENV_${1}_VERSION:-}}"
  # shellcheck disable=SC2154 # set by the line above
  case "$carrel_pinned" in
    '') ;;
    *[!A-Za-z0-9.+_-]*) echo "carrel: the pin of $1 is no version; it does not count" >&2 ;;
    *) export "$2=$carrel_pinned" ;;
  esac
  unset carrel_pinned
}

carrel_pin PYTHON MISE_PYTHON_VERSION
carrel_pin NODE MISE_NODE_VERSION
carrel_pin GO MISE_GO_VERSION
carrel_pin SWIFT MISE_SWIFT_VERSION
carrel_pin RUBY MISE_RUBY_VERSION
carrel_pin PHP MISE_PHP_VERSION
carrel_pin JAVA MISE_JAVA_VERSION
carrel_pin RUST RUSTUP_TOOLCHAIN
unset -f carrel_pin
