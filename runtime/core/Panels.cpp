// GEMM weight packing. Input: a block of a row-major tensor whose dimensions are grouped into N, K
// and B. Output: [B][ceil(N/n_tile)][K][n_tile], or [B][ceil(N/n_tile)][ceil(K/2)][n_tile][2] for
// 2-byte floats, zeros where there is no element. The source offset of an element is the sum of one
// offset for each of its n, k and b, so that three small tables describe any grouping.
#include "runtime/core/ParameterLoader.h"

#include <algorithm>
#include <cstring>

using namespace shardrt;

/// Source offsets (elements) of all index combinations of `dims`, row-major; -1 for padding.
static std::vector<int64_t> offsetsOver(const std::vector<int> &dims, const Slices &slices,
                                        const Shape &strides) {
  std::vector<int64_t> offsets = {0};
  for (int dim : dims) {
    std::vector<int64_t> next;
    for (int64_t base : offsets)
      for (int64_t i = 0; i < slices[dim].local; ++i)
        next.push_back(base < 0 || i >= slices[dim].valid
                           ? -1
                           : base + (slices[dim].begin + i) * strides[dim]);
    offsets = std::move(next);
  }
  return offsets;
}

namespace {
struct Tables {
  std::vector<int64_t> n, k, b;
  int64_t nTile, panels, depth, group; // group: 2 for pairs along K, else 1
};
} // namespace

template <typename Element>
static void packPanel(const Tables &t, int64_t index, const std::byte *src, Element *dst) {
  int64_t base = t.b[index / t.panels], firstN = index % t.panels * t.nTile;
  int64_t columns = std::min<int64_t>(t.nTile, static_cast<int64_t>(t.n.size()) - firstN);
  int64_t panelSize = t.depth * t.nTile * t.group;
  Element *panel = dst + index * panelSize;
  std::memset(panel, 0, panelSize * sizeof(Element));
  if (base < 0)
    return;
  for (size_t k = 0; k < t.k.size(); ++k) {
    if (t.k[k] < 0)
      continue;
    Element *row = panel + k / t.group * t.nTile * t.group + k % t.group;
    // Not a pointer to Element: tensors in a file need not be aligned to their elements.
    const std::byte *from = src + (base + t.k[k]) * sizeof(Element);
    for (int64_t n = 0; n < columns; ++n)
      if (t.n[firstN + n] >= 0)
        std::memcpy(row + n * t.group, from + t.n[firstN + n] * sizeof(Element), sizeof(Element));
  }
}

template <typename Element>
static void packAll(const Tables &tables, const std::byte *src, std::byte *dst, ThreadPool &pool) {
  pool.parallelFor(tables.panels * static_cast<int64_t>(tables.b.size()),
                   [&](int, int64_t begin, int64_t end) {
                     for (int64_t i = begin; i < end; ++i)
                       packPanel(tables, i, src, reinterpret_cast<Element *>(dst));
                   });
}

void shardrt::packPanels(const Layout &layout, const Slices &slices, const Shape &strides,
                         int64_t elementSize, bool pairs, const std::byte *src, std::byte *dst,
                         ThreadPool &pool) {
  Tables tables;
  tables.n = offsetsOver(layout.nDims, slices, strides);
  tables.k = offsetsOver(layout.kDims, slices, strides);
  tables.b = offsetsOver(layout.batchDims, slices, strides);
  tables.nTile = layout.nTile;
  tables.group = pairs ? 2 : 1;
  tables.panels = ceilDiv(static_cast<int64_t>(tables.n.size()), layout.nTile);
  tables.depth = ceilDiv(static_cast<int64_t>(tables.k.size()), tables.group);
  switch (elementSize) {
  case 1:
    return packAll<uint8_t>(tables, src, dst, pool);
  case 2:
    return packAll<uint16_t>(tables, src, dst, pool);
  case 4:
    return packAll<uint32_t>(tables, src, dst, pool);
  default:
    return packAll<uint64_t>(tables, src, dst, pool);
  }
}
