#!/bin/sh
# Names every tool that is missing before pip or CMake would fail on it. Usage: preflight.sh PYTHON
python=${1:-python3}
missing=0
need() { # need WHAT HINT
    echo "missing: $1" >&2
    echo "  try: $2" >&2
    missing=1
}
if ! command -v "$python" >/dev/null 2>&1; then
    need "a Python interpreter ($python)" "install Python 3.10 or newer (Debian: apt-get install python3 python3-venv python3-dev) or give PYTHON=/path/to/python3"
elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    need "Python 3.10 or newer ($python is $("$python" --version 2>&1))" "give PYTHON=/path/to/a/newer/python3"
else
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        need "the venv module of $python" "Debian: apt-get install python3-venv"
    header=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include") + "/Python.h")')
    [ -f "$header" ] || need "the Python headers ($header)" "Debian: apt-get install python3-dev"
fi
compiler=${CXX:-c++}
if ! command -v "$compiler" >/dev/null 2>&1; then
    need "a C++ compiler ($compiler)" "Debian: apt-get install g++, or give CXX=/path/to/compiler"
else
    scratch=$(mktemp -d)
    printf '#include <optional>\nint main() { std::optional<int> x; return x.value_or(0); }\n' >"$scratch/probe.cpp"
    "$compiler" -std=c++17 "$scratch/probe.cpp" -o "$scratch/probe" >/dev/null 2>&1 ||
        need "a compiler that builds C++17 ($compiler does not)" "GCC 9 or Clang 10 and newer do; give CXX=/path/to/compiler"
    rm -rf "$scratch"
fi
command -v git >/dev/null 2>&1 || need "git" "Debian: apt-get install git"
exit $missing
