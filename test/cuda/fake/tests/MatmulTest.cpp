//===- MatmulTest.cpp - CuBLASLt ------------------------------------------===//
#include "Gpu.h"

using namespace fake::tests;

namespace {
struct Matmul {
  cublasLtHandle_t handle;
  cublasLtMatmulDesc_t desc;
  cublasLtMatrixLayout_t a, b, d;
  cublasLtMatmulPreference_t preference;
  uint32_t alignment = 4;
  uint64_t workspaceBytes = 4096;

  /// 2 x 3 by 3 x 2, columns in one piece.
  Matmul() {
    cublasLt().cublasLtCreate(&handle);
    cublasLt().cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    cublasLt().cublasLtMatrixLayoutCreate(&a, CUDA_R_32F, 2, 3, 2);
    cublasLt().cublasLtMatrixLayoutCreate(&b, CUDA_R_32F, 3, 2, 3);
    cublasLt().cublasLtMatrixLayoutCreate(&d, CUDA_R_32F, 2, 2, 2);
    cublasLt().cublasLtMatmulPreferenceCreate(&preference);
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspaceBytes);
    for (int which = CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
         which <= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES; ++which)
      set(which, alignment);
  }
  template <class T> void set(int attribute, const T &value) {
    cublasLt().cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value));
  }

  /// `added`: another matrix than the result.
  std::vector<float> run(float beta, size_t workspaceGiven = 4096, size_t offset = 0,
                         const std::vector<float> &added = {}) {
    DeviceArray<float> left({1, 4, 2, 5, 3, 6, 0}), right({1, 0, 2, 0, 1, 0}),
        result(std::vector<float>{10, 20, 30, 40}), space(1024);
    DeviceArray<float> other(added.empty() ? std::vector<float>(4) : added);
    void *c = added.empty() ? result.pointer() : other.pointer();
    cublasLtMatmulHeuristicResult_t found;
    int count = 0;
    cublasLt().cublasLtMatmulAlgoGetHeuristic(handle, desc, a, b, d, d, preference, 1, &found,
                                              &count);
    require(count == 1, "there is an algorithm");
    float one = 1;
    cublasLt().cublasLtMatmul(handle, desc, &one, reinterpret_cast<void *>(left.address + offset),
                              a, right.pointer(), b, &beta, c, d, result.pointer(), d, &found.algo,
                              space.pointer(), workspaceGiven, nullptr);
    return result.get();
  }
};
} // namespace

TEST(FakeMatmul, Multiplies) {
  EXPECT_PROCESS(0, "", {
    start();
    require(Matmul().run(0) == std::vector<float>({7, 16, 2, 5}), "the product");
    require(Matmul().run(1) == std::vector<float>({17, 36, 32, 45}),
            "the product and what was there");
  });
}

TEST(FakeMatmul, HasEpilogues) {
  EXPECT_PROCESS(0, "", {
    start();
    Matmul matmul;
    DeviceArray<float> bias({100, -20});
    cublasLt().cublasLtMatmulDescSetAttribute(matmul.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                              &bias.address, sizeof(bias.address));
    uint32_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    cublasLt().cublasLtMatmulDescSetAttribute(matmul.desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                              sizeof(epilogue));
    require(matmul.run(0) == std::vector<float>({107, -4, 102, -15}), "a bias for each row");
    epilogue |= CUBLASLT_EPILOGUE_RELU;
    cublasLt().cublasLtMatmulDescSetAttribute(matmul.desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                              sizeof(epilogue));
    require(matmul.run(0) == std::vector<float>({107, 0, 102, 0}), "nothing negative");
  });
}

TEST(FakeMatmul, AddsAnotherMatrix) {
  EXPECT_PROCESS(0, "", {
    start();
    Matmul matmul;
    require(matmul.run(1, 4096, 0, {1, 2, 3, 4}) == std::vector<float>({8, 18, 5, 9}),
            "the product and another matrix");
  });
}

TEST(FakeMatmul, HasGradientsOfBiases) {
  EXPECT_PROCESS(0, "", {
    start();
    Matmul matmul;
    DeviceArray<float> bias({0, 0});
    for (uint32_t epilogue : {CUBLASLT_EPILOGUE_BGRADA, CUBLASLT_EPILOGUE_BGRADB}) {
      cublasLt().cublasLtMatmulDescSetAttribute(matmul.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                                &bias.address, sizeof(bias.address));
      cublasLt().cublasLtMatmulDescSetAttribute(matmul.desc, CUBLASLT_MATMUL_DESC_EPILOGUE,
                                                &epilogue, sizeof(epilogue));
      require(matmul.run(0) == std::vector<float>({7, 16, 2, 5}), "the product as it is");
      bool ofA = epilogue == CUBLASLT_EPILOGUE_BGRADA;
      require(bias.get() == (ofA ? std::vector<float>({6, 15}) : std::vector<float>({3, 1})),
              "sums of the rows of A, of the columns of B");
    }
  });
}

TEST(FakeMatmul, KeepsWhatGeluIsOf) {
  EXPECT_PROCESS(0, "", {
    start();
    Matmul matmul;
    DeviceArray<float> bias({-7, -16}), aux(std::vector<float>(16));
    int64_t leading = 8;
    uint32_t epilogue = CUBLASLT_EPILOGUE_GELU | CUBLASLT_EPILOGUE_AUX | CUBLASLT_EPILOGUE_BIAS;
    auto set = cublasLt().cublasLtMatmulDescSetAttribute;
    set(matmul.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias.address, sizeof(bias.address));
    set(matmul.desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &aux.address, sizeof(aux.address));
    set(matmul.desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &leading, sizeof(leading));
    set(matmul.desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof(epilogue));
    std::vector<float> result = matmul.run(0), kept = aux.get();
    require(result[0] == 0 && result[1] == 0 && std::abs(result[3]) < 1e-6, "GELU");
    require(kept[0] == 0 && kept[1] == 0 && kept[8] == -5 && kept[9] == -11, "its argument");
  });
  auto keep = [](int64_t leading, uint64_t offset) {
    start();
    Matmul matmul;
    DeviceArray<float> aux(std::vector<float>(32));
    uint64_t address = aux.address + offset;
    uint32_t epilogue = CUBLASLT_EPILOGUE_GELU | CUBLASLT_EPILOGUE_AUX;
    auto set = cublasLt().cublasLtMatmulDescSetAttribute;
    set(matmul.desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &address, sizeof(address));
    set(matmul.desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &leading, sizeof(leading));
    set(matmul.desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof(epilogue));
    matmul.run(0);
  };
  EXPECT_PROCESS(0, "", keep(8, 16));
  EXPECT_PROCESS(1, "an aux of leading dimension 12", keep(12, 0));
  EXPECT_PROCESS(1, "an aux that is not aligned to 16 bytes", keep(8, 8));
}

TEST(FakeMatmul, FindsMistakes) {
  EXPECT_PROCESS(1, "0 bytes of workspace, the algorithm needs 1024", start(); Matmul().run(0, 0));
  EXPECT_PROCESS(1, "not aligned to the 16 bytes", start(); Matmul matmul;
                 matmul.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, uint32_t(16));
                 matmul.run(0, 4096, 4));
  EXPECT_PROCESS(1, "4 bytes for an attribute of 8", start();
                 Matmul().set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint32_t(4)));
  EXPECT_PROCESS(1, "a leading dimension of 1 for 2 x 3", {
    start();
    Matmul matmul;
    cublasLt().cublasLtMatrixLayoutCreate(&matmul.a, CUDA_R_32F, 2, 3, 1);
    matmul.run(0);
  });
}
