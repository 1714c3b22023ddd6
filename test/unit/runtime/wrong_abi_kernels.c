const char shardrt_abi[] = "shardrt-99";
void test_add(void) {}
