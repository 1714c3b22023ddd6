//===- CacheLengths.cpp - The lengths that an attention reads of its cache -===//
//
// onnxruntime's GroupQueryAttention is told where its cache ends: by `seqlens_k` and
// `total_sequence_length`, which a model computes from the attention mask. Who says that dimension D
// is the cache's length (`--cache D=N`) says the same for the whole batch, and the program counts
// itself. So these two inputs are taken away from attentions whose past is an input with that
// dimension, and with them the nodes and the model's inputs (the mask) that nothing else reads.
// The attention then appends to its cache as others do (GroupQueryAttention.cpp).
//
// A cache that holds a window only (`sliding_window_cache`) has a length of its own in the file, and
// drops what the window hides anyway. Here it grows like the others: its dimension is D too.
//
//===----------------------------------------------------------------------===//

#include "GrowingCache.h"
#include "Names.h"
#include "NodeContext.h"

#include "llvm/ADT/StringSet.h"

using namespace llvm;

namespace shardc::importer {

/// Inputs of GroupQueryAttention.
static constexpr unsigned kPastKey = 3, kPastValue = 4, kFirstLength = 5, kLastLength = 6;

static bool isGroupQuery(const Node &node) {
  return node.op == "GroupQueryAttention" && node.domain == kContribDomain &&
         node.inputs.size() > kLastLength;
}

/// Gives the caches that hold a window the dimension of the others.
static void widenWindows(Graph &graph, StringRef cacheDim) {
  StringSet<> windows;
  for (const Node &node : graph.nodes)
    if (isGroupQuery(node) && any_of(node.attributes, [](const Attribute &a) {
          return a.name == "sliding_window_cache" && a.i;
        }))
      for (unsigned i : {kPastKey, kPastValue})
        windows.insert(node.inputs[i]);
  for (ValueInfo &input : graph.inputs)
    if (windows.contains(input.name) && input.dims.size() == 4 && !input.dims[2].size)
      input.dims[2].name = cacheDim;
}

void dropCacheLengths(Model &model, StringRef cacheDim) {
  Graph &graph = model.graph;
  widenWindows(graph, cacheDim);
  StringSet<> caches;
  for (const ValueInfo &input : graph.inputs)
    if (any_of(input.dims, [&](const Dim &dim) { return dim.name == cacheDim; }))
      caches.insert(input.name);

  // Names that lost a reader, until nobody asks for them.
  std::vector<StringRef> lost;
  for (Node &node : graph.nodes) {
    if (!isGroupQuery(node) || !caches.contains(node.inputs[kPastKey]))
      continue;
    for (unsigned i = kFirstLength; i <= kLastLength; ++i) {
      lost.push_back(node.inputs[i]);
      node.inputs[i] = StringRef();
    }
  }
  StringSet<> outputs;
  for (const ValueInfo &output : graph.outputs)
    outputs.insert(output.name);
  StringMap<unsigned> readers, makers;
  for (auto [n, node] : enumerate(graph.nodes)) {
    for (StringRef name : node.inputs)
      ++readers[name];
    for (StringRef name : node.outputs)
      makers[name] = n;
  }
  auto isUnread = [&](StringRef name) { return !readers.lookup(name) && !outputs.contains(name); };
  StringSet<> deadInputs;
  DenseSet<unsigned> deadNodes;
  while (!lost.empty()) {
    StringRef name = lost.back();
    lost.pop_back();
    if (name.empty() || !isUnread(name))
      continue;
    auto maker = makers.find(name);
    if (maker == makers.end()) {
      deadInputs.insert(name);
      continue;
    }
    Node &node = graph.nodes[maker->second];
    if (!all_of(node.outputs, isUnread) || !deadNodes.insert(maker->second).second)
      continue;
    for (StringRef input : node.inputs) {
      --readers[input];
      lost.push_back(input);
    }
  }
  unsigned n = 0;
  erase_if(graph.nodes, [&](const Node &) { return deadNodes.contains(n++); });
  erase_if(graph.inputs, [&](const ValueInfo &input) { return deadInputs.contains(input.name); });
}

} // namespace shardc::importer
