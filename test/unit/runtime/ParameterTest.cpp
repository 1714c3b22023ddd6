// Weights of every layout, compared with an element-by-element reading of the contract.
#include "BundleBuilder.h"
#include "runtime/core/Error.h"
#include "runtime/core/ParameterLoader.h"
#include "runtime/core/ProgramReader.h"

#include <cstring>
#include <gtest/gtest.h>

using namespace shardrt;
using namespace shardrt_test;

namespace {

/// A parameter whose arena buffer is element-wise uint16 (bf16) or float.
class ParameterTest : public testing::Test {
protected:
  void setTensor(const std::string &dtype, const Shape &shape) {
    int64_t count = *checkedCount(shape);
    std::string data;
    for (int64_t i = 0; i < count; ++i)
      data += dtype == "F32" ? rawBytes<float>({static_cast<float>(i + 1)})
                             : rawBytes<uint16_t>({static_cast<uint16_t>(i + 1)});
    writeText(directory / "w.safetensors", safetensorsText({{"w", {dtype, shape, data}}}));
  }

  template <typename T>
  std::vector<T> load(const Parameter &parameter, const Mesh &mesh, int rank) {
    int64_t bytes = *layoutBytes(parameter.layout, localShape(parameter.shape, parameter.sharding),
                                 parameter.dtype);
    Program program;
    program.buffers.push_back({"w", parameter.dtype, {}, 0, bytes, BufferKind::Parameter});
    program.parameters.push_back(parameter);
    std::vector<T> arena(bytes / sizeof(T),
                         static_cast<T>(0xabcd)); // stale contents must not survive
    WeightFiles files(directory / "w.safetensors");
    ThreadPool pool(2, -1);
    HostMemory memory(reinterpret_cast<std::byte *>(arena.data()));
    loadParameters(program, mesh, rank, files, pool, memory);
    return arena;
  }

  TemporaryDirectory directory;
};

/// The value that setTensor put at these coordinates, or zero for padding.
double valueOf(const Parameter &parameter, const Shape &full, const Slices &slices,
               const Shape &local) {
  int64_t offset = 0;
  Shape strides = rowMajorStrides(full);
  for (size_t d = 0; d < full.size(); ++d) {
    if (local[d] >= slices[d].valid)
      return 0;
    int64_t at = slices[d].begin + local[d] +
                 (static_cast<int>(d) == parameter.segment.dim ? parameter.segment.offset : 0);
    offset += at * strides[d];
  }
  return static_cast<double>(offset + 1);
}

/// Coordinates number `index` of a row-major walk over some dimensions.
void setCoordinates(Shape &coordinates, const std::vector<int> &dims, const Slices &slices,
                    int64_t index) {
  for (size_t i = dims.size(); i-- > 0;) {
    coordinates[dims[i]] = index % slices[dims[i]].local;
    index /= slices[dims[i]].local;
  }
}

int64_t countOver(const std::vector<int> &dims, const Slices &slices) {
  int64_t count = 1;
  for (int dim : dims)
    count *= slices[dim].local;
  return count;
}

template <typename T>
void expectPanels(const Parameter &p, const Shape &full, const Mesh &mesh, int rank,
                  const std::vector<T> &packed) {
  Slices slices = slicesOf(mesh, rank, p.shape, p.sharding);
  int64_t n = countOver(p.layout.nDims, slices), k = countOver(p.layout.kDims, slices),
          b = countOver(p.layout.batchDims, slices), group = sizeof(T) == 2 ? 2 : 1,
          tile = p.layout.nTile;
  size_t at = 0;
  Shape coordinates(full.size());
  for (int64_t batch = 0; batch < b; ++batch)
    for (int64_t panel = 0; panel < ceilDiv(n, tile); ++panel)
      for (int64_t depth = 0; depth < ceilDiv(k, group); ++depth)
        for (int64_t column = 0; column < tile; ++column)
          for (int64_t half = 0; half < group; ++half, ++at) {
            int64_t row = depth * group + half, col = panel * tile + column;
            setCoordinates(coordinates, p.layout.batchDims, slices, batch);
            setCoordinates(coordinates, p.layout.nDims, slices, col);
            setCoordinates(coordinates, p.layout.kDims, slices, row);
            double expected = row < k && col < n ? valueOf(p, full, slices, coordinates) : 0;
            ASSERT_EQ(static_cast<double>(packed[at]), expected)
                << "rank " << rank << " place " << at;
          }
  ASSERT_EQ(at, packed.size());
}

const Mesh mesh{{{"dp", 2}, {"tp", 4}}};

TEST_F(ParameterTest, RowMajorSegmentWithSubAxesAndPadding) {
  setTensor("F32", {10, 5});
  // Rows 3 to 9 of 10, split over the minor half of tp and dp; columns unevenly over the major half
  // of tp.
  Parameter parameter{0, "w", SHARDRT_F32, {7, 5}, {0, 3, 7}, {{{1, 2, 2}, {0, 1, 2}}, {{1, 1, 2}}},
                      {}};
  for (int rank = 0; rank < 8; ++rank) {
    Slices slices = slicesOf(mesh, rank, parameter.shape, parameter.sharding);
    std::vector<float> values = load<float>(parameter, mesh, rank);
    ASSERT_EQ(values.size(), 6u);
    for (int64_t i = 0; i < 6; ++i)
      EXPECT_EQ(values[i], valueOf(parameter, {10, 5}, slices, {i / 3, i % 3}))
          << "rank " << rank << " element " << i;
  }
}

TEST_F(ParameterTest, PanelsOfMatrices) {
  setTensor("F32", {9, 7});
  for (int64_t tile : {1, 4, 16}) {
    Parameter parameter{
        0, "w", SHARDRT_F32, {9, 7}, {-1, 0, 0}, {{{1, 1, 4}}, {{0, 1, 2}}}, {{0}, {1}, {}, tile}};
    for (int rank = 0; rank < 8; ++rank)
      expectPanels(parameter, {9, 7}, mesh, rank, load<float>(parameter, mesh, rank));
  }
}

TEST_F(ParameterTest, PanelsOfGroupedDimensionsWithBatchAndSegment) {
  setTensor("F32", {3, 4, 8, 5});
  Parameter parameter{0,
                      "w",
                      SHARDRT_F32,
                      {3, 4, 6, 5},
                      {2, 1, 6},
                      {{{0, 1, 2}}, {}, {{1, 1, 4}}, {}},
                      {{3, 1}, {2}, {0}, 8}};
  for (int rank = 0; rank < 8; ++rank)
    expectPanels(parameter, {3, 4, 8, 5}, mesh, rank, load<float>(parameter, mesh, rank));
}

TEST_F(ParameterTest, PairsOfTwoByteFloats) {
  setTensor("BF16", {6, 5});
  Parameter parameter{
      0, "w", SHARDRT_BF16, {6, 5}, {-1, 0, 0}, {{}, {{0, 1, 2}}}, {{0}, {1}, {}, 4}};
  for (int rank :
       {0,
        4}) // K is 3: one half of the last pair is zero; on the second, K has only two valid rows
    expectPanels(parameter, {6, 5}, mesh, rank, load<uint16_t>(parameter, mesh, rank));
}

TEST_F(ParameterTest, EveryMisfitIsListed) {
  setTensor("F32", {4, 4});
  Program program;
  program.buffers.push_back({"w", SHARDRT_F32, {}, 0, 64, BufferKind::Parameter});
  program.parameters.push_back({0, "none", SHARDRT_F32, {4, 4}, {-1, 0, 0}, {{}, {}}, {}});
  program.parameters.push_back({0, "w", SHARDRT_BF16, {4, 4}, {-1, 0, 0}, {{}, {}}, {}});
  program.parameters.push_back({0, "w", SHARDRT_F32, {4, 3}, {-1, 0, 0}, {{}, {}}, {}});
  program.parameters.push_back({0, "w", SHARDRT_F32, {3, 4}, {0, 2, 3}, {{}, {}}, {}});
  WeightFiles files(directory / "w.safetensors");
  ThreadPool pool(1, -1);
  try {
    HostMemory memory(nullptr);
    loadParameters(program, mesh, 0, files, pool, memory);
    FAIL();
  } catch (const Error &error) {
    std::string text = error.what();
    for (const char *part :
         {"4 of 4 weights do not fit", "\"none\" is missing",
          "\"w\" has dtype F32, the program wants bf16",
          "has shape [4, 4], the program wants [4, 3]", "wants [3, 4] at offset 2 of dimension 0"})
      EXPECT_NE(text.find(part), std::string::npos) << text;
  }
}

} // namespace
