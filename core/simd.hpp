// Which 128-bit instructions every machine of this architecture has.
#pragma once

#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#define NEST_SSE2 1
#elif defined(__aarch64__) || defined(_M_ARM64)
#include <arm_neon.h>
#define NEST_NEON 1
#elif defined(__wasm_simd128__)
#include <wasm_simd128.h>
#define NEST_WASM 1
#endif

#if NEST_SSE2 || NEST_NEON || NEST_WASM
#define NEST_128 1
#endif
