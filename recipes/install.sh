#!/bin/sh
# Installs the Debian packages that the given files name, one a line: those that are missing. As root, or with sudo.
#     sh recipes/install.sh recipes/packages
set -eu
wanted=$(sed 's/#.*//' "$@")
missing=
for package in $wanted; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || status=
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
sudo=
[ "$(id -u)" -eq 0 ] || sudo=sudo
$sudo apt-get update -q
# shellcheck disable=SC2086
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
