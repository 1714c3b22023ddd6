//===- Sharding.cpp - What a sharding means for shapes and ranks ----------===//
//
// Verification of shardings, and the arithmetic of docs/contracts.md §3: local shapes, which rank
// holds which rows, and the groups of ranks along sub-axes.
//
//===----------------------------------------------------------------------===//
#include "shardc/Sharding/Sharding.h"

#include <algorithm>

using namespace shardc;

bool shardc::operator==(const DimSharding &a, const DimSharding &b) {
  return a.axes == b.axes && a.open == b.open && a.priority == b.priority;
}

bool shardc::operator==(const Sharding &a, const Sharding &b) {
  return a.dims == b.dims && a.partial == b.partial;
}

bool shardc::operator==(const Range &a, const Range &b) {
  return a.begin == b.begin && a.end == b.end;
}

Sharding Sharding::replicated(int64_t rank) {
  Sharding result;
  result.dims.resize(rank);
  return result;
}

AxisList Sharding::partialAxes() const {
  AxisList axes;
  for (const auto &entry : partial)
    axes.push_back(entry.second);
  return axes;
}

std::optional<ReduceKind> Sharding::partialKind() const {
  if (partial.empty())
    return std::nullopt;
  return partial.front().first;
}

AxisList Sharding::usedAxes() const {
  AxisList axes;
  for (const DimSharding &dim : dims)
    axes.insert(axes.end(), dim.axes.begin(), dim.axes.end());
  for (const auto &entry : partial)
    axes.push_back(entry.second);
  return axes;
}

bool Sharding::isReplicated() const { return axesSize(usedAxes()) == 1; }

Sharding shardc::canonical(const Sharding &sharding) {
  Sharding result = sharding;
  for (DimSharding &dim : result.dims)
    dim.axes = canonicalAxes(dim.axes);
  AxisList axes = sharding.partialAxes();
  std::sort(axes.begin(), axes.end());
  result.partial.clear();
  for (const AxisRef &ref : canonicalAxes(axes))
    result.partial.push_back({*sharding.partialKind(), ref});
  return result;
}

bool shardc::sameLayout(const Sharding &a, const Sharding &b) {
  Sharding x = canonical(a), y = canonical(b);
  if (x.dims.size() != y.dims.size() || x.partial != y.partial)
    return false;
  for (size_t d = 0; d < x.dims.size(); ++d)
    if (x.dims[d].axes != y.dims[d].axes)
      return false;
  return true;
}

//===----------------------------------------------------------------------===//
// Verification
//===----------------------------------------------------------------------===//

Error shardc::verify(const Mesh &mesh, const AxisRef &ref) {
  if (ref.axis < 0 || ref.axis >= static_cast<int>(mesh.axes.size()))
    return "axis index " + std::to_string(ref.axis) + " is out of range for mesh \"" + mesh.name +
           "\" with " + std::to_string(mesh.axes.size()) + " axes";
  const MeshAxis &axis = mesh.axes[ref.axis];
  bool inRange = ref.pre >= 1 && ref.size >= 1 && ref.pre <= axis.size && ref.size <= axis.size;
  if (!inRange || axis.size % (ref.pre * ref.size) != 0)
    return "sub-axis \"" + axis.name + "\":(" + std::to_string(ref.pre) + ")" +
           std::to_string(ref.size) + " does not divide axis \"" + axis.name + "\" of size " +
           std::to_string(axis.size);
  return std::nullopt;
}

static std::string placeName(const Sharding &sharding, size_t use) {
  for (size_t d = 0; d < sharding.dims.size(); ++d) {
    if (use < sharding.dims[d].axes.size())
      return "dimension " + std::to_string(d);
    use -= sharding.dims[d].axes.size();
  }
  return "the pending reduction";
}

Error shardc::verify(const Mesh &mesh, const Sharding &sharding) {
  AxisList used = sharding.usedAxes();
  for (size_t i = 0; i < used.size(); ++i)
    if (Error error = verify(mesh, used[i]))
      return *error + ", in " + placeName(sharding, i);
  for (size_t i = 0; i < used.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if (overlaps(used[i], used[j]))
        return "axis " + str(mesh, used[i]) + " in " + placeName(sharding, i) + " overlaps " +
               str(mesh, used[j]) + " in " + placeName(sharding, j);
  for (const auto &entry : sharding.partial)
    if (entry.first != sharding.partial.front().first)
      return std::string("pending reductions of two kinds, ") +
             str(sharding.partial.front().first) + " and " + str(entry.first) + ", do not commute";
  for (size_t d = 0; d < sharding.dims.size(); ++d)
    if (sharding.dims[d].priority < 0)
      return "dimension " + std::to_string(d) + " has priority " +
             std::to_string(sharding.dims[d].priority) + ", expected at least 0";
  return std::nullopt;
}

Error shardc::verify(const Mesh &mesh, const Sharding &sharding, const Shape &shape) {
  if (sharding.dims.size() != shape.size())
    return "sharding has " + std::to_string(sharding.dims.size()) + " dimensions, the tensor has " +
           std::to_string(shape.size());
  for (size_t d = 0; d < shape.size(); ++d)
    if (shape[d] < 0)
      return "dimension " + std::to_string(d) + " has size " + std::to_string(shape[d]) +
             ", expected at least 0";
  return verify(mesh, sharding);
}

//===----------------------------------------------------------------------===//
// Shapes and ranks
//===----------------------------------------------------------------------===//

int64_t shardc::shardCount(const Sharding &sharding, size_t dim) {
  return axesSize(sharding.dims[dim].axes);
}

Shape shardc::localShape(const Sharding &sharding, const Shape &global) {
  Shape local(global.size());
  for (size_t d = 0; d < global.size(); ++d)
    local[d] = ceilDiv(global[d], shardCount(sharding, d));
  return local;
}

int64_t shardc::elementCount(const Shape &shape) {
  int64_t count = 1;
  for (int64_t size : shape)
    count *= size;
  return count;
}

/// Distance in ranks between neighbours along the ref.
static int64_t rankStride(const Mesh &mesh, const AxisRef &ref) {
  int64_t stride = mesh.axes[ref.axis].size / (ref.pre * ref.size);
  for (size_t i = ref.axis + 1; i < mesh.axes.size(); ++i)
    stride *= mesh.axes[i].size;
  return stride;
}

int64_t shardc::indexAlong(const Mesh &mesh, const AxisRef &ref, int64_t rank) {
  // Divisions by the sizes of the faster axes and by `rest` combine into one.
  return rank / rankStride(mesh, ref) % ref.size;
}

int64_t shardc::indexAlong(const Mesh &mesh, const AxisList &axes, int64_t rank) {
  int64_t index = 0;
  for (const AxisRef &ref : axes)
    index = index * ref.size + indexAlong(mesh, ref, rank);
  return index;
}

std::vector<Range> shardc::globalRange(const Mesh &mesh, const Sharding &sharding,
                                       const Shape &global, int64_t rank) {
  std::vector<Range> ranges(global.size());
  for (size_t d = 0; d < global.size(); ++d) {
    int64_t local = ceilDiv(global[d], shardCount(sharding, d));
    int64_t begin = indexAlong(mesh, sharding.dims[d].axes, rank) * local;
    ranges[d] = {std::min(begin, global[d]), std::min(begin + local, global[d])};
  }
  return ranges;
}

std::vector<int64_t> shardc::groupOf(const Mesh &mesh, const AxisList &axes, int64_t rank) {
  for (const AxisRef &ref : axes)
    rank -= indexAlong(mesh, ref, rank) * rankStride(mesh, ref);
  std::vector<int64_t> group = {rank};
  for (const AxisRef &ref : axes) {
    std::vector<int64_t> larger;
    for (int64_t member : group)
      for (int64_t i = 0; i < ref.size; ++i)
        larger.push_back(member + i * rankStride(mesh, ref));
    group = std::move(larger);
  }
  return group;
}

std::vector<std::vector<int64_t>> shardc::groupsAlong(const Mesh &mesh, const AxisList &axes) {
  std::vector<std::vector<int64_t>> groups;
  for (int64_t rank = 0; rank < mesh.deviceCount(); ++rank)
    if (indexAlong(mesh, axes, rank) == 0)
      groups.push_back(groupOf(mesh, axes, rank));
  return groups;
}

bool shardc::blocksNest(int64_t globalSize, int64_t coarse, int64_t fine) {
  // Every block boundary is a multiple of the first, so comparing the first blocks is enough.
  int64_t block = ceilDiv(globalSize, coarse);
  int64_t parts = ceilDiv(globalSize, fine) * (fine / coarse);
  return std::min(block, globalSize) == std::min(parts, globalSize);
}
