#include "TrainingBundle.h"

using namespace shardrt_test;

namespace {
const int length = 128, biasAt = 64;

/// Buffers and commands; an entry is put together from the pieces of a step.
class Maker {
public:
  explicit Maker(const TrainingSetup &setup)
      : setup(setup), builder({{"dp_shard", setup.dp}, {"tp", setup.tp}}) {
    makeStates();
    makeConstants();
    builder.program["entries"] = Json::array();
    builder.manifest["entry_points"] = Json::array();
    if (setup.hasStep)
      makeStep();
    makePieces();
    describe();
  }

  TrainingSetup setup;
  BundleBuilder builder;

private:
  Json dpAxes() { return Json::array({BundleBuilder::axis(0, setup.dp)}); }
  Json tpAxes() { return Json::array({BundleBuilder::axis(1, setup.tp)}); }
  int rows() { return (setup.vocabulary + setup.tp - 1) / setup.tp; }
  int temporary(const std::string &name, int count) {
    return builder.buffer(name, "f32", {count}, "temporary");
  }

  int state(const std::string &name, const std::string &role, int count, bool hasBucket = true) {
    int buffer = builder.buffer(name, "f32", {count}, "state");
    builder.program["states"].push_back({{"name", name},
                                         {"buffer", buffer},
                                         {"role", role},
                                         {"bucket", hasBucket ? Json(0) : Json()},
                                         {"shard", count != length ? dpAxes() : Json::array()}});
    return buffer;
  }

  void makeStates() {
    auto item = [](const char *tensor, int size, const Json &shard, int offset) {
      return Json{{"tensor", tensor}, {"shape", {size}},  {"segment", nullptr},
                  {"shard", shard},   {"offset", offset}, {"dtype", "f32"}};
    };
    builder.program["buckets"] = Json::array(
        {{{"name", "table"},
          {"dtype", "f32"},
          {"length", length},
          {"shard", dpAxes()},
          {"items", Json::array({item("table.weight", setup.vocabulary, Json::array({tpAxes()}), 0),
                                 item("head.bias", 3, Json::array({Json::array()}), biasAt)})}}});
    builder.program["states"] = Json::array();
    int part = length / setup.dp;
    parameters = state("parameters", "parameter", part);
    momentum = state("momentum", "momentum", part);
    reduced = state("reduced", "gradient", part);
    gradients = state("gradients", "gradient", length);
    if (part == length) // one shard: cut over an axis of size 1 all the same
      for (int i : {0, 1, 2})
        builder.program["states"][i]["shard"] = dpAxes();
    counted = state("counted", "gradient", 1, /*hasBucket=*/false);
    if (setup.isGathered)
      gathered = state("gathered", "compute_parameter", length);
  }

  void makeConstants() {
    int64_t local = setup.sequences / setup.dp * setup.length;
    std::vector<int64_t> values = {
        local, int64_t(setup.sequences) * setup.length, rows(), length, biasAt, length / setup.dp};
    sizes = builder.buffer("sizes", "i64", {6}, "constant");
    builder.constants = rawBytes(values);
    builder.program["constants"] = Json::array({{{"buffer", sizes}, {"offset", 0}, {"bytes", 48}}});
    part = builder.buffer("part", "i64", {1}, "axis_index");
    rank = builder.buffer("rank", "i64", {1}, "axis_index");
    Json all = Json::array({dpAxes()[0], tpAxes()[0]});
    builder.program["axis_indices"] =
        Json::array({{{"buffer", part}, {"axes", tpAxes()}}, {{"buffer", rank}, {"axes", all}}});
    dpGroup = builder.group(dpAxes());
    tpGroup = builder.group(tpAxes());
    world = builder.group(all);
    ids = builder.buffer("ids", "i64", {setup.sequences / setup.dp, setup.length}, "input");
    labels = builder.buffer("labels", "i64", {setup.sequences / setup.dp, setup.length}, "input");
    rate = builder.buffer("rate", "f32", {}, "input");
    loss = builder.buffer("loss", "f32", {}, "output");
    tokens = builder.buffer("tokens", "f32", {}, "output");
    norm = builder.buffer("norm", "f32", {}, "output");
    full = gathered >= 0 ? gathered : temporary("full", length);
    fresh = temporary("fresh", length);
    freshBias = builder.buffer("freshBias", "f32", {3}, "temporary"); // a view of `fresh`
    builder.program["buffers"][freshBias]["offset"] =
        builder.program["buffers"][fresh]["offset"].get<int>() + biasAt * 4;
    squares = temporary("squares", 1);
    square = temporary("square", 1);
  }

  void batchInputs() {
    Json shard = Json::array({dpAxes(), Json::array()});
    builder.input("input_ids", ids, {setup.sequences, setup.length}, shard);
    builder.input("labels", labels, {setup.sequences, setup.length}, shard);
  }
  void scalar(const std::string &name, int buffer) {
    builder.output(name, buffer, {}, Json::array());
  }
  void allReduce(int group, int src, int dst, int count) {
    builder.command({{"op", "all_reduce"},
                     {"group", group},
                     {"reduce", "sum"},
                     {"dtype", "f32"},
                     {"src", src},
                     {"dst", dst},
                     {"count", count}});
  }
  void gather() {
    builder.command({{"op", "all_gather"},
                     {"group", dpGroup},
                     {"dtype", "f32"},
                     {"src", parameters},
                     {"dst", full},
                     {"outer", 1},
                     {"inner", length / setup.dp},
                     {"total", length},
                     {"ticket", 1}});
    builder.command({{"op", "wait"}, {"ticket", 1}});
  }
  void forwardBackward() {
    if (!setup.isGathered)
      gather();
    if (!setup.extraKernel.empty())
      builder.launch(setup.extraKernel, {rank}, 1, 0, 0);
    builder.launch("test_table_gradient", {ids, labels, full, sizes, part, loss, tokens, fresh}, 1,
                   0, 3);
    allReduce(tpGroup, freshBias, freshBias, 3);
    allReduce(world, loss, loss, 1);
    allReduce(world, tokens, tokens, 1);
  }
  void reduceGradients(int source) {
    builder.command({{"op", "reduce_scatter"},
                     {"group", dpGroup},
                     {"reduce", "sum"},
                     {"dtype", "f32"},
                     {"src", source},
                     {"dst", reduced},
                     {"outer", 1},
                     {"inner", length / setup.dp},
                     {"total", length}});
  }
  void optimize(int count) {
    int tiles = length / setup.dp / 4;
    builder.launch("test_square_sum", {reduced, count, sizes, squares}, 1);
    allReduce(dpGroup, squares, square, 1);
    builder.launch("test_root", {square, norm}, 1);
    builder.launch("test_momentum", {reduced, count, rate, parameters, momentum}, tiles, 0, 2);
    if (setup.isGathered)
      gather();
  }

  void makeStep() {
    builder.beginEntry("step");
    batchInputs();
    builder.input("learning_rate", rate, {}, Json::array());
    scalar("loss", loss);
    scalar("tokens", tokens);
    scalar("grad_norm", norm);
    forwardBackward();
    reduceGradients(fresh);
    optimize(tokens);
  }

  void makePieces() {
    builder.beginEntry("forward_backward");
    batchInputs();
    scalar("loss", loss);
    scalar("tokens", tokens);
    forwardBackward();
    builder.launch("test_add", {gradients, fresh, gradients}, length / 4);
    builder.launch("test_add", {counted, tokens, counted}, 1);
    builder.beginEntry("finish_grad_sync");
    reduceGradients(gradients);
    builder.beginEntry("optimizer_step");
    builder.input("learning_rate", rate, {}, Json::array());
    scalar("grad_norm", norm);
    optimize(counted);
    builder.beginEntry("zero_grad");
    builder.launch("test_zero", {gradients}, length / 4);
    builder.launch("test_zero", {counted}, 1);
    if (setup.isGathered) {
      builder.beginEntry("gather");
      gather();
    }
  }

  void describe() {
    builder.manifest["training"] = {
        {"optimizer",
         {{"name", "sgd"},
          {"momentum", 0.5},
          {"learning_rate", 0.5},
          {"schedule",
           {{"name", "constant"}, {"warmup_steps", 0}, {"decay_steps", 0}, {"minimum", 0.0}}}}},
        {"batch",
         {{"inputs", {"input_ids"}},
          {"labels", "labels"},
          {"sequences", setup.sequences},
          {"length", setup.length}}},
        {"accumulation", 1},
        {"vocabulary", setup.vocabulary}};
    std::vector<float> table(setup.vocabulary), bias = {0.25f, -0.5f, 1};
    for (int i = 0; i < setup.vocabulary; ++i)
      table[i] = static_cast<float>(i % 4) / 2;
    builder.weights["table.weight"] = {"F32", {setup.vocabulary}, rawBytes(table)};
    builder.weights["head.bias"] = {"F32", {3}, rawBytes(bias)};
  }

  int parameters, momentum, reduced, gradients, counted, gathered = -1;
  int sizes, part, rank, ids, labels, rate, loss, tokens, norm, full, fresh, freshBias, squares,
      square, dpGroup, tpGroup, world;
};
} // namespace

BundleBuilder shardrt_test::trainingBundle(const TrainingSetup &setup) {
  return Maker(setup).builder;
}
