//===- GraphBuilder.h - Graph ops in one line, with broadcasting made explicit -===//

#ifndef SHARDC_LIB_IMPORT_GRAPHBUILDER_H
#define SHARDC_LIB_IMPORT_GRAPHBUILDER_H

#include "Folder.h"

namespace shardc::importer {

using Shape = llvm::SmallVector<int64_t>;

inline mlir::RankedTensorType typeOf(mlir::Value value) {
  return llvm::cast<mlir::RankedTensorType>(value.getType());
}
inline llvm::ArrayRef<int64_t> shapeOf(mlir::Value value) { return typeOf(value).getShape(); }
inline int64_t rankOf(mlir::Value value) { return typeOf(value).getRank(); }
inline mlir::Type elementOf(mlir::Value value) { return typeOf(value).getElementType(); }
inline bool isFloat(mlir::Value value) { return llvm::isa<mlir::FloatType>(elementOf(value)); }
/// Dimensions for which `matmul` has letters.
inline constexpr int64_t kMaxProductRank = 40;
/// `{begin, …, end - 1}`
Shape iotaDims(int64_t begin, int64_t end);
/// The shape that numpy broadcasts to, or nothing.
std::optional<Shape> broadcastShapes(llvm::ArrayRef<int64_t> a, llvm::ArrayRef<int64_t> b);
std::string shapeText(llvm::ArrayRef<int64_t> shape);

/// Builds ops with one location and module path, verifies each and tells the folder.
class GraphBuilder {
public:
  GraphBuilder(mlir::OpBuilder &b, Folder &folder, mlir::Location loc, mlir::StringAttr path)
      : b(b), folder(folder), loc(loc), path(path) {}

  template <typename Op, typename... Args> Op create(Args &&...args) {
    Op op = Op::create(b, loc, std::forward<Args>(args)...);
    finish(op);
    return op;
  }

  mlir::Value constant(const HostTensor &tensor);
  mlir::Value ints(llvm::ArrayRef<int64_t> values);             ///< rank 1, i64
  mlir::Value splat(mlir::RankedTensorType type, double value); ///< costs nothing for any size
  mlir::Value splatLike(mlir::Value like, double value) { return splat(typeOf(like), value); }
  mlir::Value iota(llvm::ArrayRef<int64_t> shape, int64_t dim, mlir::Type element);

  /// Views; all give back their operand if there is nothing to do.
  mlir::Value reshape(mlir::Value v, llvm::ArrayRef<int64_t> shape);
  mlir::Value transpose(mlir::Value v, llvm::ArrayRef<int64_t> permutation);
  mlir::Value swapLast(mlir::Value v); ///< transposes the last two dimensions
  mlir::Value slice(mlir::Value v, int64_t dim, int64_t start, int64_t size, int64_t stride = 1);
  mlir::Value concat(mlir::ValueRange values, int64_t dim);
  mlir::Value broadcast(mlir::Value v, llvm::ArrayRef<int64_t> dims, llvm::ArrayRef<int64_t> shape);
  /// As numpy does, dimensions aligned at the end; the shapes must fit.
  mlir::Value broadcastTo(mlir::Value v, llvm::ArrayRef<int64_t> shape);
  mlir::Value insertDims(mlir::Value v,
                         llvm::ArrayRef<int64_t> dims); ///< sorted positions in the result

  mlir::Value cast(mlir::Value v, mlir::Type element, bool saturate = false);
  mlir::Value pad(mlir::Value v, llvm::ArrayRef<int64_t> low, llvm::ArrayRef<int64_t> high,
                  double padding);
  mlir::Value gather(mlir::Value data, mlir::Value indices, int64_t axis);
  mlir::Value compare(graph::Predicate predicate, mlir::Value a, mlir::Value b); ///< broadcasts
  mlir::Value select(mlir::Value condition, mlir::Value a, mlir::Value b);       ///< broadcasts
  mlir::Value reduce(graph::Reduction kind, mlir::Value v, llvm::ArrayRef<int64_t> dims,
                     bool keepDims);
  mlir::Value mean(mlir::Value v, llvm::ArrayRef<int64_t> dims, bool keepDims);
  /// Contraction; transposes and repeated letters of size one are folded into the letters.
  mlir::Value einsum(mlir::Value a, std::string lettersA, mlir::Value b, std::string lettersB,
                     llvm::StringRef result);
  mlir::Value matmul(mlir::Value a, mlir::Value b); ///< numpy's; the shapes must fit

  /// `Op` of two operands that broadcast together; the shapes must fit.
  template <typename Op> mlir::Value binary(mlir::Value x, mlir::Value y) {
    Shape shape = *broadcastShapes(shapeOf(x), shapeOf(y));
    return create<Op>(broadcastTo(x, shape), broadcastTo(y, shape));
  }
  template <typename Op> mlir::Value binary(mlir::Value x, double y) {
    return create<Op>(x, splatLike(x, y));
  }
  template <typename Op> mlir::Value unary(mlir::Value x) { return create<Op>(x); }

  mlir::OpBuilder &b;
  Folder &folder;
  mlir::Location loc;
  mlir::StringAttr path;
  bool hadError = false; ///< an op did not verify, or an attribute was of the wrong kind; a
                         ///< diagnostic says which

private:
  void finish(mlir::Operation *op);
};

} // namespace shardc::importer

#endif // SHARDC_LIB_IMPORT_GRAPHBUILDER_H
