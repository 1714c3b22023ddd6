//===- PlanArenaTest.cpp - Places of buffers that live at the same time ---===//
#include "mlir/IR/Builders.h"
#include "shardc/Schedule/Program.h"
#include <gtest/gtest.h>
#include <random>

using namespace mlir;

namespace shardc {
namespace {

struct PlanArenaTest : ::testing::Test {
  MLIRContext context;
  Program program;

  int add(int64_t bytes, BufferKind kind = BufferKind::Temporary) {
    auto type = RankedTensorType::get({bytes}, IntegerType::get(&context, 8));
    program.buffers.push_back({"b", type, kind, bytes});
    return static_cast<int>(program.buffers.size()) - 1;
  }
  int addPart(int whole, int64_t begin, int64_t bytes) {
    int part = add(bytes);
    program.buffers[part].whole = whole;
    program.buffers[part].begin = begin;
    return part;
  }
  ProgramEntry &entry() {
    if (program.entries.empty())
      program.entries.emplace_back();
    return program.entries.back();
  }
  void use(ArrayRef<int> buffers) {
    ProgramCommand command{CommandKind::Launch};
    command.buffers.assign(buffers.begin(), buffers.end());
    entry().commands.push_back(std::move(command));
  }
  static int64_t aligned(int64_t bytes) { return std::max<int64_t>(64, llvm::alignTo(bytes, 64)); }

  /// The most bytes that live at once; fails where two of them share one.
  int64_t check() {
    size_t count = program.buffers.size();
    std::vector<int64_t> first(count, -1), last(count, -1);
    auto &commands = entry().commands;
    auto note = [&](int buffer, int64_t at) {
      int whole = program.wholeOf(buffer);
      first[whole] = first[whole] < 0 ? at : first[whole];
      last[whole] = program.buffers[whole].kind == BufferKind::Output ? commands.size() : at;
    };
    for (const ProgramValue &input : entry().inputs)
      note(input.buffer, 0);
    for (auto [n, command] : llvm::enumerate(commands))
      for (int buffer : command.buffers)
        note(buffer, n);
    for (size_t i = 0; i < count; ++i) {
      const ProgramBuffer &a = program.buffers[i];
      bool isKept = a.kind == BufferKind::State;
      EXPECT_EQ(a.offset % 64, a.whole < 0 ? 0 : a.offset % 64);
      EXPECT_LE(a.offset + a.bytes, program.arenaBytes);
      for (size_t j = 0; j < i; ++j) {
        const ProgramBuffer &b = program.buffers[j];
        if (a.whole >= 0 || b.whole >= 0 || (first[i] < 0 && !isKept))
          continue;
        bool isTogether =
            isKept || b.kind == BufferKind::State || (first[i] <= last[j] && first[j] <= last[i]);
        bool isApart = a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset;
        EXPECT_TRUE(!isTogether || isApart) << i << " and " << j;
      }
    }
    int64_t most = 0;
    for (size_t n = 0; n < commands.size(); ++n) {
      int64_t live = 0;
      for (size_t i = 0; i < count; ++i)
        if (program.buffers[i].whole < 0 &&
            (program.buffers[i].kind == BufferKind::State ||
             (first[i] <= int64_t(n) && int64_t(n) <= last[i] && first[i] >= 0)))
          live += aligned(program.buffers[i].bytes);
      most = std::max(most, live);
    }
    return most;
  }
};

TEST_F(PlanArenaTest, WhatIsDoneWithGivesItsPlace) {
  int state = add(100, BufferKind::State), a = add(64), b = add(192), c = add(64);
  use({state, a});
  use({a, b});
  use({b, c});
  planArena(program);
  EXPECT_EQ(check(), 128 + 256);
  EXPECT_EQ(program.arenaBytes, 128 + 256);
  EXPECT_EQ(program.temporaryBytes, 256);
  EXPECT_EQ(program.buffers[state].offset, 0);
  EXPECT_EQ(program.buffers[c].offset, program.buffers[a].offset);
}

TEST_F(PlanArenaTest, PartsLieAndLiveWithTheWhole) {
  int whole = add(256), part = addPart(whole, 128, 64), inner = addPart(part, 64, 64),
      other = add(256);
  use({whole});
  use({other});
  use({inner});
  planArena(program);
  check();
  EXPECT_EQ(program.buffers[part].offset, program.buffers[whole].offset + 128);
  EXPECT_EQ(program.buffers[inner].offset, program.buffers[whole].offset + 192);
}

TEST_F(PlanArenaTest, InputsAreThereFromTheStartAndOutputsToTheEnd) {
  int input = add(64, BufferKind::Input), output = add(64, BufferKind::Output), other = add(64);
  entry().inputs.push_back({"x", input, {}, {}});
  use({other});
  use({output});
  use({other, input});
  planArena(program);
  check();
  EXPECT_NE(program.buffers[input].offset, program.buffers[other].offset);
  EXPECT_EQ(program.arenaBytes, 192);
}

TEST_F(PlanArenaTest, BySizeWhereTimeLeavesHoles) {
  // In the order of time the large one does not fit in the hole that the first small one leaves
  // behind.
  int small = add(64), kept = add(64), large = add(640), last = add(64);
  use({small, kept});
  use({kept, large});
  use({large, last});
  planArena(program);
  EXPECT_EQ(check(), 704);
  EXPECT_EQ(program.arenaBytes, 704);
}

TEST_F(PlanArenaTest, AtMostAThirdOverWhatLives) {
  std::mt19937 random(7);
  for (int round = 0; round < 20; ++round) {
    program = Program();
    add(1000, BufferKind::State);
    std::vector<int> open;
    for (int n = 0; n < 300; ++n) {
      int made = add(int64_t(1) << (4 + random() % 12));
      std::vector<int> used = {made};
      open.push_back(made);
      while (!open.empty() && random() % 2) {
        size_t which = random() % open.size();
        used.push_back(open[which]);
        open.erase(open.begin() + which);
      }
      use(used);
    }
    planArena(program);
    int64_t live = check();
    EXPECT_GE(program.arenaBytes, live);
    EXPECT_LE(program.arenaBytes, live + live / 3) << "round " << round;
  }
}

} // namespace
} // namespace shardc
