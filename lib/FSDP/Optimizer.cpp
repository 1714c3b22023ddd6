//===- Optimizer.cpp - updates of flat buffers --------------------------------------------------===//
//
// AdamW: Loshchilov and Hutter 2019, in the order of torch.optim.AdamW. SGD with momentum: torch.optim.SGD without dampening. All elementwise, so
// that Fuse makes one pass over a bucket of each update.
//
//===----------------------------------------------------------------------===//

#include "Optimizer.h"

using namespace mlir;

namespace shardc {

SmallVector<StringRef> OptimizerSpec::stateRoles() const {
  if (kind == AdamW)
    return {"exp_avg", "exp_avg_sq"};
  return momentum != 0 ? SmallVector<StringRef>{"momentum"} : SmallVector<StringRef>{};
}

SmallVector<StringRef> OptimizerSpec::scalarNames() const {
  if (kind == AdamW)
    return {"learning_rate", "bias_correction1", "bias_correction2"};
  return {"learning_rate"};
}

static SmallVector<Value> buildAdamW(Arithmetic a, const OptimizerSpec &spec, const UpdateInputs &in, Value gradient) {
  Type type = in.parameter.getType();
  Value rate = in.scalars.lookup("learning_rate");
  Value parameter = in.parameter;
  if (in.hasDecay && spec.weightDecay != 0) {
    Value keep = a.sub(a.constant(rate.getType(), 1), a.mul(rate, spec.weightDecay));
    parameter = a.mul(parameter, a.spread(keep, type));
  }
  Value first = a.add(a.mul(in.states[0], spec.beta1), a.mul(gradient, 1 - spec.beta1));
  Value second = a.add(a.mul(in.states[1], spec.beta2), a.mul(a.mul(gradient, gradient), 1 - spec.beta2));
  Value root = a.sqrt(in.scalars.lookup("bias_correction2"));
  Value denominator = a.add(a.div(a.sqrt(second), a.spread(root, type)), a.constant(type, spec.epsilon));
  Value step = a.div(rate, in.scalars.lookup("bias_correction1"));
  return {a.sub(parameter, a.mul(a.spread(step, type), a.div(first, denominator))), first, second};
}

static SmallVector<Value> buildSgd(Arithmetic a, const OptimizerSpec &spec, const UpdateInputs &in, Value gradient) {
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

SmallVector<Value> buildUpdate(OpBuilder &builder, Location loc, const OptimizerSpec &spec, const UpdateInputs &in) {
  Arithmetic a{builder, loc};
  Value gradient = a.mul(in.gradient, a.spread(in.scale, in.gradient.getType()));
  return spec.kind == OptimizerSpec::AdamW ? buildAdamW(a, spec, in, gradient) : buildSgd(a, spec, in, gradient);
}

} // namespace shardc
