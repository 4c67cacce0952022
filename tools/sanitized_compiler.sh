#!/usr/bin/env bash
# The compiler launcher that tools/sanitize.sh gives CMake: appends the sanitizers' flags to the
# command, where they override -O3. With optimization the instrumented kernels take half an hour to
# compile; without it they take seconds, and no check is optimized away.
exec "$@" -O0 -g1 -fno-omit-frame-pointer ${FCN_EXT_SANITIZERS:?}
