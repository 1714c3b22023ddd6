// One parameter, whose gradient is x, and steps of each optimizer. Expected values are those of torch.optim.
// DEFINE: %{fsdp} =
// DEFINE: %{weight} = parameter/head=dense<2.0>
// DEFINE: %{run} = shard-opt %s --shard-fsdp="%{fsdp}" | shard-opt --shard-interpret - --entry step --input 'x=dense<[0.5, -1.0, 3.0, 0.0]>' --input '%{weight}' --input 'learning_rate=dense<0.125>'
shard.mesh @mesh ["dp_shard" = 1]
func.func @main(%x: tensor<4xf32> {graph.name = "x"})
    -> (tensor<f32> {graph.name = "loss"}, tensor<f32> {graph.name = "tokens"}, tensor<4xf32> {graph.gradient = "w"}) {
  %w = graph.parameter "w" : tensor<4xf32>
  // Half of the positions count: gradients are those of the mean over them.
  %tokens = graph.constant dense<0.5> : tensor<f32>
  %0 = graph.mul %w, %x : tensor<4xf32>
  %loss = graph.reduce sum %0 [0] : tensor<4xf32> -> tensor<f32>
  return %loss, %tokens, %x : tensor<f32>, tensor<f32>, tensor<4xf32>
}

// w - rate * g, with g = 2 x
// REDEFINE: %{fsdp} = optimizer=sgd
// RUN: %{run} | FileCheck %s --check-prefix=SGD
// SGD: parameter/head : tensor<64xf32> = [1.875, 2.25, 1.25, 2, 2,

// g + decay * w; where no decay is wanted, none
// REDEFINE: %{fsdp} = optimizer=sgd,weight-decay=0.5
// RUN: %{run} | FileCheck %s --check-prefix=DECAY
// DECAY: parameter/head : tensor<64xf32> = [1.75, 2.125, 1.125, 1.875, 1.875,
// REDEFINE: %{fsdp} = optimizer=sgd,weight-decay=0.5 no-decay=w
// RUN: %{run} | FileCheck %s --check-prefix=SGD

// The buffer: momentum * buffer + g
// REDEFINE: %{fsdp} = optimizer=sgd,momentum=0.5
// RUN: %{run} --input 'momentum/head=dense<4.0>' | FileCheck %s --check-prefix=MOMENTUM
// MOMENTUM: parameter/head : tensor<64xf32> = [1.625, 2, 1, 1.75, 1.75,
// MOMENTUM: momentum/head : tensor<64xf32> = [3, 0, 8, 2, 2,

// Moments with their decays, corrected for their beginning at zero: after one step they are g and g^2, and the update is rate * sign(g).
// REDEFINE: %{fsdp} = optimizer=adamw,beta1=0.75,beta2=0.5
// RUN: %{run} --input 'exp_avg/head=dense<0.0>' --input 'exp_avg_sq/head=dense<0.0>' --input 'bias_correction1=dense<0.25>' --input 'bias_correction2=dense<0.5>' | FileCheck %s --check-prefix=ADAM
// ADAM: parameter/head : tensor<64xf32> = [1.875, 2.125, 1.875, 2, 2,
// ADAM: exp_avg/head : tensor<64xf32> = [0.25, -0.5, 1.5, 0, 0,
// ADAM: exp_avg_sq/head : tensor<64xf32> = [0.5, 2, 18, 0, 0,

// Decoupled decay: w * (1 - rate * decay) first. Moments that were there: (3 + 1) / 2 and (7 + 1) / 2, and 2 / (sqrt(4) / sqrt(1/4) + 4).
// REDEFINE: %{fsdp} = optimizer=adamw,beta1=0.5,beta2=0.5,epsilon=4.0,weight-decay=0.5
// RUN: %{run} --input 'exp_avg/head=dense<3.0>' --input 'exp_avg_sq/head=dense<7.0>' --input 'bias_correction1=dense<0.5>' --input 'bias_correction2=dense<0.25>' | FileCheck %s --check-prefix=ADAMW
// ADAMW: parameter/head : tensor<64xf32> = [1.8125,
// ADAMW: exp_avg/head : tensor<64xf32> = [2, 0.5, 4.5, 1.5, 1.5,
// ADAMW: exp_avg_sq/head : tensor<64xf32> = [4, 5.5, 21.5, 3.5, 3.5,
