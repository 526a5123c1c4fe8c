#!/usr/bin/env bash
# Install SLURM for the tests, which start and stop its daemons: tools/slurm.sh
#
# Its services are not started, now or at boot. If SLURM cannot be installed, this script prints how
# to install it.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/apt.sh
. tools/apt.sh

packages=(slurmctld slurmd slurm-client munge)
policy=/usr/sbin/policy-rc.d

missing() {
    local PATH=$PATH:/usr/sbin:/sbin program
    for program in "$@"; do
        command -v "$program" >/dev/null || printf '%s\n' "$program"
    done
}

all_missing() { missing slurmctld slurmd sbatch munged; }

install_without_starting() {
    may_install || return 1
    local services=()
    mapfile -t services < <(missing slurmctld slurmd munge)
    # Debian starts installed services unless this file forbids it. An existing file is kept.
    if [ ! -e "$policy" ]; then
        trap 'as_root rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
    fi
    apt_install "${packages[@]}" || return 1
    if command -v systemctl >/dev/null && [ "${#services[@]}" -gt 0 ]; then
        as_root systemctl disable --quiet "${services[@]}" 2>/dev/null || true
    fi
}

[ -z "$(all_missing)" ] || install_without_starting || true
[ -z "$(all_missing)" ] || disabled "tests with a real SLURM (need ${packages[*]})" \
    "sudo apt-get install ${packages[*]} (optional: without it these tests are skipped)"
