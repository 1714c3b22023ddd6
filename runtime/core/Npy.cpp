// The header is a Python dict literal: {'descr': '<f4', 'fortran_order': False, 'shape': (2, 16), }
#include "runtime/core/Npy.h"
#include "runtime/core/Error.h"

#include <cctype>
#include <cstdio>
#include <cstring>
#include <unistd.h>

using namespace shardrt;

static const char *const descrs[] = {"<f8", "<f4", "<f2", "|V2", "<i8", "<i4", "<i2", "|i1",
                                     "<u8", "<u4", "<u2", "|u1", "|b1", "|V1", "|V1"};

namespace {
/// A reader for just that literal.
struct DictReader {
  std::string_view text;
  const std::string &file;
  size_t at = 0;

  [[noreturn]] void fail(const std::string &what) const {
    throw Error(SHARDRT_BAD_INPUT, cat(file, ": ", what, " at byte ", at, " of the npy header"));
  }
  void skipSpace() {
    while (at < text.size() && std::isspace(static_cast<unsigned char>(text[at])))
      ++at;
  }
  bool take(char c) {
    skipSpace();
    if (at >= text.size() || text[at] != c)
      return false;
    ++at;
    return true;
  }
  void expect(char c) {
    if (!take(c))
      fail(cat("expected '", c, "'"));
  }
  std::string quoted() {
    skipSpace();
    char quote = at < text.size() ? text[at] : 0;
    size_t end = quote == '\'' || quote == '"' ? text.find(quote, at + 1) : std::string_view::npos;
    if (end == std::string_view::npos)
      fail("expected a string");
    std::string result(text.substr(at + 1, end - at - 1));
    at = end + 1;
    return result;
  }
  bool boolean() {
    skipSpace();
    for (bool value : {false, true}) {
      std::string_view word = value ? "True" : "False";
      if (text.substr(at, word.size()) == word) {
        at += word.size();
        return value;
      }
    }
    fail("expected True or False");
  }
  Shape tuple() {
    Shape shape;
    expect('(');
    while (!take(')')) {
      skipSpace();
      std::optional<int64_t> value = 0;
      size_t begin = at;
      for (; at < text.size() && std::isdigit(static_cast<unsigned char>(text[at])) && value; ++at)
        if ((value = checkedMul(*value, 10)))
          value = checkedAdd(*value, text[at] - '0');
      if (at == begin || !value)
        fail("expected a dimension");
      shape.push_back(*value);
      if (!take(','))
        skipSpace();
    }
    return shape;
  }
};
} // namespace

NpyHeader shardrt::readNpyHeader(std::string_view text, const std::string &file) {
  if (text.size() < 10 || text.substr(0, 6) != "\x93NUMPY")
    throw Error(SHARDRT_BAD_INPUT, cat(file, ": not a .npy file"));
  int major = static_cast<unsigned char>(text[6]);
  size_t prefix = major == 1 ? 10 : 12;
  if (major < 1 || major > 3 || text.size() < prefix)
    throw Error(SHARDRT_BAD_INPUT,
                cat(file, ": npy version ", major, ", versions 1 to 3 can be read"));
  uint64_t length = 0;
  std::memcpy(&length, text.data() + 8, prefix - 8);
  if (length > text.size() - prefix)
    throw Error(SHARDRT_BAD_INPUT, cat(file, ": npy header of ", length, " bytes in a file of ",
                                       text.size(), " bytes"));
  NpyHeader header;
  header.dataOffset = prefix + length;
  DictReader reader{text.substr(prefix, length), file};
  bool fortran = false;
  reader.expect('{');
  while (!reader.take('}')) {
    std::string key = reader.quoted();
    reader.expect(':');
    if (key == "descr")
      header.descr = reader.quoted();
    else if (key == "fortran_order")
      fortran = reader.boolean();
    else if (key == "shape")
      header.shape = reader.tuple();
    else
      reader.fail(cat("unknown key \"", key, "\""));
    reader.take(',');
  }
  if (fortran && header.shape.size() > 1)
    throw Error(SHARDRT_BAD_INPUT,
                cat(file, ": array is in Fortran order, save numpy.ascontiguousarray of it"));
  return header;
}

bool shardrt::npyHolds(const std::string &descr, DType dtype) {
  if (dtype == SHARDRT_BF16)
    return descr == "|V2" || descr == "<V2" || descr == "<u2";
  if (dtype == SHARDRT_F8E4M3FN || dtype == SHARDRT_F8E5M2) // which of them, no header says
    return descr == "|V1" || descr == "<V1" || descr == "|u1";
  return descr == descrs[dtype] ||
         (dtypeSize(dtype) == 1 && descr.size() == 3 && descr.substr(1) == descrs[dtype] + 1);
}

std::string shardrt::npyTypeName(const std::string &descr) {
  for (int i = SHARDRT_F64; i <= SHARDRT_BOOL; ++i)
    if (descr == descrs[i])
      return dtypeName(static_cast<DType>(i));
  return "\"" + descr + "\"";
}

std::string shardrt::npyHeaderFor(DType dtype, const Shape &shape) {
  std::string dict = cat("{'descr': '", descrs[dtype], "', 'fortran_order': False, 'shape': (");
  for (int64_t dim : shape)
    dict += cat(dim, ", ");
  dict += "), }";
  dict.append(63 - (10 + dict.size()) % 64, ' '); // data starts at a multiple of 64
  dict += '\n';
  std::string header = "\x93NUMPY";
  header += '\x01';
  header += '\0';
  header += static_cast<char>(dict.size() & 255);
  header += static_cast<char>(dict.size() >> 8);
  return header + dict;
}

void shardrt::writeNpy(const std::string &path, DType dtype, const Shape &shape, const void *data,
                       size_t bytes) {
  std::string temporary = cat(path, ".", getpid(), ".tmp"), header = npyHeaderFor(dtype, shape);
  std::FILE *file = std::fopen(temporary.c_str(), "wb");
  if (!file)
    throw Error(SHARDRT_IO, cat(path, ": cannot write: ", systemError()));
  bool good = std::fwrite(header.data(), 1, header.size(), file) == header.size() &&
              std::fwrite(data, 1, bytes, file) == bytes;
  good = std::fclose(file) == 0 && good;
  if (!good || std::rename(temporary.c_str(), path.c_str()) != 0) {
    std::string reason = systemError();
    std::remove(temporary.c_str());
    throw Error(SHARDRT_IO,
                cat(path, ": cannot write ", header.size() + bytes, " bytes: ", reason));
  }
}
