//===- OnnxModel.cpp - Reading ONNX files ---------------------------------===//
//
// The only file that reads protobuf (WriteDevicePlan.cpp writes it). The input is mapped and parsed
// once; payloads stay where the parser put them (or in mapped external files). Input is hostile
// until checked here: sizes may be negative or overflow, external paths may leave the model's
// folder.
//
//===----------------------------------------------------------------------===//

#include "OnnxModel.h"

#include "onnx.pb.h"

#include "llvm/ADT/StringMap.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

using namespace llvm;

namespace shardc::importer {

static StringRef ref(const std::string &text) { return text; }

std::optional<DType> onnxDType(int32_t code) {
  switch (code) {
  case onnx::TensorProto::FLOAT:
    return DType::F32;
  case onnx::TensorProto::DOUBLE:
    return DType::F64;
  case onnx::TensorProto::FLOAT16:
    return DType::F16;
  case onnx::TensorProto::BFLOAT16:
    return DType::BF16;
  case onnx::TensorProto::FLOAT8E4M3FN:
    return DType::F8E4M3;
  case onnx::TensorProto::FLOAT8E5M2:
    return DType::F8E5M2;
  case onnx::TensorProto::INT64:
    return DType::I64;
  case onnx::TensorProto::INT32:
    return DType::I32;
  case onnx::TensorProto::INT16:
    return DType::I16;
  case onnx::TensorProto::INT8:
    return DType::I8;
  case onnx::TensorProto::UINT64:
    return DType::U64;
  case onnx::TensorProto::UINT32:
    return DType::U32;
  case onnx::TensorProto::UINT16:
    return DType::U16;
  case onnx::TensorProto::UINT8:
    return DType::U8;
  case onnx::TensorProto::BOOL:
    return DType::Bool;
  default:
    return std::nullopt;
  }
}

std::string onnxTypeName(int32_t code) {
  return onnx::TensorProto::DataType_IsValid(code)
             ? onnx::TensorProto::DataType_Name(static_cast<onnx::TensorProto::DataType>(code))
             : std::to_string(code);
}

namespace {

/// Converts one parsed file; remembers the external files that it mapped.
class Reader {
public:
  explicit Reader(StringRef path) : path(path), folder(sys::path::parent_path(path)) {
    if (folder.empty())
      folder = ".";
  }

  Expected<std::unique_ptr<Model>> read();

private:
  Error error(const Twine &what) const { return createStringError(Twine(path) + ": " + what); }

  Error parse(StringRef content);
  Error readGraph(const onnx::GraphProto &proto, Graph &graph);
  Error readNode(const onnx::NodeProto &proto, Node &node);
  Error readAttribute(const onnx::AttributeProto &proto, const Node &node, Attribute &attribute);
  Error readTensor(const onnx::TensorProto &proto, const Twine &what, Tensor &tensor);
  Error readExternal(const onnx::TensorProto &proto, const Twine &what, Weight &weight);
  Error readPayload(const onnx::TensorProto &proto, const Twine &what, Weight &weight);
  Error mapExternal(StringRef location, const Twine &what, std::shared_ptr<MemoryBuffer> &file);
  ValueInfo readValueInfo(const onnx::ValueInfoProto &proto);

  std::string path;
  StringRef folder;
  std::shared_ptr<onnx::ModelProto> proto;
  StringMap<std::shared_ptr<MemoryBuffer>> externalFiles;
};

} // namespace

//===----------------------------------------------------------------------===//
// Tensors
//===----------------------------------------------------------------------===//

/// Maps an external file, which must lie in the model's folder. A file that does not exist gives
/// null: the graph is weightless.
Error Reader::mapExternal(StringRef location, const Twine &what,
                          std::shared_ptr<MemoryBuffer> &file) {
  auto [known, isNew] = externalFiles.try_emplace(location);
  if (!isNew) {
    file = known->second;
    return Error::success();
  }
  if (location.empty() || sys::path::is_absolute(location) || location.contains('\0') ||
      is_contained(make_range(sys::path::begin(location), sys::path::end(location)), ".."))
    return error(what + ": external data \"" + location +
                 "\" is not a path inside the model's folder");
  SmallString<256> full(folder), real, realFolder;
  sys::path::append(full, location);
  if (!sys::fs::exists(full))
    return Error::success();
  // Links may lead out of the folder.
  if (sys::fs::real_path(full, real) || sys::fs::real_path(folder, realFolder))
    return error(what + ": cannot resolve external data \"" + location + "\"");
  if (!realFolder.ends_with("/"))
    realFolder += '/';
  if (!real.str().starts_with(realFolder))
    return error(what + ": external data \"" + location + "\" leads outside the model's folder");
  if (!sys::fs::is_regular_file(real))
    return error(what + ": external data \"" + location + "\" is not a file");
  auto buffer = MemoryBuffer::getFile(real, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!buffer)
    return error(what + ": cannot read external data \"" + location +
                 "\": " + buffer.getError().message());
  file = known->second = std::move(*buffer);
  return Error::success();
}

Error Reader::readExternal(const onnx::TensorProto &proto, const Twine &what, Weight &weight) {
  StringRef location;
  uint64_t offset = 0, length = weight.numBytes();
  for (const auto &entry : proto.external_data()) {
    StringRef key = ref(entry.key()), value = ref(entry.value());
    if (key == "location")
      location = value;
    else if ((key == "offset" && value.getAsInteger(10, offset)) ||
             (key == "length" && value.getAsInteger(10, length)))
      return error(what + ": external " + key + " \"" + value + "\" is not a size");
  }
  if (length != static_cast<uint64_t>(weight.numBytes()))
    return error(what + ": external length " + Twine(length) + ", its type takes " +
                 Twine(weight.numBytes()) + " bytes");
  std::shared_ptr<MemoryBuffer> file;
  if (Error failed = mapExternal(location, what, file))
    return failed;
  if (!file)
    return Error::success();
  uint64_t size = file->getBufferSize();
  if (offset > size || length > size - offset)
    return error(what + ": external bytes [" + Twine(offset) + ", +" + Twine(length) +
                 ") lie outside \"" + location + "\" of " + Twine(size) + " bytes");
  weight.bytes = ArrayRef<char>(file->getBufferStart() + offset, length);
  weight.owner = file;
  weight.hasValue = true;
  return Error::success();
}

/// A view of a repeated field that stores the elements as they are.
template <typename Field> static ArrayRef<char> viewOf(const Field &field) {
  return ArrayRef<char>(reinterpret_cast<const char *>(field.data()),
                        field.size() * sizeof(*field.data()));
}

/// int32_data (and uint64_data for U32) hold narrower elements one a word.
template <typename Field>
static ArrayRef<char> narrow(const Field &field, int64_t width,
                             std::shared_ptr<const void> &owner) {
  auto bytes = std::make_shared<std::vector<char>>(field.size() * width);
  for (int64_t n = 0; n < field.size(); ++n)
    std::memcpy(bytes->data() + n * width, &field[n], width); // little-endian: the low bytes
  owner = bytes;
  return *bytes;
}

Error Reader::readPayload(const onnx::TensorProto &proto, const Twine &what, Weight &weight) {
  weight.owner = this->proto;
  if (proto.has_raw_data()) {
    weight.bytes = ArrayRef<char>(proto.raw_data().data(), proto.raw_data().size());
  } else {
    int64_t width = dtypeBytes(weight.dtype);
    switch (weight.dtype) {
    case DType::F32:
      weight.bytes = viewOf(proto.float_data());
      break;
    case DType::F64:
      weight.bytes = viewOf(proto.double_data());
      break;
    case DType::I64:
      weight.bytes = viewOf(proto.int64_data());
      break;
    case DType::I32:
      weight.bytes = viewOf(proto.int32_data());
      break;
    case DType::U64:
      weight.bytes = viewOf(proto.uint64_data());
      break;
    case DType::U32:
      weight.bytes = narrow(proto.uint64_data(), width, weight.owner);
      break;
    default:
      weight.bytes = narrow(proto.int32_data(), width, weight.owner);
    }
  }
  if (static_cast<int64_t>(weight.bytes.size()) != weight.numBytes())
    return error(what + " holds " + Twine(weight.bytes.size()) + " bytes, its type takes " +
                 Twine(weight.numBytes()));
  weight.hasValue = true;
  return Error::success();
}

Error Reader::readTensor(const onnx::TensorProto &proto, const Twine &where, Tensor &tensor) {
  tensor.name = ref(proto.name());
  std::string what = (where + " \"" + proto.name() + "\"").str();
  Weight &weight = tensor.weight;
  std::optional<DType> dtype = onnxDType(proto.data_type());
  if (proto.data_type() == onnx::TensorProto::INT4 ||
      proto.data_type() == onnx::TensorProto::UINT4) {
    tensor.isFourBit = true;
    dtype = proto.data_type() == onnx::TensorProto::INT4 ? DType::I8 : DType::U8;
  }
  if (!dtype)
    return error(what + " has element type " + onnxTypeName(proto.data_type()) +
                 ", which is not supported");
  if (proto.has_segment())
    return error(what + " is a segment of a tensor, which is not supported");
  weight.dtype = *dtype;
  int64_t bytes = dtypeBytes(*dtype);
  for (int64_t size : proto.dims()) {
    if (size < 0)
      return error(what + " has a dimension of size " + Twine(size));
    if (MulOverflow(bytes, size, bytes))
      return error(what + " has more than 2^63 bytes");
    weight.shape.push_back(size);
  }
  auto read = [&](Weight &into) {
    return proto.data_location() == onnx::TensorProto::EXTERNAL ? readExternal(proto, what, into)
                                                                : readPayload(proto, what, into);
  };
  if (!tensor.isFourBit)
    return read(weight);
  Weight packed = weight; // two in a byte, the low one first
  packed.shape = {(weight.numElements() + 1) / 2};
  if (Error failed = read(packed))
    return failed;
  if (!packed.hasValue)
    return Error::success();
  auto numbers = std::make_shared<std::vector<char>>(weight.numElements());
  for (size_t i = 0; i < numbers->size(); ++i) {
    int bits = static_cast<uint8_t>(packed.bytes[i / 2]) >> (4 * (i % 2)) & 15;
    (*numbers)[i] = static_cast<char>(weight.dtype == DType::I8 && bits > 7 ? bits - 16 : bits);
  }
  weight.bytes = *numbers;
  weight.owner = numbers;
  weight.hasValue = true;
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Nodes and graphs
//===----------------------------------------------------------------------===//

Error Reader::readAttribute(const onnx::AttributeProto &proto, const Node &node,
                            Attribute &attribute) {
  attribute.name = ref(proto.name());
  attribute.reference = ref(proto.ref_attr_name());
  switch (proto.type()) {
  case onnx::AttributeProto::FLOAT:
    attribute.kind = AttributeKind::Float;
    attribute.f = proto.f();
    break;
  case onnx::AttributeProto::INT:
    attribute.kind = AttributeKind::Int;
    attribute.i = proto.i();
    break;
  case onnx::AttributeProto::STRING:
    attribute.kind = AttributeKind::String;
    attribute.s = ref(proto.s());
    break;
  case onnx::AttributeProto::FLOATS:
    attribute.kind = AttributeKind::Floats;
    attribute.floats.assign(proto.floats().begin(), proto.floats().end());
    break;
  case onnx::AttributeProto::INTS:
    attribute.kind = AttributeKind::Ints;
    attribute.ints.assign(proto.ints().begin(), proto.ints().end());
    break;
  case onnx::AttributeProto::STRINGS:
    attribute.kind = AttributeKind::Strings;
    for (const std::string &text : proto.strings())
      attribute.strings.push_back(text);
    break;
  case onnx::AttributeProto::TENSOR:
    attribute.kind = AttributeKind::Tensor;
    attribute.tensor = std::make_shared<Tensor>();
    if (!onnxDType(proto.t().data_type()))
      return error("node \"" + node.name + "\" (" + node.op + "): attribute \"" + proto.name() +
                   "\" has element type " + onnxTypeName(proto.t().data_type()) +
                   ", which is not supported");
    return readTensor(proto.t(),
                      "node \"" + node.name + "\" (" + node.op + "): attribute \"" + proto.name() +
                          "\"",
                      *attribute.tensor);
  case onnx::AttributeProto::GRAPH:
    attribute.kind = AttributeKind::Graph;
    break;
  default:
    attribute.kind = AttributeKind::Other;
  }
  return Error::success();
}

static NodeSharding readSharding(const onnx::NodeDeviceConfigurationProto &proto) {
  NodeSharding sharding{ref(proto.configuration_id()), proto.pipeline_stage(), {}};
  for (const auto &from : proto.sharding_spec()) {
    ShardingSpec &spec = sharding.specs.emplace_back();
    spec.tensor = ref(from.tensor_name());
    spec.devices.assign(from.device().begin(), from.device().end());
    for (const auto &entry : from.index_to_device_group_map())
      spec.groups[entry.key()].assign(entry.value().begin(), entry.value().end());
    for (const auto &dim : from.sharded_dim()) {
      ShardedDim &to = spec.dims.emplace_back();
      to.axis = dim.axis();
      for (const auto &part : dim.simple_sharding())
        to.parts.push_back(
            {part.has_dim_value() ? std::optional<int64_t>(part.dim_value()) : std::nullopt,
             part.num_shards()});
    }
  }
  return sharding;
}

Error Reader::readNode(const onnx::NodeProto &proto, Node &node) {
  node.name = ref(proto.name());
  node.op = ref(proto.op_type());
  node.domain = proto.domain() == "ai.onnx" ? StringRef() : ref(proto.domain());
  node.overload = ref(proto.overload());
  node.inputs.assign(proto.input().begin(), proto.input().end());
  node.outputs.assign(proto.output().begin(), proto.output().end());
  for (const auto &entry : proto.metadata_props()) {
    if (entry.key() == "pkg.torch.onnx.name_scopes")
      node.nameScopes = ref(entry.value());
    else if (entry.key() == "pkg.torch.onnx.class_hierarchy")
      node.classHierarchy = ref(entry.value());
  }
  for (const auto &sharding : proto.device_configurations())
    node.shardings.push_back(readSharding(sharding));
  node.attributes.resize(proto.attribute_size());
  for (auto [attribute, from] : zip_equal(node.attributes, proto.attribute()))
    if (Error failed = readAttribute(from, node, attribute))
      return failed;
  return Error::success();
}

ValueInfo Reader::readValueInfo(const onnx::ValueInfoProto &proto) {
  ValueInfo info;
  info.name = ref(proto.name());
  if (!proto.type().has_tensor_type()) {
    info.problem = "is not a tensor";
    return info;
  }
  const auto &type = proto.type().tensor_type();
  info.dtype = onnxDType(type.elem_type());
  if (!info.dtype)
    info.problem =
        "has element type " + onnxTypeName(type.elem_type()) + ", which is not supported";
  info.hasShape = type.has_shape();
  for (const auto &from : type.shape().dim()) {
    Dim dim;
    if (from.has_dim_value())
      dim.size = from.dim_value();
    else
      dim.name = ref(from.dim_param());
    info.dims.push_back(dim);
  }
  return info;
}

Error Reader::readGraph(const onnx::GraphProto &proto, Graph &graph) {
  graph.name = ref(proto.name());
  if (proto.sparse_initializer_size())
    return error("sparse initializers are not supported");
  for (const auto &input : proto.input())
    graph.inputs.push_back(readValueInfo(input));
  for (const auto &output : proto.output())
    graph.outputs.push_back(readValueInfo(output));
  graph.initializers.resize(proto.initializer_size());
  for (auto [tensor, from] : zip_equal(graph.initializers, proto.initializer()))
    if (Error failed = readTensor(from, "initializer", tensor))
      return failed;
  graph.nodes.resize(proto.node_size());
  for (auto [node, from] : zip_equal(graph.nodes, proto.node()))
    if (Error failed = readNode(from, node))
      return failed;
  return Error::success();
}

//===----------------------------------------------------------------------===//
// The file
//===----------------------------------------------------------------------===//

Error Reader::parse(StringRef content) {
  if (content.size() > static_cast<size_t>(INT_MAX))
    return error("file of " + Twine(content.size()) +
                 " bytes exceeds the 2 GiB of the format; store weights as external data");
  // The parser's own messages name neither file nor reason.
  google::protobuf::LogSilencer silencer;
  google::protobuf::io::ArrayInputStream stream(content.data(), static_cast<int>(content.size()));
  google::protobuf::io::CodedInputStream coded(&stream);
  coded.SetTotalBytesLimit(INT_MAX);
  proto = std::make_shared<onnx::ModelProto>();
  if (!proto->ParseFromCodedStream(&coded) || !coded.ConsumedEntireMessage())
    return error("not an ONNX file, or a truncated one");
  if (!proto->has_graph())
    return error("not an ONNX file: it has no graph");
  return Error::success();
}

static std::vector<Opset>
readOpsets(const google::protobuf::RepeatedPtrField<onnx::OperatorSetIdProto> &protos) {
  std::vector<Opset> opsets;
  for (const auto &opset : protos)
    opsets.push_back(
        {opset.domain() == "ai.onnx" ? StringRef() : ref(opset.domain()), opset.version()});
  return opsets;
}

Expected<std::unique_ptr<Model>> Reader::read() {
  auto buffer = MemoryBuffer::getFile(path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!buffer)
    return error("cannot read: " + buffer.getError().message());
  if (Error failed = parse((*buffer)->getBuffer()))
    return std::move(failed);
  auto model = std::make_unique<Model>();
  model->path = path;
  model->owner = proto;
  model->opsets = readOpsets(proto->opset_import());
  for (const auto &configuration : proto->configuration())
    model->configurations.push_back({ref(configuration.name()), configuration.num_devices()});
  if (Error failed = readGraph(proto->graph(), model->graph))
    return std::move(failed);
  for (const auto &from : proto->functions()) {
    Function &function = model->functions.emplace_back();
    function.name = ref(from.name());
    function.domain = from.domain() == "ai.onnx" ? StringRef() : ref(from.domain());
    function.overload = ref(from.overload());
    function.inputs.assign(from.input().begin(), from.input().end());
    function.outputs.assign(from.output().begin(), from.output().end());
    function.opsets = readOpsets(from.opset_import());
    Node owner;
    owner.name = owner.op = function.name;
    function.defaults.resize(from.attribute_proto_size());
    for (auto [attribute, proto] : zip_equal(function.defaults, from.attribute_proto()))
      if (Error failed = readAttribute(proto, owner, attribute))
        return std::move(failed);
    function.nodes.resize(from.node_size());
    for (auto [node, proto] : zip_equal(function.nodes, from.node()))
      if (Error failed = readNode(proto, node))
        return std::move(failed);
  }
  return model;
}

Expected<std::unique_ptr<Model>> readModel(StringRef path) { return Reader(path).read(); }

} // namespace shardc::importer
