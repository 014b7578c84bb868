#!/usr/bin/env bash
# Runs the kernel test and the native tests with the address and undefined-behaviour sanitizers.
#   run_sanitizers.sh [BUILD_DIR] [pytest arguments]
# PYTHON names the interpreter (default python3); it needs nanobind and the test requirements.
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
tests=$root/tests/lambda_inference
build=${1:-$(mktemp -d)}
shift || true
python=$(command -v "${PYTHON:-python3}")
python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python")  # cmake takes no relative one

cmake -S "$root" -B "$build/kernels" -DFRIEND_KERNEL_TEST=ON -DFRIEND_SANITIZE=ON \
  -DCMAKE_BUILD_TYPE=RelWithDebInfo >/dev/null
cmake --build "$build/kernels" --target kernel_test -j "$(nproc)"
"$build/kernels/lambda_inference/native/kernel_test"

cmake -S "$root" -B "$build/module" -DFRIEND_SANITIZE=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo \
  -DPython_EXECUTABLE="$python" >/dev/null
cmake --build "$build/module" --target _native -j "$(nproc)"

# The sanitizer's run-time library must come before Python's own allocator. Python itself leaks.
FRIEND_NATIVE_MODULE=$(echo "$build"/module/lambda_inference/native/_native*.so) \
ASAN_OPTIONS=detect_leaks=0:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1 \
LD_PRELOAD="$(g++ -print-file-name=libasan.so):$(g++ -print-file-name=libubsan.so)" \
  "$python" -m pytest -q -p no:cacheprovider "$tests"/{engine,gguf} \
    --ignore="$tests/engine/test_reference.py" "$@"
