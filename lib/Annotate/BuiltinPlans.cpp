//===- BuiltinPlans.cpp - Plans of the model families ---------------------===//
//
// Sources: transformers 5.23's base_model_tp_plan of each configuration class, NeMo Automodel's
// base plan. Families that have no plan there (GPT-2, BERT) get the structural equivalent of
// Megatron-LM's.
//
//===----------------------------------------------------------------------===//

#include "shardc/Annotate/Plan.h"

namespace shardc {

namespace {

using Entries = std::vector<std::pair<llvm::StringLiteral, Style>>;

struct Family {
  std::initializer_list<llvm::StringLiteral> names;
  std::initializer_list<const Entries *>
      parts;                        ///< below `layers.*.` unless the pattern starts with '/'
  const Entries *experts = nullptr; ///< with expert parallelism
};

} // namespace

static const Entries kAttention = {{"self_attn.q_proj", Style::Colwise},
                                   {"self_attn.k_proj", Style::Colwise},
                                   {"self_attn.v_proj", Style::Colwise},
                                   {"self_attn.o_proj", Style::Rowwise}};
static const Entries kAttentionGathered = {{"self_attn.q_proj", Style::ColwiseGatherOutput},
                                           {"self_attn.k_proj", Style::ColwiseGatherOutput},
                                           {"self_attn.v_proj", Style::ColwiseGatherOutput},
                                           {"self_attn.o_proj", Style::RowwiseSplitInput}};
static const Entries kHeadNorms = {{"self_attn.q_norm", Style::ReplicatedWithGradAllReduce},
                                   {"self_attn.k_norm", Style::ReplicatedWithGradAllReduce}};
static const Entries kValueNorm = {{"self_attn.v_norm", Style::ReplicatedWithGradAllReduce}};
static const Entries kGatedMlp = {{"mlp.gate_proj", Style::Colwise},
                                  {"mlp.up_proj", Style::Colwise},
                                  {"mlp.down_proj", Style::Rowwise}};
static const Entries kPlainMlp = {{"mlp.up_proj", Style::Colwise},
                                  {"mlp.down_proj", Style::Rowwise}};
static const Entries kExperts = {{"mlp.experts.gate_up_proj", Style::PackedColwise},
                                 {"mlp.experts.down_proj", Style::Rowwise},
                                 {"mlp.experts", Style::MoeTpExperts}};
static const Entries kSharedExpert = {{"mlp.shared_expert.gate_proj", Style::Colwise},
                                      {"mlp.shared_expert.up_proj", Style::Colwise},
                                      {"mlp.shared_expert.down_proj", Style::Rowwise}};
static const Entries kSharedExperts = {{"mlp.shared_experts.gate_proj", Style::Colwise},
                                       {"mlp.shared_experts.up_proj", Style::Colwise},
                                       {"mlp.shared_experts.down_proj", Style::Rowwise}};
static const Entries kPackedAttention = {{"self_attn.qkv_proj", Style::ColwiseGatherOutput},
                                         {"self_attn.o_proj", Style::RowwiseSplitInput}};
static const Entries kPackedMlp = {{"mlp.gate_up_proj", Style::ColwiseGatherOutput},
                                   {"mlp.down_proj", Style::RowwiseSplitInput}};
static const Entries kDeltaNet = {{"linear_attn.in_proj_qkvz", Style::ColwiseGatherOutput},
                                  {"linear_attn.in_proj_ba", Style::ColwiseGatherOutput},
                                  {"linear_attn.in_proj_qkv", Style::ColwiseGatherOutput},
                                  {"linear_attn.in_proj_z", Style::ColwiseGatherOutput},
                                  {"linear_attn.in_proj_b", Style::ColwiseGatherOutput},
                                  {"linear_attn.in_proj_a", Style::ColwiseGatherOutput},
                                  {"linear_attn.out_proj", Style::ColwiseGatherOutput}};
static const Entries kLatentAttention = {{"self_attn.q_proj", Style::Colwise},
                                         {"self_attn.q_b_proj", Style::Colwise},
                                         {"self_attn.kv_a_proj_with_mqa", Style::MlaKvAProj},
                                         {"self_attn.kv_b_proj", Style::Colwise},
                                         {"self_attn.o_proj", Style::Rowwise}};
static const Entries kPhi2 = {
    {"self_attn.q_proj", Style::Colwise}, {"self_attn.k_proj", Style::Colwise},
    {"self_attn.v_proj", Style::Colwise}, {"self_attn.dense", Style::Rowwise},
    {"mlp.fc1", Style::Colwise},          {"mlp.fc2", Style::Rowwise}};
static const Entries kGptNeoX = {
    {"attention.query_key_value", Style::Colwise}, {"attention.dense", Style::Rowwise},
    {"mlp.dense_h_to_4h", Style::Colwise},         {"mlp.dense_4h_to_h", Style::Rowwise},
    {"/embed_in", Style::EmbeddingRowwise},        {"/embed_out", Style::ColwiseGatherOutput}};
static const Entries kStarcoder = {{"mlp.c_fc", Style::Colwise}, {"mlp.c_proj", Style::Rowwise}};
static const Entries kGpt2 = {{"/h.*.attn.c_attn", Style::PackedColwise},
                              {"/h.*.attn.c_proj", Style::Rowwise},
                              {"/h.*.mlp.c_fc", Style::Colwise},
                              {"/h.*.mlp.c_proj", Style::Rowwise},
                              {"/wte", Style::EmbeddingRowwise}};
static const Entries kBert = {{"attention.self.query", Style::Colwise},
                              {"attention.self.key", Style::Colwise},
                              {"attention.self.value", Style::Colwise},
                              {"attention.output.dense", Style::Rowwise},
                              {"intermediate.dense", Style::Colwise},
                              {"output.dense", Style::Rowwise},
                              {"/embeddings.word_embeddings", Style::EmbeddingRowwise}};
static const Entries kNemotronH = {{"/embeddings", Style::EmbeddingRowwise},
                                   {"mixer.experts.up_proj", Style::Colwise},
                                   {"mixer.experts.down_proj", Style::Rowwise},
                                   {"mixer.experts", Style::MoeTpExperts}};
static const Entries kLlama4 = {{"feed_forward.experts.gate_up_proj", Style::PackedRowwise},
                                {"feed_forward.experts.down_proj", Style::Colwise},
                                {"feed_forward.experts", Style::MoeTpExperts},
                                {"feed_forward.shared_expert.gate_proj", Style::Colwise},
                                {"feed_forward.shared_expert.up_proj", Style::Colwise},
                                {"feed_forward.shared_expert.down_proj", Style::Rowwise},
                                {"feed_forward.gate_proj", Style::Colwise},
                                {"feed_forward.up_proj", Style::Colwise},
                                {"feed_forward.down_proj", Style::Rowwise}};
static const Entries kFeedForwardExperts = {
    {"feed_forward.experts.gate_up_proj", Style::PackedColwise},
    {"feed_forward.experts.down_proj", Style::Rowwise},
    {"feed_forward.experts", Style::MoeTpExperts}};
static const Entries kGraniteExperts = {
    {"block_sparse_moe.experts.gate_up_proj", Style::PackedColwise},
    {"block_sparse_moe.experts.down_proj", Style::Rowwise},
    {"block_sparse_moe.experts", Style::MoeTpExperts}};
/// Expert parallelism.
static const Entries kCutExperts = {{"mlp.experts.gate_up_proj", Style::GroupedGemm},
                                    {"mlp.experts.down_proj", Style::GroupedGemm},
                                    {"mlp.experts", Style::EpDispatchExperts}};
static const Entries kCutMixerExperts = {{"mixer.experts.up_proj", Style::GroupedGemm},
                                         {"mixer.experts.down_proj", Style::GroupedGemm},
                                         {"mixer.experts", Style::EpDispatchExperts}};
static const Entries kCutFeedForwardExperts = {
    {"feed_forward.experts.gate_up_proj", Style::GroupedGemm},
    {"feed_forward.experts.down_proj", Style::GroupedGemm},
    {"feed_forward.experts", Style::EpDispatchExperts}};
static const Entries kCutGraniteExperts = {
    {"block_sparse_moe.experts.gate_up_proj", Style::GroupedGemm},
    {"block_sparse_moe.experts.down_proj", Style::GroupedGemm},
    {"block_sparse_moe.experts", Style::EpDispatchExperts}};
/// Ends of the model: what transformers adds to every base plan.
static const Entries kEnds = {{"/embed_tokens", Style::EmbeddingRowwise},
                              {"/lm_head", Style::ColwiseGatherOutput}};
static const Entries kHead = {{"/lm_head", Style::ColwiseGatherOutput}};

static const Family kFamilies[] = {
    {{"llama", "qwen2", "mistral", "ministral", "ministral3", "gemma", "gemma2", "cohere",
      "cohere2", "granite", "smollm3"},
     {&kAttention, &kGatedMlp, &kEnds}},
    {{"qwen3", "exaone4", "gemma3", "gemma3_text"}, {&kAttention, &kHeadNorms, &kGatedMlp, &kEnds}},
    {{"gemma3n"}, {&kAttention, &kHeadNorms, &kValueNorm, &kGatedMlp, &kEnds}},
    {{"phi", "phi2"}, {&kPhi2, &kEnds}},
    {{"phi3"}, {&kPackedAttention, &kPackedMlp, &kEnds}},
    {{"glm4"}, {&kAttention, &kPackedMlp, &kEnds}},
    {{"olmo2", "olmo3"}, {&kAttentionGathered, &kGatedMlp, &kEnds}},
    {{"olmoe"}, {&kAttentionGathered, &kExperts, &kEnds}},
    {{"minimax_m2"}, {&kAttentionGathered, &kExperts, &kEnds}, &kCutExperts},
    {{"gpt_neox"}, {&kGptNeoX}},
    {{"gpt2"}, {&kGpt2, &kHead}},
    {{"bert"}, {&kBert}},
    {{"starcoder2"}, {&kAttention, &kStarcoder, &kEnds}},
    {{"nemotron"}, {&kAttention, &kPlainMlp, &kEnds}},
    {{"nemotron_h"}, {&kNemotronH, &kHead}, &kCutMixerExperts},
    {{"mixtral", "minimax"}, {&kAttention, &kExperts, &kEnds}, &kCutExperts},
    {{"qwen3_moe"}, {&kAttention, &kHeadNorms, &kExperts, &kGatedMlp, &kEnds}, &kCutExperts},
    {{"qwen3_next", "qwen3_5_moe"},
     {&kAttention, &kHeadNorms, &kExperts, &kSharedExpert, &kGatedMlp, &kDeltaNet, &kEnds},
     &kCutExperts},
    {{"qwen3_5", "qwen3_5_text"}, {&kAttention, &kHeadNorms, &kGatedMlp, &kDeltaNet, &kEnds}},
    {{"glm4_moe"}, {&kAttention, &kExperts, &kSharedExperts, &kGatedMlp, &kEnds}, &kCutExperts},
    {{"deepseek_v2", "deepseek_v3_2"},
     {&kLatentAttention, &kExperts, &kSharedExperts, &kGatedMlp, &kEnds},
     &kCutExperts},
    {{"deepseek_v3", "kimi_linear"},
     {&kExperts, &kSharedExperts, &kGatedMlp, &kEnds},
     &kCutExperts},
    {{"llama4", "llama4_text"}, {&kAttention, &kLlama4, &kEnds}},
    {{"jamba", "lfm2_moe"}, {&kFeedForwardExperts, &kEnds}, &kCutFeedForwardExperts},
    {{"granitemoe"}, {&kGraniteExperts, &kEnds}, &kCutGraniteExperts},
};

static void append(std::vector<PlanEntry> &lines, const std::string &origin,
                   const Entries &entries) {
  for (const auto &[pattern, style] : entries) {
    llvm::StringRef relative = pattern;
    std::string full = relative.consume_front("/") ? relative.str() : "layers.*." + relative.str();
    lines.push_back({full, style, origin});
  }
}

std::optional<Plan> builtinPlan(llvm::StringRef name) {
  for (const Family &family : kFamilies) {
    if (!llvm::is_contained(family.names, name))
      continue;
    Plan plan;
    plan.name = "built-in plan " + name.str();
    for (const Entries *part : family.parts)
      append(plan.entries, plan.name, *part);
    if (family.experts)
      append(plan.experts, plan.name, *family.experts);
    return plan;
  }
  return std::nullopt;
}

std::vector<std::string> builtinPlanNames() {
  std::vector<std::string> names;
  for (const Family &family : kFamilies)
    names.insert(names.end(), family.names.begin(), family.names.end());
  return names;
}

/// NeMo Automodel's base plan, which fits every decoder that names its modules as Llama does.
static const Entries kBase = {
    {"self_attn.q_proj", Style::Colwise},    {"self_attn.k_proj", Style::Colwise},
    {"self_attn.v_proj", Style::Colwise},    {"self_attn.qkv_proj", Style::PackedColwise},
    {"self_attn.o_proj", Style::Rowwise},    {"mlp.gate_proj", Style::Colwise},
    {"mlp.up_proj", Style::Colwise},         {"mlp.gate_up_proj", Style::PackedColwise},
    {"mlp.down_proj", Style::Rowwise},       {"/embed_tokens", Style::EmbeddingRowwise},
    {"/lm_head", Style::ColwiseGatherOutput}};

/// The same by what the raised graph says a weight does, for models whose names say nothing.
static const Entries kRoles = {{"/role:embedding", Style::EmbeddingRowwise},
                               {"/role:q_proj", Style::Colwise},
                               {"/role:k_proj", Style::Colwise},
                               {"/role:v_proj", Style::Colwise},
                               {"/role:qkv_proj", Style::PackedColwise},
                               {"/role:kv_proj", Style::PackedColwise},
                               {"/role:o_proj", Style::Rowwise},
                               {"/role:gate_proj", Style::Colwise},
                               {"/role:up_proj", Style::Colwise},
                               {"/role:gate_up_proj", Style::PackedColwise},
                               {"/role:down_proj", Style::Rowwise},
                               {"/role:fc1", Style::Colwise},
                               {"/role:fc2", Style::Rowwise},
                               {"/role:experts_gate_up", Style::PackedColwise},
                               {"/role:experts_down", Style::Rowwise},
                               {"/role:lm_head", Style::ColwiseGatherOutput}};

static const Entries kExpertRoles = {{"/role:experts_gate_up", Style::GroupedGemm},
                                     {"/role:experts_down", Style::GroupedGemm},
                                     {"/role:experts", Style::EpDispatchExperts}};

Plan defaultPlan() {
  Plan plan;
  plan.name = "base plan";
  append(plan.entries, plan.name, kBase);
  append(plan.entries, plan.name, kRoles);
  append(plan.experts, plan.name, kExpertRoles);
  return plan;
}

} // namespace shardc
