//===- ExecOps.cpp - Verifiers of the schedule ----------------------------===//
//
// The arena plan is not believed but checked: one walk over the commands knows at each byte range
// whose value lies there, and every read must find the value that its buffer was given.
//
//===----------------------------------------------------------------------===//

#include "dialects/Exec/Exec.h"

#include "shardc/Support/ElementBytes.h"
#include "shardrt/staging.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"

#include "llvm/ADT/MapVector.h"

#include <map>

using namespace mlir;
using namespace shardc;
using namespace shardc::exec;

namespace {

/// Who was last written where: half-open, disjoint byte ranges.
class ArenaContents {
public:
  /// `owner` now holds [begin, end); others lose what they have there.
  void write(int64_t begin, int64_t end, BufferOp owner) {
    cut(begin);
    cut(end);
    ranges.erase(ranges.lower_bound(begin), ranges.lower_bound(end));
    if (begin < end)
      ranges[begin] = {end, owner};
  }
  /// Somebody else's value inside [begin, end), or null. Bytes that nobody wrote count as
  /// `owner`'s.
  BufferOp intruder(int64_t begin, int64_t end, BufferOp owner) const {
    auto it = ranges.upper_bound(begin);
    if (it != ranges.begin() && std::prev(it)->second.first > begin)
      --it;
    for (; it != ranges.end() && it->first < end; ++it)
      if (it->second.second != owner)
        return it->second.second;
    return {};
  }

private:
  void cut(int64_t at) {
    auto it = ranges.upper_bound(at);
    if (it == ranges.begin() || (--it)->first == at || it->second.first <= at)
      return;
    ranges[at] = it->second;
    it->second.first = at;
  }
  std::map<int64_t, std::pair<int64_t, BufferOp>> ranges;
};

bool isLoaded(Kind kind) {
  return kind == Kind::Parameter || kind == Kind::Constant || kind == Kind::AxisIndex;
}
/// Its value outlives a run.
bool isKept(Kind kind) { return isLoaded(kind) || kind == Kind::State; }

int64_t endOf(BufferOp buffer) { return buffer.getOffset() + buffer.getBytes(); }

bool overlap(BufferOp a, BufferOp b) {
  return static_cast<int64_t>(a.getOffset()) < endOf(b) &&
         static_cast<int64_t>(b.getOffset()) < endOf(a);
}

} // namespace

/// Is it a result of the init list?
static bool isWrittenOnce(BufferOp buffer) {
  return llvm::any_of(buffer->getUsers(), [&](Operation *user) {
    if (auto launch = dyn_cast<LaunchOp>(user))
      return launch.getInit() && llvm::is_contained(launch.getOutputs(), buffer.getResult());
    auto collective = dyn_cast<CollectiveOp>(user);
    return collective && collective.getInit() && collective.getTarget() == buffer.getResult();
  });
}

/// Offset and bytes of a range of GPUs.
static std::pair<int64_t, int64_t> rangeOf(ProgramOp program, StringRef name) {
  auto range = program.getCuda() ? program.getCuda()->getAs<DenseI64ArrayAttr>(name) : nullptr;
  return range && range.size() == 2 ? std::pair(range[0], range[1])
                                    : std::pair<int64_t, int64_t>(-1, 0);
}

/// Does it lie in the machine's memory?
static bool isOnHost(BufferOp buffer) {
  auto [begin, bytes] = rangeOf(buffer->getParentOfType<ProgramOp>(), "host");
  return bytes > 0 && static_cast<int64_t>(buffer.getOffset()) >= begin;
}

static LogicalResult checkPlaces(ProgramOp program) {
  auto [hostBegin, hostBytes] = rangeOf(program, "host");
  if (program.getCuda() && program.getCuda()->contains("host") && // program_c6
      (hostBegin != static_cast<int64_t>(program.getArena()) || hostBytes <= 0))
    return program.emitOpError() << "range \"host\" at " << hostBegin << " of " << hostBytes
                                 << " bytes does not begin where the arena of "
                                 << program.getArena() << " bytes ends";
  for (auto buffer : program.getOps<BufferOp>()) {
    // program_c1
    int64_t alignment = program.getCuda() && !buffer.getWhole() ? 256 : 64;
    if (static_cast<int64_t>(buffer.getOffset()) % alignment != 0)
      return buffer.emitOpError() << "\"" << buffer.getName() << "\" is at " << buffer.getOffset()
                                  << ", not a multiple of " << alignment;
    if (isOnHost(buffer)) {
      if (static_cast<int64_t>(buffer.getBytes()) < 0 || endOf(buffer) > hostBegin + hostBytes)
        return buffer.emitOpError() << "\"" << buffer.getName() << "\" [" << buffer.getOffset()
                                    << ", " << endOf(buffer) << ") is not inside the host range ["
                                    << hostBegin << ", " << hostBegin + hostBytes << ")";
      if (!buffer.getWhole() && buffer.getKind() != Kind::State)
        return buffer.emitOpError()
               << "\"" << buffer.getName() << "\" is in the host range, and no "
               << "state but " << stringifyKind(buffer.getKind());
      continue;
    }
    if (static_cast<int64_t>(buffer.getOffset()) < 0 ||
        static_cast<int64_t>(buffer.getBytes()) < 0 ||
        endOf(buffer) > static_cast<int64_t>(program.getArena()))
      return buffer.emitOpError() << "\"" << buffer.getName() << "\" [" << buffer.getOffset()
                                  << ", " << endOf(buffer) << ") is not inside the arena of "
                                  << program.getArena() << " bytes";
  }
  return success();
}

namespace {

/// One walk over the commands. Parts of a buffer share its bytes: who owns a range is always a
/// whole buffer.
class ArenaProof {
public:
  explicit ArenaProof(ProgramOp program) : program(program) {
    for (auto buffer : program.getBody().getOps<BufferOp>())
      buffers.push_back(buffer);
  }
  LogicalResult run();

private:
  BufferOp wholeOf(BufferOp buffer) {
    return buffer.getWhole() ? buffers[*buffer.getWhole()] : buffer;
  }
  LogicalResult checkParts();
  LogicalResult read(Operation *command, Value operand);
  LogicalResult write(Operation *command, Value operand);
  LogicalResult wait(WaitOp op);

  ProgramOp program;
  llvm::MapVector<int64_t, CollectiveOp> open; ///< by ticket
  SmallVector<BufferOp> buffers;
  ArenaContents contents;
};

} // namespace

LogicalResult ArenaProof::checkParts() {
  for (BufferOp buffer : buffers) {
    if (!buffer.getWhole())
      continue;
    int64_t number = *buffer.getWhole(), count = buffers.size();
    if (number < 0 || number >= count || buffers[number].getWhole())
      return buffer.emitOpError() << "\"" << buffer.getName() << "\" is a part of buffer " << number
                                  << ", which is no whole buffer";
    BufferOp whole = buffers[number]; // buffer_c1
    if (buffer.getOffset() < whole.getOffset() || endOf(buffer) > endOf(whole))
      return buffer.emitOpError() << "\"" << buffer.getName() << "\" [" << buffer.getOffset()
                                  << ", " << endOf(buffer) << ") is not inside of \""
                                  << whole.getName() << "\" [" << whole.getOffset() << ", "
                                  << endOf(whole) << ")";
  }
  return success();
}

LogicalResult ArenaProof::read(Operation *command, Value operand) {
  auto buffer = operand.getDefiningOp<BufferOp>();
  for (auto &[ticket, collective] : open)
    if (auto target = collective.getTarget().getDefiningOp<BufferOp>(); overlap(buffer, target))
      return command->emitOpError()
             << "reads \"" << buffer.getName() << "\" before ticket " << ticket
             << ", which fills \"" << target.getName() << "\", is waited for";
  if (BufferOp other = contents.intruder(buffer.getOffset(), endOf(buffer), wholeOf(buffer)))
    return command->emitOpError() << "reads \"" << buffer.getName() << "\" [" << buffer.getOffset()
                                  << ", " << endOf(buffer) << ") after \"" << other.getName()
                                  << "\" [" << other.getOffset() << ", " << endOf(other)
                                  << ") was written there";
  return success();
}

LogicalResult ArenaProof::write(Operation *command, Value operand) {
  auto buffer = operand.getDefiningOp<BufferOp>();
  if (isLoaded(wholeOf(buffer).getKind()))
    return command->emitOpError() << "writes \"" << buffer.getName() << "\", which is loaded";
  for (auto &[ticket, collective] : open)
    for (Value used : {collective.getSource(), collective.getTarget()})
      if (auto other = used.getDefiningOp<BufferOp>(); overlap(buffer, other))
        return command->emitOpError()
               << "writes \"" << buffer.getName() << "\" before ticket " << ticket
               << ", which uses \"" << other.getName() << "\", is waited for";
  contents.write(buffer.getOffset(), endOf(buffer), wholeOf(buffer));
  return success();
}

LogicalResult ArenaProof::wait(WaitOp op) {
  int64_t ticket = op.getTicket();
  if (!open.erase(ticket)) // wait_c1
    return op.emitOpError() << "ticket " << ticket << " is not under way";
  return success();
}

LogicalResult ArenaProof::run() {
  if (failed(checkParts()))
    return failure();
  for (BufferOp buffer : buffers)
    if (isKept(buffer.getKind()) || buffer.getKind() == Kind::Input) {
      // program_c2
      if (BufferOp other = contents.intruder(buffer.getOffset(), endOf(buffer), buffer))
        return buffer.emitOpError()
               << "\"" << buffer.getName() << "\" overlaps \"" << other.getName() << "\"";
      contents.write(buffer.getOffset(), endOf(buffer), buffer);
    }
  // program_c3
  for (Operation &op : program.getBody().front()) {
    if (auto launch = dyn_cast<LaunchOp>(op)) {
      for (Value input : launch.getInputs())
        if (failed(read(launch, input)))
          return failure();
      for (Value output : launch.getOutputs())
        if (failed(write(launch, output)))
          return failure();
    } else if (auto zero = dyn_cast<ZeroOp>(op)) {
      if (failed(write(zero, zero.getTarget())))
        return failure();
    } else if (auto collective = dyn_cast<CollectiveOp>(op)) {
      if (failed(read(collective, collective.getSource())) ||
          failed(write(collective, collective.getTarget())))
        return failure();
      if (collective.getTicket() &&
          !open.insert({static_cast<int64_t>(*collective.getTicket()), collective}).second)
        return collective.emitOpError()
               << "ticket " << *collective.getTicket() << " is under way already";
    } else if (auto waiting = dyn_cast<WaitOp>(op)) {
      if (failed(wait(waiting)))
        return failure();
    }
  }
  if (!open.empty())
    return open.front().second.emitOpError()
           << "ticket " << open.front().first << " is never waited for";
  // What is loaded, kept, or computed once, serves the next run too.
  for (BufferOp buffer : buffers)
    if (isKept(buffer.getKind()) || buffer.getKind() == Kind::Output || isWrittenOnce(buffer))
      if (BufferOp other = contents.intruder(buffer.getOffset(), endOf(buffer), wholeOf(buffer)))
        return buffer.emitOpError()
               << "\"" << buffer.getName() << "\" is overwritten by \"" << other.getName() << "\"";
  return success();
}

static LogicalResult checkRanges(ProgramOp program) {
  if (!program.getCuda())
    return success();
  // program_c4
  SmallVector<std::tuple<int64_t, int64_t, StringRef>> ranges;
  for (StringRef name : {"scratch", "workspace", "staging"}) {
    auto [begin, bytes] = rangeOf(program, name);
    if (begin < 0 || begin % 256 != 0 || bytes < 0 ||
        begin + bytes > static_cast<int64_t>(program.getArena()))
      return program.emitOpError() << "range \"" << name << "\" at " << begin << " of " << bytes
                                   << " bytes is not inside the arena of " << program.getArena()
                                   << " bytes at a multiple of 256";
    for (auto [otherBegin, otherEnd, other] : ranges)
      if (bytes > 0 && begin < otherEnd && otherBegin < begin + bytes)
        return program.emitOpError()
               << "range \"" << name << "\" [" << begin << ", " << begin + bytes
               << ") overlaps range \"" << other << "\" [" << otherBegin << ", " << otherEnd << ")";
    ranges.push_back({begin, begin + bytes, name});
  }
  for (auto buffer : program.getOps<BufferOp>())
    for (auto [begin, end, name] : ranges)
      if (begin < endOf(buffer) && static_cast<int64_t>(buffer.getOffset()) < end)
        return buffer.emitOpError()
               << "\"" << buffer.getName() << "\" [" << buffer.getOffset() << ", " << endOf(buffer)
               << ") overlaps range \"" << name << "\" [" << begin << ", " << end << ")";
  return success();
}

LogicalResult ProgramOp::verifyRegions() {
  for (Operation &op : getBody().front()) {
    if (!isa<BufferOp, LaunchOp, CollectiveOp, ZeroOp, WaitOp>(op))
      return op.emitOpError() << "has no place in a program";
    for (Value operand : op.getOperands())
      if (!operand.getDefiningOp<BufferOp>())
        return op.emitOpError() << "has an operand that is no buffer of the program";
  }
  if (failed(checkPlaces(*this)) || failed(checkRanges(*this)))
    return failure();
  return ArenaProof(*this).run();
}

/// Bytes of the staging range that a collective takes.
static int64_t stagingBytes(CollectiveOp op, const AxisList &group) {
  int64_t ranks = 1;
  for (const AxisRef &axis : group)
    ranks *= axis.size;
  auto source = cast<MemRefType>(op.getSource().getType());
  auto number = [&](StringRef name) {
    auto attr = op.getPayload().getAs<IntegerAttr>(name);
    return attr ? attr.getInt() : 0;
  };
  int64_t size = elementBytes(source.getElementType());
  if (op.getKind() == "all_gather" || op.getKind() == "reduce_scatter")
    return shardrt_rows_staging(ranks, size, number("outer"), number("inner"), number("total"));
  if (op.getKind() == "all_to_all") {
    auto shape = op.getPayload().getAs<DenseI64ArrayAttr>(
        "shape"); // the buffer may have another, by a reshape
    ArrayRef<int64_t> sizes = shape ? shape.asArrayRef() : source.getShape();
    return shardrt_all_to_all_staging(ranks, size, sizes.data(), sizes.size(), number("split_dim"),
                                      number("split_total"));
  }
  return 0;
}

LogicalResult ProgramOp::verifySymbolUses(SymbolTableCollection &symbols) {
  if (!getMesh())
    return success();
  auto mesh = symbols.lookupNearestSymbolFrom<shard::MeshOp>(*this, getMeshAttr());
  if (!mesh)
    return emitOpError() << "mesh \"" << *getMesh() << "\" does not exist";
  if (!getCuda())
    return success();
  // program_c5
  for (auto op : getOps<CollectiveOp>()) {
    Result<AxisList> group = op.getAxes() ? shard::resolveAxes(mesh.getMesh(), *op.getAxes())
                                          : Result<AxisList>(AxisList());
    if (!group)
      return op.emitOpError() << group.error;
    // program_c6
    if (op.getKind() != "copy")
      for (Value used : {op.getSource(), op.getTarget()})
        if (auto buffer = used.getDefiningOp<BufferOp>();
            isOnHost(buffer) && (used == op.getTarget() || op.getKind() != "all_gather" ||
                                 stagingBytes(op, *group) != 0))
          return op.emitOpError() << "\"" << op.getKind() << "\" works on \"" << buffer.getName()
                                  << "\", which is in the machine's memory";
    int64_t bytes = stagingBytes(op, *group), given = rangeOf(*this, "staging").second;
    if (bytes > given)
      return op.emitOpError() << "\"" << op.getKind() << "\" needs " << bytes
                              << " bytes of staging, there are " << given;
    if (bytes && op.getTicket())
      return op.emitOpError() << "\"" << op.getKind()
                              << "\" goes through the staging range, but ticket " << *op.getTicket()
                              << " leaves it open";
  }
  return success();
}

LogicalResult LaunchOp::verifySymbolUses(SymbolTableCollection &symbols) {
  // launch_c1
  auto module = (*this)->getParentOfType<ModuleOp>();
  auto kernel = symbols.lookupSymbolIn<func::FuncOp>(module, getKernelAttr());
  if (!kernel || !kernel->hasAttr("exec.kernel"))
    return emitOpError() << "\"" << getKernel() << "\" is not a kernel";
  if (kernel.getNumArguments() != getInputs().size() ||
      kernel.getNumResults() != getOutputs().size())
    return emitOpError() << "has " << getInputs().size() << " inputs and " << getOutputs().size()
                         << " outputs, kernel \"" << getKernel() << "\" has "
                         << kernel.getNumArguments() << " and " << kernel.getNumResults();
  // launch_c4
  auto inPlace = kernel->getAttrOfType<ArrayAttr>("exec.in_place");
  for (int64_t result = 0; result < static_cast<int64_t>(getOutputs().size()); ++result)
    for (auto [argument, input] : llvm::enumerate(getInputs())) {
      Attribute pair =
          Builder(getContext()).getDenseI64ArrayAttr({static_cast<int64_t>(argument), result});
      if (input == getOutputs()[result] && !(inPlace && llvm::is_contained(inPlace, pair)))
        return emitOpError() << "writes output " << result << " over input " << argument << ", \""
                             << input.getDefiningOp<BufferOp>().getName() << "\", which kernel \""
                             << getKernel() << "\" does not do in place";
      if (input != getOutputs()[result] && inPlace && llvm::is_contained(inPlace, pair))
        return emitOpError() << "has output " << result << " in \""
                             << getOutputs()[result].getDefiningOp<BufferOp>().getName()
                             << "\" and input " << argument << " in \""
                             << input.getDefiningOp<BufferOp>().getName() << "\", which kernel \""
                             << getKernel() << "\" expects in one buffer";
    }
  // launch_c2
  for (auto [type, output] : llvm::zip(kernel.getResultTypes(), getOutputs())) {
    int64_t needed = tensorBytes(cast<RankedTensorType>(type));
    int64_t given = output.getDefiningOp<BufferOp>().getBytes();
    if (given < needed)
      return emitOpError() << "output \"" << output.getDefiningOp<BufferOp>().getName() << "\" has "
                           << given << " bytes, kernel \"" << getKernel() << "\" writes " << needed;
  }
  // launch_c3
  auto program = (*this)->getParentOfType<ProgramOp>();
  auto scratch = kernel->getAttrOfType<IntegerAttr>("exec.scratch");
  if (program.getCuda() && scratch && scratch.getInt() > rangeOf(program, "scratch").second)
    return emitOpError() << "kernel \"" << getKernel() << "\" needs " << scratch.getInt()
                         << " bytes of scratch memory, there are "
                         << rangeOf(program, "scratch").second;
  return success();
}

LogicalResult CollectiveOp::verify() {
  // collective_c1
  static constexpr StringLiteral names[] = {"all_reduce", "all_gather", "reduce_scatter", "slice",
                                            "all_to_all", "permute",    "broadcast",      "copy"};
  if (!llvm::is_contained(names, getKind()))
    return emitOpError() << "unknown operation \"" << getKind() << "\"";
  // collective_c2
  if ((getKind() == "copy") == getAxes().has_value())
    return emitOpError() << "\"" << getKind() << "\" "
                         << (getAxes() ? "has axes, but stays on its rank" : "needs axes");
  if (getAxes() && !llvm::all_of(*getAxes(), llvm::IsaPred<shard::AxisAttr>))
    return emitOpError() << "axes " << *getAxes() << " are not mesh axes";
  return success();
}

#define GET_OP_CLASSES
#include "dialects/Exec/ExecOps.cpp.inc"
