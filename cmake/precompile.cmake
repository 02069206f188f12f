# sparsecore_precompile(TARGET HEADER) reads a header once for all C++ sources of a target: for targets that only tests build, where
# headers take a good part of the time. Not with a compiler launcher, since ccache keeps nothing that a precompiled header went into.
function(sparsecore_precompile target header)
  if(NOT CMAKE_CXX_COMPILER_LAUNCHER)
    target_precompile_headers(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:${header}>")
  endif()
endfunction()
