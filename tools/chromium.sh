#!/usr/bin/env bash
# Install Chromium for the tests of the web page: tools/chromium.sh
#
# Where it cannot be installed one line says so, and those tests are left out.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/apt.sh
. tools/apt.sh

command -v chromium >/dev/null || command -v google-chrome >/dev/null || apt_install chromium ||
    off "tests of the web page (need chromium)" "sudo apt-get install chromium"
