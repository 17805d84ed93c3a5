#!/bin/sh
# System packages that the tests use, installed where this user may: Chromium for the browser tests, fonts so that
# pages have text, a C++ compiler for the model runtime, a mailbox server for the mail tools, a session bus and a
# notification daemon with a screen that nobody sees for the desktop's, git and npm for MCP servers by others. What
# cannot be installed is said, and is never an error.
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
need dovecot-imapd /usr/lib/dovecot/imap /usr/libexec/dovecot/imap
need dbus dbus-daemon
need dunst dunst
need xvfb Xvfb
need git git
need npm npm
ls /usr/share/fonts/truetype/* >/dev/null 2>&1 || ls /usr/share/fonts/TTF >/dev/null 2>&1 || missing="$missing fonts-dejavu-core"

[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "system: not here and not installable by this user:$missing"
    echo "        without chromium the browser tests skip; without g++ the agent works by rules and questions;"
    echo "        without dovecot-imapd, dbus, dunst, xvfb, git and npm the tests of mail, notifications and MCP fail"
    exit 0
fi
echo "system: installing$missing"
log=$(mktemp)
# Debian starts a service as it installs it, and at every boot. The tests start a Dovecot of their own: this one stays down.
quiet=/usr/sbin/policy-rc.d
if [ -e "$quiet" ]; then
    quiet=""
else
    printf '#!/bin/sh\nexit 101\n' >"$quiet"
    chmod 755 "$quiet"
fi
trap 'rm -f "$log" $quiet' EXIT
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of words is meant
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    echo "system: apt-get could not install:$missing; going on without (browser tests skip, no compiler means no model)"
fi
case "$missing" in
*dovecot*) systemctl disable dovecot.service dovecot.socket >/dev/null 2>&1 || true ;;
esac
