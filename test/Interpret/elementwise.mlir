// RUN: shard-opt --shard-interpret %s --entry integers | FileCheck %s --check-prefix=INT
// RUN: shard-opt --shard-interpret %s --entry casts | FileCheck %s --check-prefix=CAST
// RUN: shard-opt --shard-interpret %s --entry choice | FileCheck %s --check-prefix=CHOICE

func.func @integers() -> (tensor<4xi8>, tensor<4xi8>, tensor<4xi8>, tensor<4xui8>, tensor<2xi1>) {
  %x = graph.constant dense<[100, -7, 7, -128]> : tensor<4xi8>
  %y = graph.constant dense<[100, 2, 0, -1]> : tensor<4xi8>
  // Wraps.
  // INT: result0 {{.*}} = [-56, -5, 7, 127]
  %0 = graph.add %x, %y : tensor<4xi8>
  // Toward zero, by zero gives zero, and the one overflow wraps.
  // INT: result1 {{.*}} = [1, -3, 0, -128]
  %1 = graph.div %x, %y : tensor<4xi8>
  // INT: result2 {{.*}} = [0, 1, 0, 0]
  %2 = graph.mod %x, %y : tensor<4xi8>
  // INT: result3 {{.*}} = [155, 6, 248, 127]
  %u = graph.cast %x : tensor<4xi8> -> tensor<4xui8>
  %3 = graph.not %u : tensor<4xui8>
  // INT: result4 {{.*}} = [false, true]
  %b = graph.constant dense<[true, false]> : tensor<2xi1>
  %4 = graph.not %b : tensor<2xi1>
  return %0, %1, %2, %3, %4 : tensor<4xi8>, tensor<4xi8>, tensor<4xi8>, tensor<4xui8>, tensor<2xi1>
}

func.func @casts() -> (tensor<4xi32>, tensor<4xi1>, tensor<2xbf16>, tensor<2xi8>, tensor<1xf32>) {
  %x = graph.constant dense<[1.75, -1.75, 0.25, 0x7FC00000]> : tensor<4xf32>
  // CAST: result0 {{.*}} = [1, -1, 0, 0]
  %0 = graph.cast %x : tensor<4xf32> -> tensor<4xi32>
  // CAST: result1 {{.*}} = [true, true, true, true]
  %1 = graph.cast %x : tensor<4xf32> -> tensor<4xi1>
  // To nearest even: 257 lies between 256 and 258.
  // CAST: result2 {{.*}} = [256, 260]
  %y = graph.constant dense<[257.0, 259.0]> : tensor<2xf32>
  %2 = graph.cast %y : tensor<2xf32> -> tensor<2xbf16>
  // CAST: result3 {{.*}} = [1, -1]
  %i = graph.constant dense<[257, 65535]> : tensor<2xi64>
  %3 = graph.cast %i : tensor<2xi64> -> tensor<2xi8>
  // CAST: result4 {{.*}} = [2]
  %b = graph.constant dense<true> : tensor<1xi1>
  %f = graph.cast %b : tensor<1xi1> -> tensor<1xf32>
  %4 = graph.add %f, %f : tensor<1xf32>
  return %0, %1, %2, %3, %4 : tensor<4xi32>, tensor<4xi1>, tensor<2xbf16>, tensor<2xi8>, tensor<1xf32>
}

func.func @choice() -> (tensor<3xi1>, tensor<3xf32>, tensor<3xi1>, tensor<3xf32>) {
  %x = graph.constant dense<[1.0, 0x7FC00000, 0xFF800000]> : tensor<3xf32>
  %y = graph.constant dense<[2.0, 2.0, 2.0]> : tensor<3xf32>
  // NaN compares unequal.
  // CHOICE: result0 {{.*}} = [true, false, true]
  %0 = graph.compare le %x, %y : tensor<3xf32> -> tensor<3xi1>
  // CHOICE: result1 {{.*}} = [1, 2, -inf]
  %1 = graph.select %0, %x, %y : tensor<3xi1>, tensor<3xf32>
  // CHOICE: result2 {{.*}} = [false, false, false]
  %2 = graph.is_inf %x {negative = false} : tensor<3xf32> -> tensor<3xi1>
  // NaN wins.
  // CHOICE: result3 {{.*}} = [2, nan, 2]
  %3 = graph.max %x, %y : tensor<3xf32>
  return %0, %1, %2, %3 : tensor<3xi1>, tensor<3xf32>, tensor<3xi1>, tensor<3xf32>
}
