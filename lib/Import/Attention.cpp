//===- Attention.cpp - Attention and RotaryEmbedding of opset 23 and later -===//
//
// Attention is graph.attention: its order (scale, soft cap, mask, softmax in f32; a row that sees
// no key gives zeros) is the one that the standard's reference implementation defines. Masks that
// depend on values (valid lengths of a cache) are made bool or float masks. The fourth output
// (scores) is computed beside it, from the same operands.
//
//===----------------------------------------------------------------------===//

#include "AttentionParts.h"

#include <cmath>

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

namespace shardc::importer {

FailureOr<Value> splitHeads(NodeContext &n, Value x, int64_t heads, StringRef what) {
  ArrayRef<int64_t> shape = shapeOf(x);
  if (heads < 1 || shape[2] % heads)
    return n.error() << heads << " heads do not divide " << shape[2] << " features of " << what;
  return n.transpose(n.reshape(x, {shape[0], shape[1], heads, shape[2] / heads}), {0, 2, 1, 3});
}

Value joinHeads(NodeContext &n, Value x) {
  ArrayRef<int64_t> shape = shapeOf(x);
  return n.reshape(n.transpose(x, {0, 2, 1, 3}), {shape[0], shape[2], shape[1] * shape[3]});
}

static LogicalResult readHeads(NodeContext &n, AttentionParts &p) {
  p.query = n.input(0);
  p.key = n.input(1);
  p.value = n.input(2);
  p.isRank3 = rankOf(p.query) == 3;
  int64_t rank = p.isRank3 ? 3 : 4;
  if (failed(n.checkRank(p.query, rank, "Q")) || failed(n.checkRank(p.key, rank, "K")) ||
      failed(n.checkRank(p.value, rank, "V")))
    return failure();
  if (!p.isRank3)
    return success();
  FailureOr<Value> q = splitHeads(n, p.query, n.getInt("q_num_heads", 0), "Q"),
                   k = splitHeads(n, p.key, n.getInt("kv_num_heads", 0), "K"),
                   v = splitHeads(n, p.value, n.getInt("kv_num_heads", 0), "V");
  if (failed(q) || failed(k) || failed(v))
    return failure();
  p.query = *q;
  p.key = *k;
  p.value = *v;
  return success();
}

FailureOr<Value> appendPast(NodeContext &n, Value past, Value fresh, StringRef what) {
  bool fits = rankOf(past) == 4;
  for (int64_t d : {0, 1, 3})
    fits = fits && shapeOf(past)[d] == shapeOf(fresh)[d];
  if (!fits)
    return n.error() << what << " of shape " << shapeText(shapeOf(past)) << " does not precede "
                     << shapeText(shapeOf(fresh));
  return n.concat({past, fresh}, 2);
}

/// Puts the cached keys and values before the new ones.
static LogicalResult readPast(NodeContext &n, AttentionParts &p) {
  Value pastKey = n.input(4), pastValue = n.input(5);
  if (!pastKey != !pastValue)
    return n.error() << "has only one of past_key and past_value";
  if (!pastKey)
    return success();
  FailureOr<Value> key = appendPast(n, pastKey, p.key, "past_key"),
                   value = appendPast(n, pastValue, p.value, "past_value");
  if (failed(key) || failed(value))
    return failure();
  p.offset = shapeOf(pastKey)[2];
  p.key = *key;
  p.value = *value;
  return success();
}

/// The mask as rank 4 with as many keys as there are; what it does not cover is hidden.
static LogicalResult readMask(NodeContext &n, AttentionParts &p) {
  p.mask = n.input(3);
  if (!p.mask)
    return success();
  if (rankOf(p.mask) < 1 || rankOf(p.mask) > 4)
    return n.error() << "mask has shape " << shapeText(shapeOf(p.mask));
  Shape shape(shapeOf(p.mask));
  shape.insert(shape.begin(), 4 - shape.size(), 1);
  p.mask = n.reshape(p.mask, shape);
  int64_t missing = p.keys() - shape[3];
  bool isBool = elementOf(p.mask).isInteger(1);
  if (missing > 0 && shape[3] != 1)
    p.mask = n.pad(p.mask, {0, 0, 0, 0}, {0, 0, 0, missing}, isBool ? 0 : -INFINITY);
  int64_t full[] = {p.batch(), shapeOf(p.query)[1], p.queries(), p.keys()};
  for (int64_t d = 0; d < 4; ++d)
    if (shapeOf(p.mask)[d] != 1 && shapeOf(p.mask)[d] != full[d])
      return n.error() << "mask of shape " << shapeText(shapeOf(n.input(3)))
                       << " does not broadcast to " << shapeText(full);
  return success();
}

void restrictMask(NodeContext &n, AttentionParts &p, Value allowed) {
  if (!p.mask)
    p.mask = allowed;
  else if (elementOf(p.mask).isInteger(1))
    p.mask = n.binary<AndOp>(p.mask, allowed);
  else
    p.mask = n.select(allowed, p.mask,
                      n.splat(typeOf(p.mask).clone(ArrayRef<int64_t>{1, 1, 1, 1}), -INFINITY));
}

void addToMask(NodeContext &n, AttentionParts &p, Value added) {
  bool isBool = p.mask && elementOf(p.mask).isInteger(1);
  Value before = p.mask;
  p.mask = before && !isBool ? n.binary<AddOp>(before, added) : added;
  if (isBool)
    restrictMask(n, p, before);
}

/// Hides keys beyond each batch entry's valid length, which without a cache is also where its
/// queries end.
static LogicalResult applyLengths(NodeContext &n, AttentionParts &p) {
  Value lengths = n.input(6);
  if (!lengths)
    return success();
  if (shapeOf(lengths) != ArrayRef<int64_t>{p.batch()})
    return n.error() << "nonpad_kv_seqlen has shape " << shapeText(shapeOf(lengths))
                     << ", the batch has size " << p.batch();
  Type index = n.b.getI64Type();
  Value perBatch = n.reshape(n.cast(lengths, index), {p.batch(), 1, 1, 1});
  restrictMask(n, p, n.compare(Predicate::LT, n.iota({1, 1, 1, p.keys()}, 3, index), perBatch));
  if (!n.input(4))
    p.ends = perBatch;
  return success();
}

/// The position of each query among the keys: [batch or 1, 1, queries, 1].
static Value queryPositions(NodeContext &n, const AttentionParts &p) {
  Value query = n.iota({1, 1, p.queries(), 1}, 2, n.b.getI64Type());
  if (!p.ends)
    return n.binary<AddOp>(query, static_cast<double>(p.offset));
  return n.binary<AddOp>(query, n.binary<SubOp>(p.ends, static_cast<double>(p.queries())));
}

/// left/right_window_size (opset 25): keys within [query - left, query + right]. Causal attention
/// whose queries end at lengths that are values becomes a mask too.
static LogicalResult applyWindow(NodeContext &n, AttentionParts &p) {
  int64_t left = n.getInt("left_window_size", -1), right = n.getInt("right_window_size", -1);
  if (left < -1 || right < -1)
    return n.error() << "window sizes " << left << " and " << right << " are below -1";
  p.causal |= right == 0; // nothing ahead
  bool isWide = left < 0 || left >= p.keys() + p.queries();
  if (p.causal && !p.ends) {
    p.window = isWide ? 0 : left + 1;
    return success();
  }
  Value query = queryPositions(n, p), key = n.iota({1, 1, 1, p.keys()}, 3, n.b.getI64Type());
  if (left >= 0)
    restrictMask(n, p,
                 n.compare(Predicate::GE, key, n.binary<SubOp>(query, static_cast<double>(left))));
  if (p.causal)
    right = 0;
  if (right >= 0)
    restrictMask(n, p,
                 n.compare(Predicate::LE, key, n.binary<AddOp>(query, static_cast<double>(right))));
  p.causal = false;
  return success();
}

/// Every key/value head once for each query head that reads it.
static Value repeatHeads(NodeContext &n, Value x, int64_t heads) {
  ArrayRef<int64_t> s = shapeOf(x);
  if (s[1] == heads)
    return x;
  Value wide = n.broadcast(x, {0, 1, 3, 4}, {s[0], s[1], heads / s[1], s[2], s[3]});
  return n.reshape(wide, {s[0], heads, s[2], s[3]});
}

/// The scores after the step that `qk_matmul_output_mode` names.
static Value scores(NodeContext &n, const AttentionParts &p, int64_t mode) {
  int64_t heads = shapeOf(p.query)[1];
  Type element = elementOf(p.query), wide = element.isF64() ? element : Type(n.b.getF32Type());
  Value s = n.einsum(n.cast(p.query, wide), "bhqd", n.cast(repeatHeads(n, p.key, heads), wide),
                     "bhkd", "bhqk");
  s = n.binary<MulOp>(s, p.scale);
  if (mode == 0)
    return n.cast(s, element);
  if (p.softcap > 0)
    s = n.binary<MulOp>(n.create<TanhOp>(n.binary<DivOp>(s, p.softcap)), p.softcap);
  if (mode == 1)
    return n.cast(s, element);
  Value minus = n.splatLike(s, -INFINITY);
  if (p.mask && elementOf(p.mask).isInteger(1))
    s = n.select(p.mask, s, minus);
  else if (p.mask)
    s = n.binary<AddOp>(s, n.cast(p.mask, wide));
  if (p.causal) {
    Shape square{1, 1, p.queries(), p.keys()};
    Type index = n.b.getI64Type();
    Value query = n.binary<AddOp>(n.iota(square, 2, index), static_cast<double>(p.offset)),
          key = n.iota(square, 3, index);
    s = n.select(n.compare(Predicate::LE, key, query), s, minus);
    if (p.window)
      s = n.select(
          n.compare(Predicate::GT, key, n.binary<SubOp>(query, static_cast<double>(p.window))), s,
          minus);
  }
  if (mode == 2)
    return n.cast(s, element);
  Value soft = n.create<SoftmaxOp>(s.getType(), s, 3);
  auto isNan = n.create<IsNanOp>(typeOf(soft).clone(n.b.getI1Type()), soft);
  return n.cast(n.select(isNan, n.splatLike(soft, 0), soft), element);
}

LogicalResult checkAttention(NodeContext &n, const AttentionParts &p) {
  ArrayRef<int64_t> q = shapeOf(p.query), k = shapeOf(p.key), v = shapeOf(p.value);
  if (k[0] != q[0] || v[0] != q[0] || k[3] != q[3] || k[1] != v[1] || k[2] != v[2])
    return n.error() << "Q, K and V of shapes " << shapeText(q) << ", " << shapeText(k) << " and "
                     << shapeText(v) << " do not fit together";
  if (k[1] == 0 || q[1] % k[1])
    return n.error() << q[1] << " query heads are not a multiple of " << k[1] << " key/value heads";
  return success();
}

Value attend(NodeContext &n, const AttentionParts &p) {
  if (elementOf(p.query).isF64()) // has no kernel of its own
    return n.einsum(scores(n, p, 3), "bhqk", repeatHeads(n, p.value, p.heads()), "bhkd", "bhqd");
  Shape shape(shapeOf(p.query));
  shape[3] = shapeOf(p.value)[3];
  return n.create<AttentionOp>(typeOf(p.query).clone(shape), p.query, p.key, p.value, p.mask,
                               p.sinks, n.b.getF64FloatAttr(p.scale), n.b.getBoolAttr(p.causal),
                               n.b.getI64IntegerAttr(p.offset), n.b.getI64IntegerAttr(p.window),
                               n.b.getF64FloatAttr(p.softcap));
}

static LogicalResult importAttention(NodeContext &n) {
  AttentionParts p;
  if (failed(readHeads(n, p)) || failed(readPast(n, p)) || failed(checkAttention(n, p)) ||
      failed(readMask(n, p)))
    return failure();
  p.causal = n.getInt("is_causal", 0) != 0;
  p.scale = n.getFloat("scale", 1 / std::sqrt(static_cast<double>(shapeOf(p.query)[3])));
  p.softcap = n.getFloat("softcap", 0);
  int64_t mode = n.getInt("qk_matmul_output_mode", 0);
  if (mode < 0 || mode > 3)
    return n.error() << "qk_matmul_output_mode is " << mode << ", expected 0 to 3";
  if (failed(applyLengths(n, p)) || failed(applyWindow(n, p)))
    return failure();
  Value y = attend(n, p);
  if (p.isRank3)
    y = joinHeads(n, y);
  n.set(0, y);
  n.set(1, p.key);
  n.set(2, p.value);
  if (n.wants(3))
    n.set(3, scores(n, p, mode));
  return success();
}

//===----------------------------------------------------------------------===//
// RotaryEmbedding
//===----------------------------------------------------------------------===//

/// cos or sin as [batch or 1, sequence, half]: rows of a table looked up by position, or given as
/// they are. Some exporters leave out the batch, which broadcasts.
static FailureOr<Value> rotaryTable(NodeContext &n, Value table, ArrayRef<int64_t> x,
                                    StringRef what) {
  Value positions = n.input(3);
  if (positions && rankOf(table) == 2)
    table = n.gather(table, positions, 0);
  if (rankOf(table) == 2)
    table = n.insertDims(table, {0});
  ArrayRef<int64_t> shape = shapeOf(table);
  if (rankOf(table) != 3 || (shape[0] != 1 && shape[0] != x[0]) || shape[1] != x[2] ||
      2 * shape[2] > x[3])
    return n.error() << what << " of shape " << shapeText(shape)
                     << " does not fit input of shape [batch, heads, sequence, "
                     << "features] " << shapeText(x);
  return table;
}

static LogicalResult importRotaryEmbedding(NodeContext &n) {
  Value x = n.input(0);
  bool isRank3 = rankOf(x) == 3;
  if (isRank3) {
    FailureOr<Value> heads = splitHeads(n, x, n.getInt("num_heads", 0), "input");
    if (failed(heads))
      return failure();
    x = *heads;
  }
  if (failed(n.checkRank(x, 4, "input")))
    return failure();
  FailureOr<Value> cos = rotaryTable(n, n.input(1), shapeOf(x), "cos_cache"),
                   sin = rotaryTable(n, n.input(2), shapeOf(x), "sin_cache");
  if (failed(cos) || failed(sin))
    return failure();
  int64_t rotated = n.getInt("rotary_embedding_dim", 0);
  if (rotated && rotated != 2 * shapeOf(*cos)[2])
    return n.error() << "rotary_embedding_dim is " << rotated << ", the tables rotate "
                     << 2 * shapeOf(*cos)[2];
  Value y = n.create<RopeOp>(x.getType(), x, *cos, *sin,
                             n.b.getBoolAttr(n.getInt("interleaved", 0) != 0));
  if (isRank3)
    y = joinHeads(n, y);
  return n.done(y);
}

void addAttention(OperatorTable &table) {
  table["Attention"] = {importAttention, 3};
  table["RotaryEmbedding"] = {importRotaryEmbedding, 3};
}

} // namespace shardc::importer
