//===- View.cpp - Where the elements of a value come from -----------------===//

#include "lib/Raise/View.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;
using namespace shardc::raise;

int64_t raise::groupSize(const AtomGroup &group) {
  int64_t size = 1;
  for (const Atom &atom : group)
    size *= atom.size;
  return size;
}

bool raise::isRepetition(const AtomGroup &group) {
  return llvm::all_of(group, [](const Atom &atom) { return atom.isRepetition(); });
}

AtomGroup raise::concatGroups(ArrayRef<AtomGroup> groups) {
  AtomGroup all;
  for (const AtomGroup &group : groups)
    all.append(group.begin(), group.end());
  return all;
}

std::optional<std::pair<AtomGroup, AtomGroup>> raise::splitGroup(const AtomGroup &group,
                                                                 int64_t outerSize) {
  AtomGroup outer, inner;
  for (const Atom &atom : group) {
    if (outerSize == 1) {
      inner.push_back(atom);
    } else if (outerSize % atom.size == 0) {
      outer.push_back(atom);
      outerSize /= atom.size;
    } else if (outerSize != 0 && atom.size % outerSize == 0) {
      int64_t rest = atom.size / outerSize;
      outer.push_back({outerSize, atom.baseDim, atom.stride * rest});
      inner.push_back({rest, atom.baseDim, atom.stride});
      outerSize = 1;
    } else {
      return std::nullopt;
    }
  }
  if (outerSize != 1)
    return std::nullopt;
  return std::make_pair(outer, inner);
}

//===----------------------------------------------------------------------===//
// Construction
//===----------------------------------------------------------------------===//

View View::identity(Value value) {
  View view;
  view.base = value;
  for (auto [dim, size] : llvm::enumerate(getShape(value))) {
    AtomGroup group;
    if (size != 1)
      group.push_back({size, static_cast<int64_t>(dim), 1});
    view.dims.push_back(group);
  }
  return view;
}

LogicalResult View::reshape(ArrayRef<int64_t> shape) {
  AtomGroup rest = concatGroups(dims);
  SmallVector<AtomGroup> regrouped;
  for (int64_t size : shape) {
    auto cut = splitGroup(rest, size);
    if (!cut)
      return failure();
    regrouped.push_back(cut->first);
    rest = cut->second;
  }
  dims = std::move(regrouped);
  return success();
}

void View::transpose(ArrayRef<int64_t> permutation) {
  SmallVector<AtomGroup> permuted;
  for (int64_t dim : permutation)
    permuted.push_back(dims[dim]);
  dims = std::move(permuted);
}

void View::broadcast(ArrayRef<int64_t> shape, ArrayRef<int64_t> inputDims) {
  SmallVector<AtomGroup> widened(shape.size());
  for (auto [input, result] : llvm::enumerate(inputDims))
    widened[result] = dims[input];
  for (auto [group, size] : llvm::zip_equal(widened, shape))
    if (size != 1 && group.empty())
      group.push_back(Atom::repetition(size));
  dims = std::move(widened);
}

/// Applies one op of a chain; fails if the normal form cannot say it.
static LogicalResult apply(View &view, Operation *op) {
  if (auto reshape = dyn_cast<ReshapeOp>(op))
    return view.reshape(reshape.getType().getShape());
  if (auto transpose = dyn_cast<TransposeOp>(op))
    view.transpose(transpose.getPermutation());
  else if (auto broadcast = dyn_cast<BroadcastOp>(op))
    view.broadcast(broadcast.getType().getShape(), broadcast.getDims());
  return success();
}

View View::of(Value value, double *scale) {
  // The chain from the value up, each op with the factor that it multiplies by.
  SmallVector<std::pair<Operation *, double>> chain;
  for (Value at = value; Operation *op = at.getDefiningOp();) {
    if (isa<ReshapeOp, TransposeOp, BroadcastOp>(op)) {
      chain.emplace_back(op, 1);
      at = op->getOperand(0);
    } else if (auto scaled = scale ? matchScaled(at) : std::nullopt) {
      chain.emplace_back(op, scaled->factor);
      at = scaled->value;
    } else {
      break;
    }
  }
  // Replayed downward; where an op cannot be said, its result becomes the base.
  double factor = 1;
  auto inputOf = [](std::pair<Operation *, double> step) {
    return isa<ReshapeOp, TransposeOp, BroadcastOp>(step.first)
               ? step.first->getOperand(0)
               : matchScaled(step.first->getResult(0))->value;
  };
  View view = identity(chain.empty() ? value : inputOf(chain.back()));
  for (auto step : llvm::reverse(chain)) {
    factor *= step.second;
    if (succeeded(apply(view, step.first)))
      continue;
    view = identity(step.first->getResult(0));
    factor = 1;
  }
  if (scale)
    *scale *= factor;
  return view;
}

//===----------------------------------------------------------------------===//
// Questions
//===----------------------------------------------------------------------===//

SmallVector<int64_t> View::shape() const {
  SmallVector<int64_t> sizes;
  for (const AtomGroup &group : dims)
    sizes.push_back(groupSize(group));
  return sizes;
}

bool View::isOrdered(int64_t from, int64_t to) const {
  const Atom *previous = nullptr;
  for (int64_t dim = from; dim < to; ++dim)
    for (const Atom &atom : dims[dim]) {
      if (atom.isRepetition())
        return false;
      if (previous && (previous->baseDim > atom.baseDim ||
                       (previous->baseDim == atom.baseDim && previous->stride < atom.stride)))
        return false;
      previous = &atom;
    }
  return true;
}

bool View::isRowwise(int64_t count) const {
  int64_t rows = static_cast<int64_t>(dims.size()) - count;
  return rows >= 0 && isOrdered(0, rows) &&
         llvm::all_of(ArrayRef(dims).drop_front(rows),
                      [](auto &group) { return raise::isRepetition(group); });
}

bool View::isTrailing(int64_t count) const {
  int64_t rows = static_cast<int64_t>(dims.size()) - count;
  return rows >= 0 && isOrdered(rows, dims.size()) &&
         llvm::all_of(ArrayRef(dims).take_front(rows),
                      [](auto &group) { return raise::isRepetition(group); });
}

//===----------------------------------------------------------------------===//
// Emission
//===----------------------------------------------------------------------===//

/// Joins neighbours of one dimension that are neighbours in the base too.
static void joinAtoms(AtomGroup &group) {
  AtomGroup joined;
  for (const Atom &atom : group) {
    if (!joined.empty() && !atom.isRepetition() && joined.back().baseDim == atom.baseDim &&
        joined.back().stride == atom.size * atom.stride)
      joined.back() = {joined.back().size * atom.size, atom.baseDim, atom.stride};
    else if (!joined.empty() && atom.isRepetition() && joined.back().isRepetition())
      joined.back().size *= atom.size;
    else
      joined.push_back(atom);
  }
  group = joined;
}

Value View::materialize(OpMaker &maker) const {
  SmallVector<AtomGroup> groups(dims);
  llvm::for_each(groups, joinAtoms);
  AtomGroup wanted = concatGroups(groups);

  // Base atoms by their place in the wanted order, then sorted to the base's order.
  SmallVector<int64_t> places, sizes, fullSizes;
  for (auto [place, atom] : llvm::enumerate(wanted)) {
    fullSizes.push_back(atom.size);
    if (!atom.isRepetition())
      places.push_back(place);
  }
  auto baseOrder = llvm::to_vector(llvm::seq<int64_t>(0, places.size()));
  llvm::sort(baseOrder, [&](int64_t a, int64_t b) {
    const Atom &x = wanted[places[a]], &y = wanted[places[b]];
    return std::make_pair(x.baseDim, -x.stride) < std::make_pair(y.baseDim, -y.stride);
  });
  SmallVector<int64_t> permutation(baseOrder.size());
  for (auto [at, order] : llvm::enumerate(baseOrder)) {
    sizes.push_back(wanted[places[order]].size);
    permutation[order] = at;
  }

  bool reordered = !llvm::is_sorted(permutation), repeated = places.size() != wanted.size();
  Value result = base;
  if (reordered || repeated)
    result = maker.reshape(result, sizes);
  if (reordered)
    result = maker.create<TransposeOp>(result, permutation);
  if (repeated)
    result = maker.create<BroadcastOp>(getType(result).clone(fullSizes), result, places);
  return maker.reshape(result, shape());
}
