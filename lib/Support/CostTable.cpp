//===- CostTable.cpp - What computing and moving bytes costs --------------===//
#include "shardc/Support/CostTable.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"

#include <cmath>

namespace json = llvm::json;

namespace shardc {

json::Object KernelWork::toJson() const {
  json::Object object{{"flops", productFlops + attentionFlops + otherFlops}, {"bytes", bytes}};
  if (productFlops > 0)
    object["product"] = json::Object{{"flops", productFlops}, {"m", m}, {"n", n}, {"k", k}};
  if (attentionFlops > 0)
    object["attention_flops"] = attentionFlops;
  if (productFlops > 0 || attentionFlops > 0)
    object["dtype"] = dtype;
  if (isRow)
    object["row"] = true;
  return object;
}

KernelWork KernelWork::fromJson(const json::Object &object) {
  KernelWork work;
  work.bytes = object.getNumber("bytes").value_or(0);
  work.attentionFlops = object.getNumber("attention_flops").value_or(0);
  work.dtype = object.getString("dtype").value_or("f32").str();
  work.isRow = object.getBoolean("row").value_or(false);
  if (const json::Object *product = object.getObject("product")) {
    work.productFlops = product->getNumber("flops").value_or(0);
    work.m = product->getInteger("m").value_or(0);
    work.n = product->getInteger("n").value_or(0);
    work.k = product->getInteger("k").value_or(0);
  }
  work.otherFlops = std::max(0.0, object.getNumber("flops").value_or(0) - work.productFlops -
                                      work.attentionFlops);
  return work;
}

std::string CostTable::describe() const {
  if (!isMeasured())
    return "default model";
  return "measured on " + machine.processor + ", " + std::to_string(machine.ranks) + " ranks of " +
         std::to_string(machine.threads) + " threads, " + machine.channel + ", sha256 " +
         sha256.substr(0, 12);
}

/// How far apart two products are: the sum of the squared logarithms of their sizes' ratios.
static double distance(const CostTable::Product &product, const KernelWork &work) {
  auto term = [](int64_t a, int64_t b) {
    return std::pow(std::log(double(std::max<int64_t>(a, 1)) / double(std::max<int64_t>(b, 1))), 2);
  };
  return term(product.m, work.m) + term(product.n, work.n) + term(product.k, work.k);
}

double CostTable::productRate(const KernelWork &work) const {
  const Product *best = nullptr;
  bool hasType =
      llvm::any_of(products, [&](const Product &product) { return product.dtype == work.dtype; });
  for (const Product &product : products)
    if ((!hasType || product.dtype == work.dtype) &&
        (!best || distance(product, work) < distance(*best, work)))
      best = &product;
  return best ? best->gflops : gflops;
}

double CostTable::attentionRate(llvm::StringRef dtype) const {
  for (const Attention &rate : attention)
    if (rate.dtype == dtype)
      return rate.gflops;
  return attention.empty() ? gflops : attention.front().gflops;
}

double CostTable::copyMicros(double bytes) const {
  return bytes / ((elementGigabytes > 0 ? elementGigabytes : memoryGigabytes) * 1e3);
}

double CostTable::hostMicros(double read, double written) const {
  return std::max(read, written) / ((hostGigabytes > 0 ? hostGigabytes : busGigabytes) * 1e3);
}

double CostTable::kernelMicros(const KernelWork &work) const {
  double arithmetic = 0, measured = work.isRow ? rowGigabytes : elementGigabytes;
  if (work.productFlops > 0)
    arithmetic += work.productFlops / (productRate(work) * 1e3);
  if (work.attentionFlops > 0)
    arithmetic += work.attentionFlops / (attentionRate(work.dtype) * 1e3);
  if (measured <= 0)
    return launchMicros + std::max(arithmetic + work.otherFlops / (gflops * 1e3),
                                   work.bytes / (memoryGigabytes * 1e3));
  // What was measured holds a kernel's arithmetic and its memory traffic together.
  return launchMicros + (arithmetic > 0 ? arithmetic : work.bytes / (measured * 1e3));
}

static double logOf(int64_t ranks) {
  return std::ceil(std::log2(double(std::max<int64_t>(ranks, 2))));
}

/// Of its kind the one over these axes, else of as many ranks, else of the nearest number of ranks.
const CostTable::Collective *CostTable::findCollective(llvm::StringRef op, llvm::StringRef axes,
                                                       int64_t ranks) const {
  const Collective *best = nullptr;
  auto rank = [&](const Collective &c) {
    return std::tuple(std::fabs(std::log(double(c.ranks) / double(ranks))), c.axes == axes   ? 0
                                                                            : c.axes.empty() ? 1
                                                                                             : 2);
  };
  for (const Collective &collective : collectives)
    if (collective.op == op && (!best || rank(collective) < rank(*best)))
      best = &collective;
  return best;
}

double CostTable::collectiveMicros(llvm::StringRef op, llvm::StringRef axes, int64_t ranks,
                                   double bytes) const {
  if (ranks <= 1)
    return copyMicros(bytes);
  auto share = [](int64_t n) { return double(n - 1) / double(n); };
  const Collective *found = findCollective(op, axes, ranks);
  if (!found)
    return latencyMicros +
           (op == "all_reduce" ? 2 : 1) * bytes * share(ranks) / (linkGigabytes * 1e3);
  // Of another number of ranks: as rings would be.
  return found->latencyMicros * logOf(ranks) / logOf(found->ranks) +
         bytes / (found->gigabytesPerSecond * 1e3) * share(ranks) / share(found->ranks);
}

std::optional<CostTable::Link> CostTable::link(llvm::StringRef axis, int64_t ranks) const {
  double microsPerKilobyte = 0, latency = 0;
  int kinds = 0;
  for (auto [op, rounds] : {std::pair("all_gather", 1), std::pair("reduce_scatter", 1),
                            std::pair("all_to_all", 1), std::pair("all_reduce", 2)})
    if (ranks > 1 && findCollective(op, axis, ranks)) {
      double sent = rounds * double(ranks - 1) / double(ranks),
             start = collectiveMicros(op, axis, ranks, 0);
      microsPerKilobyte += (collectiveMicros(op, axis, ranks, 1e3) - start) / sent;
      latency += start / (rounds * logOf(ranks));
      ++kinds;
    }
  if (kinds == 0)
    return std::nullopt;
  return Link{kinds / microsPerKilobyte, latency / kinds};
}

LineFit fitLine(llvm::ArrayRef<std::pair<double, double>> points) {
  // Least squares of (latency + bytes · slope) / micros - 1.
  double ww = 0, wx = 0, xx = 0, w = 0, x = 0;
  for (auto [bytes, micros] : points) {
    double a = 1 / micros, b = bytes / micros;
    ww += a * a;
    wx += a * b;
    xx += b * b;
    w += a;
    x += b;
  }
  double determinant = ww * xx - wx * wx;
  double latency = determinant > 0 ? (w * xx - x * wx) / determinant : 0,
         slope = determinant > 0 ? (x * ww - w * wx) / determinant : 0;
  if (latency < 0 || slope <= 0) { // through zero; a slope of noise would be an endless bandwidth
    latency = 0;
    slope = x / xx;
  }
  return {latency, 1e-3 / slope};
}

} // namespace shardc
