//===- HostTensor.cpp - Tensor values on the host -------------------------===//

#include "shardc/Support/HostTensor.h"

#include "mlir/IR/AsmState.h"
#include "mlir/IR/DialectResourceBlobManager.h"

#include <cstring>

using namespace mlir;

namespace shardc {

/// Attributes above this many bytes are stored as resources, which are not uniqued or hashed.
static constexpr int64_t kInlineAttrBytes = 1 << 12;

HostTensor::HostTensor(RankedTensorType type) : type(type) {
  if (isFloat())
    f.resize(size());
  else
    i.resize(size());
}

int64_t tensorBytes(RankedTensorType type) {
  return type.getNumElements() * elementBytes(type.getElementType());
}

double roundToType(double value, Type elementType) {
  if (elementType.isF64())
    return value;
  if (elementType.isF32())
    return static_cast<float>(value);
  llvm::APFloat rounded(value);
  bool lost = false;
  rounded.convert(cast<FloatType>(elementType).getFloatSemantics(),
                  llvm::APFloat::rmNearestTiesToEven, &lost);
  rounded.convert(llvm::APFloat::IEEEdouble(), llvm::APFloat::rmNearestTiesToEven, &lost);
  return rounded.convertToDouble();
}

int64_t wrapToType(int64_t value, Type elementType) {
  unsigned width = elementType.getIntOrFloatBitWidth();
  if (width == 1)
    return value & 1; // so that the complement of bool is right
  if (width == 64)
    return value;
  int shift = 64 - width;
  uint64_t high = static_cast<uint64_t>(value) << shift;
  return elementType.isUnsignedInteger() ? static_cast<int64_t>(high >> shift)
                                         : static_cast<int64_t>(high) >> shift;
}

void HostTensor::round() {
  Type element = type.getElementType();
  if (isFloat()) {
    if (!element.isF64())
      for (double &x : f)
        x = roundToType(x, element);
    return;
  }
  if (!element.isInteger(64))
    for (int64_t &x : i)
      x = wrapToType(x, element);
}

llvm::SmallVector<int64_t> rowMajorStrides(ArrayRef<int64_t> shape) {
  llvm::SmallVector<int64_t> strides(shape.size(), 1);
  for (int64_t d = static_cast<int64_t>(shape.size()) - 2; d >= 0; --d)
    strides[d] = strides[d + 1] * shape[d + 1];
  return strides;
}

void forEachIndex(ArrayRef<int64_t> shape,
                  llvm::function_ref<void(ArrayRef<int64_t>, int64_t)> fn) {
  int64_t count = 1;
  for (int64_t s : shape)
    count *= s;
  llvm::SmallVector<int64_t> index(shape.size(), 0);
  for (int64_t linear = 0; linear < count; ++linear) {
    fn(index, linear);
    for (int64_t d = static_cast<int64_t>(shape.size()) - 1; d >= 0; --d) {
      if (++index[d] < shape[d])
        break;
      index[d] = 0;
    }
  }
}

//===----------------------------------------------------------------------===//
// Bytes
//===----------------------------------------------------------------------===//

namespace {
template <typename T> T load(const char *p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}
template <typename T> void store(char *p, T value) { std::memcpy(p, &value, sizeof(T)); }
} // namespace

static double loadFloat(const char *p, Type element) {
  if (element.isF64())
    return load<double>(p);
  if (element.isF32())
    return load<float>(p);
  if (element.isBF16()) // the upper half of an f32
    return llvm::bit_cast<float>(static_cast<uint32_t>(load<uint16_t>(p)) << 16);
  unsigned width = element.getIntOrFloatBitWidth();
  uint64_t bits = width == 8 ? load<uint8_t>(p) : load<uint16_t>(p);
  llvm::APFloat value(cast<FloatType>(element).getFloatSemantics(), llvm::APInt(width, bits));
  bool lost = false;
  value.convert(llvm::APFloat::IEEEdouble(), llvm::APFloat::rmNearestTiesToEven, &lost);
  return value.convertToDouble();
}

static void storeFloat(char *p, double x, Type element) {
  if (element.isF64())
    return store(p, x);
  if (element.isF32())
    return store(p, static_cast<float>(x));
  llvm::APFloat value(x);
  bool lost = false;
  value.convert(cast<FloatType>(element).getFloatSemantics(), llvm::APFloat::rmNearestTiesToEven,
                &lost);
  uint64_t bits = value.bitcastToAPInt().getZExtValue();
  std::memcpy(p, &bits, elementBytes(element)); // little-endian: the low bytes
}

static int64_t loadInt(const char *p, Type element) {
  bool isUnsigned = element.isUnsignedInteger();
  switch (element.getIntOrFloatBitWidth()) {
  case 1:
    return *p != 0;
  case 8:
    return isUnsigned ? int64_t(load<uint8_t>(p)) : load<int8_t>(p);
  case 16:
    return isUnsigned ? int64_t(load<uint16_t>(p)) : load<int16_t>(p);
  case 32:
    return isUnsigned ? int64_t(load<uint32_t>(p)) : load<int32_t>(p);
  default:
    return load<int64_t>(p);
  }
}

FailureOr<HostTensor> HostTensor::fromBytes(RankedTensorType type, ArrayRef<char> bytes) {
  if (static_cast<int64_t>(bytes.size()) != tensorBytes(type))
    return failure();
  HostTensor tensor(type);
  Type element = type.getElementType();
  int64_t width = elementBytes(element);
  const char *p = bytes.data();
  for (double &x : tensor.f) {
    x = loadFloat(p, element);
    p += width;
  }
  for (int64_t &x : tensor.i) {
    x = loadInt(p, element);
    p += width;
  }
  return tensor;
}

std::vector<char> HostTensor::toBytes() const {
  Type element = type.getElementType();
  int64_t width = elementBytes(element);
  std::vector<char> bytes(tensorBytes(type));
  char *p = bytes.data();
  for (double x : f) {
    storeFloat(p, x, element);
    p += width;
  }
  for (int64_t x : i) {
    std::memcpy(p, &x, width); // little-endian: the low bytes
    p += width;
  }
  return bytes;
}

//===----------------------------------------------------------------------===//
// Attributes
//===----------------------------------------------------------------------===//

FailureOr<HostTensor> HostTensor::fromAttr(ElementsAttr attr) {
  auto type = dyn_cast<RankedTensorType>(attr.getType());
  if (!type)
    return failure();
  if (auto resource = dyn_cast<DenseResourceElementsAttr>(attr)) {
    AsmResourceBlob *blob = resource.getRawHandle().getBlob();
    return blob ? fromBytes(type, blob->getData()) : FailureOr<HostTensor>(failure());
  }
  auto dense = dyn_cast<DenseElementsAttr>(attr);
  if (!dense)
    return failure();
  HostTensor tensor(type);
  Type element = type.getElementType();
  auto toDouble = [](llvm::APFloat value) {
    bool lost = false;
    value.convert(llvm::APFloat::IEEEdouble(), llvm::APFloat::rmNearestTiesToEven, &lost);
    return value.convertToDouble();
  };
  bool isUnsigned = element.isUnsignedInteger() || element.isInteger(1);
  auto toInt = [&](const llvm::APInt &value) {
    return isUnsigned ? static_cast<int64_t>(value.getZExtValue()) : value.getSExtValue();
  };
  if (tensor.isFloat() && dense.isSplat())
    llvm::fill(tensor.f, toDouble(dense.getSplatValue<llvm::APFloat>()));
  else if (tensor.isFloat())
    llvm::transform(dense.getValues<llvm::APFloat>(), tensor.f.begin(), toDouble);
  else if (dense.isSplat())
    llvm::fill(tensor.i, toInt(dense.getSplatValue<llvm::APInt>()));
  else
    llvm::transform(dense.getValues<llvm::APInt>(), tensor.i.begin(), toInt);
  return tensor;
}

ElementsAttr HostTensor::toAttr() const {
  Type element = type.getElementType();
  bool isSplat = true;
  for (int64_t n = 1; n < size() && isSplat; ++n)
    isSplat = isFloat() ? std::memcmp(&f[n], &f[0], 8) == 0 : i[n] == i[0];
  if (isSplat && size() > 0) {
    if (isFloat()) {
      llvm::APFloat value(f[0]);
      bool lost = false;
      value.convert(cast<FloatType>(element).getFloatSemantics(),
                    llvm::APFloat::rmNearestTiesToEven, &lost);
      return DenseElementsAttr::get(type, value);
    }
    return DenseElementsAttr::get(type, llvm::APInt(element.getIntOrFloatBitWidth(),
                                                    static_cast<uint64_t>(i[0]),
                                                    /*isSigned=*/false, /*implicitTrunc=*/true));
  }
  std::vector<char> bytes = toBytes();
  if (tensorBytes(type) > kInlineAttrBytes)
    return DenseResourceElementsAttr::get(
        type, "constant", HeapAsmResourceBlob::allocateAndCopyWithAlign(bytes, /*align=*/64));
  if (element.isInteger(1)) {
    llvm::SmallVector<bool> bits(i.begin(), i.end());
    return DenseElementsAttr::get(type, llvm::ArrayRef<bool>(bits));
  }
  return DenseElementsAttr::getFromRawBuffer(type, bytes);
}

} // namespace shardc
