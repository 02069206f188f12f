# The kernels' sources, which have two builds: by nvcc for GPUs, by the host compiler for the emulator. Paths from csrc/cuda.
set(SPARSECORE_CUDA_SOURCES
  attention/decode/launch.cu
  attention/decode/scores_dense.cu
  attention/decode/scores_planes.cu
  attention/decode/store.cu
  attention/decode/values.cu
  attention/prefill/launch.cu
  attention/prefill/bf16.cu
  attention/prefill/f16.cu
  bitmask_linear/bf16.cu
  bitmask_linear/f16.cu
  bitmask_linear/launch.cu
  block_linear/bf16.cu
  block_linear/f16.cu
  block_linear/launch.cu
  expand/launch.cu
  nm_linear/byte_octets/decode.cu
  nm_linear/gathered/bf16.cu
  nm_linear/gathered/f16.cu
  nm_linear/int8/decode.cu
  nm_linear/int8/launch.cu
  nm_linear/launch.cu
  nm_linear/octets/bf16.cu
  nm_linear/octets/f16.cu
  nm_linear/two_four/bf16.cu
  nm_linear/two_four/f16.cu
  rows/launch.cu
  topk/bf16.cu
  topk/f16.cu
  topk/f32.cu
  topk/i64.cu
  topk/launch.cu)

# With instructions that sm_89 and later have and sm_80 has not: compiled for both.
set(SPARSECORE_CUDA_E4M3_SOURCES
  nm_linear/byte_octets/e4m3_decode.cu
  nm_linear/int8/e4m3.cu
  nm_linear/int8/e4m3_decode.cu)

# With instructions of sm_90a, which exist on Hopper alone.
set(SPARSECORE_CUDA_SM90_SOURCES
  attention/prefill/sm90_bf16.cu
  attention/prefill/sm90_f16.cu
  block_linear/sm90_bf16.cu
  block_linear/sm90_f16.cu
  nm_linear/gathered/sm90_bf16.cu
  nm_linear/gathered/sm90_f16.cu
  nm_linear/gathered/transpose.cu
  nm_linear/int8/sm90_e4m3.cu
  nm_linear/int8/sm90_int8.cu
  nm_linear/two_four/sm90_bf16.cu
  nm_linear/two_four/sm90_f16.cu)

# Programs of their own, which no wheel has: golden vectors, and the ceiling of Hopper's tensor cores.
set(SPARSECORE_GOLDEN_SOURCES golden/arithmetic.cu golden/bits.cu golden/copy.cu golden/matrix.cu golden/matrix_int8.cu golden/thread.cu golden/warp.cu)
set(SPARSECORE_GOLDEN_SM90_SOURCES golden/sm90_barrier.cu golden/sm90_bytes.cu golden/sm90_cluster.cu golden/sm90_rows.cu golden/sm90_tile.cu golden/sm90_warpgroup.cu)
set(SPARSECORE_GOLDEN_HOST_SOURCES golden/program.cpp golden/replay.cpp golden/vector_file.cpp)
set(SPARSECORE_CEILING_SM90_SOURCES ceiling/sm90_rate.cu)
