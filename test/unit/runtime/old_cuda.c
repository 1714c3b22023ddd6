/* A driver and an NCCL that are too old for the runtime, and nothing else. */
int cuDriverGetVersion(int *version) {
  *version = 11040;
  return 0;
}

int ncclGetVersion(int *version) {
  *version = 21803;
  return 0;
}
