//===- LoopKernel.cpp - Ops that fill whole buffers -----------------------===//
//
// Plain loop nests for the ops that are neither index lambdas nor rows nor matrix multiplications.
// Tiles are over what is independent; scatters are one tile, because updates may meet.
//
//===----------------------------------------------------------------------===//
#include "KernelLowering.h"
#include "Reductions.h"
#include "dialects/Graph/ScalarEmit.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace shardc::graph;

namespace shardc {
namespace {

class LoopBuilder {
public:
  LoopBuilder(KernelLowering &lowering)
      : lowering(lowering), emitter(lowering.builder, lowering.loc()), e(emitter.e),
        body(lowering.begin(0)) {
    lowering.bindArguments(emitter, body);
  }

  KernelResult build(Operation *op);

private:
  using Values = Emitter::Values;

  Kernel arg(ArgReduceOp op);
  Kernel cumsum(CumsumOp op);
  Kernel topk(TopKOp op);
  Kernel scatterElements(ScatterElementsOp op);
  Kernel scatterNd(ScatterNdOp op);
  Kernel crossEntropy(SoftmaxCrossEntropyOp op);
  Kernel conv(ConvOp op);

  /// Tiles over `count` independent items of about `work` elements each.
  Kernel forEach(int64_t count, int64_t work, llvm::function_ref<void(Value)> item);
  /// Loops over `shape`, the last dimension innermost.
  void nest(ArrayRef<int64_t> shape, Values outer, llvm::function_ref<void(ArrayRef<Value>)> inner);
  Value in(Value tensor, ArrayRef<Value> indices) { return emitter.element(tensor, indices); }
  void out(unsigned result, Value scalar, ArrayRef<Value> indices) {
    auto type = tensorType(lowering.results()[result]);
    emitter.store(scalar, lowering.resultBuffer(body, result), type.getElementType(),
                  emitter.offset(type.getShape(), indices));
  }
  Value isInside(Value index, int64_t size) {
    return e.compare(arith::CmpIPredicate::ult, index, e.index(size));
  }
  Value toIndex(Value integer) {
    return e.b.createOrFold<arith::IndexCastOp>(e.loc, e.b.getIndexType(), integer);
  }
  Value toElement(Value index, Type type) {
    return arith::IndexCastOp::create(e.b, e.loc, type, index);
  }
  Value isGreater(Value x, Value y, bool isUnsigned);
  void copyResult(Value data);
  void combine(Combine how, Value update, Value buffer, Value at, RankedTensorType type);

  KernelLowering &lowering;
  BodyEmitter emitter;
  Emitter &e;
  KernelBody body;
};

bool isUnsignedElement(Type element) { return element.isUnsignedInteger() || element.isInteger(1); }

} // namespace

Kernel LoopBuilder::forEach(int64_t count, int64_t work, llvm::function_ref<void(Value)> item) {
  return lowering.forEach(e, body, count, work, item);
}

void LoopBuilder::nest(ArrayRef<int64_t> shape, Values outer,
                       llvm::function_ref<void(ArrayRef<Value>)> inner) {
  if (shape.empty())
    return inner(outer);
  e.loop(e.index(0), e.index(shape.front()), 1, [&](Value i) {
    Values indices = outer;
    indices.push_back(i);
    nest(shape.drop_front(), indices, inner);
  });
}

Value LoopBuilder::isGreater(Value x, Value y, bool isUnsigned) {
  if (isa<FloatType>(x.getType()))
    return arith::CmpFOp::create(e.b, e.loc, arith::CmpFPredicate::OGT, x, y);
  return arith::CmpIOp::create(
      e.b, e.loc, isUnsigned ? arith::CmpIPredicate::ugt : arith::CmpIPredicate::sgt, x, y);
}

/// The shape without one dimension, and indices with it put back.
static SmallVector<int64_t> without(ArrayRef<int64_t> shape, int64_t dim) {
  SmallVector<int64_t> rest(shape);
  rest.erase(rest.begin() + dim);
  return rest;
}
static Emitter::Values with(ArrayRef<Value> indices, int64_t dim, Value index) {
  Emitter::Values all(indices);
  all.insert(all.begin() + dim, index);
  return all;
}

//===----------------------------------------------------------------------===//
// Scans
//===----------------------------------------------------------------------===//

Kernel LoopBuilder::arg(ArgReduceOp op) {
  auto type = op.getInput().getType();
  int64_t dim = op.getDim(), size = type.getDimSize(dim);
  SmallVector<int64_t> rows = without(type.getShape(), dim);
  bool isUnsigned = isUnsignedElement(type.getElementType()),
       isFloat = isa<FloatType>(type.getElementType());
  auto isNan = [&](Value x) {
    return arith::CmpFOp::create(e.b, e.loc, arith::CmpFPredicate::UNO, x, x);
  };
  auto both = [&](Value x, Value y) { return arith::AndIOp::create(e.b, e.loc, x, y); };
  auto either = [&](Value x, Value y) { return arith::OrIOp::create(e.b, e.loc, x, y); };
  auto isNot = [&](Value x) { return scalar::bitNot(e.b, e.loc, x); };
  // NaN wins in both directions, as a NaN maximum or minimum would.
  auto isBetter = [&](Value x, Value y) -> Value {
    Value better = op.getLargest() ? isGreater(x, y, isUnsigned) : isGreater(y, x, isUnsigned);
    return isFloat ? both(isNot(isNan(y)), either(isNan(x), better)) : better;
  };
  return forEach(ShapedType::getNumElements(rows), size, [&](Value r) {
    Values row = emitter.delinearize(r, rows);
    Value first = in(op.getInput(), with(row, dim, e.index(0)));
    Values best =
        e.loop(e.index(1), e.index(size), 1, {first, e.index(0)}, [&](Value i, ValueRange held) {
          Value x = in(op.getInput(), with(row, dim, i));
          Value better = isBetter(x, held[0]);
          if (op.getLast())
            better = either(better, isNot(isBetter(held[0], x)));
          return Values{arith::SelectOp::create(e.b, e.loc, better, x, held[0]),
                        arith::SelectOp::create(e.b, e.loc, better, i, held[1])};
        });
    out(0, toElement(best[1], computeType(op.getType().getElementType())), row);
  });
}

Kernel LoopBuilder::cumsum(CumsumOp op) {
  auto type = op.getType();
  int64_t dim = op.getDim(), size = type.getDimSize(dim);
  SmallVector<int64_t> rows = without(type.getShape(), dim);
  Type computed = computeType(type.getElementType());
  return forEach(ShapedType::getNumElements(rows), size, [&](Value r) {
    Values row = emitter.delinearize(r, rows);
    e.loop(e.index(0), e.index(size), 1, e.scalar(computed, 0), [&](Value step, ValueRange sum) {
      Value i = op.getReverse() ? e.sub(e.index(size - 1), step) : step;
      Value next = scalar::add(e.b, e.loc, sum[0], in(op.getInput(), with(row, dim, i)));
      out(0, op.getExclusive() ? sum[0] : next, with(row, dim, i));
      return Values{next};
    });
  });
}

/// k passes: each finds the best element that comes after the one before in the order (value, then
/// index).
Kernel LoopBuilder::topk(TopKOp op) {
  auto type = op.getInput().getType();
  int64_t dim = op.getDim(), size = type.getDimSize(dim),
          k = op.getValues().getType().getDimSize(dim);
  SmallVector<int64_t> rows = without(type.getShape(), dim);
  bool isUnsigned = isUnsignedElement(type.getElementType());
  auto isBefore = [&](Value x, Value y) {
    return op.getLargest() ? isGreater(x, y, isUnsigned) : isGreater(y, x, isUnsigned);
  };
  Type index = computeType(op.getIndices().getType().getElementType());
  return forEach(ShapedType::getNumElements(rows), size * k, [&](Value r) {
    Values row = emitter.delinearize(r, rows);
    Value first = in(op.getInput(), with(row, dim, e.index(0)));
    e.loop(e.index(0), e.index(k), 1, {first, e.index(-1)}, [&](Value rank, ValueRange last) {
      Value isFirstPass = e.equal(rank, e.index(0));
      Values best =
          e.loop(e.index(0), e.index(size), 1, {first, e.index(-1)}, [&](Value i, ValueRange held) {
            Value x = in(op.getInput(), with(row, dim, i));
            // A candidate is worse than the last one taken, or equal and further on.
            Value isEqual = scalar::bitNot(
                e.b, e.loc,
                arith::OrIOp::create(e.b, e.loc, isBefore(x, last[0]), isBefore(last[0], x)));
            Value later = arith::AndIOp::create(e.b, e.loc, isEqual,
                                                e.compare(arith::CmpIPredicate::sgt, i, last[1]));
            Value left =
                arith::OrIOp::create(e.b, e.loc, isFirstPass,
                                     arith::OrIOp::create(e.b, e.loc, isBefore(last[0], x), later));
            Value none = e.compare(arith::CmpIPredicate::slt, held[1], e.index(0));
            Value take = arith::AndIOp::create(
                e.b, e.loc, left, arith::OrIOp::create(e.b, e.loc, none, isBefore(x, held[0])));
            return Values{arith::SelectOp::create(e.b, e.loc, take, x, held[0]),
                          arith::SelectOp::create(e.b, e.loc, take, i, held[1])};
          });
      out(0, best[0], with(row, dim, rank));
      out(1, toElement(best[1], index), with(row, dim, rank));
      return best;
    });
  });
}

//===----------------------------------------------------------------------===//
// Scatters
//===----------------------------------------------------------------------===//

void LoopBuilder::copyResult(Value data) {
  if (!lowering.inPlace.empty()) // it is there already
    return;
  auto type = tensorType(data);
  Value source = body.buffers[cast<BlockArgument>(data).getArgNumber()],
        target = lowering.resultBuffer(body, 0);
  e.loop(e.index(0), e.index(type.getNumElements()), 1,
         [&](Value i) { e.storeScalar(e.loadScalar(source, i), target, i); });
}

void LoopBuilder::combine(Combine how, Value update, Value buffer, Value at,
                          RankedTensorType type) {
  Type element = type.getElementType();
  if (how != Combine::Replace)
    update = combineScalars(e, how, emitter.load(buffer, element, at), update, element);
  emitter.store(update, buffer, element, at);
}

Kernel LoopBuilder::scatterElements(ScatterElementsOp op) {
  auto type = op.getType();
  int64_t axis = op.getAxis();
  return forEach(1, 1, [&](Value) {
    copyResult(op.getData());
    nest(op.getIndices().getType().getShape(), {}, [&](ArrayRef<Value> at) {
      Value index = toIndex(in(op.getIndices(), at));
      e.ifThen(isInside(index, type.getDimSize(axis)), [&] {
        Values target(at);
        target[axis] = index;
        combine(op.getCombine(), in(op.getUpdates(), at), lowering.resultBuffer(body, 0),
                emitter.offset(type.getShape(), target), type);
      });
    });
  });
}

Kernel LoopBuilder::scatterNd(ScatterNdOp op) {
  auto type = op.getType(), indices = op.getIndices().getType();
  int64_t depth = indices.getShape().back();
  return forEach(1, 1, [&](Value) {
    copyResult(op.getData());
    nest(indices.getShape().drop_back(), {}, [&](ArrayRef<Value> tuple) {
      Values start;
      Value inside = e.scalar(e.b.getI1Type(), 1);
      for (int64_t d = 0; d < depth; ++d) {
        Values at(tuple);
        at.push_back(e.index(d));
        start.push_back(toIndex(in(op.getIndices(), at)));
        inside =
            arith::AndIOp::create(e.b, e.loc, inside, isInside(start.back(), type.getDimSize(d)));
      }
      e.ifThen(inside, [&] {
        nest(type.getShape().drop_front(depth), {}, [&](ArrayRef<Value> slice) {
          Values from(tuple), to(start);
          llvm::append_range(from, slice);
          llvm::append_range(to, slice);
          combine(op.getCombine(), in(op.getUpdates(), from), lowering.resultBuffer(body, 0),
                  emitter.offset(type.getShape(), to), type);
        });
      });
    });
  });
}

//===----------------------------------------------------------------------===//
// Loss, convolution
//===----------------------------------------------------------------------===//

Kernel LoopBuilder::crossEntropy(SoftmaxCrossEntropyOp op) {
  auto labels = op.getLabels().getType(), logits = op.getLogits().getType();
  int64_t vocabulary = logits.getShape().back();
  Type type = computeType(logits.getElementType());
  return forEach(labels.getNumElements(), vocabulary, [&](Value r) {
    Values row = emitter.delinearize(r, labels.getShape());
    auto logit = [&](Value v) {
      Values at = row;
      at.push_back(v);
      return in(op.getLogits(), at);
    };
    Value highest = e.loop(
        e.index(0), e.index(vocabulary), 1,
        e.scalar(type, -std::numeric_limits<double>::infinity()), [&](Value v, ValueRange held) {
          return Values{arith::MaximumFOp::create(e.b, e.loc, held[0], logit(v))};
        })[0];
    Value sum = e.loop(
        e.index(0), e.index(vocabulary), 1, e.scalar(type, 0), [&](Value v, ValueRange held) {
          Value power =
              math::ExpOp::create(e.b, e.loc, arith::SubFOp::create(e.b, e.loc, logit(v), highest));
          auto next = arith::AddFOp::create(e.b, e.loc, held[0], power);
          next.setFastmath(arith::FastMathFlags::reassoc | arith::FastMathFlags::contract);
          return Values{next};
        })[0];
    Value label = in(op.getLabels(), row);
    Value ignored = e.equal(label, e.scalar(label.getType(), op.getIgnoreIndex()));
    Value position = toIndex(label), inside = isInside(position, vocabulary);
    // A label outside of the vocabulary is an error of the caller's; reading there must not be one
    // of ours.
    Value chosen = logit(arith::SelectOp::create(e.b, e.loc, inside, position, e.index(0)));
    Value loss = arith::SubFOp::create(
        e.b, e.loc,
        arith::AddFOp::create(e.b, e.loc, math::LogOp::create(e.b, e.loc, sum), highest), chosen);
    Value nan = e.scalar(type, std::numeric_limits<double>::quiet_NaN());
    loss = arith::SelectOp::create(e.b, e.loc, inside, loss, nan);
    loss = arith::SelectOp::create(e.b, e.loc, ignored, e.scalar(type, 0), loss);
    out(0, e.convert(loss, computeType(op.getType().getElementType())), row);
  });
}

Kernel LoopBuilder::conv(ConvOp op) {
  auto type = op.getType(), weight = op.getWeight().getType(), input = op.getInput().getType();
  int64_t spatial = type.getRank() - 2, channels = weight.getDimSize(1);
  int64_t perGroup =
      std::max<int64_t>(1, weight.getDimSize(0) / static_cast<int64_t>(op.getGroup()));
  Type computed = computeType(type.getElementType());
  SmallVector<int64_t> window(weight.getShape().drop_front(1)); // channels and taps
  int64_t last = type.getRank() - 1,
          rows = type.getNumElements() / std::max<int64_t>(1, type.getShape().back());
  return forEach(rows, type.getShape().back() * ShapedType::getNumElements(window), [&](Value r) {
    Values outer = emitter.delinearize(r, type.getShape().drop_back());
    e.loop(e.index(0), e.index(type.getDimSize(last)), 1, [&](Value x) {
      Values at = outer;
      at.push_back(x);
      std::function<Value(Values, Value)> sum = [&](Values tap, Value acc) -> Value {
        if (tap.size() < window.size())
          return e.loop(e.index(0), e.index(window[tap.size()]), 1, acc,
                        [&](Value i, ValueRange held) {
                          Values next = tap;
                          next.push_back(i);
                          return Values{sum(next, held[0])};
                        })[0];
        Values from = {at[0], e.add(e.mul(e.div(at[1], perGroup), channels), tap[0])},
               filter = {at[1]};
        llvm::append_range(filter, tap);
        Value inside = e.scalar(e.b.getI1Type(), 1);
        for (int64_t d = 0; d < spatial; ++d) {
          Value p =
              e.add(e.mul(at[d + 2], op.getStrides()[d]), e.mul(tap[d + 1], op.getDilations()[d]));
          p = e.add(p, -op.getPadLow()[d]); // wraps to a huge number on the left of the border
          inside = arith::AndIOp::create(e.b, e.loc, inside, isInside(p, input.getDimSize(d + 2)));
          from.push_back(p);
        }
        auto branch = scf::IfOp::create(e.b, e.loc, computed, inside, /*withElseRegion=*/true);
        OpBuilder::InsertionGuard guard(e.b);
        e.b.setInsertionPointToStart(branch.thenBlock());
        Value product =
            arith::MulFOp::create(e.b, e.loc, in(op.getInput(), from), in(op.getWeight(), filter));
        scf::YieldOp::create(e.b, e.loc, Value(arith::AddFOp::create(e.b, e.loc, acc, product)));
        e.b.setInsertionPointToStart(branch.elseBlock());
        scf::YieldOp::create(e.b, e.loc, acc);
        return branch.getResult(0);
      };
      out(0, sum({}, e.scalar(computed, 0)), at);
    });
  });
}

KernelResult LoopBuilder::build(Operation *op) {
  if (auto found = dyn_cast<ArgReduceOp>(op))
    return arg(found);
  if (auto found = dyn_cast<CumsumOp>(op))
    return cumsum(found);
  if (auto found = dyn_cast<TopKOp>(op))
    return topk(found);
  if (auto found = dyn_cast<ScatterElementsOp>(op))
    return scatterElements(found);
  if (auto found = dyn_cast<ScatterNdOp>(op))
    return scatterNd(found);
  if (auto found = dyn_cast<SoftmaxCrossEntropyOp>(op))
    return crossEntropy(found);
  if (auto found = dyn_cast<ConvOp>(op))
    return conv(found);
  return op->emitOpError() << "has no lowering to loops";
}

KernelResult lowerLoopKernel(KernelLowering &lowering) {
  Operation *op = &lowering.function.getBody().front().front();
  if (op->getNextNode() != lowering.terminator())
    return op->emitOpError() << "is in a kernel with other ops, it has to be alone";
  return LoopBuilder(lowering).build(op);
}

} // namespace shardc
