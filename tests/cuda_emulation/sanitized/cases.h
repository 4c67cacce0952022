// Cases of the program that runs kernels under AddressSanitizer, one a process: a file registers
// its own with `const bool added = add_case("name", function);`.
#pragma once

bool add_case(const char* name, void (*run)());
