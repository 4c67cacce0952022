// Stands in for libtorch_cuda.so at link time, so that the CUDA operators build beside a CPU build
// of torch. Only its name and its symbols count; it is never installed and never called. At run
// time the name resolves to the library of the torch that was imported.
#define STUB(name) \
  extern "C" __attribute__((visibility("default"))) void name() {}

STUB(aoti_torch_get_current_cuda_stream)
