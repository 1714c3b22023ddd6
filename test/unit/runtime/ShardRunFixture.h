// shard-run as a user calls it.
#pragma once

#include "BundleBuilder.h"
#include "runtime/core/Npy.h"
#include "shardrt/status.h"

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <sys/wait.h>

namespace shardrt_test {

#define EXPECT_HAS(text, part) EXPECT_NE(std::string(text).find(part), std::string::npos) << (text)

class ShardRun : public testing::Test {
protected:
  void SetUp() override {
    sumBundle().write(directory / "sum.bundle");
    std::vector<float> x = {1, 2, 3, 4, 5, 6};
    shardrt::writeNpy(directory / "x.npy", SHARDRT_F32, {6}, x.data(), 24);
  }

  /// Exit code; what was printed goes to out and err. %D stands for the directory.
  int run(std::string arguments, const std::string &environment = "") {
    for (size_t at; (at = arguments.find("%D")) != std::string::npos;)
      arguments.replace(at, 2, directory.path);
    auto begin = std::chrono::steady_clock::now();
    int status = std::system((environment + " " SHARD_RUN " " + arguments + " >" +
                              (directory / "out") + " 2>" + (directory / "err"))
                                 .c_str());
    seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    out = readText(directory / "out");
    err = readText(directory / "err");
    return WEXITSTATUS(status);
  }

  std::vector<float> floatsOf(const std::string &name) {
    std::string text = readText(directory / name);
    shardrt::NpyHeader header = shardrt::readNpyHeader(text, name);
    std::vector<float> values(*shardrt::checkedCount(header.shape));
    std::copy_n(text.data() + header.dataOffset, values.size() * 4,
                reinterpret_cast<char *>(values.data()));
    return values;
  }

  const std::vector<float> expected = {604, 608, 612, 616, 620, 624};
  TemporaryDirectory directory;
  std::string out, err;
  double seconds = 0;
};

} // namespace shardrt_test
