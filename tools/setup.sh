#!/usr/bin/env bash
# Set up the virtual environment: tools/setup.sh [VENV]
#
# Installs, if possible (apt-get with root or passwordless sudo), the Debian packages that GPAW and,
# on Python 3.13, CHGNet are built with, then the pinned dependencies. If an optional dependency
# cannot be installed, this script names the feature that is disabled and how to install it. Only a
# missing Python, and a missing C++ compiler on Python 3.13, are fatal.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}

# shellcheck source=tools/apt.sh
. tools/apt.sh

say() { printf '%s\n' "$*"; }

print_version='import sys; print("python%d.%d" % sys.version_info[:2])'

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
    package="$("$python" -c "$print_version")-venv"
    if ! "$python" -c 'import ensurepip' 2>/dev/null && ! apt_install "$package"; then
        disabled "everything" "install the venv module (apt-get install $package)" >&2
        exit 1
    fi
    "$python" -m venv "$venv"
fi

# A git hook or user settings may have set PIP_USER or PYTHONPATH.
unset PYTHONPATH PIP_USER
install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt "$@"; }

has_compiler() {
    command -v g++ >/dev/null &&
        [ -e "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ]
}
has_gpaw_libraries() {
    [ -e /usr/include/xc.h ] && [ -e /usr/include/fftw3.h ] &&
        { compgen -G "/usr/include/cblas*.h" || compgen -G "/usr/include/*/cblas*.h"; } >/dev/null
}

# Before the dependencies: some have no wheel for new versions of Python and are compiled.
version=$("$venv/bin/python" -c "$print_version")
compiler=(g++ "$version-dev")
gpaw_libraries=(libxc-dev libopenblas-dev libfftw3-dev)
has_compiler || apt_install "${compiler[@]}" || true
has_gpaw_libraries || apt_install "${gpaw_libraries[@]}" || true

# CHGNet 0.4.2 has wheels up to Python 3.12.
if ! has_compiler && "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 13))'; then
    disabled "everything ($version compiles CHGNet, which needs ${compiler[*]})" \
        "sudo apt-get install ${compiler[*]}, or use Python 3.11 or 3.12; then make setup" >&2
    exit 1
fi

say "installing pinned dependencies into $venv (a few minutes the first time)"
# Install torch separately: with its exact pin, pip selects a CPU build if the index has one.
install "torch==2.13.0"
install -e ".[local,dev]"

install_gpaw() {
    if ! has_compiler || ! has_gpaw_libraries; then
        local packages=("${gpaw_libraries[@]}" "${compiler[@]}")
        disabled "GPAW band gaps (need ${packages[*]})" \
            "sudo apt-get install ${packages[*]}, then make setup"
        return
    fi
    # GPAW's sources are C++, but without MPI its build uses the C compiler by default.
    local environment=()
    command -v mpic++ >/dev/null || environment=(env CC=g++ CXX=g++)
    if ! "${environment[@]}" "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        -c constraints.txt -e ".[gpaw]" >"$venv/gpaw.log" 2>&1; then
        disabled "GPAW band gaps (the build failed, see $venv/gpaw.log)" \
            "correct the errors in the log, then make setup"
    fi
}
install_gpaw

"$venv/bin/gan-htvs" doctor || say "campaigns cannot run before the failures above are fixed"
