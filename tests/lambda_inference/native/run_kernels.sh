#!/usr/bin/env bash
# Builds the kernel test for this machine and runs it.
#   run_kernels.sh [BUILD_DIR] [NAME]   NAME: a table of kernels that must be among those tested
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
build=${1:-$(mktemp -d)}
cmake -S "$root" -B "$build" -DFRIEND_KERNEL_TEST=ON >/dev/null
cmake --build "$build" --target kernel_test -j "$(nproc)"
"$build/lambda_inference/native/kernel_test" ${2:+"$2"}
