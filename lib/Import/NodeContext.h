//===- NodeContext.h - What the import of one ONNX node works with --------===//

#ifndef SHARDC_LIB_IMPORT_NODECONTEXT_H
#define SHARDC_LIB_IMPORT_NODECONTEXT_H

#include "GraphBuilder.h"
#include "OnnxModel.h"

namespace shardc::importer {

/// What an ONNX name stands for: a tensor, a sequence of tensors, or nothing because its node
/// failed.
struct Binding {
  mlir::Value value;
  std::vector<mlir::Value> elements;
  bool isSequence = false;
  bool isPoisoned = false;
};

/// One node: its inputs as values, its attributes, and a builder for its ops.
class NodeContext : public GraphBuilder {
public:
  NodeContext(mlir::OpBuilder &b, Folder &folder, mlir::Location loc, mlir::StringAttr path,
              const Node &node, int64_t version)
      : GraphBuilder(b, folder, loc, path), node(node), version(version) {}

  const Node &node;
  int64_t version; ///< opset of the node's domain
  std::vector<Binding> inputs, outputs;

  //===--- inputs and outputs ---===//
  unsigned numInputs() const { return inputs.size(); }
  /// Null if absent. The table of operators says how many are always there.
  mlir::Value input(unsigned i) const {
    return i < inputs.size() ? inputs[i].value : mlir::Value();
  }
  mlir::SmallVector<mlir::Value> allInputs() const;
  bool wants(unsigned output) const {
    return output < outputs.size() && !node.outputs[output].empty();
  }
  /// Ignored if the node does not name that output.
  void set(unsigned output, mlir::Value value);
  mlir::LogicalResult done(mlir::Value value) {
    set(0, value);
    return mlir::success();
  }

  //===--- errors ---===//
  /// `node "x" (Op, module.path): …` at the node's location.
  mlir::InFlightDiagnostic error();

  //===--- values known at import; failures are reported ---===//
  const HostTensor *known(unsigned input);
  mlir::FailureOr<Shape> constantInts(unsigned input);
  mlir::FailureOr<int64_t> constantInt(unsigned input);
  mlir::FailureOr<double> constantFloat(unsigned input);

  //===--- attributes; one of another kind is reported and sets `hadError` ---===//
  const Attribute *find(llvm::StringRef name) const;
  int64_t getInt(llvm::StringRef name, int64_t otherwise);
  double getFloat(llvm::StringRef name, double otherwise);
  llvm::StringRef getString(llvm::StringRef name, llvm::StringRef otherwise);
  std::optional<Shape> getInts(llvm::StringRef name);

  //===--- checks; failures are reported ---===//
  mlir::FailureOr<int64_t> axis(int64_t axis, int64_t rank);
  mlir::FailureOr<Shape> axes(llvm::ArrayRef<int64_t> axes, int64_t rank);
  /// Axes from attribute `name` or, in later versions, from an input; nothing if neither is there.
  mlir::FailureOr<std::optional<Shape>> axesOf(llvm::StringRef name, unsigned input);
  mlir::FailureOr<Shape> broadcastShape(mlir::Value x, mlir::Value y);
  mlir::LogicalResult checkRank(mlir::Value v, int64_t rank, llvm::StringRef what);
  /// The element type of an ONNX code.
  mlir::FailureOr<mlir::Type> elementType(int64_t code);
  /// Number of elements; reported if it is no 63-bit number.
  mlir::FailureOr<int64_t> countElements(llvm::ArrayRef<int64_t> shape);

  /// `Op` of broadcast operands of one element type.
  template <typename Op> mlir::FailureOr<mlir::Value> checkedBinary(mlir::Value x, mlir::Value y) {
    mlir::FailureOr<Shape> shape = broadcastShape(x, y);
    if (mlir::failed(shape))
      return mlir::failure();
    return mlir::Value(create<Op>(broadcastTo(x, *shape), broadcastTo(y, *shape)));
  }
  /// Indices with ONNX's negative ones (from the end) made positive.
  mlir::Value positiveIndices(mlir::Value indices, int64_t size);
};

/// A tensor of the file as numbers.
mlir::FailureOr<HostTensor> toHost(mlir::MLIRContext *context, const Tensor &tensor);

/// Operators that others are made of, or are the same as.
mlir::LogicalResult importRmsNorm(NodeContext &n);
mlir::LogicalResult importGemm(NodeContext &n);

using Handler = mlir::LogicalResult (*)(NodeContext &);

/// What of an operator is supported, where not everything is. Checked for all nodes of a file
/// before one is imported, so that all are told at once.
struct Settings {
  std::vector<llvm::StringRef> attributes; ///< that are read, or say nothing about the numbers
  std::vector<std::pair<llvm::StringRef, llvm::StringRef>> only; ///< with that value only
  std::vector<llvm::StringRef> needed;                           ///< must be there
  std::vector<std::pair<unsigned, llvm::StringRef>> refused;     ///< inputs, by place and name

  /// What the node has that is not supported.
  std::vector<std::string> complaints(const Node &node) const;
};

struct Operator {
  Handler import;
  unsigned required = 1;              ///< inputs that must be there
  const Settings *settings = nullptr; ///< null: whatever the standard says
};
using OperatorTable = llvm::StringMap<Operator>;
/// The key of an operator: of other domains than the standard's "domain::name".
inline std::string operatorKey(llvm::StringRef domain, llvm::StringRef name) {
  return domain.empty() ? name.str() : (domain + "::" + name).str();
}

/// The operators of each subject.
void addElementwise(OperatorTable &table);
void addActivations(OperatorTable &table);
void addReductions(OperatorTable &table);
void addMath(OperatorTable &table);
void addShape(OperatorTable &table);
void addSources(OperatorTable &table);
void addIndexing(OperatorTable &table);
void addNormalization(OperatorTable &table);
void addAttention(OperatorTable &table);
void addLosses(OperatorTable &table);
void addSequences(OperatorTable &table);
void addContribBasics(OperatorTable &table);
void addContribNorms(OperatorTable &table);
void addContribAttention(OperatorTable &table);
void addGroupQueryAttention(OperatorTable &table);
void addQuantization(OperatorTable &table);

} // namespace shardc::importer

#endif // SHARDC_LIB_IMPORT_NODECONTEXT_H
