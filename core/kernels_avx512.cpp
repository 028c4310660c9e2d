// Kernels for AVX-512 (F and BW): compiled with these switched on, and run only where the machine has them.
#include "simd_avx512.hpp"

#include "blocks_kernels.hpp"
#include "rows_kernels.hpp"

namespace nestling {
extern const Kernels kAvx512;
const Kernels kAvx512 = {"avx512", add_int8<Avx512>, add_float<Avx512>, pack<Avx512>, read<Avx512>};
}  // namespace nestling
