//===- Npy.cpp - Tensors in numpy's .npy files ----------------------------===//
//
// Format: "\x93NUMPY", version, header length, a Python dictionary literal with descr,
// fortran_order and shape, padded to 64 bytes, then the elements (numpy/lib/format.py).
//
//===----------------------------------------------------------------------===//

#include "shardc/Support/Npy.h"
#include "shardc/Support/ElementBytes.h"

#include "shardc/Support/StridedWalk.h"

#include "mlir/IR/Builders.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace mlir;
using namespace shardc;

using Parsed = Result<HostTensor>;

static constexpr llvm::StringLiteral kMagic("\x93NUMPY");

//===----------------------------------------------------------------------===//
// Element types
//===----------------------------------------------------------------------===//

static std::string descrOf(Type element) {
  if (element.isBF16())
    return "<V2";
  if (isFloat8(element))
    return "|V1";
  unsigned bytes = elementBytes(element);
  char kind = isa<FloatType>(element) ? 'f'
              : element.isInteger(1)  ? 'b'
                                      : (element.isUnsignedInteger() ? 'u' : 'i');
  return (bytes == 1 ? "|" : "<") + std::string(1, kind) + std::to_string(bytes);
}

/// Null for what is not supported.
static Type typeOf(StringRef descr, MLIRContext *context) {
  Builder b(context);
  const Type types[] = {b.getF64Type(), b.getF32Type(), b.getF16Type(), b.getBF16Type(),
                        b.getI1Type()};
  for (Type type : types)
    if (descrOf(type) == descr)
      return type;
  if (descr == "|V2")
    return b.getBF16Type();
  for (unsigned width : {8, 16, 32, 64})
    for (auto sign : {IntegerType::Signless, IntegerType::Unsigned})
      if (Type type = IntegerType::get(context, width, sign); descrOf(type) == descr)
        return type;
  return {};
}

//===----------------------------------------------------------------------===//
// Header
//===----------------------------------------------------------------------===//

namespace {
struct Header {
  StringRef descr;
  bool isFortran = false;
  SmallVector<int64_t> shape;
};
} // namespace

/// The text after `'key':`.
static StringRef findKey(StringRef dictionary, StringRef key) {
  size_t at = dictionary.find(("'" + key + "'").str());
  return at == StringRef::npos ? StringRef() : dictionary.substr(at).split(':').second.ltrim();
}

static std::optional<Header> parseHeader(StringRef dictionary) {
  Header header;
  StringRef descr = findKey(dictionary, "descr"), order = findKey(dictionary, "fortran_order"),
            shape = findKey(dictionary, "shape");
  if (!descr.consume_front("'") || !shape.consume_front("("))
    return std::nullopt;
  header.descr = descr.take_until([](char c) { return c == '\''; });
  header.isFortran = order.starts_with("True");
  SmallVector<StringRef> sizes;
  shape.take_until([](char c) { return c == ')'; }).split(sizes, ',');
  for (StringRef size : sizes) {
    size = size.trim();
    if (size.empty()) // after the last comma
      continue;
    int64_t value = 0;
    if (size.getAsInteger(10, value) || value < 0)
      return std::nullopt;
    header.shape.push_back(value);
  }
  return header;
}

/// The elements of a Fortran-order file in C order.
static HostTensor fromFortran(const HostTensor &stored, RankedTensorType type) {
  SmallVector<int64_t> reversed(llvm::reverse(type.getShape()));
  SmallVector<int64_t> strides(llvm::reverse(rowMajorStrides(reversed)));
  HostTensor result(type);
  copyStrided(type.getShape(), result, StridedView::whole(type.getShape()), stored, {0, strides});
  return result;
}

static std::string print(Type type) {
  std::string text;
  llvm::raw_string_ostream(text) << type;
  return text;
}

//===----------------------------------------------------------------------===//
// Reading and writing
//===----------------------------------------------------------------------===//

Parsed shardc::parseNpy(StringRef bytes, MLIRContext *context, RankedTensorType expected) {
  if (!bytes.starts_with(kMagic) || bytes.size() < 12)
    return Parsed::failure("is not an .npy file");
  size_t lengthBytes = bytes[6] == 1 ? 2 : 4;
  const char *length = bytes.data() + 8;
  size_t headerSize = lengthBytes == 2 ? llvm::support::endian::read16le(length)
                                       : llvm::support::endian::read32le(length);
  size_t dataStart = 8 + lengthBytes + headerSize;
  if (dataStart > bytes.size())
    return Parsed::failure("ends inside its header");
  std::optional<Header> header = parseHeader(bytes.substr(8 + lengthBytes, headerSize));
  if (!header)
    return Parsed::failure("has a header that cannot be read");

  Type element = typeOf(header->descr, context);
  if (expected && expected.getElementType().isBF16() && header->descr == "<u2")
    element = expected.getElementType();
  if (expected && isFloat8(expected.getElementType()) &&
      (header->descr == "|u1" || StringRef(header->descr).ends_with("V1")))
    element = expected.getElementType(); // which of the 8-bit floats, no header says
  if (!element)
    return Parsed::failure("has elements of type '" + header->descr.str() +
                           "', which is not supported");
  auto type = RankedTensorType::get(header->shape, element);
  if (expected && type != expected)
    return Parsed::failure("holds " + print(type) + ", expected " + print(expected));
  // Not tensorBytes: a forged shape may overflow.
  StringRef data = bytes.substr(dataStart);
  double wanted = elementBytes(element);
  for (int64_t size : header->shape)
    wanted *= static_cast<double>(size);
  if (wanted > static_cast<double>(data.size()))
    return Parsed::failure("ends after " + std::to_string(data.size()) + " bytes of " +
                           print(type));
  FailureOr<HostTensor> tensor =
      HostTensor::fromBytes(type, ArrayRef(data.data(), static_cast<size_t>(tensorBytes(type))));
  if (failed(tensor))
    return Parsed::failure("has elements that cannot be read");
  return header->isFortran ? fromFortran(*tensor, type) : std::move(*tensor);
}

std::string shardc::toNpy(const HostTensor &tensor) {
  std::string header = "{'descr': '" + descrOf(tensor.type.getElementType()) +
                       "', 'fortran_order': False, 'shape': (";
  for (int64_t size : tensor.shape())
    header += std::to_string(size) + ",";
  header += "), }";
  size_t unpadded = kMagic.size() + 4 + header.size() + 1;
  header.append((64 - unpadded % 64) % 64, ' ');
  header += '\n';
  std::string file = (kMagic + StringRef("\x01\x00", 2)).str();
  file += static_cast<char>(header.size() & 0xff);
  file += static_cast<char>(header.size() >> 8);
  std::vector<char> bytes = tensor.toBytes();
  return file + header + std::string(bytes.begin(), bytes.end());
}

Parsed shardc::readNpy(StringRef path, MLIRContext *context, RankedTensorType expected) {
  auto buffer =
      llvm::MemoryBuffer::getFile(path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!buffer)
    return Parsed::failure("cannot read " + path.str() + ": " + buffer.getError().message());
  Parsed tensor = parseNpy((*buffer)->getBuffer(), context, expected);
  return tensor ? tensor : Parsed::failure(path.str() + " " + tensor.error);
}

Error shardc::writeNpy(StringRef path, const HostTensor &tensor) {
  std::error_code error;
  llvm::raw_fd_ostream os(path, error, llvm::sys::fs::OF_None);
  if (!error) {
    os << toNpy(tensor);
    os.close();
    error = os.error();
    os.clear_error();
  }
  if (error)
    return "cannot write " + path.str() + ": " + error.message();
  return std::nullopt;
}
