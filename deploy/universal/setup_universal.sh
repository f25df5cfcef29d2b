#!/bin/bash
# Installs the pinned versions that the image does not bring along, and says which versions count. Safe to run again.
# Put `setup_universal` at the head of a setup script where a pin is not among those of versions.env: what it installs is
# then part of the snapshot. Needs a network for what is missing, and nothing for what is there.
set -euo pipefail

# shellcheck source=pins.sh
. /etc/profile.d/carrel-universal.sh

install_with_mise() {
  local tool=$1 version=$2
  if mise where "$tool@$version" >/dev/null 2>&1; then
    echo "$tool $version: there"
  else
    echo "$tool $version: installing"
    mise install "$tool@$version"
  fi
}

for tool in python node go swift ruby php java; do
  variable="MISE_${tool^^}_VERSION"
  if [[ -n ${!variable:-} ]]; then
    install_with_mise "$tool" "${!variable}"
  fi
done

if [[ -n ${RUSTUP_TOOLCHAIN:-} ]]; then
  if rustup run "$RUSTUP_TOOLCHAIN" rustc --version >/dev/null 2>&1; then
    echo "rust $RUSTUP_TOOLCHAIN: there"
  else
    echo "rust $RUSTUP_TOOLCHAIN: installing"
    rustup toolchain install --no-self-update --profile default "$RUSTUP_TOOLCHAIN"
  fi
fi

mise reshim
