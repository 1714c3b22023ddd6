/* Compiled against one MPI's mpi.h (see build-shim.sh). Only calls MPI; everything else is on the
 * other side. */
#include "runtime/channels/mpi/shim.h"

#include <limits.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

struct shardrt_mpi_comm_s {
  MPI_Comm comm;
};

struct shardrt_mpi_request_s {
  MPI_Request request;
};

static int initialisedHere;

static int shimInit(int32_t *outRank, int32_t *outRanks, int32_t *outThreads) {
  int already = 0, threads = 0, rank = 0, ranks = 0;
  MPI_Initialized(&already);
  if (!already) {
    int error = MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &threads);
    if (error != MPI_SUCCESS)
      return error;
    initialisedHere = 1;
  }
  MPI_Query_thread(&threads);
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  *outRank = rank;
  *outRanks = ranks;
  *outThreads = threads == MPI_THREAD_MULTIPLE ? 3 : threads == MPI_THREAD_SERIALIZED ? 2 : 1;
  return 0;
}

static int shimFinalize(void) {
  int done = 0;
  MPI_Finalized(&done);
  return initialisedHere && !done ? MPI_Finalize() : 0;
}

static void shimAbort(int32_t code) { MPI_Abort(MPI_COMM_WORLD, code); }

static void copyText(char *text, int32_t size, const char *from) {
  strncpy(text, from, (size_t)size - 1);
  text[size - 1] = 0;
  text[strcspn(text, "\r\n")] = 0;
}

static void shimLibrary(char *text, int32_t size) {
  char name[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  MPI_Get_library_version(name, &length);
  copyText(text, size, name);
}

static void shimErrorText(int code, char *text, int32_t size) {
  char name[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, name, &length);
  copyText(text, size, name);
}

static int shimCommCreate(const int32_t *ranks, int32_t size, int32_t tag, shardrt_mpi_comm *out) {
  MPI_Group world, group;
  shardrt_mpi_comm comm = malloc(sizeof(*comm));
  int error = comm ? MPI_Comm_group(MPI_COMM_WORLD, &world) : MPI_ERR_NO_MEM;
  if (error == MPI_SUCCESS) {
    error = MPI_Group_incl(world, size, ranks, &group);
    if (error == MPI_SUCCESS) {
      error = MPI_Comm_create_group(MPI_COMM_WORLD, group, tag, &comm->comm);
      MPI_Group_free(&group);
    }
    MPI_Group_free(&world);
  }
  if (error != MPI_SUCCESS) {
    free(comm);
    return error;
  }
  *out = comm;
  return 0;
}

static int shimCommRelease(shardrt_mpi_comm comm) {
  int error = MPI_Comm_free(&comm->comm);
  free(comm);
  return error;
}

/* MPI counts are int: a larger message is one element of a type that is as large as the message. */
static int typeFor(int64_t bytes, int *count, MPI_Datatype *type) {
  *type = MPI_BYTE;
  *count = (int)bytes;
  if (bytes <= INT_MAX)
    return MPI_SUCCESS;
  const int64_t pieceBytes = (int64_t)1 << 30;
  MPI_Datatype piece;
  int error = MPI_Type_contiguous((int)pieceBytes, MPI_BYTE, &piece);
  if (error != MPI_SUCCESS)
    return error;
  int lengths[2] = {(int)(bytes / pieceBytes), (int)(bytes % pieceBytes)};
  MPI_Aint places[2] = {0, (MPI_Aint)(bytes / pieceBytes * pieceBytes)};
  MPI_Datatype types[2] = {piece, MPI_BYTE};
  error = MPI_Type_create_struct(2, lengths, places, types, type);
  MPI_Type_free(&piece);
  *count = 1;
  return error == MPI_SUCCESS ? MPI_Type_commit(type) : error;
}

/* Everything between making the type and handing out the request is the same for all calls. */
#define START(bytes, call)                                                                         \
  int count;                                                                                       \
  MPI_Datatype type;                                                                               \
  int error = typeFor(bytes, &count, &type);                                                       \
  if (error != MPI_SUCCESS)                                                                        \
    return error;                                                                                  \
  shardrt_mpi_request request = malloc(sizeof(*request));                                          \
  error = request ? (call) : MPI_ERR_NO_MEM;                                                       \
  if (type != MPI_BYTE)                                                                            \
    MPI_Type_free(&type);                                                                          \
  if (error != MPI_SUCCESS) {                                                                      \
    free(request);                                                                                 \
    return error;                                                                                  \
  }                                                                                                \
  *out = request;                                                                                  \
  return 0

static int shimBarrier(shardrt_mpi_comm comm, shardrt_mpi_request *out) {
  START(0, MPI_Ibarrier(comm->comm, &request->request));
}

static int shimAllGather(shardrt_mpi_comm comm, const void *src, void *dst, int64_t each,
                         shardrt_mpi_request *out) {
  START(each, MPI_Iallgather(src, count, type, dst, count, type, comm->comm, &request->request));
}

static int shimAllToAll(shardrt_mpi_comm comm, const void *src, void *dst, int64_t each,
                        shardrt_mpi_request *out) {
  START(each, MPI_Ialltoall(src, count, type, dst, count, type, comm->comm, &request->request));
}

static int shimGather(shardrt_mpi_comm comm, const void *src, void *dst, int64_t each, int32_t root,
                      shardrt_mpi_request *out) {
  START(each, MPI_Igather(src, count, type, dst, count, type, root, comm->comm, &request->request));
}

static int shimBroadcast(shardrt_mpi_comm comm, void *data, int64_t bytes, int32_t root,
                         shardrt_mpi_request *out) {
  START(bytes, MPI_Ibcast(data, count, type, root, comm->comm, &request->request));
}

static int shimSend(shardrt_mpi_comm comm, const void *src, int64_t bytes, int32_t to,
                    shardrt_mpi_request *out) {
  START(bytes, MPI_Isend(src, count, type, to, 0, comm->comm, &request->request));
}

static int shimReceive(shardrt_mpi_comm comm, void *dst, int64_t bytes, int32_t from,
                       shardrt_mpi_request *out) {
  START(bytes, MPI_Irecv(dst, count, type, from, 0, comm->comm, &request->request));
}

static int shimTest(shardrt_mpi_request request, int32_t *outDone) {
  int done = 0;
  int error = MPI_Test(&request->request, &done, MPI_STATUS_IGNORE);
  if (error == MPI_SUCCESS && done)
    free(request);
  *outDone = done;
  return error;
}

__attribute__((visibility("default"))) const shardrt_mpi_shim *shardrt_mpi_shim_table(void) {
  static const shardrt_mpi_shim table = {SHARDRT_MPI_SHIM_VERSION,
                                         shimInit,
                                         shimFinalize,
                                         shimAbort,
                                         shimLibrary,
                                         shimErrorText,
                                         shimCommCreate,
                                         shimCommRelease,
                                         shimBarrier,
                                         shimAllGather,
                                         shimAllToAll,
                                         shimGather,
                                         shimBroadcast,
                                         shimSend,
                                         shimReceive,
                                         shimTest};
  return &table;
}
