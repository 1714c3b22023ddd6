//===- Plan.h - Tensor-parallel plans: which module is cut how ------------===//
//
// A plan maps module-path patterns to styles, as Hugging Face's `base_model_tp_plan` does. Styles
// have the names of transformers 5.23, with those of 4.57 and 5.2 as aliases (they differ in
// meaning: `gather` is a *sum*).
//
//===----------------------------------------------------------------------===//

#ifndef SHARDC_ANNOTATE_PLAN_H
#define SHARDC_ANNOTATE_PLAN_H

#include "shardc/Sharding/Sharding.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <optional>
#include <string>
#include <vector>

namespace shardc {

/// What a style does to a module's parameters and activations. t is the tp size; a linear weight is
/// [out, in].
enum class Style {
  Colwise,             ///< weight and bias cut along `out`; output cut along features
  ColwiseGatherOutput, ///< the same, then the output is gathered
  Rowwise,             ///< weight cut along `in`; output summed, bias added once after the sum
  RowwiseSplitInput,   ///< the same with a replicated input, which is cut first
  EmbeddingRowwise,    ///< table cut along the vocabulary; output summed
  EmbeddingColwise,    ///< table cut along the hidden size; output gathered
  PackedColwise,       ///< colwise inside each segment of a fused weight
  PackedRowwise,       ///< rowwise inside each segment
  SequenceParallel,    ///< parameters whole, activations cut along the sequence
  Replicate,           ///< parameters whole
  ReplicatedWithGradAllReduce, ///< whole; its gradient is summed over tp (norms inside cut
                               ///< attention)
  MlaKvAProj,                  ///< whole; the rotary columns' gradient is summed over tp
  MoeTpExperts,                ///< output of the experts module is summed
  MoeIdentityExpert, ///< a replicated contribution, divided so that the later sum restores it
  AllReduce,         ///< output summed
  LocalParams,       ///< bare parameters cut with their module (attention sinks)
  GroupedGemm,       ///< experts cut along the expert dimension
  EpDispatchExperts, ///< tokens go to the experts' devices
  EpRouter           ///< router scores of the device's experts
};

/// Canonical name of a style.
llvm::StringRef styleName(Style style);

/// Style of a canonical name or alias; an error lists the known names.
llvm::Expected<Style> parseStyle(llvm::StringRef name);

struct PlanEntry {
  std::string pattern; ///< dotted path, `*` for one segment; or `role:q_proj`
  Style style;
  std::string origin; ///< "plans.json" or "built-in plan llama", for reports
};

struct Plan {
  std::string name;
  std::vector<PlanEntry> entries; ///< the first match wins
  std::vector<PlanEntry> experts; ///< lines for expert parallelism, if it is asked for
};

/// Styles that speak of experts' own ranks.
inline bool isExpertStyle(Style style) {
  return style == Style::GroupedGemm || style == Style::EpDispatchExperts ||
         style == Style::EpRouter;
}

/// The plan with its lines for experts, which displace other lines about the same modules and what
/// is inside of them. An error if there are none, or if one is no style of expert parallelism.
llvm::Expected<Plan> withExperts(Plan plan, int64_t ep);

/// Whether `path` (of a module or parameter) is what the pattern names. A pattern is relative to
/// the base model: leading segments of the path may be missing from it as long as none of them is a
/// number.
bool matchesPattern(llvm::StringRef pattern, llvm::StringRef path);

/// Whether a line about `pattern` speaks of `path`, or of a module that it is in.
bool speaksOf(llvm::StringRef pattern, llvm::StringRef path);

/// Plan of a YAML or JSON file: a map from pattern to style, or Hugging Face's plans under
/// `model._tp_plan`, `base_model_tp_plan` or `tp_plan`, and for experts `base_model_ep_plan` or
/// `ep_plan`. Errors name the file and the entry.
llvm::Expected<Plan> readPlanFile(llvm::StringRef file);

/// Built-in plan of a model family, by any of its names ("llama", "qwen3_moe").
std::optional<Plan> builtinPlan(llvm::StringRef name);
/// Names that `builtinPlan` knows.
std::vector<std::string> builtinPlanNames();

/// The plan when none is given: NeMo's base plan by name, then the same styles by role.
Plan defaultPlan();

/// User's choice in the selection order of the seed documents: a file, a built-in name, or nothing.
llvm::Expected<Plan> selectPlan(llvm::StringRef choice);

/// "dp_shard=2,tp=4" as a mesh; the message says what is wrong.
Result<Mesh> parseMesh(llvm::StringRef text);

} // namespace shardc

#endif // SHARDC_ANNOTATE_PLAN_H
