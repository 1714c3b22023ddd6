//===- ShardAttrs.cpp - Syntax of shardings, and their plain form ---------===//

#include "dialects/Shard/Shard.h"

#include "mlir/IR/DialectImplementation.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::shard;

//===----------------------------------------------------------------------===//
// "tp" or "tp":(2)4
//===----------------------------------------------------------------------===//

static ParseResult parseAxis(AsmParser &parser, AxisAttr &axis) {
  std::string name;
  if (parser.parseString(&name))
    return failure();
  int64_t pre = 1, size = 0;
  if (succeeded(parser.parseOptionalColon())) {
    if (parser.parseLParen() || parser.parseInteger(pre) || parser.parseRParen() ||
        parser.parseInteger(size))
      return failure();
    if (pre < 1 || size < 2)
      return parser.emitError(parser.getCurrentLocation())
             << "sub-axis (" << pre << ")" << size << " of \"" << name
             << "\" needs a positive pre-size and a size of at least 2";
  }
  axis = AxisAttr::get(parser.getContext(), name, pre, size);
  return success();
}

static void printAxis(llvm::raw_ostream &os, AxisAttr axis) {
  os << '"' << axis.getName() << '"';
  if (!axis.isWhole())
    os << ":(" << axis.getPre() << ")" << axis.getSize();
}

/// {axis, axis}; `open` null where `?` is not allowed.
static ParseResult parseAxisSet(AsmParser &parser, SmallVectorImpl<AxisAttr> &axes, bool *open) {
  return parser.parseCommaSeparatedList(AsmParser::Delimiter::Braces, [&]() -> ParseResult {
    if (open && succeeded(parser.parseOptionalQuestion())) {
      *open = true;
      return success();
    }
    return parseAxis(parser, axes.emplace_back());
  });
}

static void printAxisSet(llvm::raw_ostream &os, ArrayRef<AxisAttr> axes, bool open) {
  os << '{';
  llvm::interleaveComma(axes, os, [&](AxisAttr axis) { printAxis(os, axis); });
  if (open)
    os << (axes.empty() ? "?" : ", ?");
  os << '}';
}

static ParseResult parseDim(AsmParser &parser, DimAttr &dim) {
  SmallVector<AxisAttr> axes;
  bool open = false;
  int64_t priority = 0;
  if (parseAxisSet(parser, axes, &open))
    return failure();
  StringRef keyword;
  SMLoc loc = parser.getCurrentLocation();
  if (succeeded(parser.parseOptionalKeyword(&keyword)) &&
      (!keyword.consume_front("p") || keyword.getAsInteger(10, priority)))
    return parser.emitError(loc, "expected a priority such as p1");
  dim = DimAttr::get(parser.getContext(), axes, open, priority);
  return success();
}

static void printDim(llvm::raw_ostream &os, DimAttr dim) {
  printAxisSet(os, dim.getAxes(), dim.getOpen());
  if (dim.getPriority())
    os << 'p' << dim.getPriority();
}

Attribute AxisAttr::parse(AsmParser &parser, Type) {
  AxisAttr axis;
  if (parser.parseLess() || parseAxis(parser, axis) || parser.parseGreater())
    return {};
  return axis;
}

void AxisAttr::print(AsmPrinter &printer) const {
  printer << '<';
  printAxis(printer.getStream(), *this);
  printer << '>';
}

Attribute DimAttr::parse(AsmParser &parser, Type) {
  DimAttr dim;
  if (parser.parseLess() || parseDim(parser, dim) || parser.parseGreater())
    return {};
  return dim;
}

void DimAttr::print(AsmPrinter &printer) const {
  printer << '<';
  printDim(printer.getStream(), *this);
  printer << '>';
}

//===----------------------------------------------------------------------===//
// <@mesh, [{"tp"}, {}], partial = sum {"dp"}>
//===----------------------------------------------------------------------===//

Attribute ShardingAttr::parse(AsmParser &parser, Type) {
  FlatSymbolRefAttr mesh;
  SmallVector<DimAttr> dims;
  SmallVector<AxisAttr> partial;
  auto kind = ReduceKindAttrValue::Sum;
  if (parser.parseLess() || parser.parseAttribute(mesh) || parser.parseComma() ||
      parser.parseCommaSeparatedList(AsmParser::Delimiter::Square,
                                     [&] { return parseDim(parser, dims.emplace_back()); }))
    return {};
  if (succeeded(parser.parseOptionalComma())) {
    StringRef keyword;
    if (parser.parseKeyword("partial") || parser.parseEqual())
      return {};
    SMLoc loc = parser.getCurrentLocation();
    if (parser.parseKeyword(&keyword))
      return {};
    auto parsed = symbolizeReduceKindAttrValue(keyword);
    if (!parsed) {
      parser.emitError(loc) << "\"" << keyword << "\" is not a reduction: sum, max, min or prod";
      return {};
    }
    kind = *parsed;
    if (parseAxisSet(parser, partial, nullptr))
      return {};
  }
  if (parser.parseGreater())
    return {};
  return ShardingAttr::get(parser.getContext(), mesh, dims, kind, partial);
}

void ShardingAttr::print(AsmPrinter &printer) const {
  llvm::raw_ostream &os = printer.getStream();
  printer << '<' << getMesh() << ", [";
  llvm::interleaveComma(getDims(), os, [&](DimAttr dim) { printDim(os, dim); });
  os << ']';
  if (!getPartial().empty()) {
    os << ", partial = " << stringifyReduceKindAttrValue(getPartialKind()) << ' ';
    printAxisSet(os, getPartial(), false);
  }
  os << '>';
}

//===----------------------------------------------------------------------===//
// Plain form
//===----------------------------------------------------------------------===//

static Result<AxisRef> resolveAxis(const Mesh &mesh, AxisAttr axis) {
  auto position = mesh.findAxis(std::string_view(axis.getName().data(), axis.getName().size()));
  if (!position)
    return Result<AxisRef>::failure("mesh " + mesh.str() + " has no axis \"" +
                                    axis.getName().str() + "\"");
  AxisRef ref = axis.isWhole() ? wholeAxis(mesh, *position)
                               : AxisRef{*position, axis.getPre(), axis.getSize()};
  if (Error error = verify(mesh, ref))
    return Result<AxisRef>::failure(*error);
  return ref;
}

static AxisAttr axisAttr(MLIRContext *context, const Mesh &mesh, const AxisRef &ref) {
  const MeshAxis &axis = mesh.axes[ref.axis];
  bool whole = ref.pre == 1 && ref.size == axis.size;
  return AxisAttr::get(context, axis.name, whole ? 1 : ref.pre, whole ? 0 : ref.size);
}

Result<AxisList> shard::resolveAxes(const Mesh &mesh, ArrayAttr axes) {
  AxisList list;
  for (Attribute axis : axes) {
    Result<AxisRef> ref = resolveAxis(mesh, cast<AxisAttr>(axis));
    if (!ref)
      return Result<AxisList>::failure(ref.error);
    list.push_back(*ref);
  }
  return list;
}

ArrayAttr shard::axesAttr(MLIRContext *context, const Mesh &mesh, const AxisList &axes) {
  SmallVector<Attribute> attrs;
  for (const AxisRef &ref : axes)
    attrs.push_back(axisAttr(context, mesh, ref));
  return ArrayAttr::get(context, attrs);
}

Result<Sharding> ShardingAttr::resolve(const Mesh &mesh) const {
  Sharding sharding;
  for (DimAttr dim : getDims()) {
    DimSharding &out = sharding.dims.emplace_back();
    out.open = dim.getOpen();
    out.priority = static_cast<int>(dim.getPriority());
    for (AxisAttr axis : dim.getAxes()) {
      Result<AxisRef> ref = resolveAxis(mesh, axis);
      if (!ref)
        return Result<Sharding>::failure(ref.error);
      out.axes.push_back(*ref);
    }
  }
  for (AxisAttr axis : getPartial()) {
    Result<AxisRef> ref = resolveAxis(mesh, axis);
    if (!ref)
      return Result<Sharding>::failure(ref.error);
    sharding.partial.emplace_back(toReduceKind(getPartialKind()), *ref);
  }
  if (Error error = verify(mesh, sharding))
    return Result<Sharding>::failure(*error);
  return sharding;
}

ShardingAttr ShardingAttr::get(FlatSymbolRefAttr symbol, const Mesh &mesh,
                               const Sharding &sharding) {
  MLIRContext *context = symbol.getContext();
  auto toAttrs = [&](const AxisList &axes) {
    SmallVector<AxisAttr> attrs;
    for (const AxisRef &ref : axes)
      attrs.push_back(axisAttr(context, mesh, ref));
    return attrs;
  };
  SmallVector<DimAttr> dims;
  for (const DimSharding &dim : sharding.dims)
    dims.push_back(DimAttr::get(context, toAttrs(dim.axes), dim.open, dim.priority));
  auto kind = fromReduceKind(sharding.partialKind().value_or(ReduceKind::Sum));
  return get(context, symbol, dims, kind, toAttrs(sharding.partialAxes()));
}
