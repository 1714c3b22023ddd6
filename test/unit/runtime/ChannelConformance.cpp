// Every collective on every group, dtype and reduction, compared byte by byte with Reference.h.
#include "ChannelConformance.h"
#include "Reference.h"
#include "runtime/channels/Collective.h"
#include "runtime/core/Error.h"
#include "runtime/core/Mesh.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>

using namespace shardrt_test;
using shardrt::cat;
using shardrt::ceilDiv;
using shardrt::Shape;

namespace {

struct Failure {
  std::string message;
};

const DType dtypes[] = {SHARDRT_F64,  SHARDRT_F32,  SHARDRT_F16,      SHARDRT_BF16,
                        SHARDRT_I64,  SHARDRT_I32,  SHARDRT_I8,       SHARDRT_UI8,
                        SHARDRT_UI16, SHARDRT_BOOL, SHARDRT_F8E4M3FN, SHARDRT_F8E5M2};

struct Group {
  int id;
  std::vector<int> ranks;
  int index;
  const char *name;
  int size() const { return static_cast<int>(ranks.size()); }
};

/// Values that f32 sums in another order would round differently, and that differ by rank and
/// place.
double valueAt(DType dtype, int rank, int64_t i, bool forProduct) {
  int64_t small = (rank * 7 + i * 3 + rank * i) % 5;
  if (dtype == SHARDRT_BOOL)
    return small > 2;
  if (dtype > SHARDRT_BF16 || forProduct)
    return static_cast<double>(small) - (dtype >= SHARDRT_UI64 ? 0 : 1);
  double scale = rank == 1 ? 1000 : 0.37;
  return (static_cast<double>((rank * 131 + i * 17) % 97) - 48) * scale;
}

class Suite {
public:
  Suite(shardrt_channel channel, int rank) : channel(channel), rank(rank) {
    void *base;
    require(shardrt_channel_arena(channel, &base), "arena");
    src = static_cast<unsigned char *>(base);
    dst = src + conformanceArena / 2;
    addGroups();
  }

  void run() {
    for (const Group &group : groups)
      for (DType dtype : dtypes)
        runAll(group, dtype);
    runLarge();
    runTickets();
    runManySmall();
  }

private:
  void require(shardrt_status status, const std::string &what) {
    if (status != SHARDRT_OK)
      throw Failure{cat(what, ": ", shardrt_last_error())};
  }

  void addGroup(const char *name, const std::vector<int> &ranks) {
    int id = -1;
    require(shardrt_group_create(channel, ranks.data(), static_cast<int>(ranks.size()), &id), name);
    int index = 0;
    while (ranks[index] != rank)
      ++index;
    groups.push_back({id, ranks, index, name});
  }

  void addGroups() {
    groups.push_back({SHARDRT_WORLD_GROUP, {0, 1, 2, 3}, rank, "world"});
    shardrt::Mesh square{{{"dp", 2}, {"tp", 2}}}, line{{{"tp", 4}}};
    addGroup("tp of 2x2", square.group(rank, {{1, 1, 2}}));
    addGroup("dp of 2x2", square.group(rank, {{0, 1, 2}}));
    addGroup("tp,dp of 2x2", square.group(rank, {{1, 1, 2}, {0, 1, 2}})); // order 0, 2, 1, 3
    addGroup("major half of 4", line.group(rank, {{0, 1, 2}}));
    addGroup("minor half of 4", line.group(rank, {{0, 2, 2}}));
    addGroup("one rank", {rank});
  }

  Bytes elementOf(DType dtype, int owner, int64_t i) const {
    return encode(dtype, valueAt(dtype, owner, i, forProduct));
  }

  Bytes tensorOf(DType dtype, int owner, int64_t count) const {
    Bytes bytes;
    for (int64_t i = 0; i < count; ++i) {
      Bytes element = elementOf(dtype, owner, i);
      bytes.insert(bytes.end(), element.begin(), element.end());
    }
    return bytes;
  }

  /// Fills src, calls, and compares dst. `inPlace`: dst is src.
  void check(const std::string &what, DType dtype, const Group &group, int64_t srcCount,
             const Bytes &expected, const std::function<shardrt_status(const shardrt_call &)> &call,
             bool inPlace = false) {
    Bytes own = tensorOf(dtype, rank, srcCount);
    std::copy(own.begin(), own.end(), src);
    unsigned char *out = inPlace ? src : dst;
    if (!inPlace)
      std::memset(dst, 0xee, expected.size() + 64);
    std::string where = cat(what, " ", shardrt::dtypeName(dtype), " on ", group.name);
    require(call({group.id, SHARDRT_NO_TICKET, dtype, src, out}), where);
    for (size_t i = 0; i < expected.size(); ++i)
      if (out[i] != expected[i])
        throw Failure{cat(where, ": rank ", rank, " byte ", i, " is ", int(out[i]), ", expected ",
                          int(expected[i]))};
    for (size_t i = expected.size(); i < expected.size() + 64 && !inPlace; ++i)
      if (out[i] != 0xee)
        throw Failure{cat(where, ": rank ", rank, " wrote behind its result")};
    if (!inPlace && !std::equal(own.begin(), own.end(), src))
      throw Failure{cat(where, ": rank ", rank, " finds its source changed")};
  }

  Bytes reduced(DType dtype, const Group &group, shardrt_reduce reduce, int64_t i) const {
    std::vector<Bytes> elements;
    for (int owner : group.ranks)
      elements.push_back(elementOf(dtype, owner, i));
    return reduceElements(dtype, reduce, elements);
  }

  void allReduce(const Group &group, DType dtype, shardrt_reduce reduce, int64_t count,
                 bool inPlace) {
    forProduct = reduce == SHARDRT_PROD;
    Bytes expected;
    for (int64_t i = 0; i < count; ++i) {
      Bytes element = reduced(dtype, group, reduce, i);
      expected.insert(expected.end(), element.begin(), element.end());
    }
    check(
        cat("all_reduce ", reduce, " of ", count), dtype, group, count, expected,
        [&](const shardrt_call &c) { return shardrt_all_reduce(channel, &c, reduce, count); },
        inPlace);
    forProduct = false;
  }

  void allGather(const Group &group, DType dtype, int64_t outer, int64_t total) {
    int64_t inner = ceilDiv(total, group.size()), size = shardrt::dtypeSize(dtype);
    Bytes expected;
    for (int64_t o = 0; o < outer; ++o)
      for (int64_t i = 0; i < total; ++i) {
        Bytes element = elementOf(dtype, group.ranks[i / inner], o * inner + i % inner);
        expected.insert(expected.end(), element.begin(), element.begin() + size);
      }
    check(cat("all_gather ", outer, "x", total), dtype, group, outer * inner, expected,
          [&](const shardrt_call &c) {
            return shardrt_all_gather(channel, &c, outer, inner, total);
          });
  }

  void reduceScatter(const Group &group, DType dtype, shardrt_reduce reduce, int64_t outer,
                     int64_t total) {
    int64_t inner = ceilDiv(total, group.size()), size = shardrt::dtypeSize(dtype);
    Bytes expected;
    for (int64_t o = 0; o < outer; ++o)
      for (int64_t i = 0; i < inner; ++i) {
        int64_t at = group.index * inner + i;
        Bytes element = at < total ? reduced(dtype, group, reduce, o * total + at) : Bytes(size);
        expected.insert(expected.end(), element.begin(), element.end());
      }
    check(cat("reduce_scatter ", outer, "x", total), dtype, group, outer * total, expected,
          [&](const shardrt_call &c) {
            return shardrt_reduce_scatter(channel, &c, reduce, outer, inner, total);
          });
  }

  /// shape is global; split and concat are dimensions of it.
  void allToAll(const Group &group, DType dtype, const Shape &shape, int split, int concat) {
    Shape from = shape, to = shape, index(shape.size());
    from[concat] = ceilDiv(shape[concat], group.size());
    to[split] = ceilDiv(shape[split], group.size());
    int64_t size = shardrt::dtypeSize(dtype), count = *shardrt::checkedCount(to);
    Bytes expected;
    Shape fromStrides = shardrt::rowMajorStrides(from), toStrides = shardrt::rowMajorStrides(to);
    for (int64_t i = 0; i < count; ++i) {
      int64_t offset = 0, owner = 0;
      bool padding = false;
      for (size_t d = 0; d < shape.size(); ++d) {
        int64_t at = i / toStrides[d] % to[d];
        if (static_cast<int>(d) == split)
          at += group.index * to[d];
        padding |= at >= shape[d];
        if (static_cast<int>(d) == concat) {
          owner = at / from[d];
          at %= from[d];
        }
        offset += at * fromStrides[d];
      }
      Bytes element = padding ? Bytes(size) : elementOf(dtype, group.ranks[owner], offset);
      expected.insert(expected.end(), element.begin(), element.end());
    }
    check(cat("all_to_all ", shardrt::shapeString(shape), " ", split, " to ", concat), dtype, group,
          *shardrt::checkedCount(from), expected, [&](const shardrt_call &c) {
            return shardrt_all_to_all(channel, &c, from.data(), static_cast<int>(from.size()),
                                      split, concat, shape[concat]);
          });
  }

  void permute(const Group &group, DType dtype, int64_t count, const std::vector<int> &pairs) {
    Bytes expected(count * shardrt::dtypeSize(dtype));
    for (size_t i = 0; i < pairs.size(); i += 2)
      if (pairs[i + 1] == group.index)
        expected = tensorOf(dtype, group.ranks[pairs[i]], count);
    check("permute", dtype, group, count, expected, [&](const shardrt_call &c) {
      return shardrt_permute(channel, &c, count, pairs.data(), static_cast<int>(pairs.size() / 2));
    });
  }

  void broadcast(const Group &group, DType dtype, int64_t count, int root, bool inPlace) {
    check(
        "broadcast", dtype, group, count, tensorOf(dtype, group.ranks[root], count),
        [&](const shardrt_call &c) { return shardrt_broadcast(channel, &c, count, root); },
        inPlace);
  }

  void gather(const Group &group, DType dtype, int64_t count, int root) {
    Bytes expected, received(count * group.size() * shardrt::dtypeSize(dtype));
    for (int owner : group.ranks) {
      Bytes part = tensorOf(dtype, owner, count);
      expected.insert(expected.end(), part.begin(), part.end());
    }
    check("gather", dtype, group, count, Bytes(), [&](shardrt_call c) {
      c.dst = received.data(); // not in the arena
      return shardrt_gather(channel, &c, count, root);
    });
    if (group.index == root && received != expected)
      throw Failure{cat("gather on ", group.name, ": the root received something else")};
  }

  void runAll(const Group &group, DType dtype) {
    for (shardrt_reduce reduce : {SHARDRT_SUM, SHARDRT_MAX, SHARDRT_MIN, SHARDRT_PROD}) {
      allReduce(group, dtype, reduce, 37, false);
      allReduce(group, dtype, reduce, 37, true);
      reduceScatter(group, dtype, reduce, 3, 10);
    }
    allReduce(group, dtype, SHARDRT_SUM, 0, false);
    for (int64_t total : {1, 5, 8, 9})
      for (int64_t outer : {1, 3}) {
        allGather(group, dtype, outer, total);
        reduceScatter(group, dtype, SHARDRT_SUM, outer, total);
      }
    allToAll(group, dtype, {4, 8}, 0, 1);
    allToAll(group, dtype, {5, 2, 7, 3}, 2, 0);
    allToAll(group, dtype, {5, 2, 7, 3}, 0, 2);
    allToAll(group, dtype, {1, 9}, 1, 0);
    std::vector<int> ring;
    for (int i = 0; i < group.size(); ++i)
      ring.insert(ring.end(), {i, (i + 1) % group.size()});
    permute(group, dtype, 11, ring);
    permute(group, dtype, 11, {0, group.size() - 1});
    for (int root : {0, group.size() - 1}) {
      broadcast(group, dtype, 13, root, false);
      broadcast(group, dtype, 13, root, true);
      gather(group, dtype, 13, root);
    }
    require(shardrt_barrier(channel, group.id), "barrier");
  }

  /// Beyond the size of the short cuts for small messages.
  void runLarge() {
    const Group &world = groups[0];
    allReduce(world, SHARDRT_F32, SHARDRT_SUM, 20001, false);
    allReduce(world, SHARDRT_BF16, SHARDRT_SUM, 40003, true);
    allReduce(world, SHARDRT_F16, SHARDRT_SUM, 20000, false);
    allReduce(world, SHARDRT_I8, SHARDRT_SUM, 50001, true);
    allReduce(groups[1], SHARDRT_F64, SHARDRT_MAX, 9999, false);
    allGather(world, SHARDRT_F32, 7, 3001);
    reduceScatter(world, SHARDRT_F32, SHARDRT_SUM, 7, 3001);
  }

  /// Several calls under way, on different groups and on the same, completed in another order; a
  /// call without a ticket stays behind those of its group.
  void runTickets() {
    const int64_t count = 5000;
    const Group &world = groups[0], &rows = groups[1], &columns = groups[2];
    float *base = reinterpret_cast<float *>(src), *out = reinterpret_cast<float *>(dst);
    for (int round = 0; round < 20; ++round) {
      for (int64_t i = 0; i < 4 * count; ++i)
        base[i] = static_cast<float>(rank + 1 + round);
      auto start = [&](const Group &group, int slot, int64_t ticket) {
        shardrt_call call = {group.id, ticket, SHARDRT_F32, base + slot * count,
                             out + slot * count};
        require(shardrt_all_reduce(channel, &call, SHARDRT_SUM, count), "started all_reduce");
      };
      start(world, 0, 7);
      start(rows, 1, 8);
      start(world, 2, 9);
      start(columns, 3, SHARDRT_NO_TICKET);
      shardrt_call chained = {world.id, SHARDRT_NO_TICKET, SHARDRT_F32, out,
                              out}; // needs ticket 7's result
      require(shardrt_all_reduce(channel, &chained, SHARDRT_MAX, count), "chained all_reduce");
      for (int64_t ticket : {9, 7, 8})
        require(shardrt_wait(channel, ticket), "wait");
      expectAll(world, out, count, round);
      expectAll(rows, out + count, count, round);
      expectAll(world, out + 2 * count, count, round);
      expectAll(columns, out + 3 * count, count, round);
    }
    if (shardrt_wait(channel, 7) != SHARDRT_INVALID_ARGUMENT)
      throw Failure{"waiting for a ticket twice was accepted"};
  }

  void expectAll(const Group &group, const float *out, int64_t count, int round) {
    float sum = 0;
    for (int member : group.ranks)
      sum += static_cast<float>(member + 1 + round);
    for (int64_t i = 0; i < count; ++i)
      if (out[i] != sum)
        throw Failure{
            cat("ticket on ", group.name, ": element ", i, " is ", out[i], ", expected ", sum)};
  }

  /// Results must not leak between calls that follow each other at once.
  void runManySmall() {
    int64_t *value = reinterpret_cast<int64_t *>(src);
    for (int64_t i = 0; i < 500; ++i) {
      *value = rank + i;
      const Group &group = groups[i % 3];
      shardrt_call call = {group.id, SHARDRT_NO_TICKET, SHARDRT_I64, value, value};
      require(shardrt_all_reduce(channel, &call, SHARDRT_SUM, 1), "small all_reduce");
      int64_t expected = 0;
      for (int member : group.ranks)
        expected += member + i;
      if (*value != expected)
        throw Failure{cat("small all_reduce ", i, " is ", *value, ", expected ", expected)};
    }
  }

  shardrt_channel channel;
  int rank;
  unsigned char *src, *dst;
  std::vector<Group> groups;
  bool forProduct = false;
};

} // namespace

std::string shardrt_test::runConformance(shardrt_channel channel, int rank) {
  try {
    Suite(channel, rank).run();
    return "";
  } catch (const Failure &failure) {
    shardrt_channel_abort(channel, failure.message.c_str());
    return failure.message;
  }
}
