# Python and pybind11 for the two modules, sparsecore._core and simulator._sim.
if(SPARSECORE_BUILD_PYTHON)
  set(PYBIND11_FINDPYTHON ON)
  find_package(Python REQUIRED COMPONENTS Interpreter Development.Module)
  if(NOT pybind11_DIR)  # an installed pybind11 wheel knows where its CMake files are
    execute_process(COMMAND "${Python_EXECUTABLE}" -m pybind11 --cmakedir
      OUTPUT_VARIABLE pybind11_DIR OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
  find_package(pybind11 2.13 CONFIG REQUIRED)
endif()
