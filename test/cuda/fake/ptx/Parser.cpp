//===- Parser.cpp - PTX text to statements --------------------------------===//
#include "Decoder.h"
#include <regex>

namespace fake {

static std::string withoutComments(const std::string &text) {
  std::string kept;
  for (size_t at = 0; at < text.size();) {
    if (text.compare(at, 2, "//") == 0)
      at = std::min(text.find('\n', at), text.size());
    else if (text.compare(at, 2, "/*") == 0)
      at = std::min(text.find("*/", at), text.size() - 2) + 2;
    else if (text[at])
      kept += text[at++];
    else
      break; // The terminating zero may be counted.
  }
  return kept;
}

static std::string trimmed(const std::string &text) {
  std::string kept;
  for (char c : text) {
    if (!std::isspace(static_cast<unsigned char>(c)))
      kept += c;
    else if (!kept.empty() && kept.back() != ' ')
      kept += ' ';
  }
  while (!kept.empty() && kept.back() == ' ')
    kept.pop_back();
  return kept;
}

/// At commas outside of brackets.
static std::vector<std::string> splitOperands(const std::string &text) {
  std::vector<std::string> pieces;
  std::string piece;
  int depth = 0;
  for (char c : text) {
    depth += c == '{' || c == '[' ? 1 : c == '}' || c == ']' ? -1 : 0;
    if (c == ',' && !depth) {
      pieces.push_back(trimmed(piece));
      piece.clear();
    } else {
      piece += c;
    }
  }
  if (!trimmed(piece).empty())
    pieces.push_back(trimmed(piece));
  return pieces;
}

static Statement parseStatement(const std::string &text) {
  Statement statement;
  statement.text = text;
  std::string rest = text;
  if (rest[0] == '@') {
    size_t space = rest.find(' ');
    statement.negated = rest[1] == '!';
    statement.guard = rest.substr(statement.negated ? 2 : 1, space - (statement.negated ? 2 : 1));
    rest = trimmed(rest.substr(std::min(space, rest.size())));
  }
  size_t space = std::min(rest.find_first_of(" {["), rest.size());
  std::string opcode = rest.substr(0, space);
  statement.operands = splitOperands(rest.substr(space));
  for (size_t at = 0; at <= opcode.size();) {
    size_t dot = std::min(opcode.find('.', at), opcode.size());
    std::string part = opcode.substr(at, dot - at);
    if (at == 0)
      statement.opcode = part;
    else if (Type type = parseType(part); type != Type::None)
      statement.types.push_back(type);
    else
      statement.modifiers.push_back(part);
    at = dot + 1;
  }
  return statement;
}

static unsigned roundUp(unsigned value, unsigned align) {
  return (value + align - 1) / align * align;
}

static void parseParameters(Kernel &kernel, const std::string &text) {
  static const std::regex pattern(
      R"(\.param((?:\s+\.\w+)*)(\s+\.align\s+(\d+))?((?:\s+\.\w+)*)\s+(\w+)(?:\[(\d+)\])?)");
  static const std::regex pointer(R"(\.ptr(\s+\.(global|shared|local|const))?(\s+\.align\s+\d+)?)");
  for (const std::string &piece : splitOperands(text)) {
    std::string plain = trimmed(std::regex_replace(piece, pointer, ""));
    std::smatch match;
    if (!std::regex_match(plain, match, pattern))
      throw PtxError(kernel.name + ": parameter not understood: " + piece);
    std::string kind = match[1].str() + match[4].str();
    Type type = parseType(kind.substr(kind.find('.') + 1));
    unsigned size = bitsOf(type) / 8, count = match[6].matched ? unsigned(std::stoul(match[6])) : 1;
    if (!size)
      throw PtxError(kernel.name + ": parameter not understood: " + piece);
    unsigned align = match[3].matched ? unsigned(std::stoul(match[3])) : size;
    kernel.parameterBytes = roundUp(kernel.parameterBytes, align);
    kernel.parameters.push_back({match[5], kernel.parameterBytes, size * count});
    kernel.parameterBytes += size * count;
  }
}

static void parseDirective(Kernel &kernel, Decoder &decoder, const std::string &text) {
  static const std::regex registers(R"(\.reg \.(\w+) (%\w+?)<\d+>)"),
      single(R"(\.reg \.(\w+) (%?\w+))"),
      shared(R"((?:\.extern )?\.shared(?: \.align (\d+))? \.b8 (\w+)\[(\d*)\])");
  std::smatch match;
  if (std::regex_match(text, match, registers) || std::regex_match(text, match, single))
    decoder.declareRegisters(match[2], bitsOf(parseType(match[1].str())));
  else if (std::regex_match(text, match, shared))
    decoder.declareShared(match[2], match[3].length() ? unsigned(std::stoul(match[3])) : 0,
                          match[1].matched ? unsigned(std::stoul(match[1])) : 1,
                          !match[3].length());
  else if (text.rfind(".pragma", 0) != 0 && text.rfind(".loc", 0) != 0)
    throw PtxError(kernel.name + ": directive not understood: " + text);
}

static void parseBody(Kernel &kernel, const std::vector<std::string> &outer,
                      const std::string &body) {
  Decoder decoder(kernel);
  for (const std::string &directive : outer)
    parseDirective(kernel, decoder, directive);
  std::string statement;
  for (size_t at = 0; at < body.size(); ++at) {
    char c = body[at];
    bool label = c == ':' && trimmed(statement).find_first_of(" {[") == std::string::npos &&
                 !statement.empty();
    if (c != ';' && !label) {
      statement += c;
      continue;
    }
    std::string text = trimmed(statement);
    statement.clear();
    if (label)
      decoder.label(text);
    else if (!text.empty() && text[0] == '.')
      parseDirective(kernel, decoder, text);
    else if (!text.empty())
      decoder.add(parseStatement(text));
  }
  decoder.finish();
}

static void parseKernel(PtxModule &module, const std::vector<std::string> &outer,
                        const std::string &text, size_t &at) {
  static const std::regex limits(
      R"(\.(maxntid|reqntid) (\d+)(?:, ?(\d+))?(?:, ?(\d+))?|\.(minnctapersm|maxnreg) \d+)");
  size_t open = text.find('(', at), close = text.find(')', open), brace = text.find('{', close);
  if (brace == std::string::npos)
    throw PtxError("a kernel without a body: " + trimmed(text.substr(at, 60)));
  Kernel kernel;
  kernel.name = trimmed(text.substr(at, open - at));
  if (!trimmed(text.substr(open + 1, close - open - 1)).empty())
    parseParameters(kernel, text.substr(open + 1, close - open - 1));
  std::string between = trimmed(text.substr(close + 1, brace - close - 1));
  for (std::smatch match; std::regex_search(between, match, limits);
       between = trimmed(match.prefix().str() + match.suffix().str())) {
    if (!match[2].matched)
      continue;
    kernel.maxThreads = 1;
    for (int part = 2; part <= 4; ++part)
      kernel.maxThreads *= match[part].matched ? unsigned(std::stoul(match[part])) : 1;
    kernel.exactThreads = match[1] == "reqntid";
  }
  if (!between.empty())
    throw PtxError(kernel.name + ": directive not understood: " + between);
  int depth = 1;
  size_t end = brace + 1;
  for (; end < text.size() && depth; ++end)
    depth += text[end] == '{' ? 1 : text[end] == '}' ? -1 : 0;
  parseBody(kernel, outer, text.substr(brace + 1, end - brace - 2));
  module.kernels.emplace(kernel.name, std::move(kernel));
  at = end;
}

PtxModule parsePtx(const std::string &source) {
  std::string text = withoutComments(source);
  PtxModule module;
  static const std::regex version(R"(\s*\.version (\d+)\.(\d+))"),
      target(R"(\s*\.target sm_(\d+)([af]?)[\w, ]*)");
  std::vector<std::string> outer;
  for (size_t at = 0; at < text.size();) {
    static const char *const skipped[] = {".visible", ".weak"};
    while (at < text.size() && std::isspace(static_cast<unsigned char>(text[at])))
      ++at;
    if (at == text.size())
      break;
    for (const char *word : skipped)
      if (text.compare(at, strlen(word), word) == 0)
        at = text.find_first_not_of(" \t\n", at + strlen(word));
    if (text.compare(at, 6, ".entry") == 0) {
      at += 6;
      parseKernel(module, outer, text, at);
      continue;
    }
    // Directives of the module end with their line, declarations with a semicolon.
    bool declaration = text.compare(at, 7, ".extern") == 0 || text.compare(at, 7, ".shared") == 0;
    size_t end = std::min(text.find(declaration ? ';' : '\n', at), text.size());
    std::string line = trimmed(text.substr(at, end - at));
    at = end + 1;
    std::smatch match;
    if (declaration)
      outer.push_back(line);
    else if (std::regex_match(line, match, version))
      module.version = unsigned(std::stoul(match[1]) * 10 + std::stoul(match[2]));
    else if (std::regex_match(line, match, target)) {
      module.arch = unsigned(std::stoul(match[1]));
      module.archSpecific = match[2].length();
    } else if (line.rfind(".address_size", 0) != 0)
      throw PtxError("directive not understood: " + line);
  }
  if (!module.version || !module.arch)
    throw PtxError("no PTX: .version or .target is missing");
  return module;
}

} // namespace fake
