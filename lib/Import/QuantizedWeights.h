//===- QuantizedWeights.h - Weights that a file holds in few bits ---------===//

#ifndef SHARDC_LIB_IMPORT_QUANTIZEDWEIGHTS_H
#define SHARDC_LIB_IMPORT_QUANTIZEDWEIGHTS_H

#include "OnnxModel.h"

namespace shardc::importer {

/// Makes weights of floats of those that nodes of the main graph dequantize. Nodes that it cannot
/// treat get a `problem`.
void foldQuantizedWeights(Model &model);

} // namespace shardc::importer

#endif // SHARDC_LIB_IMPORT_QUANTIZEDWEIGHTS_H
