//===- ProfileProgram.cpp - What shardc profile runs ----------------------===//
//
// One command for each number that is wanted, in the form in which programs have it: kernels come
// from the same generators, collectives go through the same channel, on all groups of ranks at
// once.
//
//===----------------------------------------------------------------------===//
#include "ProfileProgram.h"

#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"

namespace shardc {
namespace {

std::string tensor(llvm::ArrayRef<int64_t> shape, llvm::StringRef dtype) {
  std::string text = "tensor<";
  for (int64_t size : shape)
    text += std::to_string(size) + "x";
  return text + dtype.str() + ">";
}

/// One entry under construction.
class EntryText {
public:
  explicit EntryText(std::string name) : name(std::move(name)) {}

  /// A new operand: kernels that share one would be fused.
  std::string operand(const std::string &type) {
    operands.push_back(type);
    return "%s" + std::to_string(operands.size() - 1);
  }
  /// The operand of this type that there is already, or a new one.
  std::string shared(const std::string &type) {
    auto found = llvm::find(operands, type);
    return found == operands.end() ? operand(type)
                                   : "%s" + std::to_string(found - operands.begin());
  }
  /// A value inside of the next probe's kernel.
  std::string inner() const { return "%inner" + std::to_string(results.size()); }
  void before(const std::string &op) { body += "  " + op + "\n"; }
  void add(const std::string &op, const std::string &resultType, Probe probe) {
    body += "  %" + std::to_string(results.size()) + " = " + op + "\n";
    results.push_back(resultType);
    probes.push_back(std::move(probe));
  }
  /// States and function.
  std::string text() const {
    std::string states, arguments, values;
    for (auto [n, type] : llvm::enumerate(operands)) {
      std::string state = name + std::to_string(n);
      states += "shard.state @" + state + " \"gradient\" " + type + "\n";
      arguments += (n ? ", %s" : "%s") + std::to_string(n) + ": " + type + " {shard.state = \"" +
                   state + "\"}";
    }
    for (size_t n = 0; n < results.size(); ++n)
      values += (n ? ", %" : "%") + std::to_string(n);
    std::string types = llvm::join(results, ", ");
    return states + "func.func @" + name + "(" + arguments + ") -> (" + types + ") {\n" + body +
           "  return" + (results.empty() ? "" : " " + values + " : " + types) + "\n}\n";
  }
  std::vector<Probe> probes;

private:
  std::string name, body;
  std::vector<std::string> operands, results;
};

void addKernels(EntryText &entry, const ProfileSizes &sizes) {
  for (llvm::StringRef dtype : {"f32", "bf16"}) {
    for (auto [m, n, k] : sizes.products) {
      std::string left = tensor({m, k}, dtype), right = tensor({n, k}, dtype),
                  result = tensor({m, n}, dtype);
      Probe probe{Probe::Product, "launch"};
      probe.work.dtype = dtype;
      probe.work.productFlops = 2.0 * m * n * k;
      probe.work.m = m;
      probe.work.n = n;
      probe.work.k = k;
      entry.add("graph.einsum \"mk,nk->mn\" " + entry.operand(left) + ", " + entry.operand(right) +
                    " : " + left + ", " + right + " -> " + result,
                result, probe);
    }
    int64_t heads = sizes.heads, length = sizes.length, dim = sizes.dim;
    std::string type = tensor({1, heads, length, dim}, dtype);
    std::string query = entry.operand(type), key = entry.operand(type), value = entry.operand(type);
    Probe probe{Probe::Attention, "launch"};
    probe.work.dtype = dtype;
    // As AttentionOp::getCost counts a causal square.
    probe.work.attentionFlops = 0.5 * heads * length * length * (4 * dim + 12);
    entry.add("graph.attention " + query + ", " + key + ", " + value +
                  " scale 0.125 {causal = true} : " + type + ", " + type + ", " + type + " -> " +
                  type,
              type, probe);
  }
  auto gate = [&](llvm::ArrayRef<int64_t> shape, Probe::Kind kind) { // silu(a) · b, one kernel
    std::string type = tensor(shape, "f32"), a = entry.operand(type), b = entry.operand(type),
                inner = entry.inner();
    Probe probe{kind, "launch"};
    probe.work.bytes = 3 * 4;
    for (int64_t size : shape)
      probe.work.bytes *= size;
    entry.before(inner + " = graph.silu " + a + " : " + type);
    entry.add("graph.mul " + inner + ", " + b + " : " + type, type, probe);
  };
  gate({sizes.rows, sizes.columns}, Probe::Element);
  gate({64}, Probe::Launch);
  std::string type = tensor({sizes.rows, sizes.columns}, "f32"),
              weight = tensor({sizes.columns}, "f32");
  Probe row{Probe::Row, "launch"};
  row.work.bytes = 4.0 * (2 * sizes.rows * sizes.columns + sizes.columns);
  entry.add("graph.rms_norm " + entry.operand(type) + ", " + entry.operand(weight) + " : " +
                weight + " epsilon 1.0e-5 : " + type,
            type, row);
}

void addCollectives(EntryText &entry, const Mesh &mesh, llvm::ArrayRef<int> axes,
                    llvm::ArrayRef<int64_t> sizes) {
  std::string names, quoted;
  int64_t ranks = 1;
  for (int axis : axes) {
    names += (names.empty() ? "" : ",") + mesh.axes[axis].name;
    quoted += (quoted.empty() ? "\"" : ", \"") + mesh.axes[axis].name + "\"";
    ranks *= mesh.axes[axis].size;
  }
  std::string over = " over {" + quoted + "} of @mesh ", ring;
  for (int64_t from = 0; from < ranks; ++from)
    ring += (from ? ", " : "") + std::to_string(from) + ", " + std::to_string((from + 1) % ranks);
  for (int64_t bytes : sizes) {
    int64_t part = ceilDiv(bytes / 4, ranks), all = part * ranks;
    std::string whole = tensor({all}, "f32"), shard = tensor({part}, "f32");
    auto add = [&](llvm::StringRef op, const std::string &rest, const std::string &from,
                   const std::string &to) {
      Probe probe{Probe::Collective, op.str()};
      probe.axes = names;
      probe.ranks = ranks;
      probe.bytes = 4.0 * all;
      entry.add("shard." + op.str() + " " + entry.shared(from) + over + rest + " : " + from +
                    " -> " + to,
                to, probe);
    };
    add("all_gather", "dim 0", shard, whole);
    add("reduce_scatter", "sum dim 0", whole, shard);
    add("all_reduce", "sum", whole, whole);
    std::string total = std::to_string(all), count = std::to_string(ranks);
    add("all_to_all", "split 1 total " + total + " concat 0 total " + count,
        tensor({1, all}, "f32"), tensor({ranks, part}, "f32"));
    add("permute", "[" + ring + "]", whole, whole);
    add("broadcast", "root 0", whole, whole);
  }
}

/// An entry whose state is offloaded. A reduction does not read it where it lies: it gets a copy.
void addBus(ProfileProgram &program, const ProfileSizes &sizes) {
  int64_t count = sizes.rows * sizes.columns;
  std::string flat = tensor({count}, "f32"), rows = tensor({sizes.rows, sizes.columns}, "f32"),
              sums = tensor({sizes.rows}, "f32");
  program.text += "shard.bucket @bus_bucket \"bus\" f32 length " + std::to_string(count) +
                  " over {} of @mesh []\nshard.state @bus_state \"momentum\" " + flat +
                  " of @bus_bucket\nfunc.func @bus(%s: " + flat +
                  " {shard.state = \"bus_state\"}) -> " + sums +
                  " {\n  %v = shard.bucket_view %s at 0 : " + flat + " -> " + rows +
                  "\n  %r = graph.reduce sum %v [1] : " + rows + " -> " + sums +
                  "\n  return %r : " + sums + "\n}\n";
  Probe copy{Probe::HostCopy, "copy"}, launch{Probe::Row, "launch"};
  copy.bytes = 4.0 * count;
  program.probes["bus"] = {copy, launch};
}

} // namespace

/// Products: large, few rows (decoding), few columns (a router, gates), a long sum (the gradient of a
/// weight). A GPU has a hundred times the rate of a processor.
ProfileSizes ProfileSizes::of(Target target, bool quick) {
  if (quick)
    return {{{64, 64, 64}, {8, 64, 64}, {64, 16, 64}, {32, 32, 128}},
            1,
            64,
            64,
            64,
            64,
            {4 << 10, 64 << 10}};
  if (target == Target::Cuda)
    return {{{4096, 4096, 4096}, {16, 8192, 8192}, {8192, 64, 4096}, {1024, 1024, 16384}},
            32,
            2048,
            128,
            16384,
            4096,
            {64 << 10, 1 << 20, 16 << 20, 128 << 20}};
  return {{{512, 1024, 512}, {8, 1024, 1024}, {512, 32, 512}, {256, 256, 2048}},
          8,
          256,
          64,
          2048,
          512,
          {4 << 10, 64 << 10, 512 << 10, 4 << 20}};
}

ProfileProgram makeProfileProgram(const Mesh &mesh, const std::vector<std::vector<int>> &axisGroups,
                                  const ProfileSizes &sizes, Target target) {
  ProfileProgram program;
  std::string axes;
  for (const MeshAxis &axis : mesh.axes)
    axes += (axes.empty() ? "\"" : ", \"") + axis.name + "\" = " + std::to_string(axis.size);
  EntryText kernels("kernels"), collectives("collectives");
  addKernels(kernels, sizes);
  for (const std::vector<int> &group : axisGroups)
    addCollectives(collectives, mesh, group, sizes.bytes);
  program.text = "shard.mesh @mesh [" + axes + "]\n" + kernels.text();
  program.probes["kernels"] = std::move(kernels.probes);
  if (!axisGroups.empty()) {
    program.text += collectives.text();
    program.probes["collectives"] = std::move(collectives.probes);
  }
  if (target == Target::Cuda)
    addBus(program, sizes);
  return program;
}

double median(std::vector<double> &values) {
  llvm::sort(values);
  size_t half = values.size() / 2;
  return values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}

} // namespace shardc
