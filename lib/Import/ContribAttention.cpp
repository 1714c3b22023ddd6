//===- ContribAttention.cpp - MultiHeadAttention and Attention of onnxruntime -===//
//
// Both take a bias of the projections, a mask of keys in several forms, a float bias of the scores,
// and past keys and values that the new ones are appended to. Attention makes the projections too,
// from one packed weight. A key that a mask hides gets `mask_filter_value` (-10000) added, as there.
//
//===----------------------------------------------------------------------===//

#include "AttentionParts.h"

#include <cmath>

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

namespace shardc::importer {

/// Adds mask_filter_value where a mask of keys hides one: [batch] lengths, [2 batch] ends and
/// starts (Attention only), [batch, keys] or [batch, queries, keys] of zeros and ones.
static LogicalResult readKeyMask(NodeContext &n, AttentionParts &p, Value mask, bool withStarts) {
  if (!mask)
    return success();
  Type index = n.b.getI64Type();
  int64_t batch = p.batch(), keys = p.keys();
  ArrayRef<int64_t> shape = shapeOf(mask);
  Value numbers = n.cast(mask, index), visible;
  Value key = n.iota({1, 1, 1, keys}, 3, index);
  auto perBatch = [&](int64_t from) {
    return n.reshape(n.slice(numbers, 0, from, batch), {batch, 1, 1, 1});
  };
  if (shape == ArrayRef<int64_t>{batch}) {
    visible = n.compare(Predicate::LT, key, perBatch(0));
  } else if (withStarts && shape == ArrayRef<int64_t>{2 * batch}) {
    visible = n.binary<AndOp>(n.compare(Predicate::LT, key, perBatch(0)),
                              n.compare(Predicate::GE, key, perBatch(batch)));
  } else if (shape == ArrayRef<int64_t>{batch, keys} ||
             shape == ArrayRef<int64_t>{batch, p.queries(), keys}) {
    numbers =
        n.insertDims(numbers, shape.size() == 2 ? ArrayRef<int64_t>{1, 2} : ArrayRef<int64_t>{1});
    visible = n.compare(Predicate::GT, numbers, n.splatLike(numbers, 0));
  } else {
    return n.error() << "mask of shape " << shapeText(shape) << " is none of " << batch
                     << (withStarts ? ", twice as many" : "") << " numbers, "
                     << shapeText({batch, keys}) << " and "
                     << shapeText({batch, p.queries(), keys});
  }
  double filter = n.getFloat("mask_filter_value", -10000);
  auto type = RankedTensorType::get({1, 1, 1, 1}, elementOf(p.query));
  addToMask(n, p, n.select(visible, n.splat(type, 0), n.splat(type, filter)));
  return success();
}

static LogicalResult readBias(NodeContext &n, AttentionParts &p, Value bias) {
  if (!bias)
    return success();
  int64_t full[] = {p.batch(), p.heads(), p.queries(), p.keys()};
  bool fits = rankOf(bias) == 4 && elementOf(bias) == elementOf(p.query);
  for (int64_t d = 0; fits && d < 4; ++d)
    fits = shapeOf(bias)[d] == full[d] || (d < 2 && shapeOf(bias)[d] == 1);
  if (!fits)
    return n.error() << "attention_bias of " << bias.getType() << " does not broadcast to "
                     << shapeText(full);
  addToMask(n, p, bias);
  return success();
}

/// What both operators end with.
static LogicalResult finishAttention(NodeContext &n, AttentionParts &p) {
  double scale = n.getFloat("scale", 0); // zero: the usual one
  p.scale = scale != 0 ? scale : 1 / std::sqrt(static_cast<double>(shapeOf(p.query)[3]));
  p.causal = n.getInt("unidirectional", 0) != 0;
  return n.done(joinHeads(n, attend(n, p)));
}

//===----------------------------------------------------------------------===//
// MultiHeadAttention
//===----------------------------------------------------------------------===//

/// Number `i` of `count` tensors packed as [batch, sequence, heads, count, features].
static Value unpack(NodeContext &n, Value packed, int64_t i) {
  ArrayRef<int64_t> s = shapeOf(packed);
  Value one = n.reshape(n.slice(packed, 3, i, 1), {s[0], s[1], s[2], s[4]});
  return n.transpose(one, {0, 2, 1, 3});
}

/// x [batch, sequence, features] plus its part of the bias.
static FailureOr<Value> addBias(NodeContext &n, Value x, Value bias, int64_t from, StringRef what) {
  if (!bias)
    return x;
  int64_t size = shapeOf(x)[2];
  if (rankOf(bias) != 1 || from + size > shapeOf(bias)[0])
    return n.error() << "bias of shape " << shapeText(shapeOf(bias)) << " does not hold " << size
                     << " numbers for " << what << " from " << from << " on";
  return n.binary<AddOp>(x, n.slice(bias, 0, from, size));
}

static LogicalResult readPacked(NodeContext &n, AttentionParts &p, Value bias) {
  Value q = n.input(0), k = n.input(1);
  Value packed = k ? k : q;
  int64_t heads = n.getInt("num_heads", 0), count = k ? 2 : 3;
  if (rankOf(packed) != 5 || shapeOf(packed)[2] != heads || shapeOf(packed)[3] != count)
    return n.error() << "packed operand has shape " << shapeText(shapeOf(packed))
                     << ", expected [batch, sequence, " << heads << ", " << count << ", features]";
  if (bias)
    return n.error() << "a bias of packed operands is not supported";
  if (!k) {
    p.query = unpack(n, q, 0);
  } else {
    FailureOr<Value> query = splitHeads(n, q, heads, "query");
    if (failed(query))
      return failure();
    p.query = *query;
  }
  p.key = unpack(n, packed, count - 2);
  p.value = unpack(n, packed, count - 1);
  return success();
}

static LogicalResult readSeparate(NodeContext &n, AttentionParts &p, Value bias) {
  Value q = n.input(0), k = n.input(1), v = n.input(2);
  int64_t heads = n.getInt("num_heads", 0);
  if (failed(n.checkRank(q, 3, "query")))
    return failure();
  FailureOr<Value> query = addBias(n, q, bias, 0, "query");
  if (failed(query) || failed(query = splitHeads(n, *query, heads, "query")))
    return failure();
  p.query = *query;
  if (rankOf(k) == 4 && rankOf(v) == 4) { // cross attention: heads already, without a bias
    p.key = k;
    p.value = v;
    return success();
  }
  if (failed(n.checkRank(k, 3, "key")) || failed(n.checkRank(v, 3, "value")))
    return failure();
  int64_t width = shapeOf(q)[2];
  FailureOr<Value> key = addBias(n, k, bias, width, "key"),
                   value = addBias(n, v, bias, width + shapeOf(k)[2], "value");
  if (failed(key) || failed(value) || failed(key = splitHeads(n, *key, heads, "key")) ||
      failed(value = splitHeads(n, *value, heads, "value")))
    return failure();
  p.key = *key;
  p.value = *value;
  return success();
}

static LogicalResult importMultiHeadAttention(NodeContext &n) {
  AttentionParts p;
  Value k = n.input(1), v = n.input(2), bias = n.input(3), pastKey = n.input(6),
        pastValue = n.input(7);
  if (!k && v)
    return n.error() << "has a value, but no key";
  if (failed(k && v ? readSeparate(n, p, bias) : readPacked(n, p, bias)))
    return failure();
  if (!pastKey != !pastValue)
    return n.error() << "has only one of past_key and past_value";
  if (pastKey) {
    FailureOr<Value> key = appendPast(n, pastKey, p.key, "past_key"),
                     value = appendPast(n, pastValue, p.value, "past_value");
    if (failed(key) || failed(value))
      return failure();
    p.offset = shapeOf(pastKey)[2];
    p.key = *key;
    p.value = *value;
  }
  n.set(1, p.key);
  n.set(2, p.value);
  if (failed(checkAttention(n, p)) || failed(readBias(n, p, n.input(5))) ||
      failed(readKeyMask(n, p, n.input(4), /*withStarts=*/false)))
    return failure();
  return finishAttention(n, p);
}

//===----------------------------------------------------------------------===//
// Attention: with its projections
//===----------------------------------------------------------------------===//

/// Past and present are [2, batch, heads, sequence, features]: keys, then values.
static LogicalResult readPackedPast(NodeContext &n, AttentionParts &p) {
  auto stack = [&](Value key, Value value) {
    return n.concat({n.insertDims(key, {0}), n.insertDims(value, {0})}, 0);
  };
  Value past = n.input(4);
  if (!past) {
    if (n.wants(1))
      n.set(1, stack(p.key, p.value));
    return success();
  }
  Value fresh = stack(p.key, p.value);
  bool fits = rankOf(past) == 5;
  for (int64_t d : {0, 1, 2, 4})
    fits = fits && shapeOf(past)[d] == shapeOf(fresh)[d];
  if (!fits)
    return n.error() << "past of shape " << shapeText(shapeOf(past)) << " does not precede "
                     << shapeText(shapeOf(fresh));
  p.offset = shapeOf(past)[3];
  Value present = n.concat({past, fresh}, 3);
  auto part = [&](int64_t i) {
    return n.reshape(n.slice(present, 0, i, 1), shapeOf(present).drop_front());
  };
  p.key = part(0);
  p.value = part(1);
  n.set(1, present);
  return success();
}

static LogicalResult importPackedAttention(NodeContext &n) {
  Value x = n.input(0), weights = n.input(1), bias = n.input(2);
  if (failed(n.checkRank(x, 3, "input")) || failed(n.checkRank(weights, 2, "weights")))
    return failure();
  if (shapeOf(x)[2] != shapeOf(weights)[0])
    return n.error() << "input contracts size " << shapeOf(x)[2] << ", weights "
                     << shapeOf(weights)[0];
  int64_t all = shapeOf(weights)[1], heads = n.getInt("num_heads", 0);
  Shape sizes = n.getInts("qkv_hidden_sizes").value_or(Shape{all / 3, all / 3, all / 3});
  if (sizes.size() != 3 || sizes[0] < 1 || sizes[1] != sizes[0] || sizes[2] < 1 ||
      sizes[0] + sizes[1] + sizes[2] != all)
    return n.error() << "weights of shape " << shapeText(shapeOf(weights))
                     << " do not hold query, key and value of sizes " << shapeText(sizes);
  Value packed = n.matmul(x, weights);
  if (bias) {
    if (shapeOf(bias) != ArrayRef<int64_t>{all})
      return n.error() << "bias has shape " << shapeText(shapeOf(bias)) << ", expected [" << all
                       << "]";
    packed = n.binary<AddOp>(packed, bias);
  }
  AttentionParts p;
  int64_t from = 0;
  for (auto [part, size, what] :
       {std::tuple(&p.query, sizes[0], "query"), std::tuple(&p.key, sizes[1], "key"),
        std::tuple(&p.value, sizes[2], "value")}) {
    FailureOr<Value> split = splitHeads(n, n.slice(packed, 2, from, size), heads, what);
    if (failed(split))
      return failure();
    *part = *split;
    from += size;
  }
  if (failed(readPackedPast(n, p)) || failed(checkAttention(n, p)) ||
      failed(readBias(n, p, n.input(5))) ||
      failed(readKeyMask(n, p, n.input(3), /*withStarts=*/true)))
    return failure();
  return finishAttention(n, p);
}

void addContribAttention(OperatorTable &table) {
  static const Settings multiHead{{"num_heads", "mask_filter_value", "scale", "unidirectional"},
                                  {},
                                  {"num_heads"},
                                  {{8, "past_sequence_length"}, {9, "cache_indirection"}}};
  static const Settings packed{{"num_heads", "mask_filter_value", "scale", "unidirectional",
                                "qkv_hidden_sizes", "rotary_embedding_dim"},
                               {{"do_rotary", "0"}, {"past_present_share_buffer", "0"}},
                               {"num_heads"},
                               {{6, "past_sequence_length"}}};
  table[operatorKey(kContribDomain, "MultiHeadAttention")] = {importMultiHeadAttention, 1,
                                                              &multiHead};
  table[operatorKey(kContribDomain, "Attention")] = {importPackedAttention, 2, &packed};
}

} // namespace shardc::importer
