//===- Names.cpp - Module paths of nodes ----------------------------------===//

#include "Names.h"

#include "llvm/ADT/StringExtras.h"

using namespace llvm;

namespace shardc::importer {

/// The last but one element of a Python list of strings, as `repr` writes it: the innermost module;
/// the last is the op.
static std::string lastButOne(StringRef list) {
  std::vector<std::string> items;
  for (size_t at = 0; at < list.size(); ++at) {
    char quote = list[at];
    if (quote != '\'' && quote != '"')
      continue;
    std::string item;
    for (++at; at < list.size() && list[at] != quote; ++at) {
      if (list[at] == '\\' && at + 1 < list.size())
        ++at;
      item += list[at];
    }
    items.push_back(std::move(item));
  }
  return items.size() < 2 ? std::string() : items[items.size() - 2];
}

std::string modulePath(const Node &node) {
  if (!node.nameScopes.empty()) {
    std::string path = lastButOne(node.nameScopes);
    return path.find("_empty_nn_module_stack") == std::string::npos ? path : std::string();
  }
  if (!node.name.starts_with("/"))
    return {};
  SmallVector<StringRef> parts;
  node.name.drop_front().split(parts, '/');
  return llvm::join(ArrayRef(parts).drop_back(), ".");
}

std::string moduleClass(const Node &node) {
  std::string name = lastButOne(node.classHierarchy);
  return name.substr(name.rfind('.') + 1);
}

UseMap findUses(const Graph &graph) {
  UseMap uses;
  for (auto [n, node] : enumerate(graph.nodes))
    for (auto [i, name] : enumerate(node.inputs))
      if (!name.empty())
        uses[name].push_back({static_cast<unsigned>(n), static_cast<unsigned>(i)});
  return uses;
}

/// The longest common path, in whole components.
static std::string commonPath(StringRef a, StringRef b) {
  SmallVector<StringRef> partsA, partsB, common;
  a.split(partsA, '.');
  b.split(partsB, '.');
  for (auto [x, y] : zip(partsA, partsB)) {
    if (x != y)
      break;
    common.push_back(x);
  }
  return join(common, ".");
}

std::vector<std::string> modulePaths(const Graph &graph, const UseMap &uses) {
  std::vector<std::string> paths;
  StringMap<unsigned> producers;
  bool any = false;
  for (auto [n, node] : enumerate(graph.nodes)) {
    paths.push_back(modulePath(node));
    any |= !paths.back().empty();
    for (StringRef output : node.outputs)
      producers.try_emplace(output, n);
  }
  if (!any)
    return paths;
  for (auto [n, node] : enumerate(graph.nodes)) {
    if (!node.nameScopes.empty() || node.name.starts_with("/"))
      continue;
    auto reader = node.outputs.empty() ? uses.end() : uses.find(node.outputs[0]);
    if (reader == uses.end())
      continue;
    const std::string &after = paths[reader->second.front().node];
    auto producer = find_if(node.inputs, [&](StringRef name) { return producers.count(name); });
    paths[n] =
        producer == node.inputs.end() ? after : commonPath(paths[producers[*producer]], after);
  }
  return paths;
}

} // namespace shardc::importer
