// What is decided on the host before a GPU is asked: the code image, and how matrices are presented
// to cuBLASLt.
#include "runtime/cuda/Gemm.h"
#include "runtime/cuda/Image.h"

#include <gtest/gtest.h>

using namespace shardrt;
using namespace shardrt::cuda;

namespace {

std::string chosen(const std::vector<std::string> &levels, int device,
                   const std::string &asked = "") {
  std::vector<KernelEntry> images;
  for (const std::string &level : levels)
    images.push_back({level, level + ".file", level[0] == 'c'});
  try {
    return chooseImage(images, device, "sm_" + std::to_string(device) + " (Test)", asked).level;
  } catch (const Error &error) {
    return error.what();
  }
}

TEST(CudaImage, TheNewestThatRuns) {
  std::vector<std::string> all = {"compute_80", "sm_80",   "sm_86",
                                  "sm_90a",     "sm_100a", "compute_90"};
  EXPECT_EQ(chosen(all, 80), "sm_80");
  EXPECT_EQ(chosen(all, 86), "sm_86");
  EXPECT_EQ(chosen(all, 89), "sm_86");
  EXPECT_EQ(chosen(all, 90), "sm_90a");
  EXPECT_EQ(chosen(all, 100), "sm_100a");
  EXPECT_EQ(chosen(all, 103), "compute_90"); // "a" runs on exactly that device
  EXPECT_EQ(chosen(all, 120), "compute_90");
  EXPECT_EQ(chosen(all, 90, "compute_80"), "compute_80");
  EXPECT_EQ(chosen({"sm_90", "sm_90a"}, 90), "sm_90a");
  EXPECT_EQ(chosen({"sm_90", "sm_90a"}, 91), "sm_90");
  EXPECT_EQ(chosen({"sm_100f", "compute_100f"}, 103), "sm_100f");
}

TEST(CudaImage, NoneSaysBothSides) {
  EXPECT_EQ(chosen({"sm_80", "compute_90"}, 75),
            "this GPU is sm_75 (Test), the bundle has code for sm_80, compute_90; compile it with "
            "--arch sm_75");
  EXPECT_EQ(chosen({"compute_90a"}, 100), "this GPU is sm_100 (Test), the bundle has code for "
                                          "compute_90a; compile it with --arch sm_100");
  EXPECT_EQ(
      chosen({"sm_80", "sm_90a"}, 80, "sm_90a"),
      "this GPU is sm_80 (Test), the bundle has code for sm_80, sm_90a, sm_90a was asked for");
  EXPECT_EQ(chosen({"sm_9x"}, 90), "manifest.json: \"sm_9x\" is no architecture of a cubin");
}

CudaMatrix matrix(int64_t row, int64_t column, std::vector<int64_t> batch = {}) {
  return {{0, 0}, SHARDRT_F32, row, column, std::move(batch)};
}

/// The element (r, c) of a matrix, reached as cuBLASLt does: column-major, perhaps transposed.
int64_t placeOf(const GemmView &view, int64_t r, int64_t c, bool transposed) {
  if (transposed)
    std::swap(r, c);
  if (view.operation == CUBLAS_OP_T)
    std::swap(r, c);
  EXPECT_LT(r, view.rows);
  EXPECT_LT(c, view.columns);
  EXPECT_GE(view.leading, view.rows);
  return r + c * view.leading;
}

TEST(CudaGemm, ViewsReachTheSameElements) {
  struct {
    int64_t rows, columns;
    CudaMatrix matrix;
  } const cases[] = {{3, 4, matrix(4, 1)}, {3, 4, matrix(7, 1)}, {3, 4, matrix(1, 3)},
                     {3, 4, matrix(1, 5)}, {1, 4, matrix(9, 1)}, {1, 4, matrix(1, 6)},
                     {3, 1, matrix(5, 1)}, {3, 1, matrix(1, 8)}, {1, 1, matrix(1, 1)},
                     {3, 1, matrix(2, 9)}, {1, 4, matrix(0, 1)}};
  for (const auto &[rows, columns, given] : cases)
    for (bool transposed : {false, true}) {
      GemmView view = viewOf(given, rows, columns, transposed);
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < columns; ++c)
          EXPECT_EQ(placeOf(view, r, c, transposed), r * given.row + c * given.column)
              << rows << " x " << columns << ", strides " << given.row << ", " << given.column;
    }
}

TEST(CudaGemm, BatchesCoverAllMatrices) {
  CudaGemm gemm = {};
  gemm.batch = {3, 1, 2, 5};
  gemm.a = matrix(4, 1, {400, 7, 200, 40}); // all in one
  gemm.b = matrix(4, 1, {0, 0, 0, 0});      // the same for all
  gemm.d = matrix(4, 1, {900, 9, 300, 40}); // not: the middle one leaves a gap
  GemmBatch batch(gemm);
  EXPECT_EQ(batch.count * static_cast<int64_t>(batch.calls.size()), 30);
  std::vector<std::pair<int64_t, int64_t>> found, expected;
  for (const GemmBatch::Offset &call : batch.calls)
    for (int64_t i = 0; i < batch.count; ++i) {
      EXPECT_EQ(call.b + i * batch.b, 0);
      found.push_back({call.a + i * batch.a, call.d + i * batch.d});
    }
  for (int64_t i = 0; i < 3; ++i)
    for (int64_t j = 0; j < 2; ++j)
      for (int64_t k = 0; k < 5; ++k)
        expected.push_back({400 * i + 200 * j + 40 * k, 900 * i + 300 * j + 40 * k});
  std::sort(found.begin(), found.end());
  EXPECT_EQ(found, expected);
  gemm.d = matrix(4, 1, {400, 0, 200, 40});
  EXPECT_EQ(GemmBatch(gemm).count, 30);
}

} // namespace
