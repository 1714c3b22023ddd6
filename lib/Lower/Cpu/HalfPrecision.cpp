//===- HalfPrecision.cpp - 16-bit floats on machines without them ---------===//
//
// x86-64-v3 has vector conversions between f16 and f32 and nothing for bf16. Arithmetic has been
// moved to f32 before (LowerToLLVM.cpp). Left are masked accesses, which the backend would move
// through scalar floats, conversions from f64, and those of bf16: shifts and sums on the bits,
// which stay on integers to the end, since vectors of bf16 would be taken apart. vcvtneps2bf16 is
// left to what is written in vectors: the vectoriser of loops does better on integers.
//
//===----------------------------------------------------------------------===//
#include "HalfPrecision.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/InstIterator.h"
#include "llvm/IR/IntrinsicInst.h"
#include "llvm/IR/Module.h"

using namespace llvm;

namespace shardc {

/// The same access on i16.
static void accessAsIntegers(IntrinsicInst *call) {
  Intrinsic::ID id = call->getIntrinsicID();
  bool reads = id == Intrinsic::masked_load || id == Intrinsic::masked_gather;
  auto *type = cast<FixedVectorType>(reads ? call->getType() : call->getArgOperand(0)->getType());
  if (!type->getElementType()->is16bitFPTy())
    return;
  IRBuilder<> builder(call);
  auto *integers = FixedVectorType::get(builder.getInt16Ty(), type->getNumElements());
  Value *pointer = call->getArgOperand(reads ? 0 : 1), *mask = call->getArgOperand(reads ? 1 : 2);
  Align alignment = call->getParamAlign(reads ? 0 : 1).valueOrOne();
  if (reads) {
    Value *other = builder.CreateBitCast(call->getArgOperand(2), integers);
    Value *load = id == Intrinsic::masked_load
                      ? builder.CreateMaskedLoad(integers, pointer, alignment, mask, other)
                      : builder.CreateMaskedGather(integers, pointer, alignment, mask, other);
    call->replaceAllUsesWith(builder.CreateBitCast(load, type));
  } else {
    Value *value = builder.CreateBitCast(call->getArgOperand(0), integers);
    if (id == Intrinsic::masked_store)
      builder.CreateMaskedStore(value, pointer, alignment, mask);
    else
      builder.CreateMaskedScatter(value, pointer, alignment, mask);
  }
  call->eraseFromParent();
}

/// f64 to a half by way of f32: twice rounded, which differs from once only next to a tie, by one
/// unit.
static void truncateInSteps(FPTruncInst *trunc) {
  if (!trunc->getSrcTy()->getScalarType()->isDoubleTy() ||
      !trunc->getDestTy()->getScalarType()->is16bitFPTy())
    return;
  IRBuilder<> builder(trunc);
  Value *single = builder.CreateFPTrunc(trunc->getOperand(0),
                                        trunc->getSrcTy()->getWithNewType(builder.getFloatTy()));
  trunc->setOperand(0, single);
}

/// The bits of a bf16 nearest to x, ties to even, as the low half of an i32; a NaN stays one.
static Value *roundToBF16(IRBuilder<> &builder, Value *x) {
  Type *type = x->getType(), *i32 = type->getWithNewType(builder.getInt32Ty());
  auto bitsOf = [&](uint64_t value) { return ConstantInt::get(i32, value); };
  Value *bits = builder.CreateBitCast(x, i32);
  Value *odd = builder.CreateAnd(builder.CreateLShr(bits, bitsOf(16)), bitsOf(1));
  Value *rounded = builder.CreateAdd(bits, builder.CreateAdd(odd, bitsOf(0x7fff)));
  Value *quiet = builder.CreateOr(bits, bitsOf(0x400000));
  Value *chosen = builder.CreateSelect(builder.CreateFCmpUNO(x, x), quiet, rounded);
  return builder.CreateLShr(chosen, bitsOf(16));
}

static void truncateByBits(FPTruncInst *trunc) {
  Type *type = trunc->getDestTy();
  if (!type->getScalarType()->isBFloatTy())
    return;
  IRBuilder<> builder(trunc);
  Value *bits = roundToBF16(builder, trunc->getOperand(0));
  Value *half = builder.CreateTrunc(bits, type->getWithNewType(builder.getInt16Ty()));
  trunc->replaceAllUsesWith(builder.CreateBitCast(half, type));
  trunc->eraseFromParent();
}

static void extendByBits(FPExtInst *extend) {
  Type *type = extend->getSrcTy();
  if (!type->getScalarType()->isBFloatTy())
    return;
  IRBuilder<> builder(extend);
  Value *half =
      builder.CreateBitCast(extend->getOperand(0), type->getWithNewType(builder.getInt16Ty()));
  Type *i32 = type->getWithNewType(builder.getInt32Ty());
  Value *bits = builder.CreateShl(builder.CreateZExt(half, i32), ConstantInt::get(i32, 16));
  Value *single = builder.CreateBitCast(bits, type->getWithNewType(builder.getFloatTy()));
  extend->replaceAllUsesWith(single->getType() == extend->getDestTy()
                                 ? single
                                 : builder.CreateFPExt(single, extend->getDestTy()));
  extend->eraseFromParent();
}

/// A scalar bf16 that is only moved is an integer.
static void moveAsInteger(Instruction *instruction) {
  IRBuilder<> builder(instruction);
  Type *i16 = builder.getInt16Ty();
  if (auto *load = dyn_cast<LoadInst>(instruction)) {
    if (!load->getType()->isBFloatTy())
      return;
    Value *integer = builder.CreateAlignedLoad(i16, load->getPointerOperand(), load->getAlign());
    load->replaceAllUsesWith(builder.CreateBitCast(integer, load->getType()));
    load->eraseFromParent();
  } else if (auto *store = dyn_cast<StoreInst>(instruction)) {
    if (!store->getValueOperand()->getType()->isBFloatTy())
      return;
    store->setOperand(0, builder.CreateBitCast(store->getValueOperand(), i16));
  }
}

void legaliseHalves(Module &module, bool canRoundBF16) {
  SmallVector<Instruction *> instructions;
  for (Function &function : module)
    for (Instruction &instruction : llvm::instructions(function))
      instructions.push_back(&instruction);
  for (Instruction *instruction : instructions) {
    if (auto *trunc = dyn_cast<FPTruncInst>(instruction)) {
      truncateInSteps(trunc);
      if (!canRoundBF16 || !trunc->getType()->isVectorTy())
        truncateByBits(trunc);
    } else if (auto *extend = dyn_cast<FPExtInst>(instruction)) {
      extendByBits(extend);
    } else if (isa<LoadInst, StoreInst>(instruction)) {
      moveAsInteger(instruction);
    } else if (auto *call = dyn_cast<IntrinsicInst>(instruction)) {
      switch (call->getIntrinsicID()) {
      case Intrinsic::masked_load:
      case Intrinsic::masked_store:
      case Intrinsic::masked_gather:
      case Intrinsic::masked_scatter:
        accessAsIntegers(call);
        break;
      default:
        break;
      }
    }
  }
}

void storeSingleLanes(Module &module) {
  SmallVector<std::pair<IntrinsicInst *, unsigned>> stores;
  for (Function &function : module)
    for (Instruction &instruction : llvm::instructions(function)) {
      auto *call = dyn_cast<IntrinsicInst>(&instruction);
      if (!call || call->getIntrinsicID() != Intrinsic::masked_store)
        continue;
      auto *mask = dyn_cast<Constant>(call->getArgOperand(2));
      unsigned lanes = cast<FixedVectorType>(call->getArgOperand(2)->getType())->getNumElements();
      unsigned count = 0, lane = 0;
      for (unsigned i = 0; mask && i < lanes; ++i)
        if (Constant *element = mask->getAggregateElement(i); element && element->isOneValue()) {
          ++count;
          lane = i;
        }
      if (count == 1)
        stores.push_back({call, lane});
    }
  for (auto [call, lane] : stores) {
    IRBuilder<> builder(call);
    Value *element = builder.CreateExtractElement(call->getArgOperand(0), lane);
    Value *place =
        builder.CreateConstInBoundsGEP1_64(element->getType(), call->getArgOperand(1), lane);
    Align alignment = commonAlignment(call->getParamAlign(1).valueOrOne(),
                                      lane * element->getType()->getPrimitiveSizeInBits() / 8);
    builder.CreateAlignedStore(element, place, alignment);
    call->eraseFromParent();
  }
}

void defineHalfConversions(Module &module) {
  IRBuilder<> builder(module.getContext());
  Type *bf16 = builder.getBFloatTy(), *f32 = builder.getFloatTy();
  auto *function = Function::Create(FunctionType::get(bf16, {f32}, false),
                                    GlobalValue::ExternalLinkage, "__truncsfbf2", module);
  function->setVisibility(GlobalValue::HiddenVisibility);
  builder.SetInsertPoint(BasicBlock::Create(module.getContext(), "entry", function));
  Value *half =
      builder.CreateTrunc(roundToBF16(builder, function->getArg(0)), builder.getInt16Ty());
  builder.CreateRet(builder.CreateBitCast(half, bf16));
}

} // namespace shardc
