//===- ProgramJson.cpp - Program.json -------------------------------------===//
#include "shardc/Schedule/Program.h"
#include "llvm/Support/JSON.h"

using namespace mlir;
namespace json = llvm::json;

namespace shardc {

std::string dtypeText(Type elementType) {
  if (elementType.isInteger(1))
    return "bool";
  std::string text;
  llvm::raw_string_ostream(text) << elementType;
  return text;
}

static json::Array toJson(ArrayRef<int64_t> values) {
  json::Array array;
  for (int64_t value : values)
    array.push_back(value);
  return array;
}

static json::Array toJson(const AxisList &axes) {
  json::Array array;
  for (const AxisRef &ref : axes)
    array.push_back(json::Object{{"axis", ref.axis}, {"pre", ref.pre}, {"size", ref.size}});
  return array;
}

static json::Array toJson(const Sharding &sharding) {
  json::Array array;
  for (const DimSharding &dim : sharding.dims)
    array.push_back(toJson(dim.axes));
  return array;
}

static std::string text(json::Value value) {
  std::string result;
  llvm::raw_string_ostream(result) << value;
  return result;
}
std::string axesJson(const AxisList &axes) { return text(toJson(axes)); }
std::string shardingJson(const Sharding &sharding) { return text(toJson(sharding)); }

static json::Object bufferJson(const ProgramBuffer &buffer) {
  return json::Object{{"name", buffer.name},
                      {"dtype", dtypeText(buffer.type.getElementType())},
                      {"shape", toJson(buffer.type.getShape())},
                      {"offset", buffer.offset},
                      {"bytes", buffer.bytes},
                      {"kind", str(buffer.kind)}};
}

static json::Object valueJson(const ProgramValue &value) {
  return json::Object{{"name", value.name},
                      {"buffer", value.buffer},
                      {"dtype", dtypeText(value.type.getElementType())},
                      {"shape", toJson(value.type.getShape())},
                      {"shard", toJson(value.sharding)}};
}

static json::Object parameterJson(const ProgramParameter &parameter) {
  json::Object object{{"buffer", parameter.buffer},
                      {"tensor", parameter.tensor.getValue()},
                      {"dtype", dtypeText(parameter.type.getElementType())},
                      {"shape", toJson(parameter.type.getShape())},
                      {"segment", nullptr},
                      {"shard", toJson(parameter.sharding)},
                      {"layout", json::Object{{"kind", "row_major"}}}};
  if (parameter.segment)
    object["segment"] = json::Object{{"dim", parameter.segment[0]},
                                     {"offset", parameter.segment[1]},
                                     {"size", parameter.segment[2]}};
  if (parameter.panels) {
    auto dims = [&](StringRef name) {
      return toJson(parameter.panels.getAs<DenseI64ArrayAttr>(name).asArrayRef());
    };
    object["layout"] =
        json::Object{{"kind", "panels"},
                     {"n_dims", dims("n_dims")},
                     {"k_dims", dims("k_dims")},
                     {"batch_dims", dims("batch_dims")},
                     {"n_tile", parameter.panels.getAs<IntegerAttr>("n_tile").getInt()}};
  }
  return object;
}

static json::Object bucketJson(const ProgramBucket &bucket) {
  json::Array items;
  for (const ProgramBucket::Item &item : bucket.items) {
    json::Object object{
        {"tensor", item.tensor.getValue()},      {"dtype", dtypeText(item.type.getElementType())},
        {"shape", toJson(item.type.getShape())}, {"segment", nullptr},
        {"shard", toJson(item.sharding)},        {"offset", item.offset}};
    if (item.segment)
      object["segment"] = json::Object{
          {"dim", item.segment[0]}, {"offset", item.segment[1]}, {"size", item.segment[2]}};
    items.push_back(std::move(object));
  }
  return json::Object{{"name", bucket.name},
                      {"dtype", dtypeText(bucket.element)},
                      {"length", bucket.length},
                      {"shard", toJson(bucket.axes)},
                      {"items", std::move(items)}};
}

static void addPayload(json::Object &object, const ProgramCommand &command,
                       const Program &program) {
  const ProgramBuffer &source = program.buffers[command.buffers[0]];
  object["src"] = command.buffers[0];
  object["dst"] = command.buffers[1];
  if (command.kind == CommandKind::Copy) {
    object["bytes"] = command.count;
    return;
  }
  object["group"] = command.group;
  object["dtype"] = dtypeText(source.type.getElementType());
  if (command.kind == CommandKind::AllReduce || command.kind == CommandKind::ReduceScatter)
    object["reduce"] = str(command.reduce);
  switch (command.kind) {
  case CommandKind::AllGather:
  case CommandKind::ReduceScatter:
  case CommandKind::Slice:
    object["outer"] = command.outer;
    object["inner"] = command.inner;
    object["total"] = command.total;
    break;
  case CommandKind::AllToAll:
    object["shape"] = toJson(command.shape);
    object["split_dim"] = command.splitDim;
    object["concat_dim"] = command.concatDim;
    object["split_total"] = command.splitTotal;
    object["concat_total"] = command.concatTotal;
    break;
  case CommandKind::Permute: {
    json::Array pairs;
    for (size_t i = 0; i + 1 < command.pairs.size(); i += 2)
      pairs.push_back(json::Array{command.pairs[i], command.pairs[i + 1]});
    object["pairs"] = std::move(pairs);
    [[fallthrough]];
  }
  default:
    object["count"] = command.count;
    if (command.kind == CommandKind::Broadcast)
      object["root"] = command.root;
  }
}

static json::Array commandsJson(ArrayRef<ProgramCommand> commands, const Program &program,
                                const llvm::StringMap<Kernel> &kernels, int64_t &origin) {
  json::Array array;
  for (const ProgramCommand &command : commands) {
    json::Object object{{"op", str(command.kind)}};
    if (command.kind == CommandKind::Launch) {
      auto kernel = kernels.find(program.kernels[command.kernel]);
      json::Array buffers;
      for (int buffer : command.buffers)
        buffers.push_back(buffer);
      object["kernel"] = command.kernel;
      object["buffers"] = std::move(buffers);
      object["results"] = command.results;
      if (!program.cuda) {
        object["tiles"] = kernel == kernels.end() ? 1 : kernel->second.tiles;
        object["scratch"] = kernel == kernels.end() ? 0 : kernel->second.scratchBytes;
      }
    } else if (command.kind == CommandKind::Zero) {
      object["dst"] = command.buffers[0];
      object["bytes"] = command.count;
    } else if (command.kind != CommandKind::Wait) {
      addPayload(object, command, program);
    }
    if (command.ticket >= 0)
      object["ticket"] = command.ticket;
    if (isCommunication(command.kind))
      object["origin"] = origin++;
    if (command.layer >= 0)
      object["layer"] = command.layer;
    array.push_back(std::move(object));
  }
  return array;
}

/// One member a line, and one line an element of the long lists: a person can read it and diff it.
static void printList(llvm::raw_ostream &os, StringRef name, const json::Array &list,
                      bool isLast = false) {
  os << "  \"" << name << "\": [";
  for (size_t i = 0; i < list.size(); ++i)
    os << (i ? ",\n    " : "\n    ") << list[i];
  os << (list.empty() ? "]" : "\n  ]") << (isLast ? "\n" : ",\n");
}

template <typename Range, typename Fn> static json::Array mapJson(const Range &range, Fn fn) {
  json::Array array;
  for (const auto &item : range)
    array.push_back(fn(item));
  return array;
}

std::string programJson(const Program &program, const llvm::StringMap<Kernel> &kernels) {
  std::string result;
  llvm::raw_string_ostream os(result);
  os << "{\n  \"version\": 2,\n";
  if (program.cuda) {
    auto range = [](const ArenaRange &range) {
      return json::Object{{"offset", range.offset}, {"bytes", range.bytes}};
    };
    json::Object ranges{{"scratch", range(program.cuda->scratch)},
                        {"workspace", range(program.cuda->workspace)},
                        {"staging", range(program.cuda->staging)}};
    if (program.cuda->host.bytes)
      ranges["host"] = range(program.cuda->host);
    os << "  \"target\": \"cuda\",\n  \"cuda\": " << json::Value(std::move(ranges)) << ",\n";
  }
  os << "  \"arena\": {\"bytes\": " << program.arenaBytes << "},\n";
  printList(os, "buffers", mapJson(program.buffers, bufferJson));
  printList(os, "parameters", mapJson(program.parameters, parameterJson));
  json::Array constants;
  int64_t offset = 0;
  for (const ProgramConstant &constant : program.constants) {
    int64_t bytes = program.buffers[constant.buffer].bytes;
    constants.push_back(
        json::Object{{"buffer", constant.buffer}, {"offset", offset}, {"bytes", bytes}});
    offset += llvm::alignTo(bytes, 64);
  }
  printList(os, "constants", constants);
  printList(os, "axis_indices", mapJson(program.axisIndices, [](const ProgramAxisIndex &index) {
              return json::Object{{"buffer", index.buffer}, {"axes", toJson(index.axes)}};
            }));
  printList(os, "groups", mapJson(program.groups, [](const AxisList &axes) {
              return json::Object{{"axes", toJson(axes)}};
            }));
  if (program.cuda)
    printList(os, "kernels", mapJson(program.cuda->kernels, [](const CudaKernel &kernel) {
                return kernelJson(kernel);
              }));
  else
    printList(os, "kernels",
              mapJson(program.kernels, [](const std::string &name) { return json::Value(name); }));
  int64_t origin = 0;
  printList(os, "init", commandsJson(program.init, program, kernels, origin));
  if (!program.buckets.empty())
    printList(os, "buckets", mapJson(program.buckets, bucketJson));
  if (!program.states.empty())
    printList(os, "states", mapJson(program.states, [](const ProgramState &state) {
                return json::Object{
                    {"name", state.name},
                    {"buffer", state.buffer},
                    {"role", state.role},
                    {"bucket", state.bucket < 0 ? json::Value(nullptr) : json::Value(state.bucket)},
                    {"shard", toJson(state.axes)}};
              }));
  os << "  \"entries\": [";
  for (const ProgramEntry &entry : program.entries) {
    os << (&entry == &program.entries.front() ? "" : ", ")
       << "{\"name\": " << json::Value(entry.name) << ",\n";
    printList(os, "inputs", mapJson(entry.inputs, [](const ProgramValue &value) {
                json::Object object = valueJson(value);
                if (value.capacity)
                  object["cache"] =
                      json::Object{{"capacity", value.capacity}, {"step", value.step}};
                return object;
              }));
    printList(os, "outputs", mapJson(entry.outputs, [](const ProgramValue &value) {
                json::Object object = valueJson(value);
                object["alias"] =
                    value.alias.empty() ? json::Value(nullptr) : json::Value(value.alias);
                return object;
              }));
    printList(os, "commands", commandsJson(entry.commands, program, kernels, origin),
              /*isLast=*/true);
    os << "  }";
  }
  os << "]\n}\n";
  return result;
}

} // namespace shardc
