//===- Sharding.h - Meshes, sub-axes and shardings, without IR --*- C++ -*-===//
//
// The vocabulary of every later stage: a mesh of named axes, a reference to a part of an axis, and
// the sharding of a tensor by ordered lists of such parts. Only the standard library, so that
// GoogleTest, the dialect's attributes and the planner share one arithmetic.
//
// The representation is GSPMD's idea (arXiv 2105.04663) in the named-axis, sub-axis form of Shardy
// (openxla/shardy, docs/sharding_representation.md). The numbers follow docs/contracts.md §3 ("A",
// "S").
//
// Functions that take a Mesh and a Sharding require that verify() accepts the pair; verify() itself
// accepts anything and says what is wrong.
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_SHARDING_SHARDING_H
#define SHARDC_SHARDING_SHARDING_H

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace shardc {

/// A value, or the message that says why there is none.
template <typename T> struct Result {
  std::optional<T> value;
  std::string error;

  Result(T v) : value(std::move(v)) {}
  static Result failure(std::string message) {
    Result result;
    result.error = std::move(message);
    return result;
  }
  explicit operator bool() const { return value.has_value(); }
  T &operator*() { return *value; }
  const T &operator*() const { return *value; }
  T *operator->() { return &*value; }
  const T *operator->() const { return &*value; }

private:
  Result() = default;
};

/// nullopt: fine; otherwise the message.
using Error = std::optional<std::string>;

int64_t ceilDiv(int64_t numerator, int64_t denominator);

/// One named dimension of the grid of devices; `size` in devices, at least 1.
struct MeshAxis {
  std::string name;
  int64_t size = 1;
};
bool operator==(const MeshAxis &a, const MeshAxis &b);

/// A grid of devices. Ranks are row-major over `axes` (the last axis varies fastest).
struct Mesh {
  std::string name;
  std::vector<MeshAxis> axes;

  int64_t deviceCount() const;
  /// Coordinate of `rank` along every axis, in the order of `axes`.
  std::vector<int64_t> coordinates(int64_t rank) const;
  int64_t rankOf(const std::vector<int64_t> &coordinates) const;
  /// Position of the axis of this name.
  std::optional<int> findAxis(std::string_view axisName) const;
  /// Names unique and non-empty, sizes positive, device count within int32.
  Error verify() const;
  /// `@mesh["dp"=2, "tp"=4]`
  std::string str() const;
};
bool operator==(const Mesh &a, const Mesh &b);

/// Part of a mesh axis of size n, seen as pre × size × rest: a device at coordinate c has index
/// (c / rest) % size along it, rest = n / (pre · size). The whole axis is pre = 1, size = n.
struct AxisRef {
  int axis = 0;
  int64_t pre = 1;
  int64_t size = 1;
};
bool operator==(const AxisRef &a, const AxisRef &b);
inline bool operator!=(const AxisRef &a, const AxisRef &b) { return !(a == b); }
bool operator<(const AxisRef &a, const AxisRef &b);

/// Ordered from major to minor.
using AxisList = std::vector<AxisRef>;

AxisRef wholeAxis(const Mesh &mesh, int axis);
/// Do the two share devices' digits? Also true for parts that cannot stand in one mixed-radix view
/// of the axis, such as (1)2 and (3)2 of an axis of size 6.
bool overlaps(const AxisRef &a, const AxisRef &b);
/// `major` directly followed by `minor` on the same axis: their union, when it is one sub-axis.
std::optional<AxisRef> mergeAdjacent(const AxisRef &major, const AxisRef &minor);
/// Splits into a major part of size `majorSize` and the rest; nullopt unless it divides.
std::optional<std::pair<AxisRef, AxisRef>> splitAxis(const AxisRef &ref, int64_t majorSize);
/// The part of `a` that is also in `b`, when the two nest in one mixed-radix view.
std::optional<AxisRef> intersect(const AxisRef &a, const AxisRef &b);
/// Adjacent sub-axes merged, parts of size 1 dropped.
AxisList canonicalAxes(const AxisList &axes);
/// The longest common prefix after splitting: commonPrefix([x:(1)4], [x:(1)2, y]) = [x:(1)2].
AxisList commonPrefix(const AxisList &a, const AxisList &b);
/// Is `prefix` a prefix of `axes`, sub-axes split where needed? If so, the rest of `axes`.
std::optional<AxisList> dropPrefix(const AxisList &axes, const AxisList &prefix);
/// Cuts every ref at all the points where a ref of `others` begins or ends, if it divides there.
AxisList refineBy(const AxisList &axes, const AxisList &others);
/// Do refs of the two lists overlap?
bool overlaps(const AxisList &a, const AxisList &b);
/// Product of sizes; 1 for none.
int64_t axesSize(const AxisList &axes);
/// `tp` or `dp:(1)2`
std::string str(const Mesh &mesh, const AxisRef &ref);
/// `{tp, dp:(1)2}`
std::string str(const Mesh &mesh, const AxisList &axes);

enum class ReduceKind { Sum, Max, Min, Prod };
const char *str(ReduceKind kind);
std::optional<ReduceKind> parseReduceKind(std::string_view text);

/// How one dimension is cut: over `axes`, major to minor.
/// With N = product of sizes, the device with linear index r along them holds [r·L, min((r+1)·L,
/// G)), where G is the global size and L = ceil(G / N); local buffers are padded to L.
struct DimSharding {
  AxisList axes;
  bool open = false; ///< Propagation may append further axes.
  int priority = 0;  ///< Propagation considers 0 first.
};
bool operator==(const DimSharding &a, const DimSharding &b);

/// Sharding of a tensor: one entry a dimension, and the axes along which the devices hold terms of
/// a reduction still to be done. All pending reductions of a tensor have one kind: sums and maxima
/// do not commute, so a mixture would have no meaning.
struct Sharding {
  std::vector<DimSharding> dims;
  std::vector<std::pair<ReduceKind, AxisRef>> partial;

  static Sharding replicated(int64_t rank);
  AxisList partialAxes() const;
  std::optional<ReduceKind> partialKind() const;
  /// All axes in use: dimensions in order, then pending.
  AxisList usedAxes() const;
  bool isReplicated() const;
};
/// Equal as written, `open` and `priority` included.
bool operator==(const Sharding &a, const Sharding &b);
inline bool operator!=(const Sharding &a, const Sharding &b) { return !(a == b); }

/// Axes of every dimension canonical; pending axes sorted and merged.
Sharding canonical(const Sharding &sharding);
/// Does every device hold the same data under both? (Ignores `open` and `priority`.)
bool sameLayout(const Sharding &a, const Sharding &b);

/// `[{tp}, {dp:(1)2, ?}p1] partial=sum{x}`: `?` is open, `p1` the priority when not 0.
std::string str(const Mesh &mesh, const Sharding &sharding);
Result<Sharding> parseSharding(const Mesh &mesh, std::string_view text);

using Shape = std::vector<int64_t>;

/// Is the reference in range, and does it divide its axis?
Error verify(const Mesh &mesh, const AxisRef &ref);
/// The sharding alone: references valid, every axis part used at most once, one kind of pending
/// reduction.
Error verify(const Mesh &mesh, const Sharding &sharding);
/// And of the rank of `shape`, whose sizes are not negative. Uneven dimensions are fine.
Error verify(const Mesh &mesh, const Sharding &sharding, const Shape &shape);

/// Number of parts of dimension `dim`.
int64_t shardCount(const Sharding &sharding, size_t dim);
/// Padded local sizes: ceil(global / parts) for each dimension; the same on every device.
Shape localShape(const Sharding &sharding, const Shape &global);
int64_t elementCount(const Shape &shape);

/// Index of `rank` along one sub-axis, or the linear index along a list (first is major).
int64_t indexAlong(const Mesh &mesh, const AxisRef &ref, int64_t rank);
int64_t indexAlong(const Mesh &mesh, const AxisList &axes, int64_t rank);

/// Half-open, in elements of the global dimension.
struct Range {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};
bool operator==(const Range &a, const Range &b);
/// What `rank` holds of each dimension (clamped: trailing devices of an uneven dimension may hold
/// nothing).
std::vector<Range> globalRange(const Mesh &mesh, const Sharding &sharding, const Shape &global,
                               int64_t rank);

/// The ranks that differ from `rank` only along `axes`, ordered by their index along them.
std::vector<int64_t> groupOf(const Mesh &mesh, const AxisList &axes, int64_t rank);
/// All such groups, by their smallest rank.
std::vector<std::vector<int64_t>> groupsAlong(const Mesh &mesh, const AxisList &axes);

/// The rows of a dimension seen by blocks: do parts of `coarse`-many blocks consist of whole parts
/// of `fine`-many blocks (coarse divides fine)? Always true when they divide the dimension or
/// coarse = 1. For 5 rows: 4 blocks of 2 do not nest in 2 blocks of 3.
bool blocksNest(int64_t globalSize, int64_t coarse, int64_t fine);

/// Local buffer of `rank` (row-major, padded with `padding`), cut out of the row-major `global`
/// data. Ignores pending reductions.
template <typename T>
std::vector<T> extractLocal(const Mesh &mesh, const Sharding &sharding, const Shape &shape,
                            const std::vector<T> &global, int64_t rank, T padding = T()) {
  Shape local = localShape(sharding, shape);
  std::vector<Range> range = globalRange(mesh, sharding, shape, rank);
  std::vector<T> out(elementCount(local), padding);
  for (size_t flat = 0; flat < out.size(); ++flat) {
    int64_t rest = flat, position = 0, stride = 1;
    bool inside = true;
    for (size_t d = shape.size(); d-- > 0;) {
      int64_t at = range[d].begin + rest % local[d];
      rest /= local[d];
      inside &= at < range[d].end;
      position += at * stride;
      stride *= shape[d];
    }
    if (inside)
      out[flat] = global[position];
  }
  return out;
}

} // namespace shardc

#endif // SHARDC_SHARDING_SHARDING_H
