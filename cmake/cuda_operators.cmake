# Target fcn_ext_cuda, where it is wanted and a CUDA compiler is found; FCN_EXT_CUDA_BUILD says in
# words what was built, and is kept in the package for the error that a CUDA tensor meets.
#
# No GPU is looked for: the machine that builds need not be the one that runs.
string(TOLOWER "${FCN_EXT_CUDA}" wanted)
if(NOT wanted MATCHES "^(auto|on|off)$")
  message(FATAL_ERROR "fcn_ext: FCN_EXT_CUDA must be auto, on or off, got '${FCN_EXT_CUDA}'.")
endif()
if(wanted STREQUAL "off")
  set(FCN_EXT_CUDA_BUILD "FCN_EXT_CUDA was off")
  message(STATUS "fcn_ext: building the CPU operators only, as FCN_EXT_CUDA=off asks.")
  return()
endif()

# ------------------------------------------------------------------ the compiler
# A compiler that is named is final; then come the usual places, then PyPI's packages.
if(NOT CMAKE_CUDA_COMPILER)
  unset(CMAKE_CUDA_COMPILER CACHE) # a failure of an earlier run is not kept
  set(folders)
  foreach(variable CUDA_HOME CUDA_PATH)
    if(NOT "$ENV{${variable}}" STREQUAL "")
      list(APPEND folders "$ENV{${variable}}/bin")
    endif()
  endforeach()
  list(APPEND folders PATH)
  foreach(packages IN LISTS Python_SITEARCH Python_SITELIB)
    list(APPEND folders "${packages}/nvidia/cu13/bin")
  endforeach()
  list(APPEND folders /usr/local/cuda/bin)
  list(REMOVE_DUPLICATES folders)
  set(names nvcc)
  set(places "${folders}")
  if(NOT "$ENV{CUDACXX}" STREQUAL "")
    set(names "$ENV{CUDACXX}")
    set(folders PATH)
    set(places "CUDACXX=$ENV{CUDACXX}")
  endif()
  list(TRANSFORM folders REPLACE "^PATH$" "ENV;PATH")
  find_program(nvcc NAMES ${names} PATHS ${folders} NO_DEFAULT_PATH NO_CACHE)
  if(nvcc)
    # PyPI keeps the runtime in a folder that its nvcc does not name.
    file(REAL_PATH "${nvcc}" nvcc_file)
    cmake_path(GET nvcc_file PARENT_PATH runtime)
    cmake_path(APPEND runtime "../lib")
    cmake_path(NORMAL_PATH runtime)
    if(EXISTS "${runtime}/libcudart_static.a")
      set(ENV{CUDAFLAGS} "$ENV{CUDAFLAGS} -L${runtime}")
    endif()
    set(ENV{CUDACXX} "${nvcc}")
    include(CheckLanguage)
    check_language(CUDA)
  endif()
endif()

set(problem)
if(CMAKE_CUDA_COMPILER)
  enable_language(CUDA)
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.0)
    set(problem "CUDA ${CMAKE_CUDA_COMPILER_VERSION} is too old")
  endif()
elseif(nvcc)
  set(problem "the CUDA compiler does not work")
  set(places "${nvcc}")
else()
  set(problem "no CUDA compiler found")
  list(PREPEND places "looked at")
endif()
if(problem)
  string(REPLACE ";" ", " places "${places}")
  string(REPLACE "looked at, " "looked at " places "${places}")
  set(sentence "fcn_ext: ${problem} (${places}): the CUDA operators need nvcc 12 or newer, from the \
CUDA toolkit (CUDACXX names it) or from `pip install 'cuda-toolkit[nvcc,cccl]==13.0.*'`; then build \
with FCN_EXT_CUDA=on.")
  if(wanted STREQUAL "on")
    message(FATAL_ERROR "${sentence}")
  endif()
  message(WARNING "${sentence} Building the CPU operators only.")
  set(FCN_EXT_CUDA_BUILD "${problem}")
  return()
endif()

# ------------------------------------------------------------------ architectures
# Machine code for each that is named, PTX alone for 75-virtual and the like. A driver compiles PTX
# for what has no machine code: that of the first architecture of every generation is added, and that
# of the newest.
string(REGEX REPLACE "[ ,;]+" ";" wanted_architectures "${FCN_EXT_CUDA_ARCHITECTURES}")
execute_process(COMMAND "${CMAKE_CUDA_COMPILER}" --list-gpu-code OUTPUT_VARIABLE known)
list(SORT wanted_architectures COMPARE NATURAL)
list(REMOVE_DUPLICATES wanted_architectures)
set(real)
set(ptx)
set(generations)
foreach(architecture IN LISTS wanted_architectures)
  if(NOT architecture MATCHES "^([0-9]+)([0-9])[af]?(-virtual)?$")
    message(FATAL_ERROR "fcn_ext: FCN_EXT_CUDA_ARCHITECTURES must list numbers such as 80;90;120, "
                        "got '${FCN_EXT_CUDA_ARCHITECTURES}'.")
  endif()
  set(generation "${CMAKE_MATCH_1}")
  set(number "${CMAKE_MATCH_1}${CMAKE_MATCH_2}")
  set(is_virtual "${CMAKE_MATCH_3}")
  string(REPLACE "-virtual" "" name "${architecture}")
  if(NOT known MATCHES "sm_${number}[^0-9]")
    message(STATUS "fcn_ext: CUDA ${CMAKE_CUDA_COMPILER_VERSION} does not know sm_${name}: left out.")
    continue()
  endif()
  if(NOT is_virtual)
    list(APPEND real "${name}")
  endif()
  if(is_virtual OR NOT generation IN_LIST generations)
    list(APPEND ptx "${name}")
    list(APPEND generations "${generation}")
  endif()
  set(newest "${name}")
endforeach()
if(NOT newest)
  message(FATAL_ERROR "fcn_ext: FCN_EXT_CUDA_ARCHITECTURES names no architecture that CUDA "
                      "${CMAKE_CUDA_COMPILER_VERSION} knows: '${FCN_EXT_CUDA_ARCHITECTURES}'.")
endif()
list(APPEND ptx "${newest}")
list(REMOVE_DUPLICATES ptx)
list(JOIN real ", sm_" real_names)
list(JOIN ptx ", compute_" ptx_names)
string(REGEX MATCH "^[0-9]+\\.[0-9]+" toolkit "${CMAKE_CUDA_COMPILER_VERSION}")
if(real)
  set(FCN_EXT_CUDA_BUILD "CUDA ${toolkit} for sm_${real_names} and PTX compute_${ptx_names}")
else()
  set(FCN_EXT_CUDA_BUILD "CUDA ${toolkit} for PTX compute_${ptx_names}")
endif()
message(STATUS "fcn_ext: building the CUDA operators with ${FCN_EXT_CUDA_BUILD}")
list(TRANSFORM real APPEND -real)
list(TRANSFORM ptx APPEND -virtual)
set(architectures ${real} ${ptx})

# ------------------------------------------------------------------ torch operators, CUDA
add_library(torch_cuda_stub SHARED cmake/stub_torch_cuda.cpp)
set_target_properties(torch_cuda_stub PROPERTIES OUTPUT_NAME torch_cuda
                                                 LIBRARY_OUTPUT_DIRECTORY stub)

add_library(
  fcn_ext_cuda SHARED
  csrc/library_cuda.cpp
  csrc/argmax/cuda/argmax_cuda.cu
  csrc/bilinear/cuda/bilinear_cuda.cu
  csrc/confusion_matrix/cuda/confusion_matrix_cuda.cu
  csrc/cross_entropy/cuda/cross_entropy_cuda.cu
  csrc/region_sums/cuda/region_sums_cuda.cu
  csrc/sigmoid_sums/cuda/sigmoid_sums_cuda.cu)
set_target_properties(
  fcn_ext_cuda
  PROPERTIES CUDA_STANDARD 17
             CUDA_STANDARD_REQUIRED ON
             CUDA_VISIBILITY_PRESET hidden
             CUDA_ARCHITECTURES "${architectures}"
             CUDA_RUNTIME_LIBRARY Static
             SKIP_BUILD_RPATH ON)
target_include_directories(fcn_ext_cuda PRIVATE csrc)
# USE_CUDA uncovers the stream functions of the stable ABI.
target_compile_definitions(fcn_ext_cuda PRIVATE USE_CUDA FCN_EXT_CUDA_BUILD="${FCN_EXT_CUDA_BUILD}")
# Registers and spills of every kernel go to the build log.
target_compile_options(
  fcn_ext_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Xptxas=-v -Xcompiler=-Wall,-Wextra
                       -Xcompiler=-ffile-prefix-map=${CMAKE_SOURCE_DIR}/=
                       -Xcompiler=-ffile-prefix-map=${FCN_EXT_TORCH_ROOT}/=>
                       $<$<COMPILE_LANGUAGE:CXX>:-ffile-prefix-map=${FCN_EXT_TORCH_ROOT}/=>)
target_link_libraries(fcn_ext_cuda PRIVATE torch_stable torch_cuda_stub)
# The static runtime keeps its symbols to itself.
target_link_options(fcn_ext_cuda PRIVATE -Wl,--exclude-libs,ALL -Wl,-z,defs)
