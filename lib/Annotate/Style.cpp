//===- Style.cpp - Names of the tensor-parallel styles --------------------===//

#include "shardc/Annotate/Plan.h"

#include "llvm/ADT/StringExtras.h"

namespace shardc {

namespace {
struct StyleNames {
  Style style;
  llvm::StringLiteral name;
  std::initializer_list<llvm::StringLiteral> aliases; ///< transformers 4.57 and 5.2
};
} // namespace

static const StyleNames kStyles[] = {
    {Style::Colwise, "colwise", {"local_colwise"}},
    {Style::ColwiseGatherOutput, "colwise_gather_output", {"colwise_rep"}},
    {Style::Rowwise, "rowwise", {"local_rowwise"}},
    {Style::RowwiseSplitInput, "rowwise_split_input", {"rowwise_rep"}},
    {Style::EmbeddingRowwise, "embedding_rowwise", {"vocab_parallel_embedding"}},
    {Style::EmbeddingColwise, "embedding_colwise", {}},
    {Style::PackedColwise, "packed_colwise", {"local_packed_colwise"}},
    {Style::PackedRowwise, "packed_rowwise", {"local_packed_rowwise"}},
    {Style::SequenceParallel,
     "sequence_parallel",
     {"sequence_parallel_all_gather_activation", "rotary_embed_parallel"}},
    {Style::Replicate, "replicate", {"replicated"}},
    {Style::ReplicatedWithGradAllReduce, "replicated_with_grad_allreduce", {}},
    {Style::MlaKvAProj, "mla_kv_a_proj", {}},
    {Style::MoeTpExperts, "moe_tp_experts", {}},
    {Style::MoeIdentityExpert, "moe_identity_expert", {"local"}},
    {Style::AllReduce, "all_reduce", {"gather"}}, // 4.57's `gather` sums, whatever it says
    {Style::LocalParams, "local_params", {}},
    {Style::GroupedGemm, "grouped_gemm", {}},
    {Style::EpDispatchExperts, "ep_dispatch_experts", {}},
    {Style::EpRouter, "ep_router", {}},
};

llvm::StringRef styleName(Style style) {
  for (const StyleNames &entry : kStyles)
    if (entry.style == style)
      return entry.name;
  return "";
}

llvm::Expected<Style> parseStyle(llvm::StringRef name) {
  std::string known;
  for (const StyleNames &entry : kStyles) {
    if (entry.name == name || llvm::is_contained(entry.aliases, name))
      return entry.style;
    known += (known.empty() ? "" : ", ") + entry.name.str();
  }
  return llvm::createStringError("unknown style \"" + name.str() + "\"; known: " + known);
}

} // namespace shardc
