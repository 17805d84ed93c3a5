#!/bin/sh
# Finds a Python that the project supports (3.11 or 3.12) and hands over to setup.py. Arguments are passed on.
set -eu
cd "$(dirname "$0")/.."

supported() {
    "$1" -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] < (3, 13))' >/dev/null 2>&1
}

# An environment that works already is the quickest way; $PYTHON overrides for a new one. A name on PATH may be a shim that
# does not run, so each is tried.
for python in .venv/bin/python "${PYTHON:-}" python3.12 python3.11 python3 python; do
    if [ -n "$python" ] && supported "$python"; then
        exec "$python" -I installers/setup.py "$@"
    fi
done

cat >&2 <<'EOF'
setup: no Python 3.11 or 3.12 was found.
  What to do: install one and run the same command again.
    Debian, Ubuntu:  apt-get install python3 python3-venv
    Fedora:          dnf install python3.12
    elsewhere:       any build of Python 3.12; name it with  make demo PYTHON=/path/to/python3.12
  Python 3.13 and later do not work yet, because one dependency has no build for them.
EOF
exit 1
