//===- shardc.cpp - The driver: compile, verify, explain, inspect ---------===//

#include "shardc/Driver/Driver.h"

int main(int argc, char **argv) { return shardc::runDriver(argc, argv); }
