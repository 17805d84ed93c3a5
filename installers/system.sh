#!/bin/sh
# System packages that the tests can use, installed where this user may: Chromium for the browser tests, fonts so that
# pages have text, a C++ compiler for the model runtime. What cannot be installed is said, and is never an error.
set -eu

missing=""
need() { # PACKAGE COMMAND...: any one of the commands will do
    package=$1
    shift
    for command in "$@"; do
        if command -v "$command" >/dev/null 2>&1; then
            return 0
        fi
    done
    missing="$missing $package"
}

need chromium chromium chromium-browser google-chrome
need g++ c++ g++ clang++
need cmake cmake
ls /usr/share/fonts/truetype/* >/dev/null 2>&1 || ls /usr/share/fonts/TTF >/dev/null 2>&1 || missing="$missing fonts-dejavu-core"

[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "system: not here and not installable by this user:$missing"
    echo "        without chromium the browser tests skip; without g++ the agent works by rules and questions"
    exit 0
fi
echo "system: installing$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of words is meant
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    echo "system: apt-get could not install:$missing; going on without (browser tests skip, no compiler means no model)"
fi
