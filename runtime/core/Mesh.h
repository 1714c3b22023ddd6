// The device mesh, sub-axes of it, and which part of a tensor a rank holds.
#pragma once

#include "runtime/core/DType.h"
#include <cstddef>

namespace shardrt {

/// Part of a mesh axis: an axis of size n is viewed as pre × size × rest.
struct SubAxis {
  int axis;
  int64_t pre, size;
  bool operator==(const SubAxis &other) const {
    return axis == other.axis && pre == other.pre && size == other.size;
  }
};
/// Major to minor.
using SubAxes = std::vector<SubAxis>;
/// Per tensor dimension the sub-axes that it is split over.
using Sharding = std::vector<SubAxes>;

struct MeshAxis {
  std::string name;
  int64_t size;
};

class Mesh {
public:
  std::vector<MeshAxis> axes; // ranks are row-major over them, last fastest

  int64_t ranks() const;
  /// The rank's index along the flattened sub-axes.
  int64_t indexAlong(int64_t rank, const SubAxes &subAxes) const;
  /// All ranks that differ from `rank` only along the sub-axes, in the order of their index.
  std::vector<int> group(int64_t rank, const SubAxes &subAxes) const;

private:
  int64_t stride(int axis) const;
};

int64_t sizeOf(const SubAxes &subAxes);
/// Whether two sub-axes share a digit of the same axis.
bool overlap(const SubAxis &a, const SubAxis &b);

/// One dimension of a sharded tensor as one rank sees it.
struct DimSlice {
  int64_t global; // size of the whole dimension
  int64_t local;  // size in this rank's buffer, padding included
  int64_t begin;  // first global row that this rank holds
  int64_t valid;  // rows that are not padding
};
using Slices = std::vector<DimSlice>;

Shape localShape(const Shape &global, const Sharding &sharding);
Slices slicesOf(const Mesh &mesh, int64_t rank, const Shape &global, const Sharding &sharding);
bool isReplicated(const Sharding &sharding);

Shape rowMajorStrides(const Shape &shape);

/// Between a row-major global tensor and this rank's part of it. Copying allocates nothing.
class LocalCopy {
public:
  /// `strides` are those of the global tensor, in elements.
  LocalCopy(const Slices &slices, const Shape &strides, int64_t elementSize);
  void toLocal(const std::byte *global, std::byte *local) const;  // zeros into the padding
  void toGlobal(const std::byte *local, std::byte *global) const; // all but the padding

private:
  /// Walks the valid rows; the innermost dimensions that are whole on both sides are one run.
  template <typename Copy>
  void walk(size_t dim, int64_t global, int64_t local, const Copy &copy) const;

  Slices slices;
  Shape strides, localStrides;
  int64_t elementSize, localBytes = 0, runBytes = 0, runBegin = 0;
  size_t runDim = 0;
  bool isEmpty = false, isPadded = false;
};

/// Copies this rank's part of a row-major global tensor into its local buffer, zeros into the
/// padding. `strides` are those of the global tensor, in elements.
void copyToLocal(const Slices &slices, const Shape &strides, int64_t elementSize,
                 const std::byte *global, std::byte *local);
/// The inverse: what is not padding goes to its place in the global tensor.
void copyToGlobal(const Slices &slices, const Shape &strides, int64_t elementSize,
                  const std::byte *local, std::byte *global);

} // namespace shardrt
