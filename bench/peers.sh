#!/usr/bin/env bash
# Install what bench/gateway.py and bench/cache.py measure Farthing against, each in its own environment under bench/.peers/ (git-ignored).
# Nothing of them enters Farthing's own environment. Usage: bench/peers.sh [litellm] [tensorzero] [portkey] [gptcache] [redisvl]
# (default: the three gateways)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
peers="$here/.peers"
python=${PYTHON:-python3}
mkdir -p "$peers"

# Make a venv and install requirements into it; uv where there is one (much faster), else pip.
venv_with() {
    local name=$1 dir="$peers/$1"
    shift
    local requirement="$*"
    if [[ -e "$dir/.installed" && $(<"$dir/.installed") == "$requirement" ]]; then
        echo "$name: $requirement is installed" >&2
        return
    fi
    echo "$name: installing $requirement into $dir" >&2
    rm -rf "$dir"
    if command -v uv >/dev/null; then
        uv venv --quiet --python "$python" "$dir" && uv pip install --quiet --python "$dir/bin/python" "$@" || return
    else
        "$python" -m venv "$dir" && "$dir/bin/pip" install --quiet --disable-pip-version-check "$@" || return
    fi
    echo "$requirement" >"$dir/.installed"
}

litellm() { venv_with litellm 'litellm[proxy]==1.106.2'; }

tensorzero() { venv_with tensorzero 'tensorzero==2026.6.0'; }

gptcache() { venv_with gptcache gptcache==0.1.44 faiss-cpu sqlalchemy cachetools; }

redisvl() { venv_with redisvl redisvl==0.28.0; }

portkey() {
    local dir="$peers/portkey" package='@portkey-ai/gateway@1.15.2'
    if [[ -e "$dir/.installed" && $(<"$dir/.installed") == "$package" ]]; then
        echo "portkey: $package is installed" >&2
        return
    fi
    command -v npm >/dev/null || { echo "portkey: npm is missing (apt-get install -y npm), skipped" >&2; return 1; }
    echo "portkey: installing $package into $dir" >&2
    rm -rf "$dir" && mkdir -p "$dir" || return
    (cd "$dir" && npm init -y >/dev/null && npm install --silent --no-audit --no-fund "$package") || return
    echo "$package" >"$dir/.installed"
}

[[ $# -gt 0 ]] || set -- litellm tensorzero portkey
failed=0
for name in "$@"; do
    case $name in
        litellm | tensorzero | portkey | gptcache | redisvl) "$name" || { echo "$name: could not be installed" >&2; failed=1; } ;;
        *) echo "unknown peer $name (litellm, tensorzero, portkey, gptcache, redisvl)" >&2; exit 2 ;;
    esac
done
exit "$failed"
