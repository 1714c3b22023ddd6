//===- WeightStore.h - Where the bytes of a model's weights lie -----------===//
//
// The IR holds no weights: `graph.parameter "name"` is looked up here. An entry knows its type and,
// unless the model came without values, its bytes: a view into a mapped file (ONNX, external data,
// safetensors) or owned memory, kept alive by `owner`. Nothing is copied until somebody asks for
// another orientation.
//
//===----------------------------------------------------------------------===//

#ifndef SHARDC_SUPPORT_WEIGHTSTORE_H
#define SHARDC_SUPPORT_WEIGHTSTORE_H

#include "shardc/Support/HostTensor.h"

#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/Error.h"

#include <memory>
#include <optional>
#include <string>

namespace shardc {

/// Element types of stored tensors, floats first.
enum class DType : uint8_t {
  F64,
  F32,
  F16,
  BF16,
  F8E4M3,
  F8E5M2,
  I64,
  I32,
  I16,
  I8,
  U64,
  U32,
  U16,
  U8,
  Bool
};

/// Bytes of one stored element.
int64_t dtypeBytes(DType dtype);
/// "F32", "BF16", "BOOL", …, as safetensors spells them.
llvm::StringRef dtypeName(DType dtype);
std::optional<DType> parseDType(llvm::StringRef name);
mlir::Type dtypeToType(mlir::MLIRContext *context, DType dtype);
/// The stored form of an element type of the graph dialect.
std::optional<DType> typeToDType(mlir::Type elementType);

/// One weight: type, and bytes if known.
struct Weight {
  DType dtype = DType::F32;
  llvm::SmallVector<int64_t, 4> shape; ///< in the weight's own orientation
  llvm::ArrayRef<char> bytes;          ///< row-major, little-endian
  bool hasValue = false;               ///< false: declared only
  bool isTransposed = false;           ///< `bytes` hold the transpose of this (rank 2) weight
  std::optional<DType> storedAs;       ///< of `bytes`, if these are of another of f32, f16, bf16
  std::shared_ptr<const void> owner;   ///< keeps `bytes` alive

  int64_t numElements() const;
  int64_t numBytes() const { return numElements() * dtypeBytes(dtype); }
};

/// Weights by name, in the order of their declaration.
class WeightStore {
public:
  /// Declares a weight; false if the name is taken.
  bool add(llvm::StringRef name, Weight weight);
  /// A second name for a tied weight: found by `find` and in checkpoints, written once.
  void addAlias(llvm::StringRef alias, llvm::StringRef name) { aliases[alias] = name.str(); }

  /// The weight of that name or alias; null if there is none.
  const Weight *find(llvm::StringRef name) const;
  const llvm::MapVector<std::string, Weight, llvm::StringMap<unsigned>> &all() const {
    return weights;
  }
  int64_t totalBytes() const;

  /// The bytes in the weight's own orientation and dtype: a view, or a copy kept in `storage` if
  /// they are stored otherwise. Narrower floats are rounded to nearest, ties to even.
  llvm::Expected<llvm::ArrayRef<char>> read(llvm::StringRef name, std::vector<char> &storage) const;
  /// The values, for reference evaluation.
  llvm::Expected<HostTensor> tensor(mlir::MLIRContext *context, llvm::StringRef name) const;

  /// Gives declared weights their values from a safetensors file, an index (`*.index.json`), or a
  /// directory of such. Names that nobody declared are ignored; all missing and all mismatching
  /// ones are listed in the error. A checkpoint in another of f32, f16 and bf16 is converted when
  /// it is read.
  llvm::Error fillFromSafetensors(llvm::StringRef path);
  /// Declares every tensor of a safetensors file (index, directory).
  llvm::Error addFromSafetensors(llvm::StringRef path);
  /// Writes all weights, whole and in their own orientation; refuses if one has no value.
  llvm::Error writeSafetensors(llvm::StringRef path) const;

private:
  llvm::MapVector<std::string, Weight, llvm::StringMap<unsigned>> weights;
  llvm::StringMap<std::string> aliases; // alias -> name
};

} // namespace shardc

#endif // SHARDC_SUPPORT_WEIGHTSTORE_H
