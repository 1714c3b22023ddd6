//===- ShardOps.cpp - Verifiers and folds of the shard dialect ------------===//

#include "dialects/Shard/Shard.h"

#include "mlir/IR/PatternMatch.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::shard;

//===----------------------------------------------------------------------===//
// Syntax
//===----------------------------------------------------------------------===//

/// ["dp" = 2, "tp" = 4]
static ParseResult parseMeshAxes(OpAsmParser &parser, ArrayAttr &axes, DenseI64ArrayAttr &sizes) {
  SmallVector<Attribute> names;
  SmallVector<int64_t> values;
  auto parseOne = [&]() -> ParseResult {
    std::string name;
    if (parser.parseString(&name) || parser.parseEqual() ||
        parser.parseInteger(values.emplace_back()))
      return failure();
    names.push_back(parser.getBuilder().getStringAttr(name));
    return success();
  };
  if (parser.parseCommaSeparatedList(AsmParser::Delimiter::Square, parseOne))
    return failure();
  axes = parser.getBuilder().getArrayAttr(names);
  sizes = parser.getBuilder().getDenseI64ArrayAttr(values);
  return success();
}

static void printMeshAxes(OpAsmPrinter &printer, MeshOp, ArrayAttr axes, DenseI64ArrayAttr sizes) {
  printer << '[';
  llvm::interleaveComma(llvm::zip(axes, sizes.asArrayRef()), printer, [&](auto pair) {
    printer << std::get<0>(pair) << " = " << std::get<1>(pair);
  });
  printer << ']';
}

/// {"tp", "dp":(1)2}
static ParseResult parseAxes(OpAsmParser &parser, ArrayAttr &axes) {
  SmallVector<Attribute> list;
  auto parseOne = [&]() -> ParseResult {
    std::string name;
    int64_t pre = 1, size = 0;
    if (parser.parseString(&name))
      return failure();
    if (succeeded(parser.parseOptionalColon()) &&
        (parser.parseLParen() || parser.parseInteger(pre) || parser.parseRParen() ||
         parser.parseInteger(size)))
      return failure();
    list.push_back(AxisAttr::get(parser.getContext(), name, pre, size));
    return success();
  };
  if (parser.parseCommaSeparatedList(AsmParser::Delimiter::Braces, parseOne))
    return failure();
  axes = parser.getBuilder().getArrayAttr(list);
  return success();
}

static void printAxes(OpAsmPrinter &printer, Operation *, ArrayAttr axes) {
  printer << '{';
  llvm::interleaveComma(axes.getAsRange<AxisAttr>(), printer, [&](AxisAttr axis) {
    printer << '"' << axis.getName() << '"';
    if (!axis.isWhole())
      printer << ":(" << axis.getPre() << ")" << axis.getSize();
  });
  printer << '}';
}

/// over {"dp_shard"}, or nothing
static ParseResult parseOptionalAxes(OpAsmParser &parser, ArrayAttr &axes) {
  if (succeeded(parser.parseOptionalKeyword("over")))
    return parseAxes(parser, axes);
  axes = parser.getBuilder().getArrayAttr({});
  return success();
}

static void printOptionalAxes(OpAsmPrinter &printer, Operation *op, ArrayAttr axes) {
  if (axes.empty())
    return;
  printer << "over ";
  printAxes(printer, op, axes);
}

//===----------------------------------------------------------------------===//
// Mesh and global view
//===----------------------------------------------------------------------===//

Mesh MeshOp::getMesh() {
  Mesh mesh;
  mesh.name = getSymName().str();
  for (auto [name, size] : llvm::zip(getAxes(), getSizes()))
    mesh.axes.push_back({cast<StringAttr>(name).getValue().str(), size});
  return mesh;
}

LogicalResult MeshOp::verify() {
  // mesh_c1
  if (getAxes().size() != getSizes().size())
    return emitOpError() << "has " << getAxes().size() << " axes and " << getSizes().size()
                         << " sizes";
  std::pair<std::optional<ArrayRef<double>>, StringRef> costs[] = {{getBandwidth(), "bandwidth"},
                                                                   {getLatency(), "latency"}};
  for (auto [values, what] : costs)
    if (values && values->size() != getSizes().size())
      return emitOpError() << what << " has " << values->size() << " entries for "
                           << getSizes().size() << " axes";
  if (Error error = getMesh().verify())
    return emitOpError() << *error;
  return success();
}

/// Mesh of a symbol user, or an error that names it.
static FailureOr<Mesh> resolveMesh(Operation *op, FlatSymbolRefAttr symbol,
                                   SymbolTableCollection &tables) {
  auto mesh = tables.lookupNearestSymbolFrom<MeshOp>(op, symbol);
  if (!mesh) {
    op->emitOpError() << "names mesh " << symbol << ", which is not defined";
    return failure();
  }
  return mesh.getMesh();
}

static LogicalResult verifyGlobal(Operation *op, ShardingAttr sharding,
                                  SymbolTableCollection &tables) {
  FailureOr<Mesh> mesh = resolveMesh(op, sharding.getMesh(), tables);
  if (failed(mesh))
    return failure();
  Result<Sharding> resolved = sharding.resolve(*mesh);
  if (!resolved)
    return op->emitOpError() << resolved.error;
  auto shape = cast<RankedTensorType>(op->getOperand(0).getType()).getShape();
  if (Error error = verify(*mesh, *resolved, Shape(shape.begin(), shape.end())))
    return op->emitOpError() << *error;
  return success();
}

LogicalResult ConstraintOp::verifySymbolUses(SymbolTableCollection &tables) {
  return verifyGlobal(*this, getSharding(), tables);
}
LogicalResult ReshardOp::verifySymbolUses(SymbolTableCollection &tables) {
  return verifyGlobal(*this, getSharding(), tables);
}

//===----------------------------------------------------------------------===//
// Collectives
//===----------------------------------------------------------------------===//

/// Size of the group of a collective, after checking mesh and axes.
template <typename Op> static FailureOr<int64_t> groupSize(Op op, SymbolTableCollection &tables) {
  FailureOr<Mesh> mesh = resolveMesh(op, op.getMeshAttr(), tables);
  if (failed(mesh))
    return failure();
  Result<AxisList> axes = resolveAxes(*mesh, op.getAxes());
  if (!axes) {
    op.emitOpError() << axes.error;
    return failure();
  }
  for (size_t i = 0; i < axes->size(); ++i)
    for (size_t j = i + 1; j < axes->size(); ++j)
      if (overlaps((*axes)[i], (*axes)[j])) {
        op.emitOpError() << "axes " << str(*mesh, (*axes)[i]) << " and " << str(*mesh, (*axes)[j])
                         << " overlap";
        return failure();
      }
  return axesSize(*axes);
}

/// Checks `result` against the input's shape with some dimensions replaced.
template <typename Op>
static LogicalResult checkResult(Op op, ArrayRef<std::pair<int64_t, int64_t>> sizes) {
  auto input = op.getInput().getType(), result = op.getResult().getType();
  if (input.getElementType() != result.getElementType())
    return op.emitOpError() << "changes the element type from " << input.getElementType() << " to "
                            << result.getElementType();
  if (input.getRank() != result.getRank())
    return op.emitOpError() << "changes the rank from " << input.getRank() << " to "
                            << result.getRank();
  SmallVector<int64_t> shape(input.getShape());
  for (auto [dim, size] : sizes) {
    if (dim < 0 || dim >= input.getRank())
      return op.emitOpError() << "dimension " << dim << " is outside the rank " << input.getRank();
    shape[dim] = size;
  }
  for (auto [dim, size] : llvm::enumerate(shape))
    if (result.getDimSize(dim) != size)
      return op.emitOpError() << "result dimension " << dim << " has size "
                              << result.getDimSize(dim) << ", expected " << size;
  return success();
}

LogicalResult AllGatherOp::verifySymbolUses(SymbolTableCollection &tables) {
  FailureOr<int64_t> group = groupSize(*this, tables);
  if (failed(group))
    return failure();
  int64_t dim = getDim();
  if (dim < 0 || dim >= getType().getRank())
    return emitOpError() << "dimension " << dim << " is outside the rank " << getType().getRank();
  // all_gather_c1
  int64_t total = getType().getDimSize(dim), local = getInput().getType().getDimSize(dim);
  if (ceilDiv(total, *group) != local)
    return emitOpError() << "gathers " << *group << " parts of size " << local << " to size "
                         << total << " along dimension " << dim;
  // all_gather_c2
  return checkResult(*this, {{dim, total}});
}

LogicalResult AllReduceOp::verifySymbolUses(SymbolTableCollection &tables) {
  if (failed(groupSize(*this, tables)))
    return failure();
  return checkResult(*this, {}); // all_reduce_c1
}

/// reduce_scatter_c1/c2, slice_c1/c2
template <typename Op> static LogicalResult verifyScatter(Op op, SymbolTableCollection &tables) {
  FailureOr<int64_t> group = groupSize(op, tables);
  if (failed(group))
    return failure();
  int64_t dim = op.getDim();
  auto input = op.getInput().getType();
  int64_t size = dim >= 0 && dim < input.getRank() ? input.getDimSize(dim) : 0;
  return checkResult(op, {{dim, ceilDiv(size, *group)}});
}

LogicalResult ReduceScatterOp::verifySymbolUses(SymbolTableCollection &tables) {
  return verifyScatter(*this, tables);
}
LogicalResult SliceOp::verifySymbolUses(SymbolTableCollection &tables) {
  return verifyScatter(*this, tables);
}

LogicalResult AllToAllOp::verifySymbolUses(SymbolTableCollection &tables) {
  FailureOr<int64_t> group = groupSize(*this, tables);
  if (failed(group))
    return failure();
  int64_t split = getSplitDim(), concat = getConcatDim();
  auto input = getInput().getType();
  if (split == concat)
    return emitOpError() << "splits and concatenates dimension " << split;
  for (int64_t dim : {split, concat})
    if (dim < 0 || dim >= input.getRank())
      return emitOpError() << "dimension " << dim << " is outside the rank " << input.getRank();
  // all_to_all_c1
  int64_t splitTotal = getSplitTotal(), concatTotal = getConcatTotal();
  if (input.getDimSize(split) != splitTotal)
    return emitOpError() << "input dimension " << split << " has size " << input.getDimSize(split)
                         << ", expected the whole " << splitTotal;
  if (input.getDimSize(concat) != ceilDiv(concatTotal, *group))
    return emitOpError() << "input dimension " << concat << " has size " << input.getDimSize(concat)
                         << ", expected a part of " << ceilDiv(concatTotal, *group);
  // all_to_all_c2, all_to_all_c3
  return checkResult(*this, {{split, ceilDiv(splitTotal, *group)}, {concat, concatTotal}});
}

LogicalResult PermuteOp::verifySymbolUses(SymbolTableCollection &tables) {
  FailureOr<int64_t> group = groupSize(*this, tables);
  if (failed(group))
    return failure();
  // permute_c1
  if (getPairs().size() % 2)
    return emitOpError() << "has " << getPairs().size() << " entries, expected pairs";
  for (size_t side : {0, 1}) {
    SmallVector<bool> seen(*group, false);
    for (size_t i = side; i < getPairs().size(); i += 2) {
      int64_t member = getPairs()[i];
      if (member < 0 || member >= *group)
        return emitOpError() << "member " << member << " is outside the group of " << *group;
      if (seen[member])
        return emitOpError() << "member " << member << " is twice a "
                             << (side ? "target" : "source");
      seen[member] = true;
    }
  }
  return checkResult(*this, {}); // permute_c2
}

LogicalResult BroadcastOp::verifySymbolUses(SymbolTableCollection &tables) {
  FailureOr<int64_t> group = groupSize(*this, tables);
  if (failed(group))
    return failure();
  // broadcast_c1
  if (static_cast<int64_t>(getRoot()) < 0 || static_cast<int64_t>(getRoot()) >= *group)
    return emitOpError() << "root " << getRoot() << " is outside the group of " << *group;
  return checkResult(*this, {}); // broadcast_c2
}

LogicalResult AxisIndexOp::verifySymbolUses(SymbolTableCollection &tables) {
  return failed(groupSize(*this, tables)) ? failure() : success();
}

//===----------------------------------------------------------------------===//
// Buckets
//===----------------------------------------------------------------------===//

/// Elements of a rank's part of an item.
static FailureOr<int64_t> localElements(BucketOp op, const Mesh &mesh, DictionaryAttr item) {
  auto fail = [&](StringRef message) {
    return op.emitOpError() << "item " << item.get("tensor") << ": " << message;
  };
  auto type = cast<RankedTensorType>(item.getAs<TypeAttr>("type").getValue());
  auto attr = item.getAs<ShardingAttr>("sharding");
  if (!attr)
    return type.getNumElements();
  Result<Sharding> sharding = attr.resolve(mesh);
  if (!sharding)
    return fail(sharding.error);
  Shape shape(type.getShape().begin(), type.getShape().end());
  if (Error error = verify(mesh, *sharding, shape))
    return fail(*error);
  return ShapedType::getNumElements(localShape(*sharding, shape));
}

LogicalResult BucketOp::verifySymbolUses(SymbolTableCollection &tables) {
  FailureOr<int64_t> group = groupSize(*this, tables);
  if (failed(group))
    return failure();
  if (getLength() % (*group * 64)) // bucket_c1
    return emitOpError() << "length " << getLength()
                         << " is not a multiple of 64 times the group's size " << *group;
  Mesh mesh = lookupMesh(*this, getMeshAttr()).getMesh();
  int64_t end = 0;
  StringRef before;
  for (auto item : getItems().getAsRange<DictionaryAttr>()) { // bucket_c2
    auto tensor = item.getAs<StringAttr>("tensor");
    auto type = item.getAs<TypeAttr>("type");
    auto offset = item.getAs<IntegerAttr>("offset");
    if (!tensor || !type || !offset || !isa<RankedTensorType>(type.getValue()))
      return emitOpError() << "item " << item << " lacks tensor, type or offset";
    if (offset.getInt() < end) {
      InFlightDiagnostic error = emitOpError() << "item \"" << tensor.getValue() << "\" at "
                                               << offset.getInt() << " begins before " << end;
      return before.empty() ? error : error << ", where \"" << before << "\" ends";
    }
    FailureOr<int64_t> elements = localElements(*this, mesh, item);
    if (failed(elements))
      return failure();
    end = offset.getInt() + *elements;
    before = tensor.getValue();
  }
  if (end > static_cast<int64_t>(getLength()))
    return emitOpError() << "item \"" << before << "\" ends at " << end << ", outside the length "
                         << getLength();
  return success();
}

LogicalResult StateOp::verifySymbolUses(SymbolTableCollection &tables) {
  static constexpr StringLiteral roles[] = {
      "parameter", "exp_avg", "exp_avg_sq", "momentum", "gradient", "compute_parameter", "scalar"};
  if (!llvm::is_contained(roles, getRole())) // state_c1
    return emitOpError() << "role \"" << getRole() << "\" is not known";
  auto type = dyn_cast<RankedTensorType>(getType());
  if (!type)
    return emitOpError() << "type " << getType() << " is not a ranked tensor";
  if (!getBucketAttr())
    return success();
  auto bucket = tables.lookupNearestSymbolFrom<BucketOp>(*this, getBucketAttr());
  if (!bucket)
    return emitOpError() << "bucket " << getBucketAttr() << " does not exist";
  MeshOp mesh = lookupMesh(*this, bucket.getMeshAttr());
  ArrayRef<Attribute> own = getAxes().getValue(), whole = bucket.getAxes().getValue();
  if (own.size() > whole.size() || own != whole.take_front(own.size())) // state_c2
    return emitOpError() << "is cut over " << getAxes() << ", with which the axes of bucket "
                         << getBucketAttr() << ", " << bucket.getAxes() << ", do not begin";
  Result<AxisList> axes =
      mesh ? resolveAxes(mesh.getMesh(), getAxes()) : Result<AxisList>(AxisList());
  int64_t parts = axes ? axesSize(*axes) : 1;
  if (type.getNumElements() != static_cast<int64_t>(bucket.getLength()) / parts) // state_c3
    return emitOpError() << "has " << type.getNumElements() << " elements, bucket "
                         << getBucketAttr() << " asks for " << bucket.getLength() / parts;
  return success();
}

LogicalResult BucketViewOp::verify() {
  int64_t begin = static_cast<int64_t>(getOffset()), end = begin + getType().getNumElements();
  if (begin < 0)
    return emitOpError() << "begins at " << begin;
  if (getInput().getType().getRank() != 1 || end > getInput().getType().getNumElements())
    return emitOpError() << "ends at " << end << ", outside of " << getInput().getType();
  if (getInput().getType().getElementType() != getType().getElementType())
    return emitOpError() << "has element type " << getType().getElementType() << ", its buffer "
                         << getInput().getType().getElementType();
  return success();
}

LogicalResult BucketPackOp::verify() {
  if (getInputs().size() != getOffsets().size()) // bucket_pack_c1
    return emitOpError() << "has " << getInputs().size() << " tensors and " << getOffsets().size()
                         << " offsets";
  int64_t end = 0;
  for (auto [input, offset] : llvm::zip(getInputs(), getOffsets())) {
    auto type = cast<RankedTensorType>(input.getType());
    if (offset < end)
      return emitOpError() << "a tensor at " << offset << " begins before " << end;
    end = offset + type.getNumElements();
    if (type.getElementType() != getType().getElementType()) // bucket_pack_c2
      return emitOpError() << "has a tensor of " << type.getElementType() << " in a buffer of "
                           << getType().getElementType();
  }
  if (getType().getRank() != 1 || end > getType().getNumElements())
    return emitOpError() << "ends at " << end << ", outside of " << getType();
  return success();
}

//===----------------------------------------------------------------------===//
// Folds
//===----------------------------------------------------------------------===//

OpFoldResult AllGatherOp::fold(FoldAdaptor) {
  if (getAxes().empty())
    return getInput();
  // all_gather(slice(x)) over the same axes along the same dimension is x; where FSDP asks for it,
  // x is not to be kept meanwhile.
  auto slice = getInput().getDefiningOp<SliceOp>();
  if (slice && !(*this)->hasAttr(ShardDialect::kOverlapAttr) && slice.getAxes() == getAxes() &&
      slice.getDim() == getDim() && slice.getMesh() == getMesh() &&
      slice.getInput().getType() == getType())
    return slice.getInput();
  return {};
}

OpFoldResult AllReduceOp::fold(FoldAdaptor) {
  return getAxes().empty() ? OpFoldResult(getInput()) : OpFoldResult();
}

OpFoldResult ReduceScatterOp::fold(FoldAdaptor) {
  return getAxes().empty() ? OpFoldResult(getInput()) : OpFoldResult();
}

OpFoldResult SliceOp::fold(FoldAdaptor) {
  if (getAxes().empty())
    return getInput();
  // slice(all_gather(x)) over the same axes along the same dimension is x
  auto gather = getInput().getDefiningOp<AllGatherOp>();
  if (gather && gather.getAxes() == getAxes() && gather.getDim() == getDim() &&
      gather.getMesh() == getMesh() && gather.getInput().getType() == getType())
    return gather.getInput();
  return {};
}

namespace {
/// slice(all_reduce(x)) -> reduce_scatter(x), when nobody else needs the whole sum
struct SliceOfAllReduce : OpRewritePattern<shard::SliceOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(shard::SliceOp op, PatternRewriter &rewriter) const override {
    auto reduce = op.getInput().getDefiningOp<AllReduceOp>();
    if (!reduce || !reduce->hasOneUse())
      return rewriter.notifyMatchFailure(op, "input is not an all_reduce with one use");
    if (reduce.getAxes() != op.getAxes() || reduce.getMesh() != op.getMesh())
      return rewriter.notifyMatchFailure(op, "axes differ");
    auto scatter =
        ReduceScatterOp::create(rewriter, op.getLoc(), op.getType(), reduce.getInput(),
                                op.getMesh(), op.getAxes(), reduce.getKind(), op.getDim());
    scatter->setDiscardableAttrs(reduce->getDiscardableAttrDictionary());
    rewriter.replaceOp(op, scatter);
    rewriter.eraseOp(reduce);
    return success();
  }
};
} // namespace

void shard::SliceOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                                 MLIRContext *context) {
  patterns.add<SliceOfAllReduce>(context);
}

#define GET_OP_CLASSES
#include "dialects/Shard/ShardOps.cpp.inc"
