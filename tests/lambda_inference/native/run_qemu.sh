#!/usr/bin/env bash
# Cross-compiles the kernel test for 64-bit ARM and runs it under qemu-user: once on a processor
# without the dot-product instructions and once on one with them.
# Needs Debian's g++-aarch64-linux-gnu and qemu-user.
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
build=${1:-$(mktemp -d)}
for tool in aarch64-linux-gnu-g++ qemu-aarch64; do
  command -v "$tool" >/dev/null || {
    echo "run_qemu.sh needs $tool (Debian: apt-get install g++-aarch64-linux-gnu qemu-user)" >&2
    exit 1
  }
done
cmake -S "$root" -B "$build" -DFRIEND_KERNEL_TEST=ON \
  -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
  -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ >/dev/null
cmake --build "$build" --target kernel_test -j "$(nproc)"
test=$build/lambda_inference/native/kernel_test
qemu-aarch64 -cpu cortex-a53 -L /usr/aarch64-linux-gnu "$test" neon
qemu-aarch64 -cpu max -L /usr/aarch64-linux-gnu "$test" neon_dotprod
