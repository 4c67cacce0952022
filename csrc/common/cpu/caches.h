// How much memory the caches hold.
#pragma once

#include <cstdint>

namespace fcn_ext {

// Size in bytes of the last-level cache, which cores share; 4 MiB if the system does not say.
int64_t last_level_cache();

}  // namespace fcn_ext
