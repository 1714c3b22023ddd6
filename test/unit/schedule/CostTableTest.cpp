//===- CostTableTest.cpp - Machine.json, and what follows from it ---------===//
#include "shardc/Support/CostTable.h"
#include "llvm/Support/FormatVariadic.h"
#include <cmath>
#include <gtest/gtest.h>

namespace shardc {
namespace {

const char kTable[] = R"({
  "format": {"name": "shardc-machine", "version": 1},
  "machine": {"processor": "p", "target": "cpu", "channel": "shm", "isa": "x", "ranks": 4, "threads": 1},
  "products": [{"dtype": "f32", "m": 512, "n": 512, "k": 512, "gflops": 100},
               {"dtype": "f32", "m": 8, "n": 1024, "k": 1024, "gflops": 20},
               {"dtype": "bf16", "m": 512, "n": 512, "k": 512, "gflops": 400}],
  "attention": [{"dtype": "f32", "gflops": 50}],
  "kernels": {"launch_us": 2, "element_gigabytes_per_second": 10, "row_gigabytes_per_second": 5},
  "collectives": [{"op": "all_gather", "axes": "tp", "ranks": 2, "latency_us": 10, "gigabytes_per_second": 4},
                  {"op": "all_gather", "axes": "", "ranks": 4, "latency_us": 30, "gigabytes_per_second": 3},
                  {"op": "all_reduce", "axes": "tp", "ranks": 2, "latency_us": 20, "gigabytes_per_second": 2}]})";

std::string replaced(std::string from, const std::string &to) {
  std::string text = kTable;
  size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

std::string errorOf(const std::string &text) {
  llvm::Expected<CostTable> table = CostTable::parse(text, "m.json");
  return table ? "" : llvm::toString(table.takeError());
}

CostTable table() { return llvm::cantFail(CostTable::parse(kTable, "m.json")); }

TEST(CostTable, KernelsByTheNearestProduct) {
  KernelWork work;
  work.productFlops = 2e6;
  work.m = work.n = work.k = 400;
  EXPECT_DOUBLE_EQ(table().kernelMicros(work), 2 + 2e6 / 100e3);
  work.m = 4;
  work.n = work.k = 2000;
  EXPECT_DOUBLE_EQ(table().kernelMicros(work), 2 + 2e6 / 20e3);
  work.dtype = "bf16"; // the only one of its type
  EXPECT_DOUBLE_EQ(table().kernelMicros(work), 2 + 2e6 / 400e3);
  KernelWork fused;
  fused.bytes = 1e6;
  EXPECT_DOUBLE_EQ(table().kernelMicros(fused), 2 + 100);
  fused.isRow = true;
  EXPECT_DOUBLE_EQ(table().kernelMicros(fused), 2 + 200);
}

TEST(CostTable, TheBusGoesBothWaysAtOnce) {
  EXPECT_DOUBLE_EQ(table().hostMicros(50e3, 25e3), 2); // the model's
  std::string measured =
      replaced("\"launch_us\": 2", "\"launch_us\": 2, \"host_gigabytes_per_second\": 5");
  CostTable costs = llvm::cantFail(CostTable::parse(measured, "m.json"));
  EXPECT_DOUBLE_EQ(costs.hostMicros(5e3, 10e3), 2);
  EXPECT_EQ(llvm::formatv("{0}", costs.toJson()).str().find("host_gigabytes_per_second") ==
                std::string::npos,
            false);
  EXPECT_EQ(
      errorOf(replaced("\"launch_us\": 2", "\"launch_us\": 2, \"host_gigabytes_per_second\": 0")),
      "m.json: \"kernels.host_gigabytes_per_second\" is 0, must be above 0");
}

TEST(CostTable, CollectivesByAxesThenByRanks) {
  CostTable costs = table();
  EXPECT_DOUBLE_EQ(costs.collectiveMicros("all_gather", "tp", 2, 4e6), 10 + 1000);
  EXPECT_DOUBLE_EQ(costs.collectiveMicros("all_gather", "dp_shard", 4, 3e6), 30 + 1000);
  // Of 16 ranks there is nothing: twice the rounds of 4, and 15/16 of the bytes on the way instead
  // of 3/4.
  EXPECT_DOUBLE_EQ(costs.collectiveMicros("all_gather", "dp_shard", 16, 3e6),
                   60 + 1000 * (15. / 16) / (3. / 4));
  // Of its kind there is nothing: the model.
  EXPECT_DOUBLE_EQ(costs.collectiveMicros("permute", "tp", 2, 1e6), 5 + 0.5 * 1e6 / 12.5e3);
  EXPECT_DOUBLE_EQ(costs.collectiveMicros("all_gather", "tp", 1, 1e6), costs.copyMicros(1e6));
}

TEST(CostTable, LinksOfAxes) {
  // A gather sends half of its bytes: 2 GB/s; an all-reduce all of them: 2 GB/s. One round of 10
  // us, two of 20.
  std::optional<CostTable::Link> link = table().link("tp", 2);
  ASSERT_TRUE(link);
  EXPECT_NEAR(link->gigabytesPerSecond, 2, 1e-9);
  EXPECT_NEAR(link->latencyMicros, 10, 1e-9);
  EXPECT_FALSE(table().link("tp", 1));
  EXPECT_FALSE(CostTable().link("tp", 2));
}

TEST(CostTable, DefaultModel) {
  CostTable model;
  KernelWork work;
  work.productFlops = 1e6;
  work.bytes = 1e3;
  EXPECT_DOUBLE_EQ(model.kernelMicros(work), 10);
  work.bytes = 1e6;
  EXPECT_DOUBLE_EQ(model.kernelMicros(work), 50);
  EXPECT_DOUBLE_EQ(model.collectiveMicros("all_reduce", "", 2, 1e6), 5 + 80);
  EXPECT_EQ(model.describe(), "default model");
}

TEST(CostTable, WorkSurvivesJson) {
  KernelWork work;
  work.productFlops = 6;
  work.attentionFlops = 5;
  work.otherFlops = 4;
  work.bytes = 3;
  work.m = 2;
  work.n = 7;
  work.k = 8;
  work.dtype = "bf16";
  work.isRow = true;
  KernelWork read = KernelWork::fromJson(work.toJson());
  EXPECT_EQ(std::tie(read.productFlops, read.attentionFlops, read.otherFlops, read.bytes, read.m,
                     read.n, read.k, read.dtype, read.isRow),
            std::tie(work.productFlops, work.attentionFlops, work.otherFlops, work.bytes, work.m,
                     work.n, work.k, work.dtype, work.isRow));
}

TEST(CostTable, SurvivesJsonAndManifest) {
  std::string text;
  llvm::raw_string_ostream(text) << table().toJson();
  EXPECT_EQ(llvm::cantFail(CostTable::parse(text, "again")).toJson(), table().toJson());
  CostTable recorded = llvm::cantFail(CostTable::fromRecord(table().record(), "manifest"));
  EXPECT_EQ(recorded.toJson(), table().toJson());
  EXPECT_EQ(recorded.sha256, table().sha256);
  EXPECT_FALSE(
      llvm::cantFail(CostTable::fromRecord(CostTable().record(), "manifest")).isMeasured());
}

TEST(CostTable, Errors) {
  EXPECT_EQ(
      errorOf(replaced("\"version\": 1", "\"version\": 2")),
      "m.json: has version 2, this shardc reads version 1; measure again with shardc profile");
  EXPECT_EQ(errorOf(replaced("shardc-machine", "other")),
            "m.json: is no table of shardc profile: \"format.name\" is not \"shardc-machine\"");
  EXPECT_EQ(errorOf("[]"),
            "m.json: is no table of shardc profile: \"format.name\" is not \"shardc-machine\"");
  EXPECT_EQ(errorOf(replaced("\"launch_us\": 2, ", "")),
            "m.json: \"kernels.launch_us\" is missing or no number");
  EXPECT_EQ(errorOf(replaced("\"launch_us\": 2", "\"launch_us\": -2")),
            "m.json: \"kernels.launch_us\" is -2, must be at least 0");
  EXPECT_EQ(errorOf(replaced("\"gflops\": 20", "\"gflops\": 0")),
            "m.json: \"products[1].gflops\" is 0, must be above 0");
  EXPECT_EQ(errorOf(replaced("\"ranks\": 2, \"latency_us\": 20", "\"latency_us\": 20")),
            "m.json: \"collectives[2].ranks\" is missing or no whole number");
  EXPECT_EQ(
      errorOf(replaced("\"ranks\": 2, \"latency_us\": 20", "\"ranks\": 1, \"latency_us\": 20")),
      "m.json: \"collectives[2].ranks\" is 1, must be at least 2");
  EXPECT_EQ(errorOf(replaced("{\"dtype\": \"f32\", \"gflops\": 50}", "7")),
            "m.json: \"attention[0]\" is no object");
  EXPECT_EQ(errorOf(replaced("\"kernels\"", "\"cores\"")),
            "m.json: \"kernels\" is missing or no object");
  EXPECT_NE(errorOf("{"), "");
}

TEST(FitLine, FindsLatencyAndBandwidth) {
  auto at = [](double latency, double gigabytes, double bytes) {
    return std::pair(bytes, latency + bytes / (gigabytes * 1e3));
  };
  LineFit fit = fitLine({at(12, 5, 4096), at(12, 5, 65536), at(12, 5, 1 << 20)});
  EXPECT_NEAR(fit.latencyMicros, 12, 1e-6);
  EXPECT_NEAR(fit.gigabytesPerSecond, 5, 1e-6);
  // Noise that would make one of them negative.
  fit = fitLine({{1e3, 1}, {1e6, 2000}});
  EXPECT_EQ(fit.latencyMicros, 0);
  EXPECT_GT(fit.gigabytesPerSecond, 0);
  fit = fitLine({{1e3, 90}, {1e6, 10}});
  EXPECT_EQ(fit.latencyMicros, 0);
  EXPECT_TRUE(std::isfinite(fit.gigabytesPerSecond) && fit.gigabytesPerSecond > 0);
}

} // namespace
} // namespace shardc
