//===- ProgramTesting.cpp - Compile, run, compare with the interpreter ----===//
#include "ProgramTesting.h"
#include "dialects/Graph/Graph.h"
#include "mlir/Parser/Parser.h"
#include "shardc/Bundle/Bundle.h"
#include "shardc/Interpret/Random.h"
#include "shardc/Interpret/Shards.h"
#include "shardc/Lower/KernelSpec.h"
#include "shardrt/runtime.h"
#include "llvm/Support/FileSystem.h"
#include <thread>

using namespace mlir;

namespace shardc::testing {

ProgramTest::ProgramTest() {
  context.loadDialect<func::FuncDialect, graph::GraphDialect, shard::ShardDialect>();
  loadKernelDialects(context);
  llvm::Expected<CpuTarget> best = CpuTarget::parse("x86-64-v4");
  level = best && best->runsOnHost() ? "x86-64-v4" : "x86-64-v3";
}

static shardrt_dtype dtypeOf(Type type) {
  if (type.isF64())
    return SHARDRT_F64;
  if (type.isF32())
    return SHARDRT_F32;
  if (type.isF16())
    return SHARDRT_F16;
  if (type.isBF16())
    return SHARDRT_BF16;
  if (isa<Float8E4M3FNType>(type))
    return SHARDRT_F8E4M3FN;
  if (isa<Float8E5M2Type>(type))
    return SHARDRT_F8E5M2;
  bool isUnsigned = type.isUnsignedInteger();
  switch (type.getIntOrFloatBitWidth()) {
  case 1:
    return SHARDRT_BOOL;
  case 8:
    return isUnsigned ? SHARDRT_UI8 : SHARDRT_I8;
  case 16:
    return isUnsigned ? SHARDRT_UI16 : SHARDRT_I16;
  case 32:
    return isUnsigned ? SHARDRT_UI32 : SHARDRT_I32;
  default:
    return isUnsigned ? SHARDRT_UI64 : SHARDRT_I64;
  }
}

namespace {
/// One rank's run; outputs are filled on rank 0.
struct RankRun {
  shardrt_bundle bundle;
  shardrt_channel channel;
  const EntryInterface &entry;
  ArrayRef<HostTensor> inputs;
  bool isRoot;
  std::vector<std::vector<char>> outputs;
  std::string error;

  bool ok(shardrt_status status) {
    if (status != SHARDRT_OK && error.empty())
      error = shardrt_last_error();
    return status == SHARDRT_OK;
  }
  void operator()() {
    shardrt_session_options options = {};
    options.threads = 1;
    shardrt_session session;
    if (!ok(shardrt_session_create(bundle, channel, &options, &session)))
      return shardrt_channel_abort(channel, error.c_str());
    for (auto [value, input] : llvm::zip(entry.inputs, inputs)) {
      std::vector<char> bytes = input.toBytes();
      if (!ok(shardrt_session_set_input(
              session, value.name.c_str(), dtypeOf(value.type.getElementType()),
              value.type.getShape().data(), value.type.getRank(), bytes.data())))
        return shardrt_channel_abort(channel, error.c_str());
    }
    // Twice: what the first run leaves in the arena must not matter.
    for (int i = 0; i < 2; ++i)
      if (!ok(shardrt_session_run(session, nullptr)))
        return shardrt_channel_abort(channel, error.c_str());
    for (const InterfaceValue &value : entry.outputs) {
      outputs.emplace_back(tensorBytes(value.type));
      if (!ok(shardrt_session_get_output(session, value.name.c_str(),
                                         isRoot ? outputs.back().data() : nullptr,
                                         outputs.back().size())))
        return shardrt_channel_abort(channel, error.c_str());
    }
    shardrt_session_release(session);
  }
};
} // namespace

static std::vector<std::vector<char>>
runBundle(const std::string &path, const EntryInterface &entry, ArrayRef<HostTensor> inputs) {
  shardrt_bundle bundle;
  shardrt_bundle_facts facts;
  if (shardrt_bundle_open(path.c_str(), nullptr, &bundle) != SHARDRT_OK ||
      shardrt_bundle_info(bundle, &facts) != SHARDRT_OK) {
    ADD_FAILURE() << shardrt_last_error();
    return {};
  }
  shardrt_channel_options options = {};
  options.ranks = facts.ranks;
  options.arena_bytes = facts.arena_bytes;
  options.fingerprint = facts.fingerprint;
  options.max_groups = facts.max_groups;
  options.timeout_s = 60;
  std::vector<shardrt_channel> channels(facts.ranks);
  if (shardrt_channel_create_inprocess(&options, channels.data()) != SHARDRT_OK) {
    ADD_FAILURE() << shardrt_last_error();
    return {};
  }
  std::vector<RankRun> runs;
  for (int rank = 0; rank < facts.ranks; ++rank)
    runs.push_back({bundle, channels[rank], entry, inputs, rank == 0, {}, {}});
  std::vector<std::thread> threads;
  for (RankRun &run : runs)
    threads.emplace_back([&run] { run(); });
  for (std::thread &thread : threads)
    thread.join();
  for (auto [rank, run] : llvm::enumerate(runs))
    EXPECT_EQ(run.error, "") << "rank " << rank;
  for (shardrt_channel channel : channels)
    shardrt_channel_release(channel);
  shardrt_bundle_release(bundle);
  return runs[0].error.empty() ? runs[0].outputs : std::vector<std::vector<char>>();
}

/// Half a unit in the last place.
static double roundoff(Type type) {
  auto floating = dyn_cast<FloatType>(type);
  return floating ? std::ldexp(1.0, -int(floating.getFPMantissaWidth())) : 0;
}

static void compare(const InterfaceValue &value, const HostTensor &expected, ArrayRef<char> bytes,
                    double tolerance) {
  FailureOr<HostTensor> actual = HostTensor::fromBytes(value.type, bytes);
  ASSERT_TRUE(succeeded(actual));
  double unit = roundoff(value.type.getElementType()), scale = 0;
  for (double x : expected.f)
    if (std::isfinite(x))
      scale = std::max(scale, std::abs(x));
  int wrong = 0;
  for (int64_t i = 0; i < expected.size() && wrong < 3; ++i) {
    double x = expected.isFloat() ? expected.f[i] : 0, y = expected.isFloat() ? actual->f[i] : 0;
    bool isEqual = expected.isFloat()
                       ? x == y || (std::isnan(x) && std::isnan(y)) ||
                             std::abs(x - y) <= tolerance * unit * (32 * std::abs(x) + 8 * scale)
                       : expected.i[i] == actual->i[i];
    if (isEqual)
      continue;
    ++wrong;
    ADD_FAILURE() << "output \"" << value.name << "\" at " << formatIndex(value.type.getShape(), i)
                  << ": " << (expected.isFloat() ? y : double(actual->i[i])) << ", expected "
                  << (expected.isFloat() ? x : double(expected.i[i]));
  }
}

void ProgramTest::check(StringRef text, double tolerance) {
  OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(text, &context);
  ASSERT_TRUE(module) << text.str();
  FailureOr<EntryInterface> entry = describeEntry(*module, "main");
  ASSERT_TRUE(succeeded(entry));
  ParameterSource source = randomParameters(7);
  module->walk([&](graph::ParameterOp op) {
    if (!op.getValue())
      op.setValueAttr(source(op.getName(), op.getStoredType())->toAttr());
  });
  SmallVector<HostTensor> inputs = randomInputs(*entry, 11);
  FailureOr<SmallVector<HostTensor>> expected = interpret(*module, inputs);
  ASSERT_TRUE(succeeded(expected));
  EntryInterface described = *entry;

  SmallString<128> path;
  llvm::sys::fs::createUniquePath("shardc-test-%%%%%%.bundle", path, /*MakeAbsolute=*/true);
  BundleOptions options;
  options.path = path.str().str();
  options.levels = {level};
  ASSERT_TRUE(succeeded(compileToBundle(*module, options)));
  auto outputs = runBundle(options.path, described, inputs);
  ASSERT_EQ(outputs.size(), expected->size());
  for (auto [value, reference, bytes] : llvm::zip(described.outputs, *expected, outputs))
    compare(value, reference, bytes, tolerance);
  if (!HasFailure())
    llvm::sys::fs::remove_directories(path);
}

void ProgramTest::checkOps(StringRef arguments, StringRef body,
                           ArrayRef<std::pair<const char *, const char *>> results,
                           double tolerance) {
  std::string text = "func.func @main(" + arguments.str() + ") -> (", names, types;
  for (auto [i, result] : llvm::enumerate(results)) {
    std::string comma = i ? ", " : "";
    text += comma + result.second + " {graph.name = \"" + (result.first + 1) + "\"}";
    names += comma + result.first;
    types += comma + result.second;
  }
  check(text + ") {\n" + body.str() + "\n  return " + names + " : " + types + "\n}\n", tolerance);
}

} // namespace shardc::testing
