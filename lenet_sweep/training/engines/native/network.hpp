// Declarations shared by the binding and the training step, which is compiled per instruction set.
#pragma once

#include <stdint.h>

namespace lenet {

// The offset of each parameter in the flat array of all parameters (see kernels.hpp for its layout).
enum {
  CONV1_W = 0,
  CONV1_B = CONV1_W + 160,  // 6 * 25, padded to whole vectors
  CONV2_W = CONV1_B + 16,
  CONV2_B = CONV2_W + 16 * 25 * 8,
  CONV3_W = CONV2_B + 16,
  CONV3_B = CONV3_W + 400 * 128,
  LINEAR1_W = CONV3_B + 128,
  LINEAR1_B = LINEAR1_W + 120 * 96,
  LINEAR2_W = LINEAR1_B + 96,
  LINEAR2_B = LINEAR2_W + 84 * 16,
  PARAMETERS = LINEAR2_B + 16
};

constexpr int CHUNK = 32;  // samples that a thread processes at once; their activations fit the L2 cache
constexpr int PARTIAL_SUMS = 8;  // of the gradients of the convolutions
constexpr int MIN_BLOCK = 8;     // samples that a partial sum starts with, at least
constexpr int MAX_THREADS = PARTIAL_SUMS;
constexpr int ROUND = CHUNK * MAX_THREADS;  // samples between two passes over the dense gradients, at most

constexpr int DROPPABLE = 120 + 84;  // units of a sample that dropout may drop, those of conv3 first

enum Activation { RELU, TANH, LEAKY_RELU, SIGMOID, ELU };
enum Pooling { MAX_POOLING, AVERAGE_POOLING };
enum Rule { SGD, ADAM, RMSPROP, ADAGRAD };

// The options of torch.optim's class for the rule; the others are not used.
struct Optimizer {
  int rule;
  double lr;  // of the current step; train sets it
  double momentum, dampening, weight_decay;
  int nesterov;
  double beta1, beta2, eps;  // beta2 is also the alpha of RMSprop
  double clip;               // the largest norm of all gradients together; 0: no limit
  int decoupled, centered;   // AdamW's weight decay; RMSprop divides by the standard deviation
  double lr_decay;
};

// The input of the network is scale * pixel + shift, with pixels from 0 to 255, or pixel / 255 if not used.
struct Normalization {
  int used;
  float scale, shift;
};

class ThreadPool;  // see threads.hpp

// The state of a run. All arrays are aligned to 64 bytes.
struct Network {
  Activation activation;
  Pooling pooling;
  float dropout;  // the probability that a unit is dropped
  Normalization normalization;
  float label_smoothing;  // the share of each target that is spread over all classes
  Optimizer optimizer;
  int64_t batch;
  int64_t steps;            // taken so far
  int64_t version;          // of the parameters; threads compare it with that of their copies
  float* parameters;        // (PARAMETERS,)
  float* gradients;         // (PARAMETERS,)
  float* first;             // (PARAMETERS,) momentum, or Adam's mean of gradients
  float* second;            // (PARAMETERS,) mean or sum of squared gradients
  float* third;             // (PARAMETERS,) RMSprop's mean of gradients
  float* shared;            // (shared_floats,) working memory of all threads, initially zero
  float* own[MAX_THREADS];  // (own_floats,) working memory of each thread, initially zero
  int threads;              // to use
  ThreadPool* pool;
};

// A computation as a sequence of phases. The units of a phase can run in any order and on any thread.
struct Phases {
  void* work;
  int (*next_phase)(void* work);  // prepares the next phase and returns its number of units; 0: the end
  void (*run_unit)(void* work, int unit, int thread);
};

void run(ThreadPool* pool, const Phases& phases, int threads);

// The entry points that each instruction set provides.
struct Kernels {
  const char* name;
  int64_t (*shared_floats)();
  int64_t (*own_floats)(Pooling);
  // order (count,) indices of images, lrs (ceil(count / batch),) -> losses (ceil(count / batch),)
  // keep (count, DROPPABLE): 1 for the units of each sample that are kept, else 0; null: no dropout
  void (*train)(Network*, const uint8_t* images, const uint8_t* labels, const int64_t* order,
                int64_t count, const double* lrs, const uint8_t* keep, float* losses);
  // images (count, 28, 28) -> predictions (count,) and losses (count,)
  void (*evaluate)(Network*, const uint8_t* images, const uint8_t* labels, int64_t count,
                   uint8_t* predictions, float* losses);
  // See resampling.hpp. order (count,) indices of images -> out (count, 28, 28)
  void (*affine)(const uint8_t* images, const int64_t* order, int64_t count, const int32_t* maps,
                 uint8_t* out);
  void (*elastic)(const uint8_t* images, const int64_t* order, int64_t count, const uint64_t* keys,
                  const float* smooth, const float* scale, int shift, uint8_t* out);
};

}  // namespace lenet
