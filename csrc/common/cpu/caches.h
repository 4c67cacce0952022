// How much memory the caches hold.
#pragma once

#include <cstdint>

namespace fcn_ext {

// Bytes of the last level, which cores share; 4 MiB where the system does not say.
int64_t last_level_cache();

}  // namespace fcn_ext
