//===- GroupQueryAttention.cpp - onnxruntime's attention with a cache -----===//
//
// What the model builder of onnxruntime-genai writes for every decoder. The cache's buffers are
// [batch, kv heads, entries, features]; `seqlens_k[b]` is the position of the last new token, so
// that the first one of S stands at
//
//   start[b] = seqlens_k[b] + 1 - S     (0 in a prompt, where total_sequence_length is S)
//
// Rotary embedding, the places where keys and values are written, and the mask all follow from
// that:
//
//   %at = start + iota S;  %q, %k = rope of rows %at;  %present = scatter_elements replace %past, %at
//   %mask = key <= %at
//
// Known at import (a prompt, a constant attention mask) start becomes the attention's causal offset.
// Without lengths (CacheLengths.cpp: the caller says which dimension is the cache's length) the
// cache is as long as its buffer, and entries are appended, which GrowingCache.cpp understands.
//
//===----------------------------------------------------------------------===//

#include "AttentionParts.h"

#include <cmath>

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

namespace shardc::importer {

namespace {

/// One node on its way.
struct GroupQuery {
  NodeContext &n;
  AttentionParts p;
  Value pastKey, pastValue;
  int64_t total = 0;            ///< total_sequence_length
  std::optional<int64_t> start; ///< of all sequences of the batch
  Value starts;                 ///< [batch], where they differ or are only known at run time
  Value lengths;                ///< [batch], entries after this run, if they limit the keys

  int64_t entries() const { return pastKey ? shapeOf(pastKey)[2] : 0; }
  bool isPrompt() const { return p.queries() == total; }

  LogicalResult readQuery();
  LogicalResult readPast();
  LogicalResult readStart();
  LogicalResult normalize();
  LogicalResult rotate();
  Value positions();
  Value write(Value past, Value fresh);
  void writeCache();
  LogicalResult readMask();
  LogicalResult run();
};

} // namespace

/// Query, keys and values from one packed tensor, or from three.
LogicalResult GroupQuery::readQuery() {
  int64_t heads = n.getInt("num_heads", 0), kvHeads = n.getInt("kv_num_heads", 0);
  Value q = n.input(0), k = n.input(1), v = n.input(2);
  if (failed(n.checkRank(q, 3, "query")))
    return failure();
  if (heads < 1 || kvHeads < 1 || heads > shapeOf(q)[2] || kvHeads > heads)
    return n.error() << "num_heads is " << heads << ", kv_num_heads " << kvHeads
                     << " where the query has " << shapeOf(q)[2] << " features";
  if (!k != !v)
    return n.error() << "has only one of key and value";
  if (!k) {
    int64_t features = shapeOf(q)[2], all = heads + 2 * kvHeads;
    if (features % all)
      return n.error() << "packed query of " << features << " features does not hold " << heads
                       << " heads and twice " << kvHeads;
    int64_t size = features / all;
    k = n.slice(q, 2, heads * size, kvHeads * size);
    v = n.slice(q, 2, (heads + kvHeads) * size, kvHeads * size);
    q = n.slice(q, 2, 0, heads * size);
  }
  if (failed(n.checkRank(k, 3, "key")) || failed(n.checkRank(v, 3, "value")))
    return failure();
  FailureOr<Value> query = splitHeads(n, q, heads, "query"), key = splitHeads(n, k, kvHeads, "key"),
                   value = splitHeads(n, v, kvHeads, "value");
  if (failed(query) || failed(key) || failed(value))
    return failure();
  p.query = *query;
  p.key = *key;
  p.value = *value;
  if (p.keys() != p.queries())
    return n.error() << "key has " << p.keys() << " positions, query " << p.queries();
  return checkAttention(n, p);
}

LogicalResult GroupQuery::readPast() {
  pastKey = n.input(3);
  pastValue = n.input(4);
  if (!pastKey != !pastValue)
    return n.error() << "has only one of past_key and past_value";
  for (auto [past, fresh, what] :
       {std::tuple(pastKey, p.key, "past_key"), std::tuple(pastValue, p.value, "past_value")}) {
    if (!past)
      continue;
    bool fits = rankOf(past) == 4 && elementOf(past) == elementOf(fresh);
    for (int64_t d : {0, 1, 3})
      fits = fits && shapeOf(past)[d] == shapeOf(fresh)[d];
    if (!fits)
      return n.error() << what << " of " << past.getType() << " does not precede "
                       << fresh.getType();
  }
  if (pastKey && shapeOf(pastKey)[2] != shapeOf(pastValue)[2])
    return n.error() << "past_key has " << shapeOf(pastKey)[2] << " entries, past_value "
                     << shapeOf(pastValue)[2];
  return success();
}

LogicalResult GroupQuery::readStart() {
  int64_t queries = p.queries();
  Value last = n.input(5);
  if (!last != !n.input(6))
    return n.error() << "has only one of seqlens_k and total_sequence_length";
  if (!last) { // the cache is full (CacheLengths.cpp)
    start = entries();
    total = entries() + queries;
    return success();
  }
  FailureOr<int64_t> given = n.constantInt(6);
  if (failed(given))
    return failure();
  total = *given;
  if (total < queries)
    return n.error() << "total_sequence_length is " << total << ", the query has " << queries
                     << " positions";
  if (shapeOf(last) != ArrayRef<int64_t>{p.batch()} &&
      shapeOf(last) != ArrayRef<int64_t>{p.batch(), 1})
    return n.error() << "seqlens_k has shape " << shapeText(shapeOf(last))
                     << ", the batch has size " << p.batch();
  int64_t window = n.getInt("sliding_window_cache", 0) ? entries() : total;
  if (window < total)
    return n.error() << "attribute \"sliding_window_cache\" with " << window
                     << " entries for a total_sequence_length of " << total
                     << " drops entries, which is not supported";
  Type index = n.b.getI64Type();
  lengths = n.binary<AddOp>(n.reshape(n.cast(last, index), {p.batch()}), 1.0);
  if (isPrompt()) {
    start = 0;
    return success();
  }
  starts = n.binary<SubOp>(lengths, static_cast<double>(queries));
  if (n.folder.isConstant(starts))
    if (const HostTensor *known = n.folder.evaluate(starts); known && llvm::all_equal(known->i))
      start = known->i.front();
  if (start && (*start < 0 || *start + queries > total))
    return n.error() << "seqlens_k is " << *start + queries - 1
                     << ", which does not fit a query of " << queries << " positions and " << total
                     << " in all";
  return success();
}

/// An RMS norm of each head's queries and keys.
LogicalResult GroupQuery::normalize() {
  Value qWeight = n.input(14), kWeight = n.input(15);
  if (!qWeight != !kWeight)
    return n.error() << "has only one of q_norm_weight and k_norm_weight";
  if (!qWeight)
    return success();
  FloatAttr epsilon = n.b.getF64FloatAttr(n.getFloat("qk_norm_epsilon", 1e-6));
  auto norm = [&](Value &x, Value weight, StringRef what) -> LogicalResult {
    if (shapeOf(weight) != shapeOf(x).take_back())
      return n.error() << what << " has shape " << shapeText(shapeOf(weight)) << ", a head has "
                       << shapeOf(x)[3] << " features";
    x = n.create<RmsNormOp>(x.getType(), x, weight, epsilon, n.b.getI64IntegerAttr(1));
    return success();
  };
  return success(succeeded(norm(p.query, qWeight, "q_norm_weight")) &&
                 succeeded(norm(p.key, kWeight, "k_norm_weight")));
}

/// Positions of the new tokens: [1, S] or [batch, S].
Value GroupQuery::positions() {
  Value each = n.iota({1, p.queries()}, 1, n.b.getI64Type());
  if (start) // always a sum, of which a growing cache changes the number only
    return n.binary<AddOp>(each, static_cast<double>(*start));
  return n.binary<AddOp>(n.reshape(starts, {p.batch(), 1}), each);
}

LogicalResult GroupQuery::rotate() {
  if (!n.getInt("do_rotary", 0))
    return success();
  Value cos = n.input(7), sin = n.input(8), given = n.input(9);
  if (!cos || !sin)
    return n.error() << "do_rotary is 1 without cos_cache and sin_cache";
  for (Value table : {cos, sin})
    if (rankOf(table) != 2 || 2 * shapeOf(table)[1] > shapeOf(p.query)[3] ||
        shapeOf(table) != shapeOf(cos))
      return n.error() << "tables of shapes " << shapeText(shapeOf(cos)) << " and "
                       << shapeText(shapeOf(sin)) << " do not rotate " << shapeOf(p.query)[3]
                       << " features";
  Value at = positions();
  if (given) {
    if (shapeOf(given) != ArrayRef<int64_t>{p.batch(), p.queries()})
      return n.error() << "position_ids has shape " << shapeText(shapeOf(given)) << ", expected "
                       << shapeText({p.batch(), p.queries()});
    // A prompt begins where its first number says; the others are not read.
    Value first = n.slice(n.slice(given, 0, 0, 1), 1, 0, 1);
    at = isPrompt() ? n.binary<AddOp>(at, n.cast(first, n.b.getI64Type())) : given;
  }
  BoolAttr interleaved = n.b.getBoolAttr(n.getInt("rotary_interleaved", 0) != 0);
  Value c = n.gather(cos, at, 0), s = n.gather(sin, at, 0);
  p.query = n.create<RopeOp>(p.query.getType(), p.query, c, s, interleaved);
  p.key = n.create<RopeOp>(p.key.getType(), p.key, c, s, interleaved);
  return success();
}

/// The buffer with the new entries in their places, as long as all of them need.
Value GroupQuery::write(Value past, Value fresh) {
  int64_t queries = p.queries(), size = std::max(total, entries());
  if (size == queries)
    return fresh;
  if (start && *start == entries())
    return n.concat({past, fresh}, 2);
  if (!past) // nothing precedes what is written beyond the front
    past = n.splat(typeOf(fresh).clone({p.batch(), shapeOf(fresh)[1], 0, shapeOf(fresh)[3]}), 0);
  past = n.pad(past, {0, 0, 0, 0}, {0, 0, size - entries(), 0}, 0);
  Value rows = n.broadcast(n.insertDims(positions(), {1, 3}), {0, 1, 2, 3}, shapeOf(fresh));
  return n.create<ScatterElementsOp>(past.getType(), past, rows, fresh, 2, Combine::Replace);
}

/// The attention reads the new entries alone in a prompt, and what it is to read of the buffers
/// otherwise.
void GroupQuery::writeCache() {
  Value key = write(pastKey, p.key), value = write(pastValue, p.value);
  n.set(1, key);
  n.set(2, value);
  if (isPrompt())
    return;
  p.key = n.slice(key, 2, 0, total);
  p.value = n.slice(value, 2, 0, total);
}

LogicalResult GroupQuery::readMask() {
  int64_t window = n.getInt("local_window_size", -1);
  bool causal = n.getInt("causal", 1) != 0;
  if (window < -1 || window == 0 || (window > 0 && !causal))
    return n.error() << "local_window_size is " << window << " where causal is " << causal;
  Value bias = n.input(10);
  int64_t full[] = {p.batch(), p.heads(), p.queries(), p.keys()};
  if (bias) {
    bool fits = rankOf(bias) == 4 && elementOf(bias) == elementOf(p.query);
    for (int64_t d = 0; fits && d < 4; ++d)
      fits = shapeOf(bias)[d] == full[d] || (d < 2 && shapeOf(bias)[d] == 1);
    if (!fits)
      return n.error() << "attention_bias of " << bias.getType() << " does not broadcast to "
                       << shapeText(full);
    p.mask = bias;
  }
  Type index = n.b.getI64Type();
  Value key = n.iota({1, 1, 1, p.keys()}, 3, index);
  if (!causal) { // entries that are there
    if (lengths)
      restrictMask(n, p, n.compare(Predicate::LT, key, n.reshape(lengths, {p.batch(), 1, 1, 1})));
    return success();
  }
  if (start) {
    p.causal = true;
    p.offset = *start;
    p.window = window > 0 ? window : 0;
    return success();
  }
  Value query = n.insertDims(positions(), {1, 3});
  Value allowed = n.compare(Predicate::LE, key, query);
  if (window > 0)
    allowed =
        n.binary<AndOp>(allowed, n.compare(Predicate::GT, key,
                                           n.binary<SubOp>(query, static_cast<double>(window))));
  restrictMask(n, p, allowed);
  return success();
}

LogicalResult GroupQuery::run() {
  if (failed(readQuery()) || failed(readPast()) || failed(readStart()) || failed(normalize()) ||
      failed(rotate()))
    return failure();
  writeCache();
  if (failed(readMask()))
    return failure();
  double scale = n.getFloat("scale", 0); // zero: the usual one
  p.scale = scale != 0 ? scale : 1 / std::sqrt(static_cast<double>(shapeOf(p.query)[3]));
  p.softcap = n.getFloat("softcap", 0);
  p.sinks = n.input(11);
  if (p.sinks && shapeOf(p.sinks) != ArrayRef<int64_t>{p.heads()})
    return n.error() << "head_sink has shape " << shapeText(shapeOf(p.sinks)) << ", there are "
                     << p.heads() << " heads";
  if (!p.sinks && n.getInt("smooth_softmax", 0) == 1)
    p.sinks = n.splat(typeOf(p.query).clone(ArrayRef<int64_t>{p.heads()}), 0);
  return n.done(joinHeads(n, attend(n, p)));
}

static LogicalResult importGroupQueryAttention(NodeContext &n) { return GroupQuery{n, {}}.run(); }

//===----------------------------------------------------------------------===//
// RotaryEmbedding of this domain
//===----------------------------------------------------------------------===//

/// [batch, sequence, heads * features] or [batch, heads, sequence, features]; position_ids are
/// the first position (one number), or all of them.
static LogicalResult importRotary(NodeContext &n) {
  Value x = n.input(0), at = n.input(1), cos = n.input(2), sin = n.input(3);
  int64_t heads = n.getInt("num_heads", 0), rotated = n.getInt("rotary_embedding_dim", 0);
  if (rankOf(cos) != 2 || shapeOf(cos) != shapeOf(sin) || shapeOf(cos)[1] < 1)
    return n.error() << "cos_cache and sin_cache have shapes " << shapeText(shapeOf(cos)) << " and "
                     << shapeText(shapeOf(sin));
  int64_t width = 2 * shapeOf(cos)[1];
  if (rotated && rotated != width)
    return n.error() << "rotary_embedding_dim is " << rotated << ", the tables rotate " << width;
  bool isRank3 = rankOf(x) == 3;
  if (isRank3) {
    if (!rotated && shapeOf(x)[2] % width)
      return n.error() << "heads of " << width << " features do not divide " << shapeOf(x)[2];
    if (rotated && heads < 1)
      return n.error() << "rotary_embedding_dim is " << rotated << " and num_heads " << heads;
    FailureOr<Value> split = splitHeads(n, x, rotated ? heads : shapeOf(x)[2] / width, "input");
    if (failed(split))
      return failure();
    x = *split;
  }
  if (failed(n.checkRank(x, 4, "input")))
    return failure();
  if (width > shapeOf(x)[3])
    return n.error() << "the tables rotate " << width << " features of heads of " << shapeOf(x)[3];
  int64_t batch = shapeOf(x)[0], length = shapeOf(x)[2];
  at = n.cast(at, n.b.getI64Type());
  if (shapeOf(at) == ArrayRef<int64_t>{1})
    at = n.binary<AddOp>(n.reshape(at, {1, 1}), n.iota({1, length}, 1, n.b.getI64Type()));
  else if (shapeOf(at) != ArrayRef<int64_t>{batch, length})
    return n.error() << "position_ids has shape " << shapeText(shapeOf(at)) << ", expected [1] or "
                     << shapeText({batch, length});
  Value y = n.create<RopeOp>(x.getType(), x, n.gather(cos, at, 0), n.gather(sin, at, 0),
                             n.b.getBoolAttr(n.getInt("interleaved", 0) != 0));
  return n.done(isRank3 ? joinHeads(n, y) : y);
}

void addGroupQueryAttention(OperatorTable &table) {
  static const Settings attention{
      {"num_heads", "kv_num_heads", "scale", "softcap", "local_window_size", "do_rotary",
       "rotary_interleaved", "smooth_softmax", "causal", "qk_norm_epsilon", "sliding_window_cache"},
      {{"qk_output", "0"},
       {"kv_cache_bit_width", "0"},
       {"k_quant_type", "\"NONE\""},
       {"v_quant_type", "\"NONE\""}},
      {"num_heads", "kv_num_heads"},
      {{12, "k_scale"}, {13, "v_scale"}}};
  static const Settings rotary{{"interleaved", "num_heads", "rotary_embedding_dim"},
                               {{"is_packed_batching", "0"}, {"scale", "1"}},
                               {},
                               {}};
  table[operatorKey(kContribDomain, "GroupQueryAttention")] = {importGroupQueryAttention, 1,
                                                               &attention};
  table[operatorKey(kContribDomain, "RotaryEmbedding")] = {importRotary, 4, &rotary};
}

} // namespace shardc::importer
