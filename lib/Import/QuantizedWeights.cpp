//===- QuantizedWeights.cpp - Weights that a file holds in few bits -------===//
//
// A weight that is stored as integers, scales and zero points becomes a weight of floats before
// anything is imported, so that plans, cuts and checkpoints see what the model computes with:
//
//   DequantizeLinear(W, scale, zero)         an initializer in its place
//   MatMulNBits(x, W, scales, zeros, bias)   FusedMatMul(x, W^T) + bias
//   GatherBlockQuantized(W, i, scales, zeros)  Gather(W, i)
//
// Every element is (q - zero) * scale, rounded once to the type of the scales. The names lose what
// the quantizer appended. A weight that cannot be made is told with the unsupported operators. A
// DequantizeLinear of what the model computes is left alone (Quantization.cpp).
//
//===----------------------------------------------------------------------===//

#include "QuantizedWeights.h"

#include "llvm/ADT/APFloat.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/MathExtras.h"

#include <cstring>

using namespace llvm;

namespace shardc::importer {

/// Of a matrix or block; products of such sizes are numbers.
static constexpr int64_t kMaxSize = 1 << 28;

namespace {

/// Elements of a stored tensor as numbers.
class Numbers {
public:
  explicit Numbers(const Weight &weight) : weight(weight), width(dtypeBytes(weight.dtype)) {}
  double operator[](int64_t i) const;
  int64_t size() const { return weight.numElements(); }

private:
  const Weight &weight;
  int64_t width;
};

class Rewriter {
public:
  explicit Rewriter(Model &model) : model(model), graph(model.graph) {}
  void run();

private:
  /// Empty, or why not.
  std::string dequantize(Node &node);
  std::string matMul(Node &node, std::vector<Node> &nodes);
  std::string gather(Node &node);

  /// The tensor of that operand; null if it is absent or nothing that the file gives a value to.
  const Tensor *initializer(const Node &node, unsigned operand) const;
  StringRef keep(std::string text) { return model.made.emplace_back(std::move(text)); }
  /// Adds a weight of these numbers, named after the quantized one.
  StringRef add(StringRef from, DType dtype, ArrayRef<int64_t> shape,
                function_ref<double(int64_t)> at);

  Model &model;
  Graph &graph;
  StringMap<unsigned> initializers; ///< places
  StringMap<StringRef> replaced;    ///< results of nodes that are gone
};

} // namespace

static const fltSemantics *semanticsOf(DType dtype) {
  switch (dtype) {
  case DType::F16:
    return &APFloat::IEEEhalf();
  case DType::BF16:
    return &APFloat::BFloat();
  case DType::F8E4M3:
    return &APFloat::Float8E4M3FN();
  case DType::F8E5M2:
    return &APFloat::Float8E5M2();
  default:
    return nullptr;
  }
}

template <typename T> static double readAs(const char *bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return static_cast<double>(value);
}

double Numbers::operator[](int64_t i) const {
  const char *at = weight.bytes.data() + i * width;
  switch (weight.dtype) {
  case DType::F64:
    return readAs<double>(at);
  case DType::F32:
    return readAs<float>(at);
  case DType::I64:
    return readAs<int64_t>(at);
  case DType::I32:
    return readAs<int32_t>(at);
  case DType::I16:
    return readAs<int16_t>(at);
  case DType::I8:
    return readAs<int8_t>(at);
  case DType::U64:
    return readAs<uint64_t>(at);
  case DType::U32:
    return readAs<uint32_t>(at);
  case DType::U16:
    return readAs<uint16_t>(at);
  case DType::U8:
  case DType::Bool:
    return readAs<uint8_t>(at);
  default: {
    uint64_t bits = 0;
    std::memcpy(&bits, at, width);
    return APFloat(*semanticsOf(weight.dtype), APInt(8 * width, bits)).convertToDouble();
  }
  }
}

static void store(char *at, DType dtype, double value) {
  if (dtype == DType::F64) {
    std::memcpy(at, &value, sizeof(double));
  } else if (dtype == DType::F32) {
    float narrow = static_cast<float>(value);
    std::memcpy(at, &narrow, sizeof(float));
  } else {
    APFloat number(value);
    bool losesInfo;
    number.convert(*semanticsOf(dtype), APFloat::rmNearestTiesToEven, &losesInfo);
    uint64_t bits = number.bitcastToAPInt().getZExtValue();
    std::memcpy(at, &bits, dtypeBytes(dtype));
  }
}

static bool isFloatType(DType dtype) { return dtype <= DType::BF16; }
static bool isIntegerType(DType dtype) { return dtype >= DType::I64 && dtype <= DType::U8; }

static const Attribute *findAttribute(const Node &node, StringRef name) {
  for (const Attribute &attribute : node.attributes)
    if (attribute.name == name && attribute.kind == AttributeKind::Int)
      return &attribute;
  return nullptr;
}
static int64_t intOf(const Node &node, StringRef name, int64_t otherwise) {
  const Attribute *attribute = findAttribute(node, name);
  return attribute ? attribute->i : otherwise;
}

/// What says of an attribute that it is not known; a zero is no setting.
static std::string unknownAttribute(const Node &node, ArrayRef<StringRef> known) {
  for (const Attribute &attribute : node.attributes)
    if (!is_contained(known, attribute.name) &&
        (attribute.kind != AttributeKind::Int || attribute.i != 0))
      return "attribute \"" + attribute.name.str() + "\" is not supported";
  return "";
}

static std::string textOf(ArrayRef<int64_t> shape) {
  return "[" + join(map_range(shape, [](int64_t n) { return std::to_string(n); }), ", ") + "]";
}

const Tensor *Rewriter::initializer(const Node &node, unsigned operand) const {
  if (operand >= node.inputs.size())
    return nullptr;
  auto found = initializers.find(node.inputs[operand]);
  return found == initializers.end() ? nullptr : &graph.initializers[found->second];
}

StringRef Rewriter::add(StringRef from, DType dtype, ArrayRef<int64_t> shape,
                        function_ref<double(int64_t)> at) {
  StringRef base = from;
  for (StringRef suffix : {"_quantized", "_Q2", "_Q4", "_Q8", "_quant"})
    if (base.consume_back(suffix))
      break;
  Tensor tensor;
  std::string name = base.str();
  for (unsigned n = 1; initializers.contains(name); ++n)
    name = base.str() + "_" + std::to_string(n);
  tensor.name = keep(name);
  Weight &weight = tensor.weight;
  weight.dtype = dtype;
  weight.shape.assign(shape.begin(), shape.end());
  auto bytes = std::make_shared<std::vector<char>>(weight.numBytes());
  int64_t width = dtypeBytes(dtype);
  for (int64_t i = 0, end = weight.numElements(); i < end; ++i)
    store(bytes->data() + i * width, dtype, at(i));
  weight.bytes = *bytes;
  weight.owner = bytes;
  weight.hasValue = true;
  initializers[tensor.name] = graph.initializers.size();
  graph.initializers.push_back(tensor);
  return tensor.name;
}

//===----------------------------------------------------------------------===//
// DequantizeLinear
//===----------------------------------------------------------------------===//

/// Which scale an element has, in the three granularities of the standard.
static std::optional<std::string> scaleIndex(ArrayRef<int64_t> shape, ArrayRef<int64_t> scales,
                                             int64_t axis, int64_t block,
                                             std::function<int64_t(int64_t)> &index) {
  int64_t rank = shape.size(), count = 1;
  for (int64_t size : scales)
    count *= size;
  if (count == 1) {
    index = [](int64_t) { return 0; };
    return std::nullopt;
  }
  if (axis < -rank || axis >= rank)
    return "axis " + std::to_string(axis) + " is outside the rank " + std::to_string(rank);
  axis += axis < 0 ? rank : 0;
  int64_t inner = 1;
  for (int64_t size : shape.drop_front(axis + 1))
    inner *= size;
  int64_t size = shape[axis];
  if (scales.size() == 1 && scales[0] == size) {
    index = [=](int64_t i) { return i / inner % size; };
    return std::nullopt;
  }
  bool fits = block > 0 && scales.size() == shape.size();
  for (int64_t d = 0; fits && d < rank; ++d)
    fits = scales[d] == (d == axis ? divideCeil(shape[d], block) : shape[d]);
  if (!fits)
    return "scales of shape " + textOf(scales) + " do not fit " + textOf(shape) + " with axis " +
           std::to_string(axis) + " and block_size " + std::to_string(block);
  int64_t blocks = scales[axis];
  index = [=](int64_t i) {
    return (i / (inner * size) * blocks + i / inner % size / block) * inner + i % inner;
  };
  return std::nullopt;
}

std::string Rewriter::dequantize(Node &node) {
  const Tensor *x = initializer(node, 0), *scale = initializer(node, 1);
  if (!x || !scale || !isIntegerType(x->weight.dtype) || !isFloatType(scale->weight.dtype) ||
      !x->weight.hasValue || !scale->weight.hasValue)
    return ""; // of something that is computed, or an 8-bit float
  bool hasZero = node.inputs.size() > 2 && !node.inputs[2].empty();
  const Tensor *zero = initializer(node, 2);
  if (hasZero && (!zero || !zero->weight.hasValue))
    return "";
  if (hasZero && zero->weight.shape != scale->weight.shape)
    return "zero point of shape " + textOf(zero->weight.shape) + " beside scales of shape " +
           textOf(scale->weight.shape);
  std::function<int64_t(int64_t)> index;
  if (auto problem = scaleIndex(x->weight.shape, scale->weight.shape, intOf(node, "axis", 1),
                                intOf(node, "block_size", 0), index))
    return *problem;
  DType dtype = scale->weight.dtype;
  if (int64_t code = intOf(node, "output_dtype", 0)) {
    std::optional<DType> wanted = onnxDType(static_cast<int32_t>(code));
    if (!wanted || !isFloatType(*wanted))
      return "output_dtype is " + onnxTypeName(static_cast<int32_t>(code));
    dtype = *wanted;
  }
  Weight weight = x->weight, scaleWeight = scale->weight,
         zeroWeight = hasZero ? zero->weight : Weight();
  Numbers q(weight), s(scaleWeight), z(zeroWeight);
  StringRef name = add(x->name, dtype, weight.shape, [&](int64_t i) {
    int64_t at = index(i);
    return (q[i] - (hasZero ? z[at] : 0)) * s[at];
  });
  replaced[node.outputs[0]] = name;
  return "";
}

//===----------------------------------------------------------------------===//
// Packed blocks
//===----------------------------------------------------------------------===//

/// Number i of those with `bits` bits that follow each other, the low ones first.
static int64_t unpack(ArrayRef<char> bytes, int64_t i, int64_t bits) {
  auto byte = static_cast<uint8_t>(bytes[i * bits / 8]);
  return byte >> (i * bits % 8) & ((1 << bits) - 1);
}

std::string Rewriter::matMul(Node &node, std::vector<Node> &nodes) {
  int64_t k = intOf(node, "K", 0), n = intOf(node, "N", 0), bits = intOf(node, "bits", 4),
          block = intOf(node, "block_size", 0);
  if (k < 1 || n < 1 || block < 1 || k > kMaxSize || n > kMaxSize || block > kMaxSize ||
      (bits != 2 && bits != 4 && bits != 8) || block * bits % 8)
    return "K is " + std::to_string(k) + ", N " + std::to_string(n) + ", bits " +
           std::to_string(bits) + ", block_size " + std::to_string(block);
  int64_t blocks = divideCeil(k, block), bytes = block * bits / 8;
  if (std::string problem =
          unknownAttribute(node, {"K", "N", "bits", "block_size", "accuracy_level"});
      !problem.empty())
    return problem;
  const Tensor *b = initializer(node, 1), *scales = initializer(node, 2), *zeros = nullptr;
  if (node.outputs.size() != 1)
    return "has " + std::to_string(node.outputs.size()) + " results";
  if (node.inputs.size() > 4 && !node.inputs[4].empty())
    return "input 4 (g_idx) is not supported";
  auto isGiven = [&](unsigned i) { return i < node.inputs.size() && !node.inputs[i].empty(); };
  if (!b || !scales || !b->weight.hasValue || !scales->weight.hasValue)
    return "B and scales are not both initializers with values";
  if (b->weight.dtype != DType::U8 || b->weight.numElements() != n * blocks * bytes)
    return "B has shape " + textOf(b->weight.shape) + ", expected " + textOf({n, blocks, bytes}) +
           " bytes";
  if (!isFloatType(scales->weight.dtype) || scales->weight.numElements() != n * blocks)
    return "scales have shape " + textOf(scales->weight.shape) + ", expected " +
           textOf({n, blocks});
  int64_t zeroBytes = divideCeil(blocks * bits, 8);
  bool packed = false;
  if (isGiven(3)) {
    zeros = initializer(node, 3);
    if (!zeros || !zeros->weight.hasValue)
      return "zero_points are no initializer with values";
    packed = zeros->weight.dtype == DType::U8;
    int64_t expected = packed ? n * zeroBytes : n * blocks;
    if (zeros->weight.numElements() != expected)
      return "zero_points have shape " + textOf(zeros->weight.shape) + ", expected " +
             std::to_string(expected) + " elements";
  }
  Weight weight = b->weight, scaleWeight = scales->weight,
         zeroWeight = zeros ? zeros->weight : Weight();
  Numbers s(scaleWeight), z(zeroWeight);
  StringRef name = add(b->name, scaleWeight.dtype, {n, k}, [&](int64_t i) {
    int64_t row = i / k, column = i % k, at = row * blocks + column / block;
    double zero = !zeros   ? static_cast<double>(int64_t(1) << (bits - 1))
                  : packed ? static_cast<double>(unpack(zeroWeight.bytes.slice(row * zeroBytes),
                                                        column / block, bits))
                           : z[at];
    return (unpack(weight.bytes.slice(at * bytes), column % block, bits) - zero) * s[at];
  });
  Attribute transB;
  transB.name = "transB";
  transB.kind = AttributeKind::Int;
  transB.i = 1;
  std::optional<Node> sum;
  if (isGiven(5)) {
    sum = node;
    sum->op = "Add";
    sum->domain = StringRef();
    sum->attributes.clear();
    node.outputs[0] = keep(node.outputs[0].str() + "_product");
    sum->inputs = {node.outputs[0], node.inputs[5]};
  }
  node.op = "FusedMatMul";
  node.inputs = {node.inputs[0], name};
  node.attributes = {transB};
  nodes.push_back(node);
  if (sum)
    nodes.push_back(*sum);
  return "";
}

std::string Rewriter::gather(Node &node) {
  if (std::string problem =
          unknownAttribute(node, {"bits", "block_size", "gather_axis", "quantize_axis"});
      !problem.empty())
    return problem;
  const Tensor *data = initializer(node, 0), *scales = initializer(node, 2), *zeros = nullptr;
  if (!data || !scales || !data->weight.hasValue || !scales->weight.hasValue)
    return "data and scales are not both initializers with values";
  if (node.inputs.size() > 3 && !node.inputs[3].empty()) {
    zeros = initializer(node, 3);
    if (!zeros || !zeros->weight.hasValue)
      return "zero_points are no initializer with values";
  }
  int64_t rank = data->weight.shape.size(), block = intOf(node, "block_size", 128),
          axis = intOf(node, "quantize_axis", 1), bits = intOf(node, "bits", 4);
  bool packed = data->weight.dtype == DType::U8 && !data->isFourBit;
  if (!isIntegerType(data->weight.dtype) || rank != 2 || (axis != 1 && axis != -1) || block < 1 ||
      intOf(node, "gather_axis", 0) != 0 || (packed && bits != 2 && bits != 4 && bits != 8))
    return "only tables of rank 2 that are quantized along their rows are supported";
  int64_t each = packed ? 8 / bits : 1, rows = data->weight.shape[0],
          width = data->weight.shape[1] * each, blocks = divideCeil(width, block);
  if (scales->weight.shape != ArrayRef<int64_t>{rows, blocks})
    return "scales have shape " + textOf(scales->weight.shape) + ", expected " +
           textOf({rows, blocks});
  int64_t zeroWidth = packed ? divideCeil(blocks, each) : blocks;
  if (zeros && zeros->weight.shape != ArrayRef<int64_t>{rows, zeroWidth})
    return "zero_points have shape " + textOf(zeros->weight.shape) + ", expected " +
           textOf({rows, zeroWidth});
  Weight weight = data->weight, scaleWeight = scales->weight,
         zeroWeight = zeros ? zeros->weight : Weight();
  Numbers q(weight), s(scaleWeight), z(zeroWeight);
  StringRef name = add(data->name, scaleWeight.dtype, {rows, width}, [&](int64_t i) {
    int64_t row = i / width, at = i % width / block;
    double zero = packed ? static_cast<double>(int64_t(1) << (bits - 1)) : 0;
    if (zeros)
      zero = packed ? static_cast<double>(unpack(zeroWeight.bytes.slice(row * zeroWidth), at, bits))
                    : z[row * zeroWidth + at];
    double value =
        packed
            ? static_cast<double>(unpack(weight.bytes.slice(row * width / each), i % width, bits))
            : q[i];
    return (value - zero) * s[row * blocks + at];
  });
  node.op = "Gather";
  node.domain = StringRef();
  node.attributes.clear();
  node.inputs = {name, node.inputs[1]};
  return "";
}

//===----------------------------------------------------------------------===//
// The graph
//===----------------------------------------------------------------------===//

void Rewriter::run() {
  for (auto [n, tensor] : enumerate(graph.initializers))
    initializers[tensor.name] = n;
  // An input of the model may replace a default value.
  for (const ValueInfo &input : graph.inputs)
    initializers.erase(input.name);
  StringSet<> outputs;
  for (const ValueInfo &output : graph.outputs)
    outputs.insert(output.name);

  std::vector<Node> nodes;
  for (Node &node : graph.nodes) {
    bool isContrib = node.domain == kContribDomain;
    bool isMatMul = isContrib && node.op == "MatMulNBits";
    bool isResult = any_of(node.outputs, [&](StringRef name) { return outputs.contains(name); });
    for (StringRef &input : node.inputs)
      if (auto found = replaced.find(input); found != replaced.end())
        input = found->second;
    if (isMatMul) {
      node.problem = matMul(node, nodes);
      if (!node.problem.empty())
        nodes.push_back(node);
      continue;
    }
    if (isContrib && node.op == "GatherBlockQuantized")
      node.problem = gather(node);
    else if ((isContrib || node.domain.empty()) && node.op == "DequantizeLinear" && !isResult &&
             node.outputs.size() == 1)
      node.problem = dequantize(node);
    if (!replaced.contains(node.outputs.empty() ? StringRef() : node.outputs[0]))
      nodes.push_back(node);
  }
  graph.nodes = std::move(nodes);
  for (Node &node : graph.nodes)
    for (unsigned i = 0; i < node.inputs.size(); ++i)
      if (const Tensor *tensor = initializer(node, i); tensor && tensor->isFourBit)
        node.problem = "input " + std::to_string(i) + " (\"" + tensor->name.str() +
                       "\") has 4-bit integers, which are supported as quantized weights only";
}

void foldQuantizedWeights(Model &model) { Rewriter(model).run(); }

} // namespace shardc::importer
