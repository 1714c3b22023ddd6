//===- Shards.cpp - Tensors between the global view and the devices' parts -===//

#include "shardc/Interpret/Shards.h"

#include "shardc/Support/StridedWalk.h"

#include <cmath>
#include <map>

using namespace mlir;
using namespace shardc;

static Shape toShape(ArrayRef<int64_t> shape) { return Shape(shape.begin(), shape.end()); }

RankedTensorType shardc::shardType(RankedTensorType global, const Sharding &sharding) {
  return global.clone(localShape(sharding, toShape(global.getShape())));
}

namespace {
/// What a rank holds of a global tensor, without padding.
struct Part {
  std::vector<int64_t> starts;
  SmallVector<int64_t> sizes;

  Part(const Mesh &mesh, const Sharding &sharding, ArrayRef<int64_t> global, int64_t rank) {
    for (Range range : globalRange(mesh, sharding, toShape(global), rank)) {
      starts.push_back(range.begin);
      sizes.push_back(range.size());
    }
  }
};
} // namespace

HostTensor shardc::takeShard(const HostTensor &global, const Mesh &mesh, const Sharding &sharding,
                             int64_t rank) {
  HostTensor local(shardType(global.type, sharding));
  Part part(mesh, sharding, global.shape(), rank);
  copyStrided(part.sizes, local, StridedView::whole(local.shape()), global,
              StridedView::box(global.shape(), part.starts));
  return local;
}

//===----------------------------------------------------------------------===//
// Comparison
//===----------------------------------------------------------------------===//

static double distance(double a, double b) {
  if (std::isnan(a) || std::isnan(b))
    return std::isnan(a) == std::isnan(b) ? 0 : std::numeric_limits<double>::infinity();
  return a == b ? 0 : std::fabs(a - b);
}

std::optional<Difference> shardc::largestDifference(const HostTensor &a, const HostTensor &b) {
  std::optional<Difference> largest;
  for (int64_t n = 0; n < a.size(); ++n) {
    bool isEqual = a.isFloat() ? distance(a.f[n], b.f[n]) == 0 : a.i[n] == b.i[n];
    if (isEqual)
      continue;
    double amount = a.isFloat()
                        ? distance(a.f[n], b.f[n])
                        : std::fabs(static_cast<double>(a.i[n]) - static_cast<double>(b.i[n]));
    if (!largest || amount > largest->amount)
      largest = Difference{amount, n};
  }
  return largest;
}

std::string shardc::formatIndex(ArrayRef<int64_t> shape, int64_t linear) {
  SmallVector<int64_t> index(shape.size());
  for (size_t d = shape.size(); d-- > 0; linear /= shape[d])
    index[d] = linear % shape[d];
  std::string text;
  llvm::raw_string_ostream os(text);
  os << '[';
  llvm::interleaveComma(index, os);
  os << ']';
  return text;
}

//===----------------------------------------------------------------------===//
// Assembly
//===----------------------------------------------------------------------===//

/// Devices' values after their pending reductions.
static DeviceTensors resolvePartial(const DeviceTensors &shards, const Mesh &mesh,
                                    const Sharding &sharding) {
  DeviceTensors reduced = shards;
  if (sharding.partial.empty())
    return reduced;
  for (const std::vector<int64_t> &group : groupsAlong(mesh, sharding.partialAxes())) {
    SmallVector<const HostTensor *> terms;
    for (int64_t rank : group)
      terms.push_back(&shards[rank]);
    HostTensor sum = shard::reduceInOrder(*sharding.partialKind(), terms);
    for (int64_t rank : group)
      reduced[rank] = sum;
  }
  return reduced;
}

static HostTensor dropPadding(const HostTensor &local, ArrayRef<int64_t> sizes) {
  HostTensor part(local.type.clone(sizes));
  copyStrided(sizes, part, StridedView::whole(sizes), local, StridedView::whole(local.shape()));
  return part;
}

Result<HostTensor> shardc::assembleShards(const DeviceTensors &shards, RankedTensorType global,
                                          const Mesh &mesh, const Sharding &sharding) {
  HostTensor result(global);
  DeviceTensors values = resolvePartial(shards, mesh, sharding);
  std::map<std::vector<int64_t>, size_t> owners; // first device of each position
  for (size_t rank = 0; rank < values.size(); ++rank) {
    Part place(mesh, sharding, global.getShape(), rank);
    HostTensor part = dropPadding(values[rank], place.sizes);
    if (part.size() == 0)
      continue;
    auto [owner, isFirst] = owners.try_emplace(place.starts, rank);
    if (isFirst) {
      copyStrided(place.sizes, result, StridedView::box(result.shape(), place.starts), part,
                  StridedView::whole(place.sizes));
      continue;
    }
    HostTensor first = dropPadding(values[owner->second], place.sizes);
    if (std::optional<Difference> difference = largestDifference(first, part)) {
      std::string message;
      llvm::raw_string_ostream(message)
          << "devices " << owner->second << " and " << rank
          << " hold different replicas: largest difference " << difference->amount << " at "
          << formatIndex(place.sizes, difference->at) << " of their part";
      return Result<HostTensor>::failure(message);
    }
  }
  return result;
}
