//===- WeightStore.cpp - Weights by name, without copies ------------------===//

#include "shardc/Support/WeightStore.h"

#include "runtime/core/Convert.h"

#include "llvm/Support/MathExtras.h"

#include <cstring>

using namespace llvm;

namespace shardc {

namespace {
struct DTypeRow {
  DType dtype;
  const char *name;
  int64_t bytes;
};
} // namespace

static constexpr DTypeRow kDTypes[] = {
    {DType::F64, "F64", 8},   {DType::F32, "F32", 4},        {DType::F16, "F16", 2},
    {DType::BF16, "BF16", 2}, {DType::F8E4M3, "F8_E4M3", 1}, {DType::F8E5M2, "F8_E5M2", 1},
    {DType::I64, "I64", 8},   {DType::I32, "I32", 4},        {DType::I16, "I16", 2},
    {DType::I8, "I8", 1},     {DType::U64, "U64", 8},        {DType::U32, "U32", 4},
    {DType::U16, "U16", 2},   {DType::U8, "U8", 1},          {DType::Bool, "BOOL", 1}};

int64_t dtypeBytes(DType dtype) { return kDTypes[static_cast<int>(dtype)].bytes; }
StringRef dtypeName(DType dtype) { return kDTypes[static_cast<int>(dtype)].name; }

std::optional<DType> parseDType(StringRef name) {
  for (const DTypeRow &row : kDTypes)
    if (name == row.name)
      return row.dtype;
  return std::nullopt;
}

mlir::Type dtypeToType(mlir::MLIRContext *context, DType dtype) {
  mlir::Builder b(context);
  auto integer = [&](unsigned width, bool isUnsigned) {
    return mlir::IntegerType::get(
        context, width, isUnsigned ? mlir::IntegerType::Unsigned : mlir::IntegerType::Signless);
  };
  switch (dtype) {
  case DType::F64:
    return b.getF64Type();
  case DType::F32:
    return b.getF32Type();
  case DType::F16:
    return b.getF16Type();
  case DType::BF16:
    return b.getBF16Type();
  case DType::F8E4M3:
    return mlir::Float8E4M3FNType::get(context);
  case DType::F8E5M2:
    return mlir::Float8E5M2Type::get(context);
  case DType::Bool:
    return b.getI1Type();
  default:
    return integer(8 * dtypeBytes(dtype), dtype >= DType::U64);
  }
}

std::optional<DType> typeToDType(mlir::Type elementType) {
  for (const DTypeRow &row : kDTypes)
    if (dtypeToType(elementType.getContext(), row.dtype) == elementType)
      return row.dtype;
  return std::nullopt;
}

int64_t Weight::numElements() const {
  int64_t count = 1;
  for (int64_t size : shape)
    count *= size;
  return count;
}

//===----------------------------------------------------------------------===//
// WeightStore
//===----------------------------------------------------------------------===//

bool WeightStore::add(StringRef name, Weight weight) {
  return weights.insert({name.str(), std::move(weight)}).second;
}

const Weight *WeightStore::find(StringRef name) const {
  if (auto it = weights.find(name.str()); it != weights.end())
    return &it->second;
  auto alias = aliases.find(name);
  if (alias == aliases.end())
    return nullptr;
  auto it = weights.find(alias->second);
  return it == weights.end() ? nullptr : &it->second;
}

int64_t WeightStore::totalBytes() const {
  int64_t bytes = 0;
  for (const auto &[name, weight] : weights)
    bytes += weight.numBytes();
  return bytes;
}

/// The transpose of `rows` x `columns` elements of `width` bytes, in blocks that stay in the cache.
static void transposeBytes(const char *from, char *to, int64_t rows, int64_t columns,
                           int64_t width) {
  constexpr int64_t kBlock = 32;
  for (int64_t r0 = 0; r0 < rows; r0 += kBlock)
    for (int64_t c0 = 0; c0 < columns; c0 += kBlock)
      for (int64_t r = r0; r < std::min(rows, r0 + kBlock); ++r)
        for (int64_t c = c0; c < std::min(columns, c0 + kBlock); ++c)
          std::memcpy(to + (c * rows + r) * width, from + (r * columns + c) * width, width);
}

/// Those that `read` converts between, as the runtime knows them.
static shardrt_dtype runtimeDType(DType dtype) {
  return dtype == DType::F32 ? SHARDRT_F32 : dtype == DType::F16 ? SHARDRT_F16 : SHARDRT_BF16;
}

Expected<ArrayRef<char>> WeightStore::read(StringRef name, std::vector<char> &storage) const {
  const Weight *weight = find(name);
  if (!weight)
    return createStringError("the model has no weight \"" + name + "\"");
  if (!weight->hasValue)
    return createStringError("weight \"" + name + "\" has no value");
  if (weight->storedAs) {
    storage.resize(weight->numBytes());
    shardrt::convert(runtimeDType(*weight->storedAs),
                     reinterpret_cast<const std::byte *>(weight->bytes.data()),
                     runtimeDType(weight->dtype), reinterpret_cast<std::byte *>(storage.data()),
                     weight->numElements());
    return ArrayRef<char>(storage);
  }
  if (!weight->isTransposed)
    return weight->bytes;
  storage.resize(weight->bytes.size());
  transposeBytes(weight->bytes.data(), storage.data(), weight->shape[1], weight->shape[0],
                 dtypeBytes(weight->dtype));
  return ArrayRef<char>(storage);
}

Expected<HostTensor> WeightStore::tensor(mlir::MLIRContext *context, StringRef name) const {
  std::vector<char> storage;
  Expected<ArrayRef<char>> bytes = read(name, storage);
  if (!bytes)
    return bytes.takeError();
  const Weight *weight = find(name);
  auto type = mlir::RankedTensorType::get(weight->shape, dtypeToType(context, weight->dtype));
  mlir::FailureOr<HostTensor> tensor = HostTensor::fromBytes(type, *bytes);
  if (mlir::failed(tensor))
    return createStringError("weight \"" + name + "\" holds " + Twine(bytes->size()) +
                             " bytes, its type " + Twine(tensorBytes(type)));
  return std::move(*tensor);
}

} // namespace shardc
