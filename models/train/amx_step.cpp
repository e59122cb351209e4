// Training step of a graph of 1-D convolutions (batch norm, residual add, ReLU) in bfloat16 with
// AMX tiles, or with AVX-512 where there are none, one thread. Rows are positions, 2 bytes a
// channel; every buffer has H zero rows at both ends, so that taps need no bounds.
#include <immintrin.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>
typedef uint16_t bf;
typedef __m512 f16;
static inline f16 load16(const bf* p) {
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16));
}
static inline void store16(bf* p, f16 v) {
  _mm256_storeu_si256((__m256i*)p, (__m256i)_mm512_cvtneps_pbh(v));
}
static inline bf to_bf(float v) {
  uint32_t u;
  memcpy(&u, &v, 4);
  return (u + 0x7fff + ((u >> 16) & 1)) >> 16;
}
static inline __m512i pair16(const bf* a, const bf* b) {
  return _mm512_or_si512(
      _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)a)),
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)b)), 16));
}
#ifdef __AMX_BF16__
struct alignas(64) Config {
  uint8_t palette = 1, start = 0, pad[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
};
static void tiles_on() {
  static bool asked = false;
  if (!asked) {
    syscall(SYS_arch_prctl, 0x1023, 18);
    asked = true;
  }
  Config c;
  for (int i = 0; i < 8; i++) c.bytes[i] = 64, c.rows[i] = 16;
  _tile_loadconfig(&c);
}
#endif
static void* zalloc(size_t n) {  // huge pages: the buffers are streamed through, and TLB misses
                                 // cost as much as the arithmetic
  n = (n + (1 << 21) - 1) >> 21 << 21;
  void* p = aligned_alloc(1 << 21, n);
  madvise(p, n, MADV_HUGEPAGE);
  memset(p, 0, n);
  return p;
}

#ifdef __AMX_BF16__
// Rows t0..t0+31 of a convolution: chunk i multiplies the 64 bytes at row t + off[i] with
// w[i][tile][16][32].
template <int NT, class E>
static void conv_pass(const bf* x, int row, const std::vector<int>& off, const bf* w, int wstride,
                      int n, E epilogue) {
  alignas(64) float s[32 * 16 * NT];
  const int chunks = off.size();
  for (int t = 0; t < n; t += 32) {
    _tile_zero(0);
    _tile_zero(1);
    if (NT == 2) {
      _tile_zero(2);
      _tile_zero(3);
    }
    for (int i = 0; i < chunks; i++) {
      const bf* a = x + (int64_t)t * row + off[i];
      _tile_loadd(6, w + (int64_t)i * wstride, 64);
      if (NT == 2) _tile_loadd(7, w + (int64_t)i * wstride + 512, 64);
      _tile_loadd(4, a, row * 2);
      _tile_loadd(5, a + 16 * row, row * 2);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 5, 6);
      if (NT == 2) {
        _tile_dpbf16ps(2, 4, 7);
        _tile_dpbf16ps(3, 5, 7);
      }
    }
    _tile_stored(0, s, 64 * NT);
    _tile_stored(1, s + 256 * NT, 64 * NT);
    if (NT == 2) {
      _tile_stored(2, s + 16, 64 * NT);
      _tile_stored(3, s + 256 * NT + 16, 64 * NT);
    }
    epilogue(t, n - t < 32 ? n - t : 32, s);
  }
}
#else
// The same without tiles: R rows at a time, a row's pair of elements broadcast.
template <int NT, int R>
static inline void conv_rows(const bf* x, int row, const std::vector<int>& off, const bf* w,
                             int wstride, float* s) {
  f16 sum[R][NT];
  for (int r = 0; r < R; r++)
    for (int j = 0; j < NT; j++) sum[r][j] = _mm512_setzero_ps();
  const int chunks = off.size();
  for (int i = 0; i < chunks; i++) {
    const bf *a = x + off[i], *b = w + (int64_t)i * wstride;
    for (int k = 0; k < 16; k++) {
      __m512bh v[NT];
      for (int j = 0; j < NT; j++) v[j] = (__m512bh)_mm512_loadu_si512(b + 512 * j + 32 * k);
#pragma GCC unroll 16
      for (int r = 0; r < R; r++) {
        int pair;
        memcpy(&pair, a + r * row + 2 * k, 4);
        const __m512bh u = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 2
        for (int j = 0; j < NT; j++) sum[r][j] = _mm512_dpbf16_ps(sum[r][j], u, v[j]);
      }
    }
  }
  for (int r = 0; r < R; r++)
    for (int j = 0; j < NT; j++) _mm512_store_ps(s + 16 * NT * r + 16 * j, sum[r][j]);
}
template <int NT, class E>
static void conv_pass(const bf* x, int row, const std::vector<int>& off, const bf* w, int wstride,
                      int n, E epilogue) {
  alignas(64) float s[32 * 16 * NT];
  for (int t = 0; t < n; t += 32) {
    for (int r = 0; r < 32; r += 8)
      conv_rows<NT, 8>(x + (int64_t)(t + r) * row, row, off, w, wstride, s + 16 * NT * r);
    epilogue(t, n - t < 32 ? n - t : 32, s);
  }
}
#endif

struct Layer {
  int ic, oc, k, d, res,
      in;   // res: index of the activation that is added, -1 for none; in: of the input
  int row;  // elements a row of the input
  std::vector<int> off, goff;   // chunks of the forward and of the input gradient
  std::vector<int> fmap, gmap;  // element of the packed weights -> index into W, -1 for zero
  std::vector<bf> fw, gw;
  int otiles, itiles;
  bf* y;            // [B][T][oc], convolution before batch norm
  int64_t w, g, b;  // offsets into the parameters
  int rm;           // into the running statistics
  float mean[64], rstd[64];
  alignas(64) float s1[64], s2[64];  // of the gradient of this layer's output, for batch norm
};

struct Net {
  int L, B, T, H, maxc;
  std::vector<Layer> layer;
  std::vector<bf*> z;  // activations [B][H+T+H][C], z[0] is the one-hot input of 4 (rows of 4)
  std::vector<bf*> dz;
  std::vector<int> c;
  std::vector<bf*> pool;  // buffers of gradients that are free
  std::vector<int> uses;  // contributions to each activation's gradient
  std::vector<Layer> head;
  std::vector<float*> logits;
  std::vector<bf*> dlogit;  // [B][H+T+H][4]
  bf *dy, *dyt, *xv[2];
  int64_t params;
  int stats;
  int64_t rows() const { return T + 2 * H; }
};

static void pack_maps(Layer& l, bool first) {
  int half = l.k / 2;
  l.otiles = (l.oc + 15) / 16;
  l.itiles = (l.ic + 15) / 16;
  auto build = [&](int in, int out, int row, int tiles, bool transpose, std::vector<int>& off,
                   std::vector<int>& map) {
    // walk over (tap, channel) in memory order; contiguous runs of 32 elements make one chunk
    struct El {
      int pos, tap, ch;
    };
    std::vector<El> els;
    for (int tap = 0; tap < l.k; tap++)
      for (int ch = 0; ch < in; ch++)
        els.push_back({(transpose ? half - tap : tap - half) * l.d * row + ch, tap, ch});
    if (transpose) {
      std::vector<El> r;
      for (int tap = l.k - 1; tap >= 0; tap--)
        for (int ch = 0; ch < in; ch++) r.push_back(els[tap * in + ch]);
      els = r;
    }
    size_t i = 0;
    while (i < els.size()) {
      int base = els[i].pos;
      off.push_back(base);
      size_t at = map.size();
      map.resize(at + 512 * tiles, -1);
      while (i < els.size() && els[i].pos < base + 32) {
        int kk = els[i].pos - base;
        for (int o = 0; o < out; o++) {
          int tile = o / 16;
          size_t m = at + tile * 512 + (kk / 2) * 32 + (o % 16) * 2 + (kk & 1);
          map[m] = transpose ? (els[i].ch * l.ic + o) * l.k + els[i].tap
                             : (o * l.ic + els[i].ch) * l.k + els[i].tap;
        }
        i++;
      }
    }
  };
  build(l.ic, l.oc, l.row, l.otiles, false, l.off, l.fmap);
  if (!first) build(l.oc, l.ic, l.oc == 2 ? 4 : l.oc, l.itiles, true, l.goff, l.gmap);
  l.fw.resize(l.fmap.size());
  l.gw.resize(l.gmap.size());
}
static void pack(Layer& l, const float* p) {
  const float* w = p + l.w;
  for (size_t i = 0; i < l.fmap.size(); i++) l.fw[i] = l.fmap[i] < 0 ? 0 : to_bf(w[l.fmap[i]]);
  for (size_t i = 0; i < l.gmap.size(); i++) l.gw[i] = l.gmap[i] < 0 ? 0 : to_bf(w[l.gmap[i]]);
}

// spec: [L][6] channels in, out, width, dilation, residual, input; heads: [heads][2] width, input
extern "C" Net* net_new(int L, const int* spec, int heads, const int* head, int B, int T) {
  Net* n = new Net;
  n->L = L;
  n->B = B;
  n->T = T;
  int H = 0;
  n->layer.resize(L);
  n->head.resize(heads);
  n->uses.assign(L + 1, 0);
  int64_t at = 0;
  int rm = 0;
  n->maxc = 16;
  for (int i = 0; i < L; i++) {
    Layer& l = n->layer[i];
    const int* q = spec + 6 * i;
    l.ic = q[0];
    l.oc = q[1];
    l.k = q[2];
    l.d = q[3];
    l.res = q[4];
    l.in = q[5];
    l.row = l.ic;
    n->uses[l.in]++;
    if (l.res >= 0) n->uses[l.res]++;
    if (l.d * (l.k / 2) > H) H = l.d * (l.k / 2);
    if (l.oc > n->maxc) n->maxc = l.oc;
    l.w = at;
    at += (int64_t)l.oc * l.ic * l.k;
    l.g = at;
    at += l.oc;
    l.b = at;
    at += l.oc;
    l.rm = rm;
    rm += 2 * l.oc;
    pack_maps(l, l.in == 0);
  }
  for (int j = 0; j < heads; j++) {
    Layer& h = n->head[j];
    h.in = head[2 * j + 1];
    h.ic = n->layer[h.in - 1].oc;
    h.oc = 2;
    h.k = head[2 * j];
    h.d = 1;
    h.row = h.ic;
    h.res = -1;
    h.w = at;
    at += 2 * h.ic * h.k;
    h.b = at;
    at += 2;
    n->uses[h.in]++;
    pack_maps(h, false);
    if (h.k > H) H = h.k;
  }
  n->params = at;
  n->stats = rm;
  n->H = H = (H + 64 + 1) / 2 * 2;
  int64_t rows = n->rows();
  n->z.push_back((bf*)zalloc((B * rows + 64) * 8));
  n->c.push_back(4);
  for (int i = 0; i < L; i++) {
    int c = n->layer[i].oc;
    n->c.push_back(c);
    n->z.push_back((bf*)zalloc((B * rows + 64) * c * 2));
    n->layer[i].y = (bf*)zalloc((int64_t)B * T * c * 2 + 4096);
  }
  n->dz.assign(L + 1, nullptr);
  for (int j = 0; j < heads; j++) {
    n->logits.push_back((float*)zalloc((int64_t)B * T * 8));
    n->dlogit.push_back((bf*)zalloc((B * rows + 64) * 8));
  }
  n->dy = (bf*)zalloc((B * rows + 64) * n->maxc * 2);
  n->dyt = (bf*)zalloc(((int64_t)T + 64) * n->maxc * 2);
  for (int j = 0; j < 2; j++)
    n->xv[j] = (bf*)zalloc((rows + 64) * (n->maxc < 64 ? 64 : n->maxc) * 2 + 4096);
  return n;
}
extern "C" int64_t net_params(Net* n) { return n->params; }
extern "C" int net_stats(Net* n) { return n->stats; }

static void transpose16(__m512i* r) {  // 16 x 16 of 32 bits
  __m512i t[16], u[16];
  for (int i = 0; i < 8; i++) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 4; i++) {
    u[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    u[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    u[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    u[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
  for (int i = 0; i < 4; i++) {
    t[i] = _mm512_shuffle_i32x4(u[i], u[4 + i], 0x88);
    t[4 + i] = _mm512_shuffle_i32x4(u[i], u[4 + i], 0xdd);
    t[8 + i] = _mm512_shuffle_i32x4(u[8 + i], u[12 + i], 0x88);
    t[12 + i] = _mm512_shuffle_i32x4(u[8 + i], u[12 + i], 0xdd);
  }
  for (int i = 0; i < 4; i++) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
    r[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
    r[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
    r[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
  }
}

// acc[tap or granule...] += sum over t of dY[t][oc] X[t + off][ic]; dyt: [block][octile][16][32],
// xv pairs.
#ifdef __AMX_BF16__
template <int M, int N>
static void wgrad_tile(const bf* dyt, int astep, const bf* xv, int row2, int gstep, int blocks,
                       float* acc, int accm, int accn) {
  // acc tiles of 256 floats at acc + m * accm + n * accn
  for (int m = 0; m < M; m++)
    for (int n = 0; n < N; n++) {
      float* p = acc + m * accm + n * accn;
      if (m == 0 && n == 0)
        _tile_loadd(0, p, 64);
      else if (m == 1 && n == 0)
        _tile_loadd(1, p, 64);
      else if (m == 0)
        _tile_loadd(2, p, 64);
      else
        _tile_loadd(3, p, 64);
    }
  for (int b = 0; b < blocks; b++) {
    _tile_loadd(4, dyt, 64);
    if (M == 2) _tile_loadd(5, dyt + 512, 64);
    _tile_loadd(6, xv, row2 * 2);
    if (N == 2) _tile_loadd(7, xv + gstep, row2 * 2);
    _tile_dpbf16ps(0, 4, 6);
    if (M == 2) _tile_dpbf16ps(1, 5, 6);
    if (N == 2) _tile_dpbf16ps(2, 4, 7);
    if (M == 2 && N == 2) _tile_dpbf16ps(3, 5, 7);
    dyt += astep;
    xv += 16 * row2;
  }
  for (int m = 0; m < M; m++)
    for (int n = 0; n < N; n++) {
      float* p = acc + m * accm + n * accn;
      if (m == 0 && n == 0)
        _tile_stored(0, p, 64);
      else if (m == 1 && n == 0)
        _tile_stored(1, p, 64);
      else if (m == 0)
        _tile_stored(2, p, 64);
      else
        _tile_stored(3, p, 64);
    }
}
#else
template <int N>
static inline void wgrad_rows(const bf* dyt, int astep, const bf* xv, int row2, int gstep,
                              int blocks, float* acc, int accn) {  // eight rows of a tile
  f16 sum[8][N];
  for (int r = 0; r < 8; r++)
    for (int n = 0; n < N; n++) sum[r][n] = _mm512_loadu_ps(acc + 16 * r + n * accn);
  for (int b = 0; b < blocks; b++) {
    for (int k = 0; k < 16; k++) {
      __m512bh v[N];
      for (int n = 0; n < N; n++) v[n] = (__m512bh)_mm512_loadu_si512(xv + k * row2 + n * gstep);
#pragma GCC unroll 8
      for (int r = 0; r < 8; r++) {
        int pair;
        memcpy(&pair, dyt + 32 * r + 2 * k, 4);
        const __m512bh u = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 2
        for (int n = 0; n < N; n++) sum[r][n] = _mm512_dpbf16_ps(sum[r][n], u, v[n]);
      }
    }
    dyt += astep;
    xv += 16 * row2;
  }
  for (int r = 0; r < 8; r++)
    for (int n = 0; n < N; n++) _mm512_storeu_ps(acc + 16 * r + n * accn, sum[r][n]);
}
template <int M, int N>
static void wgrad_tile(const bf* dyt, int astep, const bf* xv, int row2, int gstep, int blocks,
                       float* acc, int accm, int accn) {
  for (int m = 0; m < M; m++)
    for (int half = 0; half < 2; half++)
      wgrad_rows<N>(dyt + 512 * m + 256 * half, astep, xv, row2, gstep, blocks,
                    acc + m * accm + 128 * half, accn);
}
#endif
static void wgrad_any(int M, int N, const bf* dyt, int astep, const bf* xv, int row2, int gstep,
                      int blocks, float* acc, int accm, int accn) {
  if (M == 2 && N == 2)
    wgrad_tile<2, 2>(dyt, astep, xv, row2, gstep, blocks, acc, accm, accn);
  else if (M == 2)
    wgrad_tile<2, 1>(dyt, astep, xv, row2, gstep, blocks, acc, accm, accn);
  else if (N == 2)
    wgrad_tile<1, 2>(dyt, astep, xv, row2, gstep, blocks, acc, accm, accn);
  else
    wgrad_tile<1, 1>(dyt, astep, xv, row2, gstep, blocks, acc, accm, accn);
}

// dyt from rows of c channels (2 of 4 for the head), n rows, zero behind.
static void make_dyt(const bf* dy, int c, int n, bf* dyt) {
  int tiles = (c + 15) / 16;
  for (int t = 0; t < n; t += 32)
    for (int j = 0; j < tiles; j++) {
      __m512i r[16];
      if (c >= 16)
        for (int i = 0; i < 16; i++)
          r[i] = pair16(dy + (int64_t)(t + 2 * i) * c + 16 * j,
                        dy + (int64_t)(t + 2 * i + 1) * c + 16 * j);
      else
        for (int i = 0; i < 16; i++) {
          const bf* p = dy + (int64_t)(t + 2 * i) * c;
          alignas(64) uint32_t v[16] = {};
          for (int q = 0; q < c; q++) v[q] = p[q] | (uint32_t)p[c + q] << 16;
          r[i] = _mm512_load_si512(v);
        }
      transpose16(r);
      bf* o = dyt + (int64_t)(t / 32) * tiles * 512 + j * 512;
      for (int i = 0; i < 16; i++) _mm512_storeu_si512(o + 32 * i, r[i]);
    }
}

// grad[oc][ic][k] += for one sequence; x points at row 0 (inside the padding), dy likewise.
static void wgrad(Net* N, Layer& l, const bf* x, const bf* dy, int dyc, int n, float* acc) {
  int blocks = (n + 31) / 32, ot = (l.oc + 15) / 16, half = l.k / 2;
  make_dyt(dy, dyc, n, N->dyt);
  if (l.ic == 4) {
    int gr = (l.k + 3) / 4;
    bf* xv = N->xv[0];  // [pair][gr][16][2]; fits: gr * 16 <= 64 channels
    for (int t = 0; t < blocks * 32; t += 2)
      for (int g = 0; g < gr; g++) {
        const bf* p = x + (int64_t)(t + 4 * g - half) * 4;
        _mm512_storeu_si512(xv + ((int64_t)t / 2 * gr + g) * 32, pair16(p, p + 4));
      }
    for (int g = 0; g < gr; g++)
      for (int o = 0; o < ot; o += 2)
        wgrad_any(ot - o >= 2 ? 2 : 1, 1, N->dyt + o * 512, ot * 512, xv + g * 32, gr * 32, 0,
                  blocks, acc + ((int64_t)g * ot + o) * 256, 256, 0);
    return;
  }
  int it = l.ic / 16, H = half * l.d;
  int lo = -((H + 1) / 2 * 2), hi = blocks * 32 + H + 2;
  for (int parity = 0; parity < 2; parity++) {
    bool used = false;
    for (int tap = 0; tap < l.k; tap++) used |= (((tap - half) * l.d) & 1) == parity;
    if (!used) continue;
    bf* o = N->xv[parity];
    for (int t = lo; t < hi; t += 2) {
      const bf* p = x + (int64_t)(t + parity) * l.ic;
      _mm_prefetch((const char*)(p + 1024), _MM_HINT_T0);
      _mm_prefetch((const char*)(p + 1056), _MM_HINT_T0);
      for (int j = 0; j < it; j++, o += 32)
        _mm512_storeu_si512(o, pair16(p + 16 * j, p + l.ic + 16 * j));
    }
  }
  const int chunk = 16;  // blocks of 32 rows
  for (int b = 0; b < blocks; b += chunk) {
    int nb = blocks - b < chunk ? blocks - b : chunk;
    for (int tap = 0; tap < l.k; tap++) {
      int shift = (tap - half) * l.d, parity = shift & 1;
      int64_t pair = (b * 32 + shift - parity - lo) / 2;
      const bf* xv = N->xv[parity] + pair * it * 32;
      for (int o = 0; o < ot; o += 2)
        for (int j = 0; j < it; j += 2)
          wgrad_any(ot - o >= 2 ? 2 : 1, it - j >= 2 ? 2 : 1,
                    N->dyt + (int64_t)b * ot * 512 + o * 512, ot * 512, xv + j * 32, it * 32, 32,
                    nb, acc + (((int64_t)tap * ot + o) * it + j) * 256, it * 256, 256);
    }
  }
}
static void wgrad_out(Layer& l, const float* acc, float* grad) {
  int ot = (l.oc + 15) / 16, it = l.ic / 16;
  for (int o = 0; o < l.oc; o++)
    for (int i = 0; i < l.ic; i++)
      for (int tap = 0; tap < l.k; tap++) {
        int64_t at;
        if (l.ic == 4)
          at = ((int64_t)(tap / 4) * ot + o / 16) * 256 + (o % 16) * 16 + (tap % 4) * 4 + i;
        else
          at = (((int64_t)tap * ot + o / 16) * it + i / 16) * 256 + (o % 16) * 16 + i % 16;
        grad[((int64_t)o * l.ic + i) * l.k + tap] += acc[at];
      }
}

// codes [B][T] (4: none), lengths [B]; labels [B][T][2] of 255. Gradients are overwritten; losses a
// kilobase, one a head.
extern "C" void net_step(Net* N, const uint8_t* codes, const int* length, const float* p,
                         float* running, const uint8_t* labels, float momentum, float* grads,
                         const float* weight /* of each head */,
                         float share /* of head 0's word in the others' labels */, float* losses) {
#ifdef __AMX_BF16__
  tiles_on();
#endif
  const int B = N->B, T = N->T, H = N->H;
  const int64_t R = N->rows();
  int64_t total = 0;
  for (int b = 0; b < B; b++) total += length[b];
  for (int b = 0; b < B; b++) {
    uint64_t* o = (uint64_t*)N->z[0] + b * R + H;
    const uint64_t one = 0x3f80;
    for (int t = 0; t < T; t++) {
      int c = t < length[b] ? codes[(int64_t)b * T + t] : 4;
      o[t] = c < 4 ? one << (16 * c) : 0;
    }
  }
  for (auto& l : N->layer) pack(l, p);
  for (auto& h : N->head) pack(h, p);
  for (int i = 0; i < N->L; i++) {
    Layer& l = N->layer[i];
    const int C = l.oc;
    alignas(64) float sum[64] = {}, sq[64] = {};
    for (int b = 0; b < B; b++) {
      bf* y = l.y + (int64_t)b * T * C;
      const bf* x = N->z[l.in] + (b * R + H) * l.row;
      for (int o = 0; o < l.otiles; o += 2) {
        f16 s0 = _mm512_setzero_ps(), s1 = s0, q0 = s0, q1 = s0;
        if (l.otiles - o >= 2) {
          conv_pass<2>(x, l.row, l.off, l.fw.data() + o * 512, l.otiles * 512, length[b],
                       [&](int t, int n, const float* s) {
                         f16 s0_ = s0, s1_ = s1, q0_ = q0, q1_ = q1;
                         for (int r = 0; r < n; r++) {
                           f16 a = _mm512_load_ps(s + 32 * r), c = _mm512_load_ps(s + 32 * r + 16);
                           s0_ = _mm512_add_ps(s0_, a);
                           s1_ = _mm512_add_ps(s1_, c);
                           q0_ = _mm512_fmadd_ps(a, a, q0_);
                           q1_ = _mm512_fmadd_ps(c, c, q1_);
                           _mm512_storeu_si512(y + (int64_t)(t + r) * C + 16 * o,
                                               (__m512i)_mm512_cvtne2ps_pbh(c, a));
                         }
                         s0 = s0_;
                         s1 = s1_;
                         q0 = q0_;
                         q1 = q1_;
                       });
          _mm512_store_ps(sum + 16 * o + 16, _mm512_add_ps(_mm512_load_ps(sum + 16 * o + 16), s1));
          _mm512_store_ps(sq + 16 * o + 16, _mm512_add_ps(_mm512_load_ps(sq + 16 * o + 16), q1));
        } else
          conv_pass<1>(x, l.row, l.off, l.fw.data() + o * 512, l.otiles * 512, length[b],
                       [&](int t, int n, const float* s) {
                         for (int r = 0; r < n; r++) {
                           f16 a = _mm512_load_ps(s + 16 * r);
                           s0 = _mm512_add_ps(s0, a);
                           q0 = _mm512_fmadd_ps(a, a, q0);
                           store16(y + (int64_t)(t + r) * C + 16 * o, a);
                         }
                       });
        _mm512_store_ps(sum + 16 * o, _mm512_add_ps(_mm512_load_ps(sum + 16 * o), s0));
        _mm512_store_ps(sq + 16 * o, _mm512_add_ps(_mm512_load_ps(sq + 16 * o), q0));
      }
    }
    alignas(64) float fa[64], fb[64];
    for (int c = 0; c < C; c++) {
      float m = sum[c] / total, v = sq[c] / total - m * m;
      if (v < 0) v = 0;
      l.mean[c] = m;
      l.rstd[c] = 1 / std::sqrt(v + 1e-5f);
      fa[c] = p[l.g + c] * l.rstd[c];
      fb[c] = p[l.b + c] - m * fa[c];
      running[l.rm + c] += momentum * (m - running[l.rm + c]);
      running[l.rm + C + c] += momentum * (v * total / (total - 1) - running[l.rm + C + c]);
    }
    for (int b = B - 1; b >= 0; b--) {  // what was written last is still in the cache
      const bf* y = l.y + (int64_t)b * T * C;
      bf* z = N->z[i + 1] + (b * R + H) * C;
      const bf* x = l.res >= 0 ? N->z[l.res] + (b * R + H) * C : nullptr;
      const f16 zero = _mm512_setzero_ps();
      for (int j = 0; j < C; j += 16) {
        f16 a = _mm512_load_ps(fa + j), c = _mm512_load_ps(fb + j);
        if (C == 32 && j == 0) {
          f16 a1 = _mm512_load_ps(fa + 16), c1 = _mm512_load_ps(fb + 16);
          for (int t = 0; t < length[b]; t++) {
            int64_t q = (int64_t)t * 32;
            f16 v = _mm512_fmadd_ps(load16(y + q), a, c),
                v1 = _mm512_fmadd_ps(load16(y + q + 16), a1, c1);
            _mm_prefetch((const char*)(y + q + 1024), _MM_HINT_T0);
            if (x) {
              _mm_prefetch((const char*)(x + q + 1024), _MM_HINT_T0);
              v = _mm512_add_ps(v, load16(x + q));
              v1 = _mm512_add_ps(v1, load16(x + q + 16));
            }
            _mm512_storeu_si512(z + q, (__m512i)_mm512_cvtne2ps_pbh(_mm512_max_ps(v1, zero),
                                                                    _mm512_max_ps(v, zero)));
          }
          break;
        }
        for (int t = 0; t < length[b]; t++) {
          int64_t q = (int64_t)t * C + j;
          f16 v = _mm512_fmadd_ps(load16(y + q), a, c);
          if (x) v = _mm512_add_ps(v, load16(x + q));
          store16(z + q, _mm512_max_ps(v, zero));
        }
      }
      memset(z + (int64_t)length[b] * C, 0, (int64_t)(T - length[b]) * C * 2);
    }
  }
  // heads and losses
  const int heads = N->head.size();
  std::vector<float> db(2 * heads, 0);
  for (int j = 0; j < heads; j++) {
    Layer& h = N->head[j];
    const float b0 = p[h.b], b1 = p[h.b + 1];
    double own = 0;
    for (int b = 0; b < B; b++) {
      float* o = N->logits[j] + (int64_t)b * T * 2;
      conv_pass<1>(N->z[h.in] + (b * R + H) * h.row, h.row, h.off, h.fw.data(), 512, length[b],
                   [&](int t, int n, const float* s) {
                     for (int r = 0; r < n; r++) {
                       o[2 * (t + r)] = s[16 * r] + b0;
                       o[2 * (t + r) + 1] = s[16 * r + 1] + b1;
                     }
                   });
      const float scale = 1000.0f / (2.0f * total), gscale = scale * weight[j];
      const uint8_t* y = labels + (int64_t)b * T * 2;
      bf* g = N->dlogit[j] + (b * R + H) * 4;
      float part = 0;
      int n2 = 2 * length[b];
      static thread_local std::vector<float> d, target;
      d.resize(2 * T);
      target.resize(2 * T);
      float *dd = d.data(), *tt = target.data();
      for (int i = 0; i < n2; i++) tt[i] = y[i] * (1 / 255.0f);
      if (j > 0 && share > 0) {
        const float* first = N->logits[0] + (int64_t)b * T * 2;
        for (int i = 0; i < n2;
             i++) {  // of -|v|, as exp(88) and more is infinite, which -ffast-math makes NaN of
          float v = first[i], e = expf(-fabsf(v)), q = 1 / (1 + e);
          tt[i] += share * ((v >= 0 ? q : 1 - q) - tt[i]);
        }
      }
      for (int i = 0; i < n2; i++) {
        float v = o[i], t = tt[i], e = expf(-fabsf(v)), q = 1 / (1 + e);
        part += (v > 0 ? v : 0) - v * t + logf(1 + e);
        dd[i] = ((v >= 0 ? q : 1 - q) - t) * gscale;
      }
      own += part * scale;
      for (int t = 0; t < length[b]; t++) {
        db[2 * j] += dd[2 * t];
        db[2 * j + 1] += dd[2 * t + 1];
        g[4 * t] = to_bf(dd[2 * t]);
        g[4 * t + 1] = to_bf(dd[2 * t + 1]);
      }
      memset(g + 4 * (int64_t)length[b], 0, (int64_t)(T - length[b]) * 8);
    }
    losses[j] = own;
  }
  memset(grads, 0, N->params * 4);
  static thread_local std::vector<float> acc;
  std::vector<int> left(N->uses);
  for (int j = 0; j < heads; j++) {
    Layer& h = N->head[j];
    grads[h.b] = db[2 * j];
    grads[h.b + 1] = db[2 * j + 1];
    acc.assign((size_t)h.k * (h.ic / 16) * 256, 0);
    for (int b = 0; b < B; b++)
      wgrad(N, h, N->z[h.in] + (b * R + H) * h.row, N->dlogit[j] + (b * R + H) * 4, 4, length[b],
            acc.data());
    wgrad_out(h, acc.data(), grads + h.w);
  }
  auto begin = [&](int target) -> const bf* {  // what has been summed so far
    const bf* so_far = N->dz[target];
    if (!so_far) {
      if (N->pool.empty()) N->pool.push_back((bf*)zalloc((B * R + 64) * N->maxc * 2));
      N->dz[target] = N->pool.back();
      N->pool.pop_back();
    }
    left[target]--;
    return so_far;
  };
  // Adds the gradient of layer l's input from rows g of `row`, and `add` if there is one, to what
  // is there. The last contribution masks by the activation and sums what the batch norm of the
  // layer below needs.
  auto dgrad = [&](Layer& l, const bf* gbase, int row, int target, const bf* addbase) {
    const int C = N->c[target];
    const bf* sofar = begin(target);
    const bool last = left[target] == 0;
    float *s1 = N->layer[target - 1].s1, *s2 = N->layer[target - 1].s2;
    memset(s1, 0, 256);
    memset(s2, 0, 256);
    const bf* ybase = N->layer[target - 1].y;
    for (int b = 0; b < B; b++) {
      const bf* g = gbase + (b * R + H) * row;
      bf* out = N->dz[target] + (b * R + H) * C;
      const bf* add = addbase ? addbase + (b * R + H) * C : nullptr;
      const bf* so = sofar ? sofar + (b * R + H) * C : nullptr;
      const __mmask16 always = last ? 0 : 0xffff;
      const bf* z = N->z[target] + (b * R + H) * C;
      const bf* y = ybase + (int64_t)b * T * C;
      for (int o = 0; o < l.itiles; o += 2) {
        const int nt = l.itiles - o >= 2 ? 2 : 1;
        f16 u0 = _mm512_setzero_ps(), u1 = u0, q0 = u0, q1 = u0;
        const f16 zero = _mm512_setzero_ps();
        if (nt == 2)
          conv_pass<2>(g, row, l.goff, l.gw.data() + o * 512, l.itiles * 512, length[b],
                       [&](int t, int n, const float* s) {
                         f16 su = u0, sv = u1, sq = q0, sr = q1;
                         int64_t at = (int64_t)t * C + 16 * o;
                         for (int r = 0; r < n; r++, at += C) {
                           f16 v = _mm512_load_ps(s + 32 * r), w = _mm512_load_ps(s + 32 * r + 16);
                           if (add) {
                             v = _mm512_add_ps(v, load16(add + at));
                             w = _mm512_add_ps(w, load16(add + at + 16));
                           }
                           if (so) {
                             v = _mm512_add_ps(v, load16(so + at));
                             w = _mm512_add_ps(w, load16(so + at + 16));
                           }
                           v = _mm512_maskz_mov_ps(
                               always | _mm512_cmp_ps_mask(load16(z + at), zero, _CMP_GT_OQ), v);
                           w = _mm512_maskz_mov_ps(
                               always | _mm512_cmp_ps_mask(load16(z + at + 16), zero, _CMP_GT_OQ),
                               w);
                           _mm512_storeu_si512(out + at, (__m512i)_mm512_cvtne2ps_pbh(w, v));
                           su = _mm512_add_ps(su, v);
                           sv = _mm512_add_ps(sv, w);
                           sq = _mm512_fmadd_ps(v, load16(y + at), sq);
                           sr = _mm512_fmadd_ps(w, load16(y + at + 16), sr);
                           _mm_prefetch((const char*)(y + at + 64 * C), _MM_HINT_T0);
                           _mm_prefetch((const char*)(z + at + 64 * C), _MM_HINT_T0);
                           if (add) _mm_prefetch((const char*)(add + at + 64 * C), _MM_HINT_T0);
                         }
                         u0 = su;
                         u1 = sv;
                         q0 = sq;
                         q1 = sr;
                       });
        else
          conv_pass<1>(g, row, l.goff, l.gw.data() + o * 512, l.itiles * 512, length[b],
                       [&](int t, int n, const float* s) {
                         f16 su = u0, sq = q0;
                         int64_t at = (int64_t)t * C + 16 * o;
                         for (int r = 0; r < n; r++, at += C) {
                           f16 v = _mm512_load_ps(s + 16 * r);
                           if (add) v = _mm512_add_ps(v, load16(add + at));
                           if (so) v = _mm512_add_ps(v, load16(so + at));
                           v = _mm512_maskz_mov_ps(
                               always | _mm512_cmp_ps_mask(load16(z + at), zero, _CMP_GT_OQ), v);
                           store16(out + at, v);
                           su = _mm512_add_ps(su, v);
                           sq = _mm512_fmadd_ps(v, load16(y + at), sq);
                         }
                         u0 = su;
                         q0 = sq;
                       });
        const f16 u[2] = {u0, u1}, q[2] = {q0, q1};
        for (int j = 0; j < nt; j++) {
          float* a = s1 + 16 * (o + j);
          float* c = s2 + 16 * (o + j);
          _mm512_store_ps(a, _mm512_add_ps(_mm512_load_ps(a), u[j]));
          _mm512_store_ps(c, _mm512_add_ps(_mm512_load_ps(c), q[j]));
        }
      }
    }
  };
  auto pass = [&](const bf* addbase, int target) {  // of a residual alone
    const int C = N->c[target];
    const bf* sofar = begin(target);
    const bool last = left[target] == 0;
    Layer& under = N->layer[target - 1];
    memset(under.s1, 0, 256);
    memset(under.s2, 0, 256);
    const f16 zero = _mm512_setzero_ps();
    if (C == 32 && last && !sofar) {
      f16 su = zero, sq = zero, sv = zero, sr = zero;
      for (int b = 0; b < B; b++) {
        const int64_t base = (b * R + H) * C;
        const bf *add = addbase + base, *z = N->z[target] + base, *y = under.y + (int64_t)b * T * C;
        bf* out = N->dz[target] + base;
        for (int64_t at = 0; at < (int64_t)length[b] * 32; at += 32) {
          _mm_prefetch((const char*)(add + at + 1024), _MM_HINT_T0);
          _mm_prefetch((const char*)(z + at + 1024), _MM_HINT_T0);
          _mm_prefetch((const char*)(y + at + 1024), _MM_HINT_T0);
          f16 v = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(load16(z + at), zero, _CMP_GT_OQ),
                                      load16(add + at));
          f16 w = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(load16(z + at + 16), zero, _CMP_GT_OQ),
                                      load16(add + at + 16));
          _mm512_storeu_si512(out + at, (__m512i)_mm512_cvtne2ps_pbh(w, v));
          su = _mm512_add_ps(su, v);
          sv = _mm512_add_ps(sv, w);
          sq = _mm512_fmadd_ps(v, load16(y + at), sq);
          sr = _mm512_fmadd_ps(w, load16(y + at + 16), sr);
        }
      }
      _mm512_store_ps(under.s1, su);
      _mm512_store_ps(under.s1 + 16, sv);
      _mm512_store_ps(under.s2, sq);
      _mm512_store_ps(under.s2 + 16, sr);
      return;
    }
    for (int j = 0; j < C; j += 16) {
      f16 su = zero, sq = zero;
      for (int b = 0; b < B; b++) {
        const int64_t base = (b * R + H) * C + j;
        const bf *add = addbase + base, *so = sofar ? sofar + base : nullptr,
                 *z = N->z[target] + base, *y = under.y + (int64_t)b * T * C + j;
        bf* out = N->dz[target] + base;
        for (int64_t at = 0; at < (int64_t)length[b] * C; at += C) {
          f16 v = load16(add + at);
          if (so) v = _mm512_add_ps(v, load16(so + at));
          if (last)
            v = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(load16(z + at), zero, _CMP_GT_OQ), v);
          store16(out + at, v);
          su = _mm512_add_ps(su, v);
          sq = _mm512_fmadd_ps(v, load16(y + at), sq);
        }
      }
      _mm512_store_ps(under.s1 + j, su);
      _mm512_store_ps(under.s2 + j, sq);
    }
  };
  for (int j = 0; j < heads; j++) dgrad(N->head[j], N->dlogit[j], 4, N->head[j].in, nullptr);
  for (int i = N->L - 1; i >= 0; i--) {
    Layer& l = N->layer[i];
    const int C = l.oc;
    alignas(64) float c0[64], c1[64], c2[64];
    for (int c = 0; c < C; c++) {
      float dg = (l.s2[c] - l.mean[c] * l.s1[c]) * l.rstd[c];
      grads[l.g + c] = dg;
      grads[l.b + c] = l.s1[c];
      c0[c] = p[l.g + c] * l.rstd[c];
      c1[c] = -c0[c] * l.rstd[c] * dg / total;
      c2[c] = -c0[c] * l.s1[c] / total - c1[c] * l.mean[c];
    }
    bf* dybase = N->dy;
    acc.assign((size_t)(l.ic == 4 ? (l.k + 3) / 4 : l.k * (l.ic / 16)) * l.otiles * 256, 0);
    for (int b = B - 1; b >= 0; b--) {
      bf* dy = dybase + (b * R) * C + (int64_t)H * C;
      const bf* g = N->dz[i + 1] + (b * R + H) * C;
      const bf* y = l.y + (int64_t)b * T * C;
      memset(dy - (int64_t)H * C, 0, (int64_t)H * C * 2);
      if (C == 32) {
        f16 a = _mm512_load_ps(c0), m = _mm512_load_ps(c1), k = _mm512_load_ps(c2),
            a1 = _mm512_load_ps(c0 + 16), m1 = _mm512_load_ps(c1 + 16),
            k1 = _mm512_load_ps(c2 + 16);
        for (int64_t q = 0; q < (int64_t)length[b] * 32; q += 32) {
          _mm_prefetch((const char*)(y + q + 1024), _MM_HINT_T0);
          _mm_prefetch((const char*)(g + q + 1024), _MM_HINT_T0);
          _mm512_storeu_si512(
              dy + q, (__m512i)_mm512_cvtne2ps_pbh(
                          _mm512_fmadd_ps(load16(g + q + 16), a1,
                                          _mm512_fmadd_ps(load16(y + q + 16), m1, k1)),
                          _mm512_fmadd_ps(load16(g + q), a, _mm512_fmadd_ps(load16(y + q), m, k))));
        }
      } else
        for (int j = 0; j < C; j += 16) {
          f16 a = _mm512_load_ps(c0 + j), m = _mm512_load_ps(c1 + j), k = _mm512_load_ps(c2 + j);
          for (int t = 0; t < length[b]; t++) {
            int64_t q = (int64_t)t * C + j;
            store16(dy + q,
                    _mm512_fmadd_ps(load16(g + q), a, _mm512_fmadd_ps(load16(y + q), m, k)));
          }
        }
      memset(dy + (int64_t)length[b] * C, 0, ((int64_t)(T - length[b]) + H) * C * 2);
      wgrad(N, l, N->z[l.in] + (b * R + H) * l.row, dy, C, length[b], acc.data());
    }
    wgrad_out(l, acc.data(), grads + l.w);
    const bool joint = l.res >= 0 && l.res == l.in;
    if (joint)
      left[l.in]--;
    else if (l.res >= 0)
      pass(N->dz[i + 1], l.res);
    if (l.in > 0) dgrad(l, N->dy, C, l.in, joint ? N->dz[i + 1] : nullptr);
    N->pool.push_back(N->dz[i + 1]);
    N->dz[i + 1] = nullptr;
  }
#ifdef __AMX_BF16__
  _tile_release();
#endif
}
