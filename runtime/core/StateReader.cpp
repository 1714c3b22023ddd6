// Buckets and states of program.json.
//   1. A bucket's items lie inside it and do not overlap; its length is the same on all ranks.
//   2. Every part of a tensor has one home, or loading would be fine and saving ambiguous.
//   3. A state with a bucket has exactly the bucket's elements, or a rank's part of them.
#include "runtime/core/BucketRuns.h"
#include "runtime/core/Convert.h"
#include "runtime/core/ProgramReader.h"

#include <algorithm>
#include <map>
#include <set>

using namespace shardrt;

static const char *const roleNames[] = {"parameter", "exp_avg",           "exp_avg_sq", "momentum",
                                        "gradient",  "compute_parameter", "scalar"};

const char *shardrt::roleName(StateRole role) { return roleNames[static_cast<int>(role)]; }

bool shardrt::isSaved(StateRole role) {
  return role != StateRole::Gradient && role != StateRole::ComputeParameter;
}

static StateRole readRole(const JsonNode &node) {
  std::string name = node.string();
  for (size_t i = 0; i < std::size(roleNames); ++i)
    if (name == roleNames[i])
      return static_cast<StateRole>(i);
  node.fail(cat("unknown role \"", name, "\""));
}

static int64_t localCount(const BucketItem &item) {
  return *checkedCount(localShape(item.shape, item.sharding));
}

static BucketItem readItem(const JsonNode &node, const Mesh &mesh, const Bucket &bucket) {
  BucketItem item;
  item.tensor = node.get("tensor").string();
  item.dtype = node.get("dtype").dtype();
  item.shape = node.get("shape").shape();
  item.segment = readSegment(node, item.shape);
  item.sharding = readSharding(node.get("shard"), mesh, item.shape);
  item.offset = node.get("offset").integer(0);
  if (item.dtype != bucket.dtype && !(isFloat(item.dtype) && isFloat(bucket.dtype)))
    node.get("dtype").fail(cat("\"", item.tensor, "\" is ", dtypeName(item.dtype),
                               ", which does not convert to the bucket's ",
                               dtypeName(bucket.dtype)));
  std::optional<int64_t> count = checkedCount(localShape(item.shape, item.sharding));
  std::optional<int64_t> last = checkedAdd(item.offset, count.value_or(-1));
  if (!checkedBytes(item.shape, SHARDRT_F64) || !last || *last > bucket.length)
    node.fail(cat("\"", item.tensor, "\" at ", item.offset, " with ",
                  count ? std::to_string(*count) : "too many",
                  " elements ends beyond the bucket of ", bucket.length));
  return item;
}

static Bucket readBucket(const JsonNode &node, const Mesh &mesh) {
  Bucket bucket;
  bucket.name = node.get("name").string();
  bucket.dtype = node.get("dtype").dtype();
  bucket.length = node.get("length").integer(0, int64_t(1) << 48);
  bucket.shard = readSubAxes(node.get("shard"), mesh);
  checkDisjoint(node.get("shard"), bucket.shard, mesh);
  if (bucket.length % sizeOf(bucket.shard) != 0)
    node.get("length").fail(cat("length ", bucket.length, " of bucket \"", bucket.name,
                                "\" is not a multiple of its ", sizeOf(bucket.shard), " shards"));
  JsonNode items = node.get("items");
  for (size_t i = 0; i < items.size(); ++i)
    bucket.items.push_back(readItem(items.at(i), mesh, bucket));
  std::sort(bucket.items.begin(), bucket.items.end(),
            [](const BucketItem &a, const BucketItem &b) { return a.offset < b.offset; });
  for (size_t i = 1; i < bucket.items.size(); ++i)
    if (const BucketItem &item = bucket.items[i], &before = bucket.items[i - 1];
        item.offset < before.offset + localCount(before))
      items.fail(cat("\"", item.tensor, "\" begins at ", item.offset, ", \"", before.tensor,
                     "\" ends at ", before.offset + localCount(before)));
  for (const BucketItem &item : bucket.items)
    for (const SubAxes &axes : item.sharding)
      for (const SubAxis &sub : axes)
        for (const SubAxis &own : bucket.shard)
          if (overlap(sub, own))
            node.fail(cat("\"", item.tensor, "\" and the bucket \"", bucket.name,
                          "\" are both sharded over axis \"", mesh.axes[sub.axis].name, "\""));
  return bucket;
}

/// Two items may hold a tensor only as different segments of one dimension.
static void checkHomes(const JsonNode &node, const std::vector<Bucket> &buckets) {
  struct Home {
    size_t bucket;
    const BucketItem *item;
  };
  std::map<std::string, std::vector<Home>> homes;
  for (size_t b = 0; b < buckets.size(); ++b)
    for (const BucketItem &item : buckets[b].items) {
      for (const Home &home : homes[item.tensor]) {
        const Segment &mine = item.segment, &other = home.item->segment;
        bool apart =
            mine.dim >= 0 && mine.dim == other.dim &&
            (mine.offset + mine.size <= other.offset || other.offset + other.size <= mine.offset);
        if (!apart)
          node.at(b).fail(cat("\"", item.tensor, "\" in bucket \"", buckets[b].name,
                              "\" overlaps its part in bucket \"", buckets[home.bucket].name,
                              "\""));
        Shape a = item.shape, c = home.item->shape;
        if (a.size() == c.size())
          a[mine.dim] = c[mine.dim] = 0;
        if (a != c || item.dtype != home.item->dtype)
          node.at(b).fail(cat("\"", item.tensor, "\" has segments ", shapeString(item.shape), " ",
                              dtypeName(item.dtype), " and ", shapeString(home.item->shape), " ",
                              dtypeName(home.item->dtype), ", which are not of one tensor"));
      }
      homes[item.tensor].push_back({b, &item});
    }
}

std::vector<Bucket> shardrt::readBuckets(const JsonNode &node, const Mesh &mesh) {
  std::vector<Bucket> buckets;
  for (size_t i = 0; i < node.size(); ++i)
    buckets.push_back(readBucket(node.at(i), mesh));
  checkHomes(node, buckets);
  return buckets;
}

static bool beginsWith(const SubAxes &axes, const SubAxes &first) {
  return first.size() <= axes.size() && std::equal(first.begin(), first.end(), axes.begin());
}

static void checkElements(const JsonNode &node, const State &state, const Program &program) {
  const Buffer &buffer = program.buffers[state.buffer];
  const Bucket &bucket = program.buckets[state.bucket];
  if (!beginsWith(bucket.shard, state.shard))
    node.get("shard").fail(cat("state \"", state.name,
                               "\" is not cut over the first axes of bucket \"", bucket.name,
                               "\""));
  int64_t wanted = heldLength(bucket, state.shard);
  if (int64_t count = *checkedCount(buffer.shape); count != wanted)
    node.get("buffer").fail(cat("buffer \"", buffer.name, "\" has ", count, " elements, ",
                                state.shard.empty() ? "the whole" : "a shard", " of bucket \"",
                                bucket.name, "\" has ", wanted));
  if (buffer.dtype != bucket.dtype && !(isFloat(buffer.dtype) && isFloat(bucket.dtype)))
    node.get("buffer").fail(cat("buffer \"", buffer.name, "\" is ", dtypeName(buffer.dtype),
                                ", bucket \"", bucket.name, "\" is ", dtypeName(bucket.dtype)));
}

static State readState(const JsonNode &node, const Mesh &mesh, const Program &program) {
  State state;
  state.name = node.get("name").string();
  state.buffer = node.get("buffer").index(program.buffers.size(), "buffer");
  state.role = readRole(node.get("role"));
  state.bucket =
      node.has("bucket") ? node.get("bucket").index(program.buckets.size(), "bucket") : -1;
  if (state.bucket >= 0)
    state.shard = readSubAxes(node.get("shard"), mesh);
  const Buffer &buffer = program.buffers[state.buffer];
  if (buffer.kind != BufferKind::State)
    node.get("buffer").fail(cat("buffer \"", buffer.name, "\" is not of kind state"));
  if (state.bucket >= 0)
    checkElements(node, state, program);
  else if (state.role != StateRole::Scalar && state.role != StateRole::Gradient)
    node.fail(cat("state \"", state.name, "\" of role ", roleName(state.role), " has no bucket"));
  return state;
}

std::vector<State> shardrt::readStates(const JsonNode &node, const Mesh &mesh,
                                       const Program &program) {
  std::vector<State> states;
  std::set<std::string> names;
  std::set<std::pair<int, StateRole>> kinds;
  for (size_t i = 0; i < node.size(); ++i) {
    states.push_back(readState(node.at(i), mesh, program));
    const State &state = states.back();
    if (!names.insert(state.name).second)
      node.at(i).get("name").fail(cat("state \"", state.name, "\" appears twice"));
    if (state.bucket >= 0 && isSaved(state.role) &&
        !kinds.insert({state.bucket, state.role}).second)
      node.at(i).fail(cat("bucket \"", program.buckets[state.bucket].name,
                          "\" has two states of role ", roleName(state.role)));
  }
  return states;
}
