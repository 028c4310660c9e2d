// The blocks of blocks.hpp, written once over a type V that stands for a vector register, as rows_kernels.hpp is.
//
// Besides what that asks of it, V has sub, max; Float exponent(Float x, Float n): x times 2^n, n a whole number plus
// kMagic; and for whole numbers Act, the kDepth of which a lane takes at once, int16, int8, or uint8 with kShift
// added; Whole, int32 lanes; Words, weights of kDepth inputs a lane: words(const int8_t*), whole(const int32_t*),
// spread(const Act*), dot(Whole, Words, what spread gives), to_float(Whole), put(Act*, Float) which rounds. kRows,
// kStrips: of a tile.
#pragma once

#include <cmath>

#include "blocks.hpp"

namespace nestling {
namespace {

constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: what is added to it is rounded to a whole number
constexpr float kHidden = -1e30f;      // near no token

template <class V>
constexpr int kUnit = static_cast<int>(kStrip) / V::kFloats;  // registers of a strip

// The largest value of a strip's registers, or `least`.
template <class V>
NEST_INLINE float largest_of(const typename V::Float (&values)[kUnit<V>], float least) {
  float lanes[kStrip];
  for (int u = 0; u < kUnit<V>; ++u) V::store(lanes + u * V::kFloats, values[u]);
  for (const float lane : lanes) least = lane > least ? lane : least;
  return least;
}

// --- products ---

template <class V>
void pack(const int8_t* matrix, size_t in, size_t out, int8_t* values, int32_t* starts) {
  for (size_t c = 0; c < out; ++c) starts[c] = 0;
  for (size_t strip = 0; strip < out; strip += kStrip)
    for (size_t k = 0; k < in; k += V::kDepth)
      for (size_t c = strip; c < strip + kStrip; ++c)
        for (size_t i = 0; i < V::kDepth; ++i) {
          *values = matrix[(k + i) * out + c];
          starts[c] -= V::kShift * *values++;
        }
}

// Tokens' columns as whole numbers, and the size of one for each.
template <class V>
void round_rows(const float* x, size_t rows, size_t columns, typename V::Act* acts, float* sizes) {
  for (size_t r = 0; r < rows; ++r, x += columns, acts += columns) {
    typename V::Float most[kUnit<V>];
    for (auto& each : most) each = V::zero();
    for (size_t c = 0; c < columns; c += kStrip)
      for (int u = 0; u < kUnit<V>; ++u) {
        const typename V::Float value = V::load(x + c + u * V::kFloats);
        most[u] = V::max(most[u], V::max(value, V::sub(V::zero(), value)));
      }
    const float largest = largest_of<V>(most, 1e-9f);
    sizes[r] = largest / 127.0f;
    const typename V::Float stretch = V::all(127.0f / largest);
    for (size_t c = 0; c < columns; c += V::kFloats) V::put(acts + c, V::mul(V::load(x + c), stretch));
  }
}

template <class V, int R, int S, bool kAdds>
NEST_INLINE void whole_tile(const Matrix& m, size_t column, const typename V::Act* acts, const float* sizes,
                            float* out) {
  constexpr int kWide = S * kUnit<V>;
  typename V::Whole total[R][kWide];
  for (int r = 0; r < R; ++r)
    for (int w = 0; w < kWide; ++w) total[r][w] = V::whole(m.starts + column + w * V::kFloats);
  const int8_t* values = m.values + column * m.in;
  for (size_t k = 0; k < m.in; k += V::kDepth, values += kStrip * V::kDepth) {
    typename V::Words words[kWide];
    for (int s = 0; s < S; ++s)
      for (int u = 0; u < kUnit<V>; ++u)
        words[s * kUnit<V> + u] = V::words(values + s * m.in * kStrip + u * V::kFloats * V::kDepth);
    for (int r = 0; r < R; ++r) {
      const auto act = V::spread(acts + r * m.in + k);
      for (int w = 0; w < kWide; ++w) total[r][w] = V::dot(total[r][w], words[w], act);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int w = 0; w < kWide; ++w) {
      const size_t c = column + w * V::kFloats;
      typename V::Float y = V::mul(V::mul(V::to_float(total[r][w]), V::all(sizes[r])), V::load(m.scales + c));
      if (m.bias) y = V::add(y, V::load(m.bias + c));
      V::store(out + r * m.out + c, kAdds ? V::add(V::load(out + r * m.out + c), y) : y);
    }
}

template <class V, int S, bool kAdds>
NEST_INLINE void whole_strips(const Matrix& m, size_t column, const typename V::Act* acts, const float* sizes,
                              size_t rows, float* out) {
  size_t r = 0;
  for (; r + V::kRows <= rows; r += V::kRows)
    whole_tile<V, V::kRows, S, kAdds>(m, column, acts + r * m.in, sizes + r, out + r * m.out);
  for (; r < rows; ++r) whole_tile<V, 1, S, kAdds>(m, column, acts + r * m.in, sizes + r, out + r * m.out);
}

// out, (rows, m.out), of at most kTile rows: x times the matrix; added to what is there, or instead of it.
template <class V, bool kAdds>
void multiply(const Matrix& m, const float* x, size_t rows, const BlocksRoom& room, float* out) {
  using Act = typename V::Act;
  Act* const acts = reinterpret_cast<Act*>(room.acts);
  float* const sizes = room.sizes;
  round_rows<V>(x, rows, m.in, acts, sizes);
  size_t column = 0;
  for (; column + V::kStrips * kStrip <= m.out; column += V::kStrips * kStrip)
    whole_strips<V, V::kStrips, kAdds>(m, column, acts, sizes, rows, out);
  if (V::kStrips > 1)
    for (; column < m.out; column += kStrip) whole_strips<V, 1, kAdds>(m, column, acts, sizes, rows, out);
}

// out[r][c] = sum over k < depth of a[r][k] * b[k][c], k after k.
template <class V, int R, int S>
NEST_INLINE void float_tile(const float* a, size_t a_stride, const float* b, size_t b_stride, size_t depth, float* out,
                            size_t out_stride) {
  constexpr int kWide = S * kUnit<V>;
  typename V::Float total[R][kWide];
  for (int r = 0; r < R; ++r)
    for (int w = 0; w < kWide; ++w) total[r][w] = V::zero();
  for (size_t k = 0; k < depth; ++k, b += b_stride)
    for (int r = 0; r < R; ++r) {
      const typename V::Float one = V::all(a[r * a_stride + k]);
      for (int w = 0; w < kWide; ++w) total[r][w] = V::add(total[r][w], V::mul(one, V::load(b + w * V::kFloats)));
    }
  for (int r = 0; r < R; ++r)
    for (int w = 0; w < kWide; ++w) V::store(out + r * out_stride + w * V::kFloats, total[r][w]);
}

template <class V, int S>
NEST_INLINE void float_strips(const float* a, size_t a_stride, size_t rows, const float* b, size_t b_stride,
                              size_t depth, float* out, size_t out_stride) {
  size_t r = 0;
  for (; r + V::kRows <= rows; r += V::kRows)
    float_tile<V, V::kRows, S>(a + r * a_stride, a_stride, b, b_stride, depth, out + r * out_stride, out_stride);
  for (; r < rows; ++r)
    float_tile<V, 1, S>(a + r * a_stride, a_stride, b, b_stride, depth, out + r * out_stride, out_stride);
}

template <class V>
void multiply_floats(const float* a, size_t a_stride, size_t rows, const float* b, size_t b_stride, size_t depth,
                     size_t columns, float* out, size_t out_stride) {
  size_t c = 0;
  for (; c + V::kStrips * kStrip <= columns; c += V::kStrips * kStrip)
    float_strips<V, V::kStrips>(a, a_stride, rows, b + c, b_stride, depth, out + c, out_stride);
  if (V::kStrips > 2)
    for (; c + 2 * kStrip <= columns; c += 2 * kStrip)
      float_strips<V, 2>(a, a_stride, rows, b + c, b_stride, depth, out + c, out_stride);
  if (V::kStrips > 1)
    for (; c < columns; c += kStrip)
      float_strips<V, 1>(a, a_stride, rows, b + c, b_stride, depth, out + c, out_stride);
}

// --- a token's columns ---

// Sixteen partial sums, then halves onto halves, whatever the machine: as put_unit has it. value: of the columns at c.
template <class V, class Value>
NEST_INLINE float sum(size_t columns, const Value& value) {
  typename V::Float parts[kUnit<V>];
  for (auto& each : parts) each = V::zero();
  for (size_t c = 0; c < columns; c += kStrip)
    for (int u = 0; u < kUnit<V>; ++u) parts[u] = V::add(parts[u], value(c + u * V::kFloats));
  float lanes[kStrip];
  for (int u = 0; u < kUnit<V>; ++u) V::store(lanes + u * V::kFloats, parts[u]);
  for (size_t half = kStrip / 2; half > 0; half /= 2)
    for (size_t k = 0; k < half; ++k) lanes[k] += lanes[k + half];
  return lanes[0];
}

template <class V>
NEST_INLINE float dot(const float* a, const float* b, size_t columns) {
  return sum<V>(columns, [&](size_t c) { return V::mul(V::load(a + c), V::load(b + c)); });
}

// rows, `stride` apart, to rows end to end. out may be x.
template <class V>
void normalize(const Norm& norm, const float* x, size_t rows, size_t stride, size_t columns, float* out) {
  const float count = static_cast<float>(columns);
  for (size_t r = 0; r < rows; ++r, x += stride, out += columns) {
    const float* from = x;
    if (norm.bias) {
      const auto mean = V::all(sum<V>(columns, [&](size_t c) { return V::load(x + c); }) / count);
      for (size_t c = 0; c < columns; c += V::kFloats) V::store(out + c, V::sub(V::load(x + c), mean));
      from = out;
    }
    const auto inverse = V::all(1.0f / std::sqrt(dot<V>(from, from, columns) / count + norm.epsilon));
    for (size_t c = 0; c < columns; c += V::kFloats) {
      auto y = V::mul(V::load(from + c), inverse);
      if (norm.weights) y = V::mul(y, V::load(norm.weights + c));
      if (norm.bias) y = V::add(y, V::load(norm.bias + c));
      V::store(out + c, y);
    }
  }
}

// e^x for x <= 0 (Cephes' expf); what is below e^-87 is e^-87.
template <class V>
NEST_INLINE typename V::Float exponential(typename V::Float x) {
  x = V::max(x, V::all(-87.0f));
  const auto magic = V::add(V::mul(x, V::all(1.44269504f)), V::all(kMagic));
  const auto n = V::sub(magic, V::all(kMagic));
  const auto r = V::sub(V::sub(x, V::mul(n, V::all(0.693359375f))), V::mul(n, V::all(-2.12194440e-4f)));
  auto y = V::all(1.9875691500e-4f);
  for (const float each : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
    y = V::add(V::mul(y, r), V::all(each));
  y = V::add(V::add(V::mul(V::mul(y, r), r), r), V::all(1.0f));
  return V::exponent(y, magic);
}

// GELU, x * (1 + erf(x / sqrt(2))) / 2, where 1 - erf(|x| / sqrt(2)) is e to a polynomial: within 1e-6 of it, and without
// a division.
template <class V>
void gelu(float* x, size_t n) {
  for (size_t i = 0; i < n; i += V::kFloats) {
    const auto value = V::load(x + i), size = V::max(value, V::sub(V::zero(), value));
    const auto t = V::max(V::sub(V::zero(), size), V::all(-6.0f));
    auto y = V::all(3.38326682e-4f);
    for (const float each : {4.98977163e-3f, 3.61452910e-2f, -0.318567564f, 0.797812781f})
      y = V::add(V::mul(y, t), V::all(each));
    const auto error = V::sub(V::all(1.0f), exponential<V>(V::mul(y, t)));
    V::store(x + i, V::mul(V::add(value, V::mul(size, error)), V::all(0.5f)));
  }
}

// --- attention ---

// Turns pairs of columns (i, i + half) of each head of queries and keys by the angle of the token's place.
inline void rotate(const Blocks& b, size_t place, float* queries_keys) {
  const size_t half = b.head / 2;
  const float *const cosines = b.cosines + place * half, *const sines = b.sines + place * half;
  for (size_t start = 0; start < 2 * b.dim; start += b.head) {
    float *const one = queries_keys + start, *const other = one + half;
    for (size_t i = 0; i < half; ++i) {
      const float x = one[i], y = other[i];
      one[i] = x * cosines[i] - y * sines[i];
      other[i] = y * cosines[i] + x * sines[i];
    }
  }
}

// Nearnesses of a token to n, those behind them hidden, to shares without their common divisor, which is returned.
template <class V>
NEST_INLINE float soften(float* near, size_t n, size_t padded, float scale) {
  for (size_t j = n; j < padded; ++j) near[j] = kHidden;
  typename V::Float most[kUnit<V>];
  for (auto& each : most) each = V::all(kHidden);
  for (size_t j = 0; j < padded; j += kStrip)
    for (int u = 0; u < kUnit<V>; ++u) most[u] = V::max(most[u], V::load(near + j + u * V::kFloats));
  const auto top = V::all(largest_of<V>(most, kHidden)), scales = V::all(scale);
  for (size_t j = 0; j < padded; j += V::kFloats)
    V::store(near + j, exponential<V>(V::mul(V::sub(V::load(near + j), top), scales)));
  for (size_t j = n; j < padded; ++j) near[j] = 0;
  return sum<V>(padded, [&](size_t j) { return V::load(near + j); });
}

// joined: queries, keys and values of the n tokens of a piece, (n, 3 dim). mixed, (n, dim): what each takes from all.
template <class V>
void attend(const Blocks& b, const float* joined, size_t n, const BlocksRoom& room, float* mixed) {
  const size_t stride = 3 * b.dim, padded = (n + kStrip - 1) / kStrip * kStrip;
  float *const keys = room.keys, *const near = room.near;
  for (size_t h = 0; h < b.dim; h += b.head) {
    for (size_t d = 0; d < b.head; ++d) {
      for (size_t j = 0; j < n; ++j) keys[d * padded + j] = joined[j * stride + b.dim + h + d];
      for (size_t j = n; j < padded; ++j) keys[d * padded + j] = 0;
    }
    for (size_t i = 0; i < n; i += kTile) {
      const size_t rows = n - i < kTile ? n - i : kTile;
      multiply_floats<V>(joined + i * stride + h, stride, rows, keys, padded, b.head, padded, near, padded);
      float shares[kTile];
      for (size_t r = 0; r < rows; ++r) shares[r] = 1.0f / soften<V>(near + r * padded, n, padded, b.scale);
      float* const out = mixed + i * b.dim + h;
      multiply_floats<V>(near, padded, rows, joined + 2 * b.dim + h, stride, n, b.head, out, b.dim);
      for (size_t r = 0; r < rows; ++r)
        for (size_t d = 0; d < b.head; ++d) out[r * b.dim + d] *= shares[r];
    }
  }
}

// --- blocks ---

// Calls work(first, n) for tokens in tiles.
template <class Work>
NEST_INLINE void tiles(size_t total, const Work& work) {
  for (size_t t = 0; t < total; t += kTile) work(t, total - t < kTile ? total - t : kTile);
}

// Calls work(i, first, n) for the tokens of each piece.
template <class Work>
NEST_INLINE void each(const Batch& batch, const Work& work) {
  for (size_t i = 0; i < batch.n; ++i)
    work(i, static_cast<size_t>(batch.starts[i]), static_cast<size_t>(batch.starts[i + 1] - batch.starts[i]));
}

// What goes into the first block: x, (total, dim).
template <class V>
void enter(const Blocks& b, const Batch& batch, size_t total, const BlocksRoom& room) {
  tiles(total, [&](size_t t, size_t n) {
    normalize<V>(b.seeing, batch.rows + t * b.stride + b.first, n, b.stride, b.seen, room.held);
    multiply<V, false>(b.up, room.held, n, room, room.x + t * b.dim);
  });
  if (b.rotary) return;
  each(batch, [&](size_t, size_t first, size_t n) {
    float* const own = room.x + first * b.dim;
    for (size_t c = 0; c < n * b.dim; ++c) own[c] += b.places[c];
  });
  normalize<V>(b.input, room.x, total, b.dim, b.dim, room.x);
}

// One block: x -> x.
template <class V>
void through(const Blocks& b, const Block& block, const Batch& batch, size_t total, const BlocksRoom& room) {
  const size_t dim = b.dim;
  const auto before = [&](const Norm& norm, size_t t, size_t n) -> const float* {
    if (!b.rotary) return room.x + t * dim;
    normalize<V>(norm, room.x + t * dim, n, dim, dim, room.held);
    return room.held;
  };
  const auto behind = [&](const Norm& norm, size_t t, size_t n) {
    if (!b.rotary) normalize<V>(norm, room.x + t * dim, n, dim, dim, room.x + t * dim);
  };
  tiles(total, [&](size_t t, size_t n) {
    multiply<V, false>(block.queries_keys_values, before(block.attention, t, n), n, room, room.joined + t * 3 * dim);
  });
  each(batch, [&](size_t, size_t first, size_t n) {
    float* const joined = room.joined + first * 3 * dim;
    for (size_t t = 0; b.rotary && t < n; ++t) rotate(b, t, joined + t * 3 * dim);
    attend<V>(b, joined, n, room, room.mixed + first * dim);
  });
  tiles(total, [&](size_t t, size_t n) {
    multiply<V, true>(block.attended, room.mixed + t * dim, n, room, room.x + t * dim);
    behind(block.attention, t, n);
    multiply<V, false>(block.wide, before(block.feed, t, n), n, room, room.wide);
    gelu<V>(room.wide, n * block.wide.out);
    multiply<V, true>(block.narrow, room.wide, n, room, room.x + t * dim);
    behind(block.feed, t, n);
  });
}

// The sum of n rows of x, one after the other, each times a factor of its own.
inline void add_up(const float* x, size_t stride, const float* factors, size_t n, size_t columns, float* sums) {
  for (size_t d = 0; d < columns; ++d) sums[d] = 0;
  for (size_t t = 0; t < n; ++t, x += stride)
    for (size_t d = 0; d < columns; ++d) sums[d] += x[d] * factors[t];
}

template <class V>
void read(const Blocks& b, const Batch& batch, const BlocksRoom& room, float* sums) {
  const size_t total = static_cast<size_t>(batch.starts[batch.n]);
  enter<V>(b, batch, total, room);
  for (size_t layer = 0; layer < b.layers; ++layer) through<V>(b, b.blocks[layer], batch, total, room);
  if (b.rotary) normalize<V>(b.last, room.x, total, b.dim, b.dim, room.x);
  for (size_t t = 0; b.inner && t < total; ++t)
    room.near[t] = 1.0f + dot<V>(room.x + t * b.dim, b.weigh, b.dim);
  each(batch, [&](size_t i, size_t first, size_t n) {
    float* const own = sums + i * b.vector;
    const float *const x = room.x + first * b.dim, *const weights = batch.weights + first;
    if (b.inner) add_up(batch.rows + first * b.stride, b.stride, room.near + first, n, b.inner, own);
    if (b.back.in || b.out.in) add_up(x, b.dim, weights, n, b.dim, room.held);
    if (b.back.in) multiply<V, true>(b.back, room.held, 1, room, own);
    if (b.out.in) multiply<V, false>(b.out, room.held, 1, room, own);
    if (!b.inner && !b.out.in) add_up(x, b.dim, weights, n, b.dim, own);
  });
}

}  // namespace
}  // namespace nestling
