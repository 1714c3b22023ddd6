//===- AxisRef.cpp - Meshes and arithmetic on sub-axes --------------------===//
//
// A sub-axis is an interval of digits of its axis's coordinate in a mixed-radix view: [pre,
// pre·size) in terms of cumulative products. Two intervals can stand in one view exactly if one
// ends before the other begins and the later `pre` is a multiple of the earlier end; everything
// here follows from that.
//
//===----------------------------------------------------------------------===//
#include "shardc/Sharding/Sharding.h"

#include <algorithm>
#include <tuple>

using namespace shardc;

int64_t shardc::ceilDiv(int64_t numerator, int64_t denominator) {
  return (numerator + denominator - 1) / denominator;
}

//===----------------------------------------------------------------------===//
// Mesh
//===----------------------------------------------------------------------===//

bool shardc::operator==(const MeshAxis &a, const MeshAxis &b) {
  return a.name == b.name && a.size == b.size;
}

bool shardc::operator==(const Mesh &a, const Mesh &b) {
  return a.name == b.name && a.axes == b.axes;
}

int64_t Mesh::deviceCount() const {
  int64_t count = 1;
  for (const MeshAxis &axis : axes)
    count *= axis.size;
  return count;
}

std::vector<int64_t> Mesh::coordinates(int64_t rank) const {
  std::vector<int64_t> result(axes.size());
  for (size_t i = axes.size(); i-- > 0;) {
    result[i] = rank % axes[i].size;
    rank /= axes[i].size;
  }
  return result;
}

int64_t Mesh::rankOf(const std::vector<int64_t> &coordinates) const {
  int64_t rank = 0;
  for (size_t i = 0; i < axes.size(); ++i)
    rank = rank * axes[i].size + coordinates[i];
  return rank;
}

std::optional<int> Mesh::findAxis(std::string_view axisName) const {
  for (size_t i = 0; i < axes.size(); ++i)
    if (axes[i].name == axisName)
      return static_cast<int>(i);
  return std::nullopt;
}

Error Mesh::verify() const {
  int64_t count = 1;
  for (size_t i = 0; i < axes.size(); ++i) {
    const MeshAxis &axis = axes[i];
    if (axis.name.empty())
      return "axis " + std::to_string(i) + " of mesh \"" + name + "\" has no name";
    if (*findAxis(axis.name) != static_cast<int>(i))
      return "mesh \"" + name + "\" has two axes named \"" + axis.name + "\"";
    if (axis.size < 1)
      return "axis \"" + axis.name + "\" has size " + std::to_string(axis.size) +
             ", expected at least 1";
    if (axis.size > INT32_MAX / count)
      return "mesh \"" + name + "\" has more than " + std::to_string(INT32_MAX) + " devices";
    count *= axis.size;
  }
  return std::nullopt;
}

std::string Mesh::str() const {
  std::string text = "@" + name + "[";
  for (size_t i = 0; i < axes.size(); ++i)
    text += (i ? ", \"" : "\"") + axes[i].name + "\"=" + std::to_string(axes[i].size);
  return text + "]";
}

//===----------------------------------------------------------------------===//
// AxisRef
//===----------------------------------------------------------------------===//

bool shardc::operator==(const AxisRef &a, const AxisRef &b) {
  return a.axis == b.axis && a.pre == b.pre && a.size == b.size;
}

bool shardc::operator<(const AxisRef &a, const AxisRef &b) {
  return std::tie(a.axis, a.pre, a.size) < std::tie(b.axis, b.pre, b.size);
}

AxisRef shardc::wholeAxis(const Mesh &mesh, int axis) { return {axis, 1, mesh.axes[axis].size}; }

bool shardc::overlaps(const AxisRef &a, const AxisRef &b) {
  if (a.axis != b.axis)
    return false;
  if (a.pre == b.pre) // The same part of size 1 (a whole axis of size 1) twice is a mistake too.
    return true;
  const AxisRef &first = a.pre < b.pre ? a : b, &second = a.pre < b.pre ? b : a;
  return second.pre % (first.pre * first.size) != 0;
}

std::optional<AxisRef> shardc::mergeAdjacent(const AxisRef &major, const AxisRef &minor) {
  if (major.axis != minor.axis || major.pre * major.size != minor.pre)
    return std::nullopt;
  return AxisRef{major.axis, major.pre, major.size * minor.size};
}

std::optional<std::pair<AxisRef, AxisRef>> shardc::splitAxis(const AxisRef &ref,
                                                             int64_t majorSize) {
  if (majorSize < 1 || ref.size % majorSize != 0)
    return std::nullopt;
  return std::make_pair(AxisRef{ref.axis, ref.pre, majorSize},
                        AxisRef{ref.axis, ref.pre * majorSize, ref.size / majorSize});
}

std::optional<AxisRef> shardc::intersect(const AxisRef &a, const AxisRef &b) {
  if (a.axis != b.axis)
    return std::nullopt;
  int64_t begin = std::max(a.pre, b.pre), end = std::min(a.pre * a.size, b.pre * b.size);
  if (begin >= end || end % begin != 0)
    return std::nullopt;
  // Both refs must be divisible at the points where the other cuts them.
  for (const AxisRef &ref : {a, b})
    if (begin % ref.pre != 0 || (ref.pre * ref.size) % end != 0)
      return std::nullopt;
  return AxisRef{a.axis, begin, end / begin};
}

AxisList shardc::canonicalAxes(const AxisList &axes) {
  AxisList result;
  for (const AxisRef &ref : axes) {
    if (ref.size == 1)
      continue;
    std::optional<AxisRef> merged;
    if (!result.empty())
      merged = mergeAdjacent(result.back(), ref);
    if (merged)
      result.back() = *merged;
    else
      result.push_back(ref);
  }
  return result;
}

/// The common prefix, and what is left of `a` after it.
static std::pair<AxisList, AxisList> splitCommonPrefix(const AxisList &a, const AxisList &b) {
  AxisList merged = canonicalAxes(a), x = refineBy(merged, canonicalAxes(b));
  AxisList y = refineBy(canonicalAxes(b), merged);
  size_t common = 0;
  while (common < x.size() && common < y.size() && x[common] == y[common])
    ++common;
  return {canonicalAxes({x.begin(), x.begin() + common}),
          canonicalAxes({x.begin() + common, x.end()})};
}

AxisList shardc::commonPrefix(const AxisList &a, const AxisList &b) {
  return splitCommonPrefix(a, b).first;
}

std::optional<AxisList> shardc::dropPrefix(const AxisList &axes, const AxisList &prefix) {
  auto [common, rest] = splitCommonPrefix(axes, prefix);
  if (common != canonicalAxes(prefix))
    return std::nullopt;
  return rest;
}

AxisList shardc::refineBy(const AxisList &axes, const AxisList &others) {
  AxisList result;
  for (const AxisRef &ref : axes) {
    std::vector<int64_t> cuts;
    for (const AxisRef &other : others)
      if (other.axis == ref.axis)
        for (int64_t cut : {other.pre, other.pre * other.size})
          if (cut > ref.pre && cut < ref.pre * ref.size)
            cuts.push_back(cut);
    std::sort(cuts.begin(), cuts.end());
    AxisRef rest = ref;
    for (int64_t cut : cuts) {
      if (cut == rest.pre || cut % rest.pre != 0)
        continue;
      if (auto parts = splitAxis(rest, cut / rest.pre)) {
        result.push_back(parts->first);
        rest = parts->second;
      }
    }
    result.push_back(rest);
  }
  return result;
}

bool shardc::overlaps(const AxisList &a, const AxisList &b) {
  for (const AxisRef &x : a)
    for (const AxisRef &y : b)
      if (overlaps(x, y))
        return true;
  return false;
}

int64_t shardc::axesSize(const AxisList &axes) {
  int64_t size = 1;
  for (const AxisRef &ref : axes)
    size *= ref.size;
  return size;
}
