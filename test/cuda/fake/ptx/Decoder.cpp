//===- Decoder.cpp - Statements of PTX to instructions --------------------===//
#include "Decoder.h"
#include <algorithm>

namespace fake {

bool Statement::take(const std::string &modifier) {
  auto found = std::find(modifiers.begin(), modifiers.end(), modifier);
  if (found == modifiers.end())
    return false;
  modifiers.erase(found);
  return true;
}

static const BuilderTable &builders() {
  static const BuilderTable table = [] {
    BuilderTable made;
    addArithmetic(made);
    addBitOperations(made);
    addComparisons(made);
    addConversions(made);
    addMemory(made);
    addWarpOperations(made);
    addMatrixOperations(made);
    return made;
  }();
  return table;
}

Decoder::Decoder(Kernel &kernel) : kernel(kernel) {}

void Decoder::reject(const Statement &statement, const std::string &why) const {
  throw PtxError(kernel.name + ": " + why + ", at `" + statement.text + "`");
}

uint32_t Decoder::allocate(unsigned bits) {
  size_t bytes = std::max(8u, bits) / 8 * lanes, offset = (kernel.image.size() + 63) / 64 * 64;
  // What is never written is not zero by chance.
  kernel.image.resize(offset + bytes, 0xcb);
  if (bits == 1)
    std::fill_n(kernel.image.begin() + offset, lanes, 1);
  return uint32_t(offset);
}

void Decoder::declareRegisters(const std::string &prefix, unsigned bits) {
  if (!bits)
    throw PtxError(kernel.name + ": registers of an unknown type: " + prefix);
  prefixes[prefix] = bits;
}

void Decoder::declareShared(const std::string &symbol, unsigned bytes, unsigned align,
                            bool dynamic) {
  kernel.sharedBytes = (kernel.sharedBytes + align - 1) / align * align;
  symbols[symbol] = kernel.sharedBytes;
  kernel.sharedBytes += bytes;
  kernel.dynamicShared |= dynamic;
}

uint32_t Decoder::constant(uint64_t value, unsigned bits) {
  auto [entry, fresh] = constants.try_emplace({value, bits}, 0);
  if (!fresh)
    return entry->second;
  entry->second = allocate(bits);
  for (unsigned lane = 0; lane < lanes; ++lane) {
    uint64_t kept = bits == 1 ? value != 0 : value;
    std::memcpy(kernel.image.data() + entry->second + lane * (std::max(8u, bits) / 8), &kept,
                std::max(8u, bits) / 8);
  }
  return entry->second;
}

static const std::pair<const char *, Special> specialNames[] = {
    {"%tid.x", Special::TidX},       {"%tid.y", Special::TidY},
    {"%tid.z", Special::TidZ},       {"%ntid.x", Special::NtidX},
    {"%ntid.y", Special::NtidY},     {"%ntid.z", Special::NtidZ},
    {"%ctaid.x", Special::CtaidX},   {"%ctaid.y", Special::CtaidY},
    {"%ctaid.z", Special::CtaidZ},   {"%nctaid.x", Special::NctaidX},
    {"%nctaid.y", Special::NctaidY}, {"%nctaid.z", Special::NctaidZ},
    {"%laneid", Special::LaneId},    {"%warpid", Special::WarpId}};

uint32_t Decoder::findRegister(const Statement &statement, const std::string &name,
                               unsigned &bits) {
  auto [entry, fresh] = registers.try_emplace(name);
  if (!fresh) {
    bits = entry->second.second;
    return entry->second.first;
  }
  for (auto [text, special] : specialNames)
    if (name == text) {
      entry->second = {allocate(32), bits = 32};
      kernel.specials.emplace_back(special, entry->second.first);
      return entry->second.first;
    }
  auto declared = prefixes.find(name);
  if (declared == prefixes.end())
    declared = prefixes.find(name.substr(0, name.find_last_not_of("0123456789") + 1));
  if (declared == prefixes.end())
    reject(statement, "unknown register " + name);
  entry->second = {allocate(declared->second), bits = declared->second};
  return entry->second.first;
}

uint32_t Decoder::anyRegister(const Statement &statement, const std::string &operand,
                              uint8_t &bits) {
  unsigned found;
  uint32_t offset = findRegister(statement, operand, found);
  bits = uint8_t(found);
  return offset;
}

static bool isRegister(const std::string &operand) { return operand[0] == '%'; }

uint32_t Decoder::target(const Statement &statement, const std::string &operand, unsigned bits) {
  if (operand == "_")
    return allocate(bits);
  unsigned found;
  uint32_t offset = findRegister(statement, operand, found);
  if (found != bits)
    reject(statement, "register " + operand + " has " + std::to_string(found) +
                          " bits, the instruction " + std::to_string(bits));
  return offset;
}

uint32_t Decoder::source(const Statement &statement, const std::string &operand, unsigned bits) {
  if (operand.empty())
    reject(statement, "an operand is missing");
  if (auto symbol = symbols.find(operand); symbol != symbols.end())
    return constant(symbol->second, bits);
  if (isRegister(operand))
    return target(statement, operand, bits);
  try {
    size_t used = 0;
    uint64_t value =
        operand[0] == '0' && operand.size() > 2 &&
                (operand[1] == 'f' || operand[1] == 'F' || operand[1] == 'd' || operand[1] == 'D')
            ? std::stoull(operand.substr(2), &used, 16)
        : operand[0] == '-' ? uint64_t(std::stoll(operand, &used, 0))
                            : std::stoull(operand, &used, 0);
    if (used + (operand[0] == '0' && used + 2 == operand.size() ? 2 : 0) == operand.size() ||
        operand.substr(used) == "U")
      return constant(bits >= 64 ? value : value & ((uint64_t(1) << bits) - 1), bits);
  } catch (const std::exception &) {
  }
  reject(statement, "operand " + operand + " not understood");
}

std::vector<std::string> Decoder::list(const std::string &operand) {
  if (operand.empty() || operand[0] != '{')
    return {operand};
  std::vector<std::string> pieces(1);
  for (char c : operand.substr(1, operand.size() - 2))
    if (c == ',')
      pieces.emplace_back();
    else if (c != ' ')
      pieces.back() += c;
  return pieces;
}

void Decoder::address(const Statement &statement, const std::string &operand,
                      Instruction &instruction, unsigned slot) {
  if (operand.size() < 3 || operand[0] != '[')
    reject(statement, "operand " + operand + " is no address");
  std::string inside = operand.substr(1, operand.size() - 2);
  size_t plus = inside.find('+');
  std::string base = inside.substr(0, plus);
  if (plus != std::string::npos)
    instruction.offset = std::stoll(inside.substr(plus + 1), nullptr, 0);
  if (!base.empty() && base.back() == ' ')
    base.pop_back();
  uint8_t bits = 64;
  if (isRegister(base) && !symbols.count(base))
    instruction.operands[slot] = anyRegister(statement, base, bits);
  else
    instruction.operands[slot] = source(statement, base, 64);
  if (bits != 64 && bits != 32)
    reject(statement, "an address has 32 or 64 bits");
  instruction.extend = bits;
}

const Parameter &Decoder::parameter(const Statement &statement, const std::string &name) const {
  for (const Parameter &parameter : kernel.parameters)
    if (parameter.name == name)
      return parameter;
  reject(statement, "unknown parameter " + name);
}

void Decoder::label(const std::string &name) { labels[name] = uint32_t(kernel.code.size()); }

void Decoder::add(Statement statement) {
  Instruction instruction;
  instruction.text = statement.text;
  if (!statement.guard.empty()) {
    instruction.guarded = true;
    instruction.negated = statement.negated;
    instruction.guard = source(statement, statement.guard, 1);
  }
  if (statement.opcode == "bra") {
    instruction.flow = Instruction::Flow::Branch;
    statement.take("uni");
    if (statement.operands.size() != 1)
      reject(statement, "instruction not understood");
    branches.emplace_back(kernel.code.size(), statement.operands[0]);
  } else if (statement.opcode == "ret" || statement.opcode == "exit") {
    instruction.flow = Instruction::Flow::Exit;
  } else {
    auto builder = builders().find(statement.opcode);
    if (builder == builders().end())
      reject(statement, "instruction not understood");
    // Builders count on empty operands where there are none.
    statement.operands.resize(std::max<size_t>(statement.operands.size(), 6));
    builder->second(*this, statement, instruction);
    if (!instruction.handler)
      reject(statement, "instruction not understood");
  }
  if (!statement.modifiers.empty())
    reject(statement, "instruction not understood (." + statement.modifiers[0] + ")");
  kernel.code.push_back(std::move(instruction));
}

void Decoder::finish() {
  for (const auto &[index, name] : branches) {
    auto found = labels.find(name);
    if (found == labels.end())
      throw PtxError(kernel.name + ": branch to unknown label " + name);
    kernel.code[index].target = found->second;
  }
}

} // namespace fake
