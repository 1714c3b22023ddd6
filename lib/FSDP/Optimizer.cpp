//===- Optimizer.cpp - Updates of flat buffers ----------------------------===//
//
// AdamW: Loshchilov and Hutter 2019, in the order of torch.optim.AdamW. SGD with momentum:
// torch.optim.SGD without dampening. All elementwise, so that Fuse makes one pass over a bucket of
// each update. Muon (Jordan et al. 2024, torch.optim.Muon): the momentum's matrices are made
// orthogonal in between (Muon.h).
//
//===----------------------------------------------------------------------===//

#include "Optimizer.h"

using namespace mlir;

namespace shardc {

SmallVector<StringRef> OptimizerSpec::stateRoles() const {
  if (kind == AdamW)
    return {"exp_avg", "exp_avg_sq"};
  return kind == Muon || momentum != 0 ? SmallVector<StringRef>{"momentum"}
                                       : SmallVector<StringRef>{};
}

SmallVector<StringRef> OptimizerSpec::scalarNames() const {
  if (kind == AdamW)
    return {"learning_rate", "bias_correction1", "bias_correction2"};
  return {"learning_rate"};
}

OptimizerSpec OptimizerSpec::forOthers() const {
  OptimizerSpec spec = *this;
  if (kind == Muon)
    spec.kind = AdamW;
  return spec;
}

static Value decayed(Arithmetic a, const OptimizerSpec &spec, const UpdateInputs &in) {
  if (!in.hasDecay || spec.weightDecay == 0)
    return in.parameter;
  Value rate = in.scalars.lookup("learning_rate");
  Value keep = a.sub(a.constant(rate.getType(), 1), a.mul(rate, spec.weightDecay));
  return a.mul(in.parameter, a.spread(keep, in.parameter.getType()));
}

static SmallVector<Value> buildAdamW(Arithmetic a, const OptimizerSpec &spec,
                                     const UpdateInputs &in, Value gradient) {
  Type type = in.parameter.getType();
  Value rate = in.scalars.lookup("learning_rate");
  Value parameter = decayed(a, spec, in);
  Value first = a.add(a.mul(in.states[0], spec.beta1), a.mul(gradient, 1 - spec.beta1));
  Value second =
      a.add(a.mul(in.states[1], spec.beta2), a.mul(a.mul(gradient, gradient), 1 - spec.beta2));
  Value root = a.sqrt(in.scalars.lookup("bias_correction2"));
  Value denominator =
      a.add(a.div(a.sqrt(second), a.spread(root, type)), a.constant(type, spec.epsilon));
  Value step = a.div(rate, in.scalars.lookup("bias_correction1"));
  return {a.sub(parameter, a.mul(a.spread(step, type), a.div(first, denominator))), first, second};
}

static SmallVector<Value> buildSgd(Arithmetic a, const OptimizerSpec &spec, const UpdateInputs &in,
                                   Value gradient) {
  if (in.hasDecay && spec.weightDecay != 0)
    gradient = a.add(gradient, a.mul(in.parameter, spec.weightDecay));
  SmallVector<Value> states;
  if (spec.momentum != 0) {
    gradient = a.add(a.mul(in.states[0], spec.momentum), gradient);
    states.push_back(gradient);
  }
  Value rate = a.spread(in.scalars.lookup("learning_rate"), in.parameter.getType());
  SmallVector<Value> results = {a.sub(in.parameter, a.mul(rate, gradient))};
  results.append(states);
  return results;
}

/// Decay is decoupled, as AdamW's.
static SmallVector<Value> buildMuon(Arithmetic a, const OptimizerSpec &spec, const UpdateInputs &in,
                                    Value gradient, Orthogonalise orthogonalise) {
  auto mix = [&](Value x, Value y, double share) {
    return a.add(a.mul(x, 1 - share), a.mul(y, share));
  };
  Value momentum = mix(gradient, in.states[0], spec.momentum);
  Value direction = spec.nesterov == "true" ? mix(gradient, momentum, spec.momentum) : momentum;
  Value rate = a.spread(in.scalars.lookup("learning_rate"), in.parameter.getType());
  return {a.sub(decayed(a, spec, in), a.mul(rate, orthogonalise(direction))), momentum};
}

SmallVector<Value> buildUpdate(OpBuilder &builder, Location loc, const OptimizerSpec &spec,
                               const UpdateInputs &in, Orthogonalise orthogonalise) {
  Arithmetic a{builder, loc};
  Value gradient = a.mul(in.gradient, a.spread(in.scale, in.gradient.getType()));
  switch (spec.kind) {
  case OptimizerSpec::AdamW:
    return buildAdamW(a, spec, in, gradient);
  case OptimizerSpec::Sgd:
    return buildSgd(a, spec, in, gradient);
  case OptimizerSpec::Muon:
    return buildMuon(a, spec, in, gradient, orthogonalise);
  }
  llvm_unreachable("optimizer");
}

} // namespace shardc
