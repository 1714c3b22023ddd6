//===- ShardingText.cpp - Printing and parsing shardings ------------------===//
//
//   sharding ::= `[` (dim (`,` dim)*)? `]` (`partial` `=` kind axes)?
//   dim      ::= `{` (axis (`,` axis)*)? (`,`? `?`)? `}` (`p` integer)?
//   axis     ::= name (`:` `(` integer `)` integer)?
//
//===----------------------------------------------------------------------===//
#include "shardc/Sharding/Sharding.h"

#include <cctype>

using namespace shardc;

static const char *const kindNames[] = {"sum", "max", "min", "prod"};

const char *shardc::str(ReduceKind kind) { return kindNames[static_cast<int>(kind)]; }

std::optional<ReduceKind> shardc::parseReduceKind(std::string_view text) {
  for (int i = 0; i < 4; ++i)
    if (text == kindNames[i])
      return static_cast<ReduceKind>(i);
  return std::nullopt;
}

std::string shardc::str(const Mesh &mesh, const AxisRef &ref) {
  // Also used to report references that do not fit the mesh.
  bool known = ref.axis >= 0 && ref.axis < static_cast<int>(mesh.axes.size());
  std::string text = known ? mesh.axes[ref.axis].name : "#" + std::to_string(ref.axis);
  if (!known || ref.pre != 1 || ref.size != mesh.axes[ref.axis].size)
    text += ":(" + std::to_string(ref.pre) + ")" + std::to_string(ref.size);
  return text;
}

static std::string listAxes(const Mesh &mesh, const AxisList &axes) {
  std::string text;
  for (size_t i = 0; i < axes.size(); ++i)
    text += (i ? ", " : "") + str(mesh, axes[i]);
  return text;
}

std::string shardc::str(const Mesh &mesh, const AxisList &axes) {
  return "{" + listAxes(mesh, axes) + "}";
}

std::string shardc::str(const Mesh &mesh, const Sharding &sharding) {
  std::string text = "[";
  for (size_t d = 0; d < sharding.dims.size(); ++d) {
    const DimSharding &dim = sharding.dims[d];
    text += (d ? ", {" : "{") + listAxes(mesh, dim.axes);
    if (dim.open)
      text += dim.axes.empty() ? "?" : ", ?";
    text += "}";
    if (dim.priority)
      text += "p" + std::to_string(dim.priority);
  }
  text += "]";
  if (!sharding.partial.empty())
    text +=
        std::string(" partial=") + str(*sharding.partialKind()) + str(mesh, sharding.partialAxes());
  return text;
}

namespace {

/// Recursive descent; the first error is kept and makes everything after it fail.
class Parser {
public:
  Parser(const Mesh &mesh, std::string_view text) : mesh(mesh), text(text) {}

  Result<Sharding> parse() {
    Sharding sharding;
    if (!parseDims(sharding) || !parsePartial(sharding) || !expectEnd())
      return Result<Sharding>::failure(error);
    if (Error invalid = verify(mesh, sharding))
      return Result<Sharding>::failure(*invalid);
    return sharding;
  }

private:
  bool fail(const std::string &message) {
    error = message + " at character " + std::to_string(at) + " of \"" + std::string(text) + "\"";
    return false;
  }

  bool accept(char c) {
    while (at < text.size() && std::isspace(static_cast<unsigned char>(text[at])))
      ++at;
    if (at == text.size() || text[at] != c)
      return false;
    ++at;
    return true;
  }

  bool expect(char c) { return accept(c) || fail(std::string("expected '") + c + "'"); }

  bool expectEnd() {
    accept(' ');
    return at == text.size() || fail("unexpected text");
  }

  std::string parseName() {
    accept(' ');
    size_t begin = at;
    while (at < text.size() && (std::isalnum(static_cast<unsigned char>(text[at])) ||
                                text[at] == '_' || text[at] == '-' || text[at] == '.'))
      ++at;
    return std::string(text.substr(begin, at - begin));
  }

  bool parseInteger(int64_t &value) {
    accept(' ');
    size_t begin = at;
    value = 0;
    // Nine digits are more than any mesh has devices and cannot overflow.
    while (at < text.size() && at - begin < 9 && std::isdigit(static_cast<unsigned char>(text[at])))
      value = value * 10 + (text[at++] - '0');
    return at > begin || fail("expected a number");
  }

  bool parseAxis(AxisList &axes) {
    std::string name = parseName();
    if (name.empty())
      return fail("expected an axis name");
    std::optional<int> axis = mesh.findAxis(name);
    if (!axis)
      return fail("mesh \"" + mesh.name + "\" has no axis \"" + name + "\"");
    AxisRef ref = wholeAxis(mesh, *axis);
    if (accept(':') &&
        !(expect('(') && parseInteger(ref.pre) && expect(')') && parseInteger(ref.size)))
      return false;
    axes.push_back(ref);
    return true;
  }

  /// `open` is null where `?` has no meaning.
  bool parseAxes(AxisList &axes, bool *open) {
    if (!expect('{'))
      return false;
    bool first = true;
    while (!accept('}')) {
      if (!first && !expect(','))
        return false;
      first = false;
      if (open && accept('?')) {
        *open = true;
        return expect('}');
      }
      if (!parseAxis(axes))
        return false;
    }
    return true;
  }

  bool parseDims(Sharding &sharding) {
    if (!expect('['))
      return false;
    while (!accept(']')) {
      if (!sharding.dims.empty() && !expect(','))
        return false;
      DimSharding dim;
      if (!parseAxes(dim.axes, &dim.open))
        return false;
      int64_t priority = 0;
      if (accept('p') && !parseInteger(priority))
        return false;
      dim.priority = static_cast<int>(priority);
      sharding.dims.push_back(dim);
    }
    return true;
  }

  bool parsePartial(Sharding &sharding) {
    std::string word = parseName();
    if (word.empty())
      return true;
    if (word != "partial")
      return fail("expected \"partial\", found \"" + word + "\"");
    if (!expect('='))
      return false;
    std::string name = parseName();
    std::optional<ReduceKind> kind = parseReduceKind(name);
    if (!kind)
      return fail("expected sum, max, min or prod, found \"" + name + "\"");
    AxisList axes;
    if (!parseAxes(axes, nullptr))
      return false;
    for (const AxisRef &ref : axes)
      sharding.partial.push_back({*kind, ref});
    return true;
  }

  const Mesh &mesh;
  std::string_view text;
  size_t at = 0;
  std::string error;
};

} // namespace

Result<Sharding> shardc::parseSharding(const Mesh &mesh, std::string_view text) {
  return Parser(mesh, text).parse();
}
