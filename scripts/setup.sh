# Sourced by the scripts beside it: a virtual environment in .venv with ptproxy and what the caller needs.
#   . scripts/setup.sh; ptproxy_setup EXTRAS    EXTRAS as in pyproject.toml ("test,check"), or ""
# Leaves PY set to the environment's interpreter. Installs again only when pyproject.toml or the pins changed.

ptproxy_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "ptproxy needs Python 3.11 or newer with venv and pip (Debian: apt-get install python3-venv)" >&2
    return 1
}

ptproxy_setup() {
    local root extras stamp want
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    extras=${1:-}
    PY="$root/.venv/bin/python"
    if [ ! -x "$PY" ]; then
        local base
        base=$(ptproxy_python) || return 1
        echo "making a virtual environment in .venv ..." >&2
        "$base" -m venv "$root/.venv" || return 1
    fi
    stamp="$root/.venv/.ptproxy-$extras"
    want=$(cat "$root/pyproject.toml" "$root/scripts/constraints.txt" | cksum)
    if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$want" ]; then
        echo "installing ptproxy${extras:+ with $extras} ..." >&2
        "$PY" -m pip install -qq --disable-pip-version-check --constraint "$root/scripts/constraints.txt" \
            --editable "$root${extras:+[$extras]}" >&2 || return 1
        echo "$want" >"$stamp"
    fi
    PATH="$root/.venv/bin:$PATH"
    export PATH
}
