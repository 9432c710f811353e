#!/usr/bin/env bash
# packages.sh NEEDED:PACKAGE…: installs Debian's packages for what is needed and is not here: a command, or a file by its absolute path, in which *
# may stand. Says what is missing still, and then fails.
set -uo pipefail

is_here() { # COMMAND or PATH
    case $1 in
    /*) compgen -G "$1" >/dev/null ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

missing() { # prints the packages of what is not here
    local needed
    for needed in "$@"; do
        is_here "${needed%:*}" || echo "${needed##*:}"
    done
}

packages=$(missing "$@")
[ -n "$packages" ] || exit 0
# shellcheck disable=SC2086 # A list of packages.
said=$({ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages; } 2>&1 </dev/null)
packages=$(missing "$@")
[ -n "$packages" ] || exit 0
# shellcheck disable=SC2086 # A list of packages.
echo "Not here, and could not be installed (Debian's names):" $packages >&2
[ -z "$said" ] || echo "apt-get says: $(tail -n 1 <<<"$said")" >&2
echo "As root: apt-get install" $packages >&2
exit 1
