#!/usr/bin/env bash
# CMake's compiler launcher of tools/sanitize.sh: the compiler's command with the sanitizers' flags,
# which come last and so win against -O3. Optimized, the kernels take half an hour to compile with
# their checks; without, seconds, and no check is optimized away.
exec "$@" -O0 -g1 -fno-omit-frame-pointer ${FCN_EXT_SANITIZERS:?}
