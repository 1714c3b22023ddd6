// The entries of program.json: inputs and outputs, which refer to buffers that are large enough for
// this mesh's local shapes, and commands.
#include "runtime/core/ProgramReader.h"

#include <algorithm>
#include <map>
#include <set>

using namespace shardrt;

static std::vector<Value> readValues(const JsonNode &node, const Program &program,
                                     const Mesh &mesh) {
  std::vector<Value> values;
  std::set<std::string> names;
  for (size_t i = 0; i < node.size(); ++i) {
    JsonNode item = node.at(i);
    Value value;
    value.name = item.get("name").string();
    value.dtype = item.get("dtype").dtype();
    value.shape = item.get("shape").shape();
    value.sharding = readSharding(item.get("shard"), mesh, value.shape);
    std::optional<int64_t> bytes =
        checkedBytes(value.shape, value.dtype); // also covers the gathered size
    std::optional<int64_t> local =
        checkedBytes(localShape(value.shape, value.sharding), value.dtype);
    if (!bytes || !checkedMul(local.value_or(-1), mesh.ranks()))
      item.get("shape").fail(cat("shape ", shapeString(value.shape), " is too large"));
    value.buffer = readBufferIndex(item.get("buffer"), program, value.name.c_str(), local);
    if (item.has("alias"))
      value.alias = item.get("alias").string();
    if (item.has("cache")) {
      if (value.dtype != SHARDRT_I64 || !value.shape.empty())
        item.get("cache").fail(cat("the length of a cache is i64 [], \"", value.name, "\" is ",
                                   dtypeName(value.dtype), " ", shapeString(value.shape)));
      value.capacity = item.get("cache").get("capacity").integer(1);
      value.step = item.get("cache").get("step").integer(1, value.capacity);
    }
    if (!names.insert(value.name).second)
      item.get("name").fail(cat("\"", value.name, "\" appears twice"));
    values.push_back(std::move(value));
  }
  return values;
}

/// An output that replaces an input must have its dtype, shape and sharding.
static void checkAliases(const JsonNode &node, const Entry &entry) {
  for (size_t i = 0; i < entry.outputs.size(); ++i) {
    const Value &output = entry.outputs[i];
    if (output.alias.empty())
      continue;
    auto input = std::find_if(entry.inputs.begin(), entry.inputs.end(),
                              [&](const Value &value) { return value.name == output.alias; });
    if (input == entry.inputs.end())
      node.at(i).get("alias").fail(cat("input \"", output.alias, "\" does not exist"));
    if (input->dtype != output.dtype || input->shape != output.shape ||
        localShape(input->shape, input->sharding) != localShape(output.shape, output.sharding))
      node.at(i).get("alias").fail(cat(
          "output \"", output.name, "\" is ", dtypeName(output.dtype), " ",
          shapeString(output.shape), ", input \"", input->name, "\" is ", dtypeName(input->dtype),
          " ", shapeString(input->shape), ", or they are sharded differently"));
  }
}

static std::string typeOf(const Value &value) {
  return cat(dtypeName(value.dtype), " ", shapeString(value.shape));
}

/// Callers set an input once for all entries that have it. Where it stays between runs, in a buffer
/// of kind state, that is one buffer, or an entry would not go on where another has ended;
/// elsewhere its shape may differ by entry.
static void checkSameInputs(const JsonNode &node, const std::vector<Entry> &entries,
                            const Program &program) {
  std::map<std::string, std::vector<std::pair<const Entry *, const Value *>>> seen;
  for (size_t i = 0; i < entries.size(); ++i)
    for (const Value &input : entries[i].inputs) {
      for (const auto &[entry, other] : seen[input.name]) {
        bool stays = false;
        for (const Value *value : {&input, other})
          stays |= program.buffers[value->buffer].kind == BufferKind::State;
        bool sameShape = other->shape == input.shape,
             sameParts = localShape(other->shape, other->sharding) ==
                         localShape(input.shape, input.sharding);
        if (other->dtype != input.dtype || (sameShape ? !sameParts : stays))
          node.at(i).get("inputs").fail(cat("input \"", input.name, "\" is ", typeOf(input),
                                            ", in entry \"", entry->name, "\" it is ",
                                            typeOf(*other), ", or they are sharded differently"));
        if (stays && other->buffer != input.buffer)
          node.at(i).get("inputs").fail(cat("input \"", input.name,
                                            "\" stays between runs in buffer ", input.buffer,
                                            ", in entry \"", entry->name, "\" in ", other->buffer));
      }
      seen[input.name].push_back({&entries[i], &input});
    }
}

std::string Program::listInstances() const {
  std::string text;
  for (const Entry &entry : entries) {
    std::string inputs;
    for (const Value &input : entry.inputs)
      for (const Entry &other : entries) {
        auto differs = [&](const Value &value) {
          return value.name == input.name && value.shape != input.shape;
        };
        if (std::none_of(other.inputs.begin(), other.inputs.end(), differs))
          continue;
        inputs += cat(inputs.empty() ? "" : ", ", input.name, " ", typeOf(input));
        break;
      }
    text += cat(text.empty() ? "" : "; ", entry.name, " takes ", inputs);
  }
  return text;
}

std::vector<Entry> shardrt::readEntries(const JsonNode &node, const Program &program,
                                        const Mesh &mesh) {
  std::vector<Entry> entries;
  std::set<std::string> names;
  for (size_t i = 0; i < node.size(); ++i) {
    JsonNode item = node.at(i);
    Entry entry;
    entry.name = item.get("name").string();
    if (entry.name.empty())
      item.get("name").fail("an entry has a name");
    if (!names.insert(entry.name).second)
      item.get("name").fail(cat("entry \"", entry.name, "\" appears twice"));
    entry.inputs = readValues(item.get("inputs"), program, mesh);
    entry.outputs = readValues(item.get("outputs"), program, mesh);
    checkAliases(item.get("outputs"), entry);
    entry.commands = readCommands(item.get("commands"), program);
    entries.push_back(std::move(entry));
  }
  if (entries.empty())
    node.fail("there is no entry");
  checkSameInputs(node, entries, program);
  return entries;
}
