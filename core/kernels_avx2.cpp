// Kernels for AVX2: compiled with it switched on, and run only where the machine has it.
#include "simd_avx2.hpp"

#include "blocks_kernels.hpp"
#include "rows_kernels.hpp"

namespace nestling {
extern const Kernels kAvx2;
const Kernels kAvx2 = {"avx2", add_int8<Avx2>, add_float<Avx2>, pack<Avx2>, read<Avx2>};
}  // namespace nestling
