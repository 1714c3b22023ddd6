// A rank's coordinate along an axis of size n = pre·size·rest has the digits (p, d, q); a sub-axis
// is the digit d.
#include "runtime/core/Mesh.h"

#include <algorithm>
#include <cstring>

using namespace shardrt;

int64_t Mesh::ranks() const {
  int64_t count = 1;
  for (const MeshAxis &axis : axes)
    count *= axis.size;
  return count;
}

int64_t Mesh::stride(int axis) const {
  int64_t stride = 1;
  for (size_t i = axis + 1; i < axes.size(); ++i)
    stride *= axes[i].size;
  return stride;
}

int64_t Mesh::indexAlong(int64_t rank, const SubAxes &subAxes) const {
  int64_t index = 0;
  for (const SubAxis &sub : subAxes) {
    int64_t coordinate = rank / stride(sub.axis) % axes[sub.axis].size;
    int64_t rest = axes[sub.axis].size / (sub.pre * sub.size);
    index = index * sub.size + coordinate / rest % sub.size;
  }
  return index;
}

std::vector<int> Mesh::group(int64_t rank, const SubAxes &subAxes) const {
  std::vector<int> members;
  int64_t size = sizeOf(subAxes);
  for (int64_t index = 0; index < size; ++index) {
    int64_t member = rank, left = index;
    for (size_t i = subAxes.size(); i-- > 0; left /= subAxes[i].size) {
      const SubAxis &sub = subAxes[i];
      int64_t digitStride = stride(sub.axis) * (axes[sub.axis].size / (sub.pre * sub.size));
      int64_t digit = member / digitStride % sub.size;
      member += (left % sub.size - digit) * digitStride;
    }
    members.push_back(static_cast<int>(member));
  }
  return members;
}

int64_t shardrt::sizeOf(const SubAxes &subAxes) {
  int64_t size = 1;
  for (const SubAxis &sub : subAxes)
    size *= sub.size;
  return size;
}

bool shardrt::overlap(const SubAxis &a, const SubAxis &b) {
  if (a.axis != b.axis || a.size == 1 || b.size == 1)
    return false;
  return b.pre % (a.pre * a.size) != 0 && a.pre % (b.pre * b.size) != 0;
}

Shape shardrt::localShape(const Shape &global, const Sharding &sharding) {
  Shape local = global;
  for (size_t i = 0; i < global.size(); ++i)
    local[i] = ceilDiv(global[i], sizeOf(sharding[i]));
  return local;
}

Slices shardrt::slicesOf(const Mesh &mesh, int64_t rank, const Shape &global,
                         const Sharding &sharding) {
  Slices slices;
  for (size_t i = 0; i < global.size(); ++i) {
    int64_t local = ceilDiv(global[i], sizeOf(sharding[i]));
    int64_t begin = std::min(mesh.indexAlong(rank, sharding[i]) * local, global[i]);
    slices.push_back({global[i], local, begin, std::min(local, global[i] - begin)});
  }
  return slices;
}

bool shardrt::isReplicated(const Sharding &sharding) {
  for (const SubAxes &subAxes : sharding)
    if (sizeOf(subAxes) != 1)
      return false;
  return true;
}

Shape shardrt::rowMajorStrides(const Shape &shape) {
  Shape strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;)
    strides[i - 1] = strides[i] * shape[i];
  return strides;
}

LocalCopy::LocalCopy(const Slices &given, const Shape &globalStrides, int64_t size)
    : slices(given), strides(globalStrides), elementSize(size) {
  Shape local;
  localBytes = elementSize;
  for (const DimSlice &slice : slices) {
    local.push_back(slice.local);
    localBytes *= slice.local;
    isEmpty |= slice.valid == 0;
    isPadded |= slice.valid != slice.local;
  }
  localStrides = rowMajorStrides(local);
  runDim = slices.size();
  runBytes = elementSize;
  // Dimension d joins the run while one step of it is exactly the run so far, on both sides.
  while (runDim > 0 && strides[runDim - 1] * elementSize == runBytes &&
         localStrides[runDim - 1] * elementSize == runBytes) {
    --runDim;
    runBytes *= slices[runDim].valid;
    if (slices[runDim].valid != slices[runDim].local)
      break;
  }
  for (size_t i = runDim; i < slices.size(); ++i)
    runBegin += slices[i].begin * strides[i];
}

template <typename Copy>
void LocalCopy::walk(size_t dim, int64_t global, int64_t local, const Copy &copy) const {
  if (dim == runDim)
    return copy((global + runBegin) * elementSize, local * elementSize, runBytes);
  for (int64_t i = 0; i < slices[dim].valid; ++i)
    walk(dim + 1, global + (slices[dim].begin + i) * strides[dim], local + i * localStrides[dim],
         copy);
}

void LocalCopy::toLocal(const std::byte *global, std::byte *local) const {
  if (isPadded)
    std::memset(local, 0, localBytes);
  if (!isEmpty)
    walk(0, 0, 0, [&](int64_t from, int64_t to, int64_t bytes) {
      std::memcpy(local + to, global + from, bytes);
    });
}

void LocalCopy::toGlobal(const std::byte *local, std::byte *global) const {
  if (!isEmpty)
    walk(0, 0, 0, [&](int64_t to, int64_t from, int64_t bytes) {
      std::memcpy(global + to, local + from, bytes);
    });
}

void shardrt::copyToLocal(const Slices &slices, const Shape &strides, int64_t elementSize,
                          const std::byte *global, std::byte *local) {
  LocalCopy(slices, strides, elementSize).toLocal(global, local);
}

void shardrt::copyToGlobal(const Slices &slices, const Shape &strides, int64_t elementSize,
                           const std::byte *local, std::byte *global) {
  LocalCopy(slices, strides, elementSize).toGlobal(local, global);
}
