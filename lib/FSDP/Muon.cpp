//===- Muon.cpp - Directions of matrices ----------------------------------===//
//
// Orthogonalising needs whole matrices, and a bucket's shards end anywhere:
//
//   1. The flat momentum is gathered over the shard axes, in the type that is computed in; a matrix
//      that tensor parallelism cuts is gathered too.
//   2. Matrices of one shape (the wide orientation) become one batch, padded with zeros to a
//      multiple of the ranks that share the work: each takes its part of the batch, and the results
//      are gathered. Every rank has the same commands.
//   3. Newton-Schulz: X <- a X + (b G + c G G) X with G = X X^T, on X / |X|.
//   4. The way back: the part under tensor parallelism, the flat buffer, the shard.
//
// Which ranks do what depends on the mesh alone, so that ZeRO stages agree bit for bit.
//
// torch.optim.Muon, operation by operation; Jordan et al. 2024, "Muon: An optimizer for hidden
// layers"; distributed as in Dion's and Megatron's.
//
//===----------------------------------------------------------------------===//

#include "Muon.h"

#include "llvm/ADT/MapVector.h"

#include <cmath>

using namespace mlir;

namespace shardc {
namespace {

class Orthogonaliser {
public:
  Orthogonaliser(OpBuilder &builder, Location loc, const ShardLayout &layout, const Bucket &bucket,
                 const OptimizerSpec &spec)
      : builder(builder), loc(loc), a{builder, loc}, layout(layout), bucket(bucket), spec(spec),
        workers(bucket.shards) {
    llvm::append_range(workers, bucket.cut);
    element =
        spec.newtonSchulzDtype == "bfloat16" ? Type(builder.getBF16Type()) : builder.getF32Type();
  }
  Value run(Value momentum);

private:
  struct Item {
    const TrainedParameter *parameter;
    bool isTall;
  };
  template <typename Op>
  Value collective(const AxisList &over, StringRef why, ArrayRef<int64_t> shape, Value input,
                   int64_t dim);
  Value castTo(Value value, Type type) { return graph::castTo(builder, loc, value, type); }
  Value reshape(Value value, ArrayRef<int64_t> shape) {
    return graph::ReshapeOp::create(builder, loc,
                                    cast<RankedTensorType>(value.getType()).clone(shape), value);
  }
  Value slice(Value value, int64_t number);
  Value wholeMatrix(Value flat, const TrainedParameter &parameter);
  Value localPart(Value matrix, const TrainedParameter &parameter);
  Value orthogonaliseBatch(ArrayRef<Value> matrices);
  Value newtonSchulz(Value batch);
  /// x times p plus y times q, in f32, rounded once.
  Value combine(Value x, double p, Value y, double q) {
    Type f32 = builder.getF32Type();
    Value right = castTo(y, f32);
    return castTo(a.add(a.mul(castTo(x, f32), p), q == 1 ? right : a.mul(right, q)), element);
  }
  double factorOf(const TrainedParameter &parameter) const;

  OpBuilder &builder;
  Location loc;
  Arithmetic a;
  const ShardLayout &layout;
  const Bucket &bucket;
  const OptimizerSpec &spec;
  AxisList workers; ///< ranks along these share the work
  Type element;     ///< that is computed in
};

} // namespace

static ArrayRef<int64_t> shapeOf(Value value) {
  return cast<RankedTensorType>(value.getType()).getShape();
}

template <typename Op>
Value Orthogonaliser::collective(const AxisList &over, StringRef why, ArrayRef<int64_t> shape,
                                 Value input, int64_t dim) {
  auto type = cast<RankedTensorType>(input.getType()).clone(shape);
  auto op = Op::create(builder, loc, type, input, layout.symbol.getValue(), layout.axes(over), dim);
  op->setAttr(shard::ShardDialect::kOriginAttr,
              builder.getStringAttr((why + " of " + bucket.unit).str()));
  return op;
}

/// Element `number` of the first dimension.
Value Orthogonaliser::slice(Value value, int64_t number) {
  SmallVector<int64_t> shape(shapeOf(value)), starts(shape.size(), 0), strides(shape.size(), 1);
  starts[0] = number;
  shape[0] = 1;
  Value part = graph::SliceOp::create(
      builder, loc, cast<RankedTensorType>(value.getType()).clone(shape), value,
      builder.getDenseI64ArrayAttr(starts), builder.getDenseI64ArrayAttr(strides));
  return reshape(part, ArrayRef<int64_t>(shape).drop_front());
}

Value Orthogonaliser::wholeMatrix(Value flat, const TrainedParameter &parameter) {
  auto type = RankedTensorType::get(parameter.local.getShape(), element);
  Value matrix = shard::BucketViewOp::create(builder, loc, type, flat,
                                             builder.getI64IntegerAttr(parameter.offset));
  for (auto [dim, sharding] : llvm::enumerate(parameter.sharding.dims))
    if (!sharding.axes.empty()) {
      SmallVector<int64_t> shape(shapeOf(matrix));
      shape[dim] = parameter.global.getDimSize(dim);
      matrix = collective<shard::AllGatherOp>(sharding.axes, "momentum", shape, matrix, dim);
    }
  return matrix;
}

Value Orthogonaliser::localPart(Value matrix, const TrainedParameter &parameter) {
  for (auto [dim, sharding] : llvm::enumerate(parameter.sharding.dims))
    if (!sharding.axes.empty()) {
      SmallVector<int64_t> shape(shapeOf(matrix));
      shape[dim] = parameter.local.getDimSize(dim);
      matrix = collective<shard::SliceOp>(sharding.axes, "directions", shape, matrix, dim);
    }
  return matrix;
}

/// [n, rows, columns], rows at most columns.
Value Orthogonaliser::newtonSchulz(Value batch) {
  auto type = cast<RankedTensorType>(batch.getType());
  Value wide = castTo(batch, builder.getF32Type());
  Value squares =
      graph::ReduceOp::create(builder, loc, graph::Reduction::Sum, a.mul(wide, wide), {1, 2});
  Value norm = castTo(a.sqrt(squares), element);
  norm = graph::MaxOp::create(builder, loc, norm, a.constant(norm.getType(), 1e-7));
  Value x = a.div(batch, graph::BroadcastOp::create(builder, loc, type, norm,
                                                    builder.getDenseI64ArrayAttr({0})));
  auto square = type.clone({type.getDimSize(0), type.getDimSize(1), type.getDimSize(1)});
  for (int step = 0; step < static_cast<int>(spec.newtonSchulzSteps); ++step) {
    Value gram = graph::EinsumOp::create(builder, loc, square, "bik,bjk->bij", x, x);
    Value gram2 = graph::EinsumOp::create(builder, loc, square, "bij,bjk->bik", gram, gram);
    Value polynomial = combine(gram, -4.7750, gram2, 2.0315);
    Value rest = graph::EinsumOp::create(builder, loc, type, "bij,bjk->bik", polynomial, x);
    x = combine(x, 3.4445, rest, 1);
  }
  return x;
}

/// Matrices of one shape, to a batch that is padded at its end.
Value Orthogonaliser::orthogonaliseBatch(ArrayRef<Value> matrices) {
  ArrayRef<int64_t> shape = shapeOf(matrices[0]);
  int64_t ranks = axesSize(workers), count = llvm::alignTo(matrices.size(), ranks);
  SmallVector<Value> lines;
  for (Value matrix : matrices)
    lines.push_back(reshape(matrix, {1, shape[0], shape[1]}));
  if (int64_t rest = count - matrices.size())
    lines.push_back(a.constant(RankedTensorType::get({rest, shape[0], shape[1]}, element), 0));
  auto type = RankedTensorType::get({count, shape[0], shape[1]}, element);
  Value batch = lines.size() == 1 ? lines[0]
                                  : graph::ConcatOp::create(builder, loc, type, lines,
                                                            builder.getI64IntegerAttr(0))
                                        .getResult();
  if (ranks == 1)
    return newtonSchulz(batch);
  Value own = collective<shard::SliceOp>(workers, "momentum", {count / ranks, shape[0], shape[1]},
                                         batch, 0);
  return collective<shard::AllGatherOp>(workers, "directions", type.getShape(), newtonSchulz(own),
                                        0);
}

/// torch.optim.Muon's adjust_lr_fn.
double Orthogonaliser::factorOf(const TrainedParameter &parameter) const {
  double rows = parameter.global.getDimSize(0), columns = parameter.global.getDimSize(1);
  return spec.adjustLearningRate == "original" ? std::sqrt(std::max(1.0, rows / columns))
                                               : 0.2 * std::sqrt(std::max(rows, columns));
}

Value Orthogonaliser::run(Value momentum) {
  Value flat = castTo(momentum, element);
  if (AxisList owned = layout.of(bucket).owned(); !owned.empty())
    flat = collective<shard::AllGatherOp>(owned, "momentum", {bucket.length}, flat, 0);
  llvm::MapVector<std::pair<int64_t, int64_t>, SmallVector<Item>> byShape;
  for (const TrainedParameter *parameter : bucket.items) {
    int64_t rows = parameter->global.getDimSize(0), columns = parameter->global.getDimSize(1);
    byShape[{std::min(rows, columns), std::max(rows, columns)}].push_back(
        {parameter, rows > columns});
  }
  DenseMap<const TrainedParameter *, Value> directions;
  Type f32 = builder.getF32Type();
  for (auto &[shape, items] : byShape) {
    SmallVector<Value> matrices;
    for (const Item &item : items) {
      Value matrix = wholeMatrix(flat, *item.parameter);
      matrices.push_back(
          item.isTall ? graph::TransposeOp::create(builder, loc, matrix, ArrayRef<int64_t>{1, 0})
                            .getResult()
                      : matrix);
    }
    Value batch = orthogonaliseBatch(matrices);
    for (auto [n, item] : llvm::enumerate(items)) {
      Value matrix = slice(batch, n);
      if (item.isTall)
        matrix = graph::TransposeOp::create(builder, loc, matrix, ArrayRef<int64_t>{1, 0});
      directions[item.parameter] =
          a.mul(castTo(localPart(matrix, *item.parameter), f32), factorOf(*item.parameter));
    }
  }
  SmallVector<Value> parts;
  SmallVector<int64_t> offsets;
  for (const TrainedParameter *parameter : bucket.items) {
    parts.push_back(directions[parameter]);
    offsets.push_back(parameter->offset);
  }
  Value packed =
      shard::BucketPackOp::create(builder, loc, RankedTensorType::get({bucket.length}, f32), parts,
                                  builder.getDenseI64ArrayAttr(offsets));
  AxisList owned = layout.of(bucket).owned();
  return owned.empty()
             ? packed
             : collective<shard::SliceOp>(owned, "directions", shapeOf(momentum), packed, 0);
}

Value orthogonalise(OpBuilder &builder, Location loc, const ShardLayout &layout,
                    const Bucket &bucket, const OptimizerSpec &spec, Value momentum) {
  return Orthogonaliser(builder, loc, layout, bucket, spec).run(momentum);
}

} // namespace shardc
