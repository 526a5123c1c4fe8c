#!/usr/bin/env bash
# Set up the virtual environment: tools/setup.sh [VENV]
#
# Installs pinned dependencies and, if possible (apt-get with root or passwordless sudo), the Debian
# packages that GPAW is built with. If an optional dependency cannot be installed, this script names
# the feature that is disabled and how to install it. Only a missing Python is fatal.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}

# shellcheck source=tools/apt.sh
. tools/apt.sh

say() { printf '%s\n' "$*"; }

find_python() {
    for candidate in python3 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

if [ ! -x "$venv/bin/python" ]; then
    if ! python=$(find_python); then
        disabled "everything" "install Python >= 3.11 (apt-get install python3 python3-venv)" >&2
        exit 1
    fi
    if ! "$python" -c 'import ensurepip' 2>/dev/null && ! apt_install python3-venv; then
        disabled "everything" "install the venv module (apt-get install python3-venv)" >&2
        exit 1
    fi
    "$python" -m venv "$venv"
fi

# A git hook or user settings may have set PIP_USER or PYTHONPATH.
unset PYTHONPATH PIP_USER
install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt "$@"; }

say "installing pinned dependencies into $venv (a few minutes the first time)"
# Install torch separately: with its exact pin, pip selects a CPU build if the index has one.
install "torch==2.13.0"
install -e ".[local,dev]"

install_gpaw() {
    local packages=(libxc-dev libopenblas-dev libfftw3-dev g++ python3-dev)
    local headers=(/usr/include/xc.h /usr/include/fftw3.h
        "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h")
    if ! ls "${headers[@]}" >/dev/null 2>&1 || ! command -v g++ >/dev/null ||
        ! ls /usr/include/*/cblas*.h /usr/include/cblas*.h >/dev/null 2>&1; then
        apt_install "${packages[@]}" || {
            disabled "GPAW band gaps (need ${packages[*]})" \
                "sudo apt-get install ${packages[*]}, then make setup"
            return
        }
    fi
    # GPAW's sources are C++, but without MPI its build uses the C compiler by default.
    local compiler=()
    command -v mpic++ >/dev/null || compiler=(env CC=g++ CXX=g++)
    if ! "${compiler[@]}" "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        -c constraints.txt -e ".[gpaw]" >"$venv/gpaw.log" 2>&1; then
        disabled "GPAW band gaps (the build failed, see $venv/gpaw.log)" \
            "correct the errors in the log, then make setup"
    fi
}
install_gpaw

"$venv/bin/gan-htvs" doctor || say "campaigns cannot run before the failures above are fixed"
