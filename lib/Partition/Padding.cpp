//===- Padding.cpp - Where a device's part lies, and what is behind its end -===//
//
// A dimension of G elements over N devices has parts of L = ceil(G / N); the last devices' buffers
// end in padding that may hold anything. Where padding would be added to, or compared with, values,
// it is first replaced by the neutral element:
//
//   select(iota < G - axis_index * L, x, neutral)
//
//===----------------------------------------------------------------------===//

#include "Padding.h"

using namespace mlir;
using namespace shardc;

static Value scalarI64(OpBuilder &b, Location loc, int64_t value) {
  auto type = RankedTensorType::get({}, b.getI64Type());
  return graph::ConstantOp::create(b, loc, cast<ElementsAttr>(DenseElementsAttr::get(type, value)));
}

Value PartBegins::get(OpBuilder &b, Location loc, const AxisList &axes, int64_t globalSize) {
  AxisList list = canonicalAxes(axes);
  if (list.empty())
    return {};
  int64_t localSize = ceilDiv(globalSize, axesSize(list));
  for (const Known &entry : known)
    if (entry.axes == list && entry.localSize == localSize)
      return entry.begin;
  auto type = RankedTensorType::get({}, b.getI64Type());
  Value index =
      shard::AxisIndexOp::create(b, loc, type, symbol, shard::axesAttr(b.getContext(), mesh, list));
  Value begin = graph::MulOp::create(b, loc, index, scalarI64(b, loc, localSize));
  known.push_back({list, localSize, begin});
  return begin;
}

bool shardc::isUneven(const Sharding &sharding, int64_t dim, int64_t globalSize) {
  return globalSize % shardCount(sharding, dim) != 0;
}

/// The value that leaves a reduction as it is.
static TypedAttr neutralValue(Type type, ReduceKind kind) {
  if (auto floatType = dyn_cast<FloatType>(type)) {
    bool low = kind == ReduceKind::Max;
    if (low || kind == ReduceKind::Min)
      return FloatAttr::get(type, APFloat::getInf(floatType.getFloatSemantics(), low));
    return FloatAttr::get(type, kind == ReduceKind::Prod ? 1.0 : 0.0);
  }
  unsigned width = type.getIntOrFloatBitWidth();
  bool isSigned = !type.isUnsignedInteger() && width > 1;
  switch (kind) {
  case ReduceKind::Sum:
    return IntegerAttr::get(type, APInt(width, 0));
  case ReduceKind::Prod:
    return IntegerAttr::get(type, APInt(width, 1));
  case ReduceKind::Max:
    return IntegerAttr::get(type,
                            isSigned ? APInt::getSignedMinValue(width) : APInt::getMinValue(width));
  case ReduceKind::Min:
    return IntegerAttr::get(type,
                            isSigned ? APInt::getSignedMaxValue(width) : APInt::getMaxValue(width));
  }
  return {};
}

Value shardc::maskPadding(OpBuilder &b, Location loc, Value local, int64_t dim, int64_t globalSize,
                          Value begin, ReduceKind kind) {
  auto type = cast<RankedTensorType>(local.getType());
  auto rowType = RankedTensorType::get({type.getDimSize(dim)}, b.getI64Type());
  Value index = graph::IotaOp::create(b, loc, rowType, 0);
  Value filled = graph::SubOp::create(b, loc, scalarI64(b, loc, globalSize), begin);
  Value row = graph::CompareOp::create(b, loc, graph::Predicate::LT, index,
                                       graph::broadcastScalar(b, loc, filled, rowType.getShape()));
  Value condition = graph::BroadcastOp::create(b, loc, type.clone(b.getI1Type()), row,
                                               b.getDenseI64ArrayAttr({dim}));
  auto scalarType = RankedTensorType::get({}, type.getElementType());
  Attribute neutral = neutralValue(type.getElementType(), kind);
  Value scalar = graph::ConstantOp::create(
      b, loc, cast<ElementsAttr>(DenseElementsAttr::get(scalarType, neutral)));
  Value padding = graph::broadcastScalar(b, loc, scalar, type.getShape());
  return graph::SelectOp::create(b, loc, type, condition, local, padding);
}
