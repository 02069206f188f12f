# The kernels' sources, which have two builds: by nvcc for GPUs, by the host compiler for the emulator. Paths from csrc/cuda.
set(SPARSECORE_CUDA_SOURCES
  nm_linear/launch.cu
  nm_linear/two_four/bf16.cu
  nm_linear/two_four/f16.cu)

# With instructions of sm_90a, which exist on Hopper alone.
set(SPARSECORE_CUDA_SM90_SOURCES
  nm_linear/two_four/sm90_bf16.cu
  nm_linear/two_four/sm90_f16.cu)
