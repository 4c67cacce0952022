// Included before everything else where accesses are reported: calls of these functions go to
// callbacks.cpp, which reports what they access.
#pragma once

#include <cstring>

extern "C" {
void* memcpy(void* to, const void* from, size_t bytes) noexcept __asm__("races_memcpy");
void* memmove(void* to, const void* from, size_t bytes) noexcept __asm__("races_memmove");
void* memset(void* to, int value, size_t bytes) noexcept __asm__("races_memset");
}
