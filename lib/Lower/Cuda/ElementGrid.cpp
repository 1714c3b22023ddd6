//===- ElementGrid.cpp - Index lambdas, a vector a thread -----------------===//
//
// A thread computes `lanes` neighbouring elements of every result, then stores them all. Written as
// scalars: LLVM joins the loads and stores of neighbours, since buffers are aligned and rows are
// whole vectors. Where an op changes its rule along the last dimension (the halves of a rotary
// embedding), each piece has code of its own, so that the choice is made once for a vector.
//
//===----------------------------------------------------------------------===//
#include "CudaLowering.h"

using namespace mlir;

namespace shardc {
namespace {

struct ElementGrid {
  ElementGrid(CudaLowering &lowering)
      : lowering(lowering), emitter(lowering.builder, lowering.loc()), e(emitter.e),
        body(lowering.begin(0)) {
    shape.assign(tensorType(lowering.results()[0]).getShape().begin(),
                 tensorType(lowering.results()[0]).getShape().end());
    isFlat = isPositionFree(lowering) || shape.empty();
    if (isFlat) {
      shape = {tensorType(lowering.results()[0]).getNumElements()};
      bindFlat(lowering, emitter, body);
    } else {
      lowering.bindArguments(emitter, body);
    }
  }

  void build();
  void emitVector(ArrayRef<Value> outer, Value vector);

  CudaLowering &lowering;
  BodyEmitter emitter;
  Emitter &e;
  KernelBody body;
  SmallVector<int64_t> shape;
  bool isFlat = false;
  int64_t lanes = 1;
};

} // namespace

void ElementGrid::emitVector(ArrayRef<Value> outer, Value vector) {
  SmallVector<Emitter::Values> elements(lowering.results().size());
  Emitter::Values places;
  for (int64_t lane = 0; lane < lanes; ++lane) {
    Emitter::Values indices(outer);
    indices.push_back(e.add(e.mul(vector, lanes), lane));
    places.push_back(emitter.offset(shape, indices));
    if (tensorType(lowering.results()[0]).getRank() == 0)
      indices = {e.index(0)};
    for (auto [n, result] : llvm::enumerate(lowering.results()))
      elements[n].push_back(emitter.element(result, indices));
  }
  for (auto [n, result] : llvm::enumerate(lowering.results()))
    for (auto [element, place] : llvm::zip(elements[n], places))
      emitter.store(element, lowering.resultBuffer(body, n), tensorType(result).getElementType(),
                    place);
}

void ElementGrid::build() {
  int64_t inner = shape.back(), count = ShapedType::getNumElements(shape);
  if (count == 0) {
    lowering.forEach(e, body, 0, 1, [](Value) {});
    return;
  }
  lanes = lowering.vectorOf(inner);
  SmallVector<int64_t> cuts = isFlat ? SmallVector<int64_t>{0, inner} : cutsOf(lowering, inner);
  for (int64_t cut : cuts)
    while (cut % lanes != 0)
      lanes /= 2;
  SmallVector<int64_t> vectors(shape);
  vectors.back() = inner / lanes;
  lowering.forEach(e, body, count / lanes, lanes, [&](Value item) {
    Emitter::Values at = emitter.delinearize(item, vectors);
    Value vector = at.pop_back_val();
    std::function<void(ArrayRef<int64_t>)> pieces = [&](ArrayRef<int64_t> ends) {
      if (ends.size() == 1)
        return emitVector(at, vector);
      e.ifThenElse(
          e.compare(arith::CmpIPredicate::ult, vector, e.index(ends[0] / lanes)),
          [&] { emitVector(at, vector); }, [&] { pieces(ends.drop_front()); });
    };
    pieces(ArrayRef(cuts).drop_front());
  });
}

void lowerElementGrid(CudaLowering &lowering) { ElementGrid(lowering).build(); }

} // namespace shardc
