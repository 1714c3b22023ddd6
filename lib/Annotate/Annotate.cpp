//===- Annotate.cpp - A mesh and a plan on a model ------------------------===//
//
// Input:  a global-view model without shardings.
// Output: the same with a mesh, shardings on the parameters that the plan names, constraints on
// activations, batch
//         dimensions of inputs over the data-parallel axes, and outputs whole (unless asked
//         otherwise).
//
// 1. Make the mesh. 2. Select the plan. 3. Match every parameter: by its own name, its module's
//    path, or the role that Raise found; the first matching line wins. 4. Apply styles; experts
//    that are cut get their tokens (ExpertDispatch.h). 5. Inputs and outputs. 6. Report lines that
//    match nothing.
//
//===----------------------------------------------------------------------===//

#include "ApplyStyle.h"
#include "DevicePlan.h"
#include "ExpertMesh.h"
#include "shardc/Annotate/Passes.h"
#include "shardc/Import/DevicePlan.h"
#include "shardc/Support/Alias.h"
#include "shardc/Support/CostTable.h"

#include "llvm/Support/Format.h"

using namespace mlir;

namespace shardc {
#define GEN_PASS_DEF_ANNOTATEPASS
#include "lib/Annotate/Passes.h.inc"

Result<Mesh> parseMesh(StringRef text) {
  Mesh mesh;
  mesh.name = "mesh";
  SmallVector<StringRef> parts;
  text.split(parts, ',', -1, /*KeepEmpty=*/false);
  for (StringRef part : parts) {
    auto [name, size] = part.split('=');
    MeshAxis axis{name.trim().str(), 0};
    if (size.trim().getAsInteger(10, axis.size))
      return Result<Mesh>::failure("mesh \"" + text.str() + "\": \"" + part.str() +
                                   "\" is not of the form axis=size");
    mesh.axes.push_back(axis);
  }
  if (Error error = mesh.verify())
    return Result<Mesh>::failure("mesh \"" + text.str() + "\": " + *error);
  return mesh;
}

static StringRef modulePath(StringRef parameter) { return parameter.rsplit('.').first; }

/// What Raise says that a parameter is for.
static StringRef roleOf(graph::ParameterOp parameter) {
  if (auto role = parameter->getAttrOfType<StringAttr>(graph::GraphDialect::kRoleAttr))
    return role.getValue();
  for (const ParameterUse &use : findUses(parameter))
    if (auto role = use.op()->getAttrOfType<StringAttr>(graph::GraphDialect::kRoleAttr))
      return role.getValue();
  return {};
}

/// Styles that speak of a module's outputs rather than of its parameters.
static bool isModuleStyle(Style style) {
  return style == Style::MoeTpExperts || style == Style::AllReduce ||
         style == Style::EpDispatchExperts;
}

/// What transformers calls a parameter with this role: experts have a gate or not.
static SmallVector<StringRef> namesByRole(StringRef role) {
  if (role == "experts_gate_up")
    return {"gate_up_proj", "up_proj"};
  if (role == "experts_down")
    return {"down_proj"};
  return {};
}

/// The plan line for a parameter, or -1.
static int findEntry(const Plan &plan, graph::ParameterOp parameter) {
  StringRef name = parameter.getName(), role = roleOf(parameter);
  // Exporters fold a transpose into experts' weights, whose names are lost then; lines still speak
  // of those.
  SmallVector<std::string> paths;
  if (name.rsplit('.').second.starts_with("folded"))
    for (StringRef leaf : namesByRole(role))
      paths.push_back((modulePath(name) + "." + leaf).str());
  paths.append({name.str(), modulePath(name).str()});
  for (const std::string &path : paths)
    for (auto [n, entry] : llvm::enumerate(plan.entries))
      if (!isModuleStyle(entry.style) && !StringRef(entry.pattern).starts_with("role:") &&
          matchesPattern(entry.pattern, path))
        return static_cast<int>(n);
  for (auto [n, entry] : llvm::enumerate(plan.entries))
    if (!role.empty() && entry.pattern == "role:" + role.str())
      return static_cast<int>(n);
  return -1;
}

namespace {
struct AnnotatePass : impl::AnnotatePassBase<AnnotatePass> {
  using AnnotatePassBase::AnnotatePassBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto function = module.lookupSymbol<func::FuncOp>(entry);
    if (!function || function.isExternal()) {
      module.emitError() << "no function @" << entry << " to annotate";
      return signalPassFailure();
    }
    // The file's own plan, if there is one and nobody asks for another.
    bool isOnnx = plan == "onnx" || StringRef(plan).starts_with("onnx:"),
         hasOnnx = module->hasAttr(kDevicePlanAttr);
    if (isOnnx && !hasOnnx) {
      module.emitError() << "plan \"" << plan << "\": the model has no device configuration";
      return signalPassFailure();
    }
    bool useOnnx = isOnnx || (hasOnnx && plan.empty());
    if (useOnnx && mesh.empty())
      mesh = deviceMesh(module);
    shard::MeshOp meshOp = makeMesh();
    if (!meshOp || failed(setCosts(meshOp)))
      return signalPassFailure();
    if (useOnnx) {
      if (ep > 1) {
        function.emitError() << "ep = " << ep.getValue()
                             << ": expert parallelism belongs to a plan of styles, the device "
                                "configuration has none";
        return signalPassFailure();
      }
      if (sequenceParallel) {
        function.emitError() << "sequence parallelism belongs to a plan of styles, the device "
                                "configuration has none";
        return signalPassFailure();
      }
      if (failed(applyDevicePlan(function, meshOp)))
        return signalPassFailure();
      if (printPlan)
        for (auto parameter : function.getBody().getOps<graph::ParameterOp>())
          printLine(parameter, meshOp.getMesh());
      annotateInputs(function, meshOp, {});
      if (!keepOutputsSharded)
        wholeOutputs(function, meshOp);
      return;
    }
    llvm::Expected<Plan> chosen = selectPlan(plan);
    // A user's plan that cuts experts anyway does so over tp.
    if (chosen && (ep > 1 || llvm::any_of(chosen->entries, [](const PlanEntry &entry) {
                     return isExpertStyle(entry.style);
                   }))) {
      if (ep <= 1)
        chosen->experts.clear();
      chosen = withExperts(std::move(*chosen), ep);
    }
    if (!chosen) {
      module.emitError() << llvm::toString(chosen.takeError());
      return signalPassFailure();
    }
    Mesh mesh = meshOp.getMesh();
    std::optional<int> tp = mesh.findAxis("tp");
    Result<AxisList> experts =
        expertAxes(mesh, ep > 1 || !tp ? ep.getValue() : mesh.axes[*tp].size);
    if (ep < 1 || !experts) {
      module.emitError() << (ep < 1 ? "ep = " + std::to_string(ep) + " is below 1" : experts.error);
      return signalPassFailure();
    }
    if ((tp || !experts->empty()) &&
        failed(applyPlan(function, meshOp, tp.value_or(-1), *experts, *chosen)))
      return signalPassFailure();
    annotateInputs(function, meshOp, *experts);
    if (!keepOutputsSharded)
      wholeOutputs(function, meshOp);
  }

  shard::MeshOp makeMesh() {
    if (auto existing = shard::getOnlyMesh(getOperation()))
      return existing;
    Result<Mesh> parsed = parseMesh(mesh.empty() ? StringRef("tp=1") : StringRef(mesh));
    if (!parsed) {
      getOperation().emitError() << parsed.error;
      return {};
    }
    OpBuilder b = OpBuilder::atBlockBegin(getOperation().getBody());
    SmallVector<StringRef> names;
    SmallVector<int64_t> sizes;
    for (const MeshAxis &axis : parsed->axes) {
      names.push_back(axis.name);
      sizes.push_back(axis.size);
    }
    return shard::MeshOp::create(b, getOperation().getLoc(), b.getStringAttr("mesh"),
                                 b.getStrArrayAttr(names), b.getDenseI64ArrayAttr(sizes), nullptr,
                                 nullptr);
  }

  /// What was measured of the links along the mesh's axes, for the planner of reshards and the
  /// choice between shardings.
  LogicalResult setCosts(shard::MeshOp meshOp) {
    if (costs.empty())
      return success();
    llvm::Expected<CostTable> table = CostTable::read(costs);
    if (!table)
      return getOperation().emitError() << "costs: " << llvm::toString(table.takeError());
    MeshCosts links = shard::getMeshCosts(meshOp);
    SmallVector<double> bandwidths, latencies;
    for (auto [axis, link] : llvm::zip(meshOp.getMesh().axes, links.axes)) {
      if (std::optional<CostTable::Link> measured = table->link(axis.name, axis.size))
        link = {measured->gigabytesPerSecond, measured->latencyMicros};
      bandwidths.push_back(link.gigabytesPerSecond);
      latencies.push_back(link.latencyMicros);
    }
    meshOp.setBandwidth(bandwidths);
    meshOp.setLatency(latencies);
    return success();
  }

  LogicalResult applyPlan(func::FuncOp function, shard::MeshOp mesh, int tp,
                          const AxisList &experts, const Plan &chosen) {
    StyleApplier applier(mesh, tp, experts, sequenceParallel);
    std::vector<size_t> matches(chosen.entries.size(), 0);
    SmallVector<graph::ParameterOp> parameters(function.getBody().getOps<graph::ParameterOp>());
    for (graph::ParameterOp parameter : parameters) {
      int line = findEntry(chosen, parameter);
      if (line >= 0) {
        ++matches[line];
        if (failed(applier.apply(parameter, chosen.entries[line])))
          return failure();
        parameter->setAttr(shard::ShardDialect::kPlanAttr,
                           StringAttr::get(&getContext(), describe(chosen.entries[line])));
      }
      if (printPlan)
        printLine(parameter, line < 0 ? nullptr : &chosen.entries[line], applier.getMesh());
    }
    if (ep > 1 && !applier.anyExperts())
      return function.emitError() << "ep = " << ep.getValue() << ": no line of " << chosen.name
                                  << " names the weights of experts";
    applyModuleStyles(function, chosen, applier, matches);
    return reportUnmatched(function, chosen, matches);
  }

  static std::string describe(const PlanEntry &entry) {
    return styleName(entry.style).str() + " (" + entry.origin + ": \"" + entry.pattern + "\")";
  }

  void applyModuleStyles(func::FuncOp function, const Plan &chosen, StyleApplier &applier,
                         std::vector<size_t> &matches) {
    for (auto [n, entry] : llvm::enumerate(chosen.entries)) {
      if (!isModuleStyle(entry.style))
        continue;
      if (entry.style == Style::EpDispatchExperts) {
        matches[n] = applier.dispatch(function, entry);
        if (printPlan && matches[n])
          llvm::outs() << llvm::left_justify(entry.pattern, 56) << " "
                       << llvm::left_justify(styleName(entry.style), 22) << " over "
                       << str(applier.getMesh(), applier.expertAxes()) << "  from " << entry.origin
                       << "\n";
        continue;
      }
      llvm::SetVector<StringRef> modules;
      for (Operation &op : function.getBody().front())
        if (auto path = op.getAttrOfType<StringAttr>(graph::GraphDialect::kPathAttr))
          if (matchesPattern(entry.pattern, path.getValue()))
            modules.insert(path.getValue());
      for (StringRef module : modules)
        applier.reduceOutputs(function, module, entry);
      matches[n] += modules.size();
    }
  }

  void printLine(graph::ParameterOp parameter, const Mesh &mesh) {
    auto origin = parameter->getAttrOfType<StringAttr>("shard.plan");
    shard::ShardingAttr sharding = shard::getSharding(parameter.getResult());
    llvm::outs() << llvm::left_justify(parameter.getName(), 56) << " "
                 << (origin ? str(mesh, *sharding.resolve(mesh)) + "  from " + origin.str()
                            : std::string("propagated (not in the plan)"))
                 << "\n";
  }

  void printLine(graph::ParameterOp parameter, const PlanEntry *entry, const Mesh &mesh) {
    llvm::outs() << llvm::left_justify(parameter.getName(), 56) << " ";
    if (!entry) {
      llvm::outs() << "propagated (no plan line)\n";
      return;
    }
    shard::ShardingAttr sharding = shard::getSharding(parameter.getResult());
    llvm::outs() << llvm::left_justify(styleName(entry->style), 22) << " "
                 << (sharding ? str(mesh, *sharding.resolve(mesh)) : "-") << "  from "
                 << entry->origin << ": \"" << entry->pattern << "\"\n";
  }

  /// Only a user's own lines are expected to match: built-in plans name what a family may have.
  LogicalResult reportUnmatched(func::FuncOp function, const Plan &chosen,
                                ArrayRef<size_t> matches) {
    bool anyError = false, isUsers = !StringRef(chosen.name).starts_with("b");
    for (auto [n, entry] : llvm::enumerate(chosen.entries)) {
      if (matches[n])
        continue;
      if (printPlan)
        llvm::outs() << "matches nothing: \"" << entry.pattern << "\" (" << entry.origin << ")\n";
      if (strict && isUsers) {
        function.emitError() << entry.origin << ": \"" << entry.pattern
                             << "\" matches no parameter or module";
        anyError = true;
      } else if (isUsers && !printPlan) {
        function.emitWarning() << entry.origin << ": \"" << entry.pattern
                               << "\" matches no parameter or module";
      }
    }
    return failure(anyError);
  }

  /// Batch over the data-parallel axes; all else may follow what propagation wants, as inputs are
  /// cut for free. Where experts are cut over parts of them the batch is second: it gets what is
  /// left.
  void annotateInputs(func::FuncOp function, shard::MeshOp meshOp, const AxisList &experts) {
    Mesh mesh = meshOp.getMesh();
    AxisList data;
    for (auto [n, axis] : llvm::enumerate(mesh.axes))
      if (StringRef(axis.name).starts_with("dp"))
        data.push_back(wholeAxis(mesh, static_cast<int>(n)));
    for (BlockArgument argument : function.getArguments()) {
      if (shard::getSharding(argument))
        continue;
      Sharding sharding =
          Sharding::replicated(cast<RankedTensorType>(argument.getType()).getRank());
      for (DimSharding &dim : sharding.dims)
        dim.open = true;
      if (!sharding.dims.empty()) {
        sharding.dims[0].axes = data;
        sharding.dims[0].priority = overlaps(data, experts);
      }
      shard::setSharding(argument,
                         shard::ShardingAttr::get(FlatSymbolRefAttr::get(meshOp.getSymNameAttr()),
                                                  mesh, sharding));
    }
  }

  /// Outputs are gathered, but for a cache (what replaces an input, or is one with something
  /// appended), which stays as it is cut.
  void wholeOutputs(func::FuncOp function, shard::MeshOp meshOp) {
    Mesh mesh = meshOp.getMesh();
    Operation *terminator = function.getBody().front().getTerminator();
    for (auto [n, value] : llvm::enumerate(terminator->getOperands())) {
      auto concat = value.getDefiningOp<graph::ConcatOp>();
      if (function.getResultAttr(n, kAliasAttr) ||
          function.getResultAttr(n, shard::ShardDialect::kShardingAttr) ||
          (concat && llvm::any_of(concat.getInputs(), llvm::IsaPred<BlockArgument>)))
        continue;
      Sharding whole = Sharding::replicated(cast<RankedTensorType>(value.getType()).getRank());
      function.setResultAttr(
          n, shard::ShardDialect::kShardingAttr,
          shard::ShardingAttr::get(FlatSymbolRefAttr::get(meshOp.getSymNameAttr()), mesh, whole));
    }
  }
};
} // namespace
} // namespace shardc
