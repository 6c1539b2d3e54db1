#!/bin/bash
# Installs the Debian packages of the lists that are named, as far as they are missing:
#   tests/packages.sh build demo test
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")

missing=()
for list in "$@"; do
    while read -r package; do
        if [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) != installed ]]; then
            missing+=("$package")
        fi
    done < <(grep -v '^#' "$here/packages/$list.txt")
done
if ((${#missing[@]} == 0)); then
    exit 0
fi
if ((EUID != 0)); then
    echo "packages are missing, run as root: apt-get install ${missing[*]}" >&2
    exit 1
fi
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq -y install --no-install-recommends "${missing[@]}" >/dev/null
