//===- Decoder.h - Statements of PTX to instructions ----------------------===//
#pragma once
#include "Kernel.h"
#include <unordered_map>

namespace fake {

/// `@%p1 ld.global.v2.b32 {%r1, %r2}, [%rd1+8]`
struct Statement {
  std::string text, guard, opcode;
  bool negated = false;
  std::vector<std::string> modifiers; // between opcode and type; builders take what they know
  std::vector<Type> types;            // `cvt.f32.u32` has two
  std::vector<std::string> operands;

  /// Whether there is this modifier; it is understood then.
  bool take(const std::string &modifier);
  Type type() const { return types.empty() ? Type::None : types.back(); }
};

class Decoder {
public:
  explicit Decoder(Kernel &kernel);
  void declareRegisters(const std::string &prefix, unsigned bits);
  void declareShared(const std::string &symbol, unsigned bytes, unsigned align, bool dynamic);
  void add(Statement statement);
  void label(const std::string &name);
  void finish();

  // For builders.
  uint32_t source(const Statement &, const std::string &operand, unsigned bits);
  uint32_t target(const Statement &, const std::string &operand, unsigned bits);
  /// A register of any width, which is returned.
  uint32_t anyRegister(const Statement &, const std::string &operand, uint8_t &bits);
  /// `[base+offset]`: a 64-bit (or 32-bit, for shared memory) register or a symbol.
  void address(const Statement &, const std::string &operand, Instruction &, unsigned slot);
  /// `{%r1, %r2}`, or one.
  static std::vector<std::string> list(const std::string &operand);
  uint32_t constant(uint64_t value, unsigned bits);
  uint32_t scratch(unsigned bits) { return allocate(bits); }
  const Parameter &parameter(const Statement &, const std::string &name) const;
  [[noreturn]] void reject(const Statement &, const std::string &why) const;

private:
  uint32_t allocate(unsigned bits);
  uint32_t findRegister(const Statement &, const std::string &name, unsigned &bits);
  Kernel &kernel;
  std::unordered_map<std::string, unsigned> prefixes;
  std::unordered_map<std::string, std::pair<uint32_t, unsigned>> registers;
  std::unordered_map<std::string, uint64_t> symbols;
  std::map<std::pair<uint64_t, unsigned>, uint32_t> constants;
  std::unordered_map<std::string, uint32_t> labels;
  std::vector<std::pair<size_t, std::string>> branches;
};

/// Fills in handler and operands; throws through `reject`.
using Builder = void (*)(Decoder &, Statement &, Instruction &);
using BuilderTable = std::unordered_map<std::string, Builder>;
void addArithmetic(BuilderTable &);
void addBitOperations(BuilderTable &);
void addComparisons(BuilderTable &);
void addConversions(BuilderTable &);
void addMemory(BuilderTable &);
void addWarpOperations(BuilderTable &);
void addMatrixOperations(BuilderTable &);

/// Calls `function` with a value of the C++ type of a PTX type; returns its handler.
template <class F> Handler forInteger(Type type, F function) {
  switch (type) {
  case Type::U16:
  case Type::B16:
    return function(uint16_t());
  case Type::S16:
    return function(int16_t());
  case Type::U32:
  case Type::B32:
    return function(uint32_t());
  case Type::S32:
    return function(int32_t());
  case Type::U64:
  case Type::B64:
    return function(uint64_t());
  case Type::S64:
    return function(int64_t());
  default:
    return nullptr;
  }
}
template <class F> Handler forFloat(Type type, F function) {
  switch (type) {
  case Type::F16:
    return function(Half());
  case Type::BF16:
    return function(BFloat());
  case Type::F32:
    return function(float());
  case Type::F64:
    return function(double());
  default:
    return nullptr;
  }
}
template <class F> Handler forNumber(Type type, F function) {
  Handler handler = forInteger(type, function);
  return handler ? handler : forFloat(type, function);
}

} // namespace fake
