// Constants that convert between natural and binary logarithms.
#pragma once

namespace fcn_ext {

constexpr double kLn2 = 0.6931471805599453;
constexpr double kLog2E = 1.4426950408889634;

}  // namespace fcn_ext
