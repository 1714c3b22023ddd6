//===- Graph.td - Umbrella of the graph dialect ------------*- tablegen -*-===//

include "dialects/Graph/GraphDialect.td"
include "dialects/Graph/GraphElementwise.td"
include "dialects/Graph/GraphShape.td"
include "dialects/Graph/GraphMath.td"
