# One object library per instruction set, compiled with exactly its own flags and never with link-time
# optimisation, so that no instruction of one set can move into code that runs without a check.
#
#   sparsecore_add_kernel(COMMON layout.cpp dispatch.cpp portable.cpp AVX512 avx512.cpp)
#
# adds the files of one kernel folder. SPARSECORE_HAVE_<ISA> is defined for all code where that ISA was compiled.

include(CheckCXXCompilerFlag)

# csrc/core/isa.cpp tests exactly these features at run time. AVX2: Haswell and Zen upwards.
set(SPARSECORE_FLAGS_AVX2 -mavx2 -mfma -mf16c -mbmi -mbmi2 -mlzcnt -mpopcnt)
# AVX512: Ice Lake and Zen 4 upwards.
set(SPARSECORE_FLAGS_AVX512
  -mavx512f -mavx512cd -mavx512bw -mavx512dq -mavx512vl -mavx512vbmi -mavx512vbmi2 -mavx512vnni
  -mavx2 -mfma -mf16c -mbmi -mbmi2 -mlzcnt -mpopcnt -mprefer-vector-width=512)
# Optional on top of AVX512; whoever dispatches to them asks for the feature avx512bf16 or avx512fp16.
set(SPARSECORE_FLAGS_AVX512BF16 ${SPARSECORE_FLAGS_AVX512} -mavx512bf16)
set(SPARSECORE_FLAGS_AVX512FP16 ${SPARSECORE_FLAGS_AVX512} -mavx512fp16)
# AMX: Sapphire Rapids upwards.
set(SPARSECORE_FLAGS_AMX ${SPARSECORE_FLAGS_AVX512BF16} -mamx-tile -mamx-bf16 -mamx-int8)
if(SPARSECORE_EMULATE_TILES)
  set(SPARSECORE_FLAGS_AMX ${SPARSECORE_FLAGS_AVX512BF16})  # cpu/amx/tiles_model.h
endif()
set(SPARSECORE_ALL_ISAS AVX2 AVX512 AVX512BF16 AVX512FP16 AMX)
set(SPARSECORE_ISAS "")

add_library(sparsecore_cpu STATIC)

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  foreach(isa IN LISTS SPARSECORE_ALL_ISAS)
    string(REPLACE ";" " " flags "${SPARSECORE_FLAGS_${isa}}")
    check_cxx_compiler_flag("${flags}" SPARSECORE_COMPILES_${isa})
    if(SPARSECORE_COMPILES_${isa})
      list(APPEND SPARSECORE_ISAS ${isa})
    else()
      message(WARNING "sparsecore: the ${isa} kernels are LEFT OUT: ${CMAKE_CXX_COMPILER} does not accept ${flags}")
    endif()
  endforeach()
else()
  message(STATUS "sparsecore: portable kernels only on ${CMAKE_SYSTEM_PROCESSOR}")
endif()

foreach(isa IN LISTS SPARSECORE_ISAS)
  string(TOLOWER ${isa} isa_lower)
  # The empty file lets a set exist before any kernel is written for it.
  add_library(sparsecore_isa_${isa_lower} OBJECT "${CMAKE_CURRENT_SOURCE_DIR}/cmake/empty.cpp")
  target_link_libraries(sparsecore_isa_${isa_lower} PRIVATE sparsecore_flags)
  target_compile_options(sparsecore_isa_${isa_lower} PRIVATE ${SPARSECORE_FLAGS_${isa}} -fno-lto -fno-exceptions
    # GCC's own intrinsics headers use a variable to initialise itself and warn about it (GCC bug 105593).
    $<$<CXX_COMPILER_ID:GNU>:-Wno-uninitialized -Wno-maybe-uninitialized>)
  target_sources(sparsecore_cpu PRIVATE $<TARGET_OBJECTS:sparsecore_isa_${isa_lower}>)
  message(STATUS "sparsecore: ISA library sparsecore_isa_${isa_lower}")
endforeach()

function(sparsecore_add_kernel)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "" "COMMON;${SPARSECORE_ALL_ISAS}")
  list(TRANSFORM arg_COMMON PREPEND "${CMAKE_CURRENT_SOURCE_DIR}/")
  target_sources(sparsecore_cpu PRIVATE ${arg_COMMON})
  foreach(isa IN LISTS SPARSECORE_ISAS)
    if(arg_${isa})
      string(TOLOWER ${isa} isa_lower)
      list(TRANSFORM arg_${isa} PREPEND "${CMAKE_CURRENT_SOURCE_DIR}/")
      target_sources(sparsecore_isa_${isa_lower} PRIVATE ${arg_${isa}})
    endif()
  endforeach()
endfunction()
