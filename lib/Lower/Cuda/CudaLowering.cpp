//===- CudaLowering.cpp - Kernel functions of graph ops to gpu.func -------===//
//
// The kind of a kernel follows from the strongest op inside, as on CPUs
// (lib/Lower/Kernels/LowerKernel.cpp). What is computed is shared with CPUs; here is who does it:
//
//   element ops      a thread has sixteen bytes of neighbouring elements, grid-stride
//   rows             a warp or a block a row, by its length
//   columns          a block 32 columns, its warps take turns on the rows
//   running sums …   and top-k along rows: a warp a row
//   the other loops  a thread an item
//   contractions …   calls of libraries (LibraryCalls.cpp)
//
//===----------------------------------------------------------------------===//
#include "CudaLowering.h"
#include "AttentionGrid.h"
#include "GroupedGrid.h"
#include "LibraryCalls.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "shardc/Support/ElementBytes.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;
using shardc::graph::LoweringClass;

namespace shardc {

KernelBody CudaLowering::beginKernel(StringRef name, ArrayRef<MemRefType> buffers,
                                     llvm::function_ref<bool(unsigned)> isWritten) {
  SmallVector<Type> types(buffers.begin(), buffers.end());
  builder.setInsertionPointToEnd(kernels.getBody());
  kernel = gpu::GPUFuncOp::create(builder, loc(), name, builder.getFunctionType(types, {}));
  kernel->setAttr(gpu::GPUDialect::getKernelFuncAttrName(), builder.getUnitAttr());
  // What is written overlaps nothing; what is only read may be cached without asking whether
  // somebody writes it.
  UnitAttr unit = builder.getUnitAttr();
  for (unsigned i = 0, count = types.size(); i < count; ++i) {
    kernel.setArgAttr(i, LLVM::LLVMDialect::getNoAliasAttrName(), unit);
    kernel.setArgAttr(i, LLVM::LLVMDialect::getAlignAttrName(), builder.getI64IntegerAttr(64));
    if (!isWritten(i))
      kernel.setArgAttr(i, LLVM::LLVMDialect::getReadonlyAttrName(), unit);
  }
  KernelBody body;
  Block &entry = kernel.getBody().front();
  body.buffers.assign(entry.args_begin(), entry.args_begin() + types.size());
  builder.setInsertionPointToEnd(&entry);
  builder.setInsertionPoint(gpu::ReturnOp::create(builder, loc()));
  return body;
}

KernelBody CudaLowering::begin(int64_t) {
  SmallVector<MemRefType> types;
  for (Type type : llvm::concat<const Type>(function.getArgumentTypes(), function.getResultTypes()))
    types.push_back(bufferType(cast<RankedTensorType>(type)));
  launchArguments.clear();
  for (unsigned i = 0; i < types.size(); ++i)
    launchArguments.push_back(CudaArgument::ofBuffer(i));
  KernelBody body = beginKernel(function.getSymName(), types, [&](unsigned i) {
    return i >= function.getNumArguments() || inPlace.count(i);
  });
  shareBuffers(body);
  return body;
}

KernelBody CudaLowering::beginKernel(StringRef name, ArrayRef<CudaBuffer> buffers) {
  SmallVector<MemRefType> types;
  launchArguments.clear();
  for (const CudaBuffer &buffer : buffers) {
    types.push_back(buffer.type);
    launchArguments.push_back(buffer.argument);
  }
  return beginKernel(name, types, [&](unsigned i) { return buffers[i].isWritten; });
}

CudaBuffer CudaLowering::bufferOf(Value value) {
  MemRefType type = bufferType(tensorType(value));
  if (auto argument = dyn_cast<BlockArgument>(value))
    return {CudaArgument::ofBuffer(argument.getArgNumber()), type};
  int64_t result = llvm::find(results(), value) - results().begin();
  return {CudaArgument::ofBuffer(function.getNumArguments() + result), type, true};
}

CudaLaunch CudaLowering::launch() {
  CudaLaunch made{kernel.getName().str(), blocks, threads};
  made.arguments.assign(launchArguments.begin(), launchArguments.end());
  return made;
}

void CudaLowering::setGrid(int64_t numBlocks, int64_t numThreads) {
  blocks = numBlocks;
  threads = numThreads;
  kernel.setKnownBlockSizeAttr(builder.getDenseI32ArrayAttr({static_cast<int32_t>(threads), 1, 1}));
  kernel.setKnownGridSizeAttr(builder.getDenseI32ArrayAttr({static_cast<int32_t>(blocks), 1, 1}));
}

Kernel CudaLowering::forEach(Emitter &e, KernelBody &, int64_t count, int64_t,
                             llvm::function_ref<void(Value)> item) {
  int64_t block = count >= 256 ? 256 : llvm::alignTo(std::max<int64_t>(count, 1), kWarp);
  setGrid(std::clamp<int64_t>(llvm::divideCeil(count, block), 1, kMaxBlocks), block);
  Value first = e.add(e.mul(blockIndex(), block), threadIndex());
  if (count == blocks * threads)
    item(first);
  else if (count < blocks * threads)
    e.ifThen(e.compare(arith::CmpIPredicate::ult, first, e.index(count)), [&] { item(first); });
  else
    e.loop(first, e.index(count), blocks * threads, item);
  return {function.getSymName().str(), blocks, 0};
}

Value CudaLowering::sharedMemory(Type type, int64_t count) {
  auto space = gpu::AddressSpaceAttr::get(builder.getContext(), gpu::AddressSpace::Workgroup);
  Value memory = kernel.addWorkgroupAttribution(
      MemRefType::get({count}, type, MemRefLayoutAttrInterface(), space), loc());
  // Neighbours are loaded together.
  kernel.setWorkgroupAttributionAttr(kernel.getNumWorkgroupAttributions() - 1,
                                     LLVM::LLVMDialect::getAlignAttrName(),
                                     builder.getI64IntegerAttr(16));
  return memory;
}

int64_t CudaLowering::vectorOf(int64_t size) {
  int64_t bytes = 16;
  for (Type type : llvm::concat<const Type>(function.getArgumentTypes(), function.getResultTypes()))
    if (cast<RankedTensorType>(type).getNumElements() > 1)
      bytes = std::min(bytes, elementBytes(cast<RankedTensorType>(type).getElementType()));
  int64_t lanes = std::min<int64_t>(16 / bytes, 8);
  while (size % lanes != 0)
    lanes /= 2;
  return lanes;
}

static FailureOr<CudaKernel> lowerGenerated(CudaLowering &lowering, LoweringClass strongest,
                                            Operation *anchor) {
  if (strongest <= LoweringClass::Element)
    lowerElementGrid(lowering);
  else if (strongest == LoweringClass::Row && isColumnReduction(anchor))
    lowerColumnGrid(lowering);
  else if (strongest == LoweringClass::Row || isa<graph::SoftmaxCrossEntropyOp>(anchor))
    lowerRowGrid(lowering);
  else if (auto einsum = dyn_cast<graph::EinsumOp>(anchor))
    (void)lowerEinsumBySums(lowering, einsum);
  else if (!lowerScanGrid(lowering, anchor) && failed(lowerLoopKernel(lowering)))
    return failure();
  CudaKernel kernel;
  kernel.name = lowering.function.getSymName().str();
  kernel.calls.push_back(lowering.launch());
  if (auto einsum = dyn_cast_or_null<graph::EinsumOp>(anchor);
      einsum && isFloat8(einsum.getLhs().getType()))
    setNote(lowering.function, "fp8: is no matrix multiplication: a thread an element");
  return kernel;
}

void forEachNote(ModuleOp module, llvm::function_ref<void(Location, StringRef, StringRef)> visit) {
  llvm::StringMap<StringRef> notes;
  for (auto function : module.getOps<func::FuncOp>())
    if (auto note = function->getAttrOfType<StringAttr>(kNoteAttr))
      notes[function.getSymName()] = note;
  llvm::StringSet<> told;
  if (notes.empty())
    return;
  module.walk([&](func::CallOp call) {
    auto path = call->getAttrOfType<StringAttr>(graph::GraphDialect::kPathAttr);
    StringRef where = path ? path.getValue() : "", note = notes.lookup(call.getCallee());
    if (!note.empty() && told.insert((where + "|" + note).str()).second)
      visit(call.getLoc(), where, note);
  });
}

FailureOr<CudaKernel> lowerCudaKernel(func::FuncOp function, gpu::GPUModuleOp kernels) {
  OpBuilder builder(kernels.getContext());
  CudaLowering lowering(function, builder, kernels);
  if (failed(lowering.readInPlace()))
    return failure();
  FailureOr<KernelLowering::Anchor> found = lowering.findAnchor();
  if (failed(found))
    return failure();
  Operation *anchor = found->op;
  if (auto attention = dyn_cast_or_null<graph::AttentionOp>(anchor))
    return lowerAttentionGrid(lowering, attention);
  if (auto gradient = dyn_cast_or_null<graph::AttentionGradOp>(anchor))
    return lowerAttentionGradGrid(lowering, gradient);
  if (auto product = dyn_cast_or_null<graph::GroupedMatmulOp>(anchor))
    return lowerGroupedGrid(lowering, product);
  if (auto gradient = dyn_cast_or_null<graph::GroupedMatmulGradOp>(anchor))
    return lowerGroupedGradGrid(lowering, gradient);
  if (isa_and_nonnull<graph::ScatterElementsOp, graph::ScatterNdOp, graph::ScatterSumOp>(anchor))
    return lowerScatterGrid(lowering, anchor);
  if (auto einsum = dyn_cast_or_null<graph::EinsumOp>(anchor); einsum && isLibraryCall(einsum))
    return libraryCall(function, einsum, kernels);
  if (auto einsum = dyn_cast_or_null<graph::EinsumOp>(anchor); einsum && isFloat8Product(einsum))
    return float8Call(function, einsum, kernels);
  return lowerGenerated(lowering, found->kind, anchor);
}

} // namespace shardc
