# Target torch_stable: the headers of LibTorch's stable ABI and the library behind them. Only those
# are used, so one build serves every torch from the oldest named here on.
#
# find_package(Torch) would add flags and CUDA checks of its own, none of which the stable ABI needs.
set(TORCH_STABLE_TARGET "0x020b000000000000") # torch 2.11
if(NOT FCN_EXT_TORCH_ROOT)
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -c
            "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
    OUTPUT_VARIABLE FCN_EXT_TORCH_ROOT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
set(version_header "${FCN_EXT_TORCH_ROOT}/include/torch/headeronly/version.h")
if(NOT EXISTS "${FCN_EXT_TORCH_ROOT}/include/torch/csrc/stable/library.h"
   OR NOT EXISTS "${version_header}")
  message(FATAL_ERROR "fcn_ext: no torch >= 2.11 to build against at '${FCN_EXT_TORCH_ROOT}'. "
                      "Install torch first, or set FCN_EXT_TORCH_ROOT to the folder of the package.")
endif()
file(STRINGS "${version_header}" TORCH_STABLE_VERSION
     REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
string(REGEX REPLACE "[^0-9;]" "" TORCH_STABLE_VERSION "${TORCH_STABLE_VERSION}")
string(REPLACE ";" "." TORCH_STABLE_VERSION "${TORCH_STABLE_VERSION}")
if(TORCH_STABLE_VERSION VERSION_LESS 2.11)
  message(FATAL_ERROR "fcn_ext: torch >= 2.11 is needed to build against, found "
                      "${TORCH_STABLE_VERSION} at '${FCN_EXT_TORCH_ROOT}'.")
endif()
message(STATUS "fcn_ext: building against torch ${TORCH_STABLE_VERSION}, for torch >= 2.11")

add_library(torch_stable INTERFACE)
target_include_directories(torch_stable SYSTEM INTERFACE "${FCN_EXT_TORCH_ROOT}/include")
target_compile_definitions(torch_stable INTERFACE TORCH_TARGET_VERSION=${TORCH_STABLE_TARGET})
target_compile_options(torch_stable INTERFACE
                       $<$<COMPILE_LANGUAGE:CXX>:-ffile-prefix-map=${FCN_EXT_TORCH_ROOT}/=>)
# Named without a path: at run time torch is imported first and the name is already loaded.
target_link_directories(torch_stable INTERFACE "${FCN_EXT_TORCH_ROOT}/lib")
target_link_options(torch_stable INTERFACE -Wl,--no-as-needed)
target_link_libraries(torch_stable INTERFACE torch_cpu)
