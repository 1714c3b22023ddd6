//===- ExpertMesh.h - The ranks as experts see them -------------*- C++ -*-===//

#ifndef SHARDC_LIB_ANNOTATE_EXPERTMESH_H
#define SHARDC_LIB_ANNOTATE_EXPERTMESH_H

#include "shardc/Sharding/Sharding.h"

namespace shardc {

/// The sub-axes over which experts are cut `ep` ways: all of tp, and as much of the minor end of
/// dp_shard as is missing (Hugging Face's expert mesh (pp, dp_replicate, efsdp, ep): efsdp is what
/// is left of dp_shard). The message names the sizes that disagree.
Result<AxisList> expertAxes(const Mesh &mesh, int64_t ep);

} // namespace shardc

#endif // SHARDC_LIB_ANNOTATE_EXPERTMESH_H
