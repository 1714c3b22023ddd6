//===- OnnxModel.h - An ONNX file as plain, checked structures ------------===//
//
// The only view of a model that the importer has: names and payloads point into the parsed file,
// which `Model` keeps alive. Everything that can be wrong with a file by itself (sizes, types,
// external data, duplicate names) was checked when one of these exists.
//
//===----------------------------------------------------------------------===//

#ifndef SHARDC_LIB_IMPORT_ONNXMODEL_H
#define SHARDC_LIB_IMPORT_ONNXMODEL_H

#include "shardc/Support/WeightStore.h"

#include "llvm/ADT/StringRef.h"

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace shardc::importer {

struct Graph;

/// The domain of onnxruntime's own operators.
inline constexpr llvm::StringLiteral kContribDomain = "com.microsoft";

/// A tensor of the file: an initializer or an attribute.
struct Tensor {
  llvm::StringRef name;
  Weight weight;          ///< `hasValue` is false if its external file does not exist
  bool isFourBit = false; ///< INT4 or UINT4 in the file, here I8 or U8
};

/// What an attribute holds. The names follow AttributeProto.
enum class AttributeKind {
  Unknown,
  Float,
  Int,
  String,
  Tensor,
  Graph,
  Floats,
  Ints,
  Strings,
  Other
};

struct Attribute {
  llvm::StringRef name;
  llvm::StringRef
      reference; ///< inside a function: the name of the attribute of the call that it stands for
  AttributeKind kind = AttributeKind::Unknown;
  int64_t i = 0;
  double f = 0;
  llvm::StringRef s;
  llvm::SmallVector<double, 0> floats;
  llvm::SmallVector<int64_t, 0> ints;
  llvm::SmallVector<llvm::StringRef, 0> strings;
  std::shared_ptr<Tensor> tensor;
};

/// `num_shards` of one dimension, or of one of those that it was fused of.
struct DimShards {
  std::optional<int64_t> size;
  int64_t shards;
};
struct ShardedDim {
  int64_t axis;
  llvm::SmallVector<DimShards, 2> parts;
};
/// How one tensor of a node lies on devices: a list of devices or groups, one a shard.
struct ShardingSpec {
  llvm::StringRef tensor;
  llvm::SmallVector<int64_t> devices;
  std::map<int64_t, llvm::SmallVector<int64_t>> groups;
  std::vector<ShardedDim> dims;
};
struct NodeSharding {
  llvm::StringRef configuration;
  int64_t stage;
  std::vector<ShardingSpec> specs;
};

struct Node {
  llvm::StringRef name, op, domain, overload;
  std::vector<llvm::StringRef> inputs, outputs; ///< empty: an optional one that is absent
  std::vector<Attribute> attributes;
  llvm::StringRef nameScopes, classHierarchy; ///< metadata of torch's exporter, as it wrote them
  std::vector<NodeSharding> shardings;        ///< one a device configuration
  std::string problem; ///< why it is not supported, found out before the import
};

/// A declared size: a number, a name, or nothing.
struct Dim {
  std::optional<int64_t> size;
  llvm::StringRef name;
};

struct ValueInfo {
  llvm::StringRef name;
  std::optional<DType> dtype;
  std::string problem; ///< why the type is unusable, if it is
  bool hasShape = false;
  std::vector<Dim> dims;
};

struct Graph {
  llvm::StringRef name;
  std::vector<Node> nodes;
  std::vector<ValueInfo> inputs, outputs;
  std::vector<Tensor> initializers;
};

struct Opset {
  llvm::StringRef domain;
  int64_t version;
};

/// A function of the file, which calls inline.
struct Function {
  llvm::StringRef name, domain, overload;
  std::vector<llvm::StringRef> inputs, outputs;
  std::vector<Attribute> defaults; ///< attributes with default values
  std::vector<Node> nodes;
  std::vector<Opset> opsets;
};

struct DeviceConfiguration {
  llvm::StringRef name;
  int64_t devices;
};

struct Model {
  std::string path;
  std::vector<Opset> opsets;
  Graph graph;
  std::vector<Function> functions;
  std::vector<DeviceConfiguration> configurations;
  std::shared_ptr<const void> owner; ///< the parsed file, an onnx::ModelProto
  std::deque<std::string> made;      ///< names that are not in the file
};

/// Reads and checks a model. Errors name the file and what is wrong with which tensor or node.
llvm::Expected<std::unique_ptr<Model>> readModel(llvm::StringRef path);

/// The element type of a TensorProto::DataType code; none for strings, complex numbers and types
/// narrower than a byte.
std::optional<DType> onnxDType(int32_t code);
/// Its name for messages ("FLOAT8E4M3FN"), or its number.
std::string onnxTypeName(int32_t code);

} // namespace shardc::importer

#endif // SHARDC_LIB_IMPORT_ONNXMODEL_H
