#!/usr/bin/env bash
# Install Chromium for the tests of the web page: tools/chromium.sh
#
# If it cannot be installed, this script prints how to install it, and those tests are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/apt.sh
. tools/apt.sh

command -v chromium >/dev/null || command -v google-chrome >/dev/null || apt_install chromium ||
    disabled "tests of the web page (need chromium)" "sudo apt-get install chromium"
