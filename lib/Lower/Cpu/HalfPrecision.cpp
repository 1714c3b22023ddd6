//===- HalfPrecision.cpp - 16-bit floats on machines without them ---------===//
//
// x86-64-v3 has vector conversions between f16 and f32 and nothing for bf16. Arithmetic has been
// moved to f32 and bf16 rounding expanded before (LowerToLLVM.cpp); left are masked accesses, which
// the backend would move through scalar floats, and conversions from f64.
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

void legaliseHalves(Module &module) {
  SmallVector<Instruction *> instructions;
  for (Function &function : module)
    for (Instruction &instruction : llvm::instructions(function))
      instructions.push_back(&instruction);
  for (Instruction *instruction : instructions) {
    if (auto *trunc = dyn_cast<FPTruncInst>(instruction)) {
      truncateInSteps(trunc);
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

void defineHalfConversions(Module &module) {
  IRBuilder<> builder(module.getContext());
  Type *bf16 = builder.getBFloatTy(), *f32 = builder.getFloatTy();
  auto *function = Function::Create(FunctionType::get(bf16, {f32}, false),
                                    GlobalValue::ExternalLinkage, "__truncsfbf2", module);
  function->setVisibility(GlobalValue::HiddenVisibility);
  builder.SetInsertPoint(BasicBlock::Create(module.getContext(), "entry", function));
  // Round to nearest even on the bits; a NaN stays one.
  Value *x = function->getArg(0), *bits = builder.CreateBitCast(x, builder.getInt32Ty());
  Value *odd = builder.CreateAnd(builder.CreateLShr(bits, 16), 1);
  Value *rounded = builder.CreateAdd(bits, builder.CreateAdd(odd, builder.getInt32(0x7fff)));
  Value *quiet = builder.CreateOr(bits, 0x400000);
  Value *chosen = builder.CreateSelect(builder.CreateFCmpUNO(x, x), quiet, rounded);
  Value *half = builder.CreateTrunc(builder.CreateLShr(chosen, 16), builder.getInt16Ty());
  builder.CreateRet(builder.CreateBitCast(half, bf16));
}

} // namespace shardc
