//===- CostTableJson.cpp - machine.json, written and read -----------------===//
//
// Read without mercy: a table with a number that is missing, negative or zero where it divides
// would turn into a schedule that nobody can explain.
//
//===----------------------------------------------------------------------===//
#include "shardc/Support/CostTable.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/SHA256.h"
#include "llvm/Support/raw_ostream.h"

#include <cmath>

namespace json = llvm::json;

namespace shardc {

static constexpr llvm::StringLiteral kFormat = "shardc-machine";
static constexpr int64_t kVersion = 1;

namespace {

/// Takes members out of an object; the first thing that is wrong stays.
class Reader {
public:
  explicit Reader(std::string where) : where(std::move(where)) {}

  void fail(const llvm::Twine &message) {
    if (error.empty())
      error = (where + ": " + message).str();
  }
  const json::Object &object(const json::Object &parent, llvm::StringRef key) {
    if (const json::Object *found = parent.getObject(key))
      return *found;
    fail("\"" + key + "\" is missing or no object");
    return empty;
  }
  std::string text(const json::Object &parent, llvm::StringRef path, llvm::StringRef key) {
    if (auto found = parent.getString(key))
      return found->str();
    fail("\"" + path + key + "\" is missing or no text");
    return "";
  }
  double number(const json::Object &parent, llvm::StringRef path, llvm::StringRef key,
                bool mayBeZero) {
    auto found = parent.getNumber(key);
    if (!found) {
      fail("\"" + path + key + "\" is missing or no number");
      return 1;
    }
    if (!std::isfinite(*found) || *found < 0 || (*found == 0 && !mayBeZero))
      fail("\"" + path + key + "\" is " + llvm::formatv("{0}", json::Value(*found)).str() +
           ", must be " + (mayBeZero ? "at least 0" : "above 0"));
    return *found;
  }
  int64_t count(const json::Object &parent, llvm::StringRef path, llvm::StringRef key,
                int64_t least) {
    auto found = parent.getInteger(key);
    if (!found) {
      fail("\"" + path + key + "\" is missing or no whole number");
      return least;
    }
    if (*found < least)
      fail("\"" + path + key + "\" is " + llvm::Twine(*found) + ", must be at least " +
           llvm::Twine(least));
    return *found;
  }
  /// `each` gets an element and its path, as in "products[1].".
  void list(const json::Object &parent, llvm::StringRef key,
            llvm::function_ref<void(const json::Object &, const std::string &)> each) {
    const json::Array *array = parent.getArray(key);
    if (!array)
      return fail("\"" + key + "\" is missing or no list");
    for (auto [n, value] : llvm::enumerate(*array)) {
      std::string path = (key + "[" + llvm::Twine(n) + "]").str();
      if (const json::Object *element = value.getAsObject())
        each(*element, path + ".");
      else
        fail("\"" + path + "\" is no object");
    }
  }

  std::string error;

private:
  std::string where;
  json::Object empty;
};

} // namespace

json::Value CostTable::toJson() const {
  json::Array productList, attentionList, collectiveList;
  for (const Product &p : products)
    productList.push_back(
        json::Object{{"dtype", p.dtype}, {"m", p.m}, {"n", p.n}, {"k", p.k}, {"gflops", p.gflops}});
  for (const Attention &a : attention)
    attentionList.push_back(json::Object{{"dtype", a.dtype}, {"gflops", a.gflops}});
  for (const Collective &c : collectives)
    collectiveList.push_back(json::Object{{"op", c.op},
                                          {"axes", c.axes},
                                          {"ranks", c.ranks},
                                          {"latency_us", c.latencyMicros},
                                          {"gigabytes_per_second", c.gigabytesPerSecond}});
  json::Object kernels{{"launch_us", launchMicros},
                       {"element_gigabytes_per_second", elementGigabytes},
                       {"row_gigabytes_per_second", rowGigabytes}};
  if (hostGigabytes > 0)
    kernels["host_gigabytes_per_second"] = hostGigabytes;
  return json::Object{{"format", json::Object{{"name", kFormat}, {"version", kVersion}}},
                      {"machine", json::Object{{"processor", machine.processor},
                                               {"target", machine.target},
                                               {"channel", machine.channel},
                                               {"isa", machine.isa},
                                               {"ranks", machine.ranks},
                                               {"threads", machine.threads}}},
                      {"products", std::move(productList)},
                      {"attention", std::move(attentionList)},
                      {"kernels", std::move(kernels)},
                      {"collectives", std::move(collectiveList)}};
}

llvm::Expected<CostTable> CostTable::fromJson(const json::Value &value, llvm::StringRef name) {
  auto refuse = [&](const llvm::Twine &message) {
    return llvm::createStringError(name + ": " + message);
  };
  const json::Object *root = value.getAsObject();
  const json::Object *format = root ? root->getObject("format") : nullptr;
  if (!format || format->getString("name") != kFormat)
    return refuse("is no table of shardc profile: \"format.name\" is not \"" + kFormat + "\"");
  if (auto version = format->getInteger("version"); version != kVersion)
    return refuse("has version " + (version ? llvm::Twine(*version) : llvm::Twine("none")).str() +
                  ", this shardc reads version " + llvm::Twine(kVersion) +
                  "; measure again with shardc profile");
  Reader in(name.str());
  CostTable table;
  const json::Object &machine = in.object(*root, "machine"), &kernels = in.object(*root, "kernels");
  if (!in.error.empty())
    return llvm::createStringError(in.error);
  table.machine = {
      in.text(machine, "machine.", "processor"), in.text(machine, "machine.", "target"),
      in.text(machine, "machine.", "channel"),   in.text(machine, "machine.", "isa"),
      in.count(machine, "machine.", "ranks", 1), in.count(machine, "machine.", "threads", 1)};
  table.launchMicros = in.number(kernels, "kernels.", "launch_us", true);
  table.elementGigabytes = in.number(kernels, "kernels.", "element_gigabytes_per_second", false);
  table.rowGigabytes = in.number(kernels, "kernels.", "row_gigabytes_per_second", false);
  if (kernels.get("host_gigabytes_per_second")) // of GPUs
    table.hostGigabytes = in.number(kernels, "kernels.", "host_gigabytes_per_second", false);
  in.list(*root, "products", [&](const json::Object &o, const std::string &path) {
    table.products.push_back({in.text(o, path, "dtype"), in.count(o, path, "m", 1),
                              in.count(o, path, "n", 1), in.count(o, path, "k", 1),
                              in.number(o, path, "gflops", false)});
  });
  in.list(*root, "attention", [&](const json::Object &o, const std::string &path) {
    table.attention.push_back({in.text(o, path, "dtype"), in.number(o, path, "gflops", false)});
  });
  in.list(*root, "collectives", [&](const json::Object &o, const std::string &path) {
    table.collectives.push_back({in.text(o, path, "op"), in.text(o, path, "axes"),
                                 in.count(o, path, "ranks", 2),
                                 in.number(o, path, "latency_us", true),
                                 in.number(o, path, "gigabytes_per_second", false)});
  });
  if (in.error.empty() && table.products.empty())
    in.fail("\"products\" is empty");
  if (!in.error.empty())
    return llvm::createStringError(in.error);
  return table;
}

llvm::Expected<CostTable> CostTable::parse(llvm::StringRef text, llvm::StringRef name) {
  llvm::Expected<json::Value> value = json::parse(text);
  if (!value)
    return llvm::createStringError(name + ": " + llvm::toString(value.takeError()));
  llvm::Expected<CostTable> table = fromJson(*value, name);
  if (table)
    table->sha256 =
        llvm::toHex(llvm::SHA256::hash(llvm::arrayRefFromStringRef(text)), /*LowerCase=*/true);
  return table;
}

llvm::Expected<CostTable> CostTable::read(llvm::StringRef path) {
  auto file = llvm::MemoryBuffer::getFile(path);
  if (!file)
    return llvm::createStringError(path + ": " + file.getError().message());
  return parse((*file)->getBuffer(), path);
}

json::Object CostTable::record() const {
  if (!isMeasured())
    return json::Object{{"name", "default model"}};
  return json::Object{{"name", "measured"}, {"sha256", sha256}, {"table", toJson()}};
}

llvm::Expected<CostTable> CostTable::fromRecord(const json::Object &record, llvm::StringRef name) {
  const json::Value *value = record.get("table");
  if (!value)
    return CostTable();
  llvm::Expected<CostTable> table = fromJson(*value, name);
  if (table)
    table->sha256 = record.getString("sha256").value_or("unknown").str();
  return table;
}

} // namespace shardc
