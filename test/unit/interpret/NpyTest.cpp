//===- NpyTest.cpp - .npy files -------------------------------------------===//

#include "shardc/Support/Npy.h"

#include "Testing.h"
#include "mlir/AsmParser/AsmParser.h"

using namespace shardc;

namespace {

class Npy : public ProgramTest {
protected:
  static std::string file(const std::string &dictionary, const std::string &data) {
    std::string header = dictionary + "\n";
    return std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(header.size()) + '\0' + header +
           data;
  }
  std::string errorOf(const std::string &bytes, mlir::RankedTensorType expected = {}) {
    return parseNpy(bytes, &context, expected).error;
  }
};

TEST_F(Npy, EveryTypeReadsBackTheSame) {
  for (const char *text : {"f64", "f32", "f16", "bf16", "i64", "i32", "i16", "i8", "ui64", "ui32",
                           "ui16", "ui8", "i1"}) {
    auto type = mlir::cast<mlir::RankedTensorType>(
        mlir::parseType("tensor<2x3x" + std::string(text) + ">", &context));
    HostTensor values = tensor(type, {0, 1, 1, 0, 1, 0});
    std::string bytes = toNpy(values);
    EXPECT_EQ((bytes.size() - static_cast<size_t>(tensorBytes(type))) % 64, 0u)
        << "data is not aligned";
    Result<HostTensor> read = parseNpy(bytes, &context);
    ASSERT_TRUE(read) << text << ": " << read.error;
    EXPECT_EQ(read->type, type);
    EXPECT_EQ(read->f, values.f);
    EXPECT_EQ(read->i, values.i);
  }
}

TEST_F(Npy, ScalarAndVectorShapes) {
  EXPECT_EQ(parseNpy(toNpy(tensor(f32({}), {3})), &context)->type, f32({}));
  EXPECT_EQ(parseNpy(toNpy(tensor(f32({1}), {3})), &context)->type, f32({1}));
  EXPECT_EQ(parseNpy(toNpy(tensor(f32({0, 2}), {})), &context)->type, f32({0, 2}));
}

TEST_F(Npy, FortranOrder) {
  std::string data("\1\2\3\4\5\6", 6); // columns of [[1, 3, 5], [2, 4, 6]]
  auto read =
      parseNpy(file("{'descr': '|i1', 'fortran_order': True, 'shape': (2, 3), }", data), &context);
  ASSERT_TRUE(read) << read.error;
  EXPECT_EQ(read->i, (std::vector<int64_t>{1, 3, 5, 2, 4, 6}));
}

TEST_F(Npy, Uint16IsBf16WhereThatIsExpected) {
  auto bf16 = mlir::cast<mlir::RankedTensorType>(mlir::parseType("tensor<1xbf16>", &context));
  auto read = parseNpy(
      file("{'descr': '<u2', 'fortran_order': False, 'shape': (1,), }", std::string("\x80\x3f", 2)),
      &context, bf16);
  ASSERT_TRUE(read) << read.error;
  EXPECT_EQ(read->f, std::vector<double>{1.0});
}

TEST_F(Npy, WhatIsWrongIsNamed) {
  EXPECT_EQ(errorOf("PK\3\4 something else"), "is not an .npy file");
  EXPECT_EQ(errorOf(std::string("\x93NUMPY\x01\x00\xff\xff{}  ", 14)), "ends inside its header");
  EXPECT_EQ(errorOf(file("{'shape': (2,)}", "")), "has a header that cannot be read");
  EXPECT_EQ(errorOf(file("{'descr': '>f4', 'fortran_order': False, 'shape': (1,)}", "abcd")),
            "has elements of type '>f4', which is not supported");
  EXPECT_EQ(errorOf(file("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", "abcd")),
            "ends after 4 bytes of tensor<2xf32>");
  EXPECT_EQ(errorOf(toNpy(tensor(f32({2}), {1, 2})), f32({3})),
            "holds tensor<2xf32>, expected tensor<3xf32>");
  EXPECT_EQ(errorOf(file(
                "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 8)}", "")),
            "ends after 0 bytes of tensor<4611686018427387904x8xf32>");
}

} // namespace
