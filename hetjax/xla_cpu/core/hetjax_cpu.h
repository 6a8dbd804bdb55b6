/* C interface of the CPU engine. Single-threaded; needs neither JAX nor XLA.
 *
 * Functions that can fail return 0 on success; otherwise they return 1 and write a message of at
 * most error_size bytes, zero-terminated, to error. Nothing is written to outputs on failure.
 * Sizes are in bytes for uint8_t data and in elements otherwise; they are checked. */
#ifndef HETJAX_XLA_CPU_CORE_HETJAX_CPU_H_
#define HETJAX_XLA_CPU_CORE_HETJAX_CPU_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HETJAX_CPU_API __attribute__((visibility("default")))

/* A layer. bits: level of every input channel; levels: the palette, increasing. */
typedef struct hetjax_cpu_layer {
  const int32_t* bits;
  int64_t channels;
  const int32_t* levels;
  int64_t num_levels;
  int64_t groups;
  int64_t kernel_height;
  int64_t kernel_width;
  int64_t outputs;
} hetjax_cpu_layer;

/* padding: top, bottom, left, right. */
typedef struct hetjax_cpu_geometry {
  int64_t batch, height, width;
  int64_t strides[2];
  int64_t padding[4];
  int64_t kernel_dilation[2];
} hetjax_cpu_geometry;

/* Compiler that built the library, with its version. */
HETJAX_CPU_API const char* hetjax_cpu_compiler(void);
/* Instruction sets that can run here, slowest first, separated by commas. */
HETJAX_CPU_API const char* hetjax_cpu_isas(void);
/* Forces one for the process; NULL or "" lifts it. */
HETJAX_CPU_API int hetjax_cpu_force_isa(const char* name, char* error, int64_t error_size);
/* The forced one, or "". */
HETJAX_CPU_API const char* hetjax_cpu_forced_isa(void);
/* The one that runs; fails if HETJAX_CPU_ISA names one that cannot. */
HETJAX_CPU_API int hetjax_cpu_active_isa(const char** name, char* error, int64_t error_size);

/* Name of the layout that the running instruction set wants weights in. Prepared weights fit no
 * other layout. */
HETJAX_CPU_API int hetjax_cpu_format(const char** name, char* error, int64_t error_size);
/* Bytes of the prepared weights. */
HETJAX_CPU_API int hetjax_cpu_storage_bytes(const hetjax_cpu_layer* layer, int64_t* bytes,
                                            char* error, int64_t error_size);
/* Weight file bytes -> prepared weights and corrections int32[3 * taps * outputs]. */
HETJAX_CPU_API int hetjax_cpu_relayout(const hetjax_cpu_layer* layer, const uint8_t* file,
                                       int64_t file_size, uint8_t* storage, int64_t storage_size,
                                       int32_t* corrections, int64_t corrections_size, char* error,
                                       int64_t error_size);
/* x float[positions * channels] -> records; groups, kernel and outputs of the layer are ignored. */
HETJAX_CPU_API int hetjax_cpu_quantize_pack(const hetjax_cpu_layer* layer, const float* x,
                                            int64_t positions, float inv_beta, int is_signed,
                                            uint8_t* records, int64_t records_size, char* error,
                                            int64_t error_size);

/* What a convolution reads. Either records or float values, which are packed on the way. */
typedef struct hetjax_cpu_input {
  const uint8_t* records; /* [batch * height * width * record bytes] or NULL */
  int64_t records_size;
  const float* values; /* [batch * height * width * channels] or NULL */
  int64_t values_size;
  float inv_beta;
  int is_signed;
  const uint8_t* storage;
  int64_t storage_size;
  const int32_t* corrections;
  int64_t corrections_size;
} hetjax_cpu_input;

/* One reader of the values: its channels (the convolution's outputs), and where its records go. */
typedef struct hetjax_cpu_consumer {
  const int32_t* bits;
  const int32_t* levels;
  int64_t num_levels;
  float inv_beta;
  int is_signed;
  uint8_t* records;
  int64_t records_size;
} hetjax_cpu_consumer;

/* y = activation(fma(T, scale, bias) + residual). */
typedef struct hetjax_cpu_epilogue {
  const float* scale;    /* [outputs] */
  const float* bias;     /* [outputs] */
  const float* residual; /* as out, which may be out itself, or NULL */
  int activation;        /* 0 none, 1 ReLU, 2 ReLU6 */
  const hetjax_cpu_consumer* consumers;
  int64_t num_consumers;
} hetjax_cpu_epilogue;

/* Convolution. Without an epilogue out is int32_t accumulators; with one it is float values, or NULL
 * if consumers are all that is wanted. out_size counts elements and is given in any case. */
HETJAX_CPU_API int hetjax_cpu_conv(const hetjax_cpu_layer* layer,
                                   const hetjax_cpu_geometry* geometry,
                                   const hetjax_cpu_input* input,
                                   const hetjax_cpu_epilogue* epilogue, void* out,
                                   int64_t out_size, char* error, int64_t error_size);

/* Multiply-accumulates a second of one thread that an instruction set's instructions for a level (1,
 * 2, 4, 8; 32 for float32) allow at most, measured on registers for so many seconds. */
HETJAX_CPU_API int hetjax_cpu_limit(const char* isa, int32_t level, double seconds, double* rate,
                                    char* error, int64_t error_size);

/* Work of the tasks into which a convolution is cut for so many threads, in the order in which they
 * are claimed: output pixels times lanes. Writes at most work_size of them, and how many there are. */
HETJAX_CPU_API int hetjax_cpu_tasks(const hetjax_cpu_layer* layer,
                                    const hetjax_cpu_geometry* geometry, int64_t threads,
                                    int64_t* work, int64_t work_size, int64_t* count, char* error,
                                    int64_t error_size);

#ifdef __cplusplus
}
#endif

#endif /* HETJAX_XLA_CPU_CORE_HETJAX_CPU_H_ */
