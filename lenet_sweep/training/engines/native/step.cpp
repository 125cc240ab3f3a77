// The training step (forward, loss, backward, update) for one instruction set (LENET_ISA).
#include <stddef.h>

#include "kernels.hpp"
#include "network.hpp"
#include "resampling.hpp"

namespace LENET_ISA {

// Working memory of a run. It is initially zero, and padding is never written. Every array starts at a
// cache line, because loading a vector that crosses cache lines takes twice as long.
#define ARRAY(name) alignas(64) float name

constexpr int ROWS = 16;  // of a dense layer, which a thread processes together
constexpr int CONV3_PARTS = 400 / ROWS, LINEAR1_PARTS = (120 + ROWS - 1) / ROWS;
constexpr int NORM_PARTS = 4 + CONV3_PARTS + LINEAR1_PARTS;

// What all threads share.
struct Shared {
  // Activations of the dense layers, and gradients with respect to them.
  ARRAY(a2)[ROUND][400];
  ARRAY(a3)[ROUND][128];
  ARRAY(a4)[ROUND][96];
  ARRAY(logits)[ROUND][16];
  ARRAY(da3)[ROUND][128];
  ARRAY(da4)[ROUND][96];
  // Partial sums of the gradients of the convolutions.
  struct Convolutions {
    ARRAY(conv1)[6 * 32];  // conv1.w in conv1_backward's layout
    ARRAY(conv1_bias)[16];
    ARRAY(conv2)[CONV2_B + 16 - CONV2_W];  // conv2.w and conv2.b
  } partial[PARTIAL_SUMS];
  float losses[ROUND];
  float squares[NORM_PARTS];  // the sums of squares of the parts of the gradient, if it is clipped
};

// What each thread has for itself.
struct Own {
  // The weights, rearranged. Each thread does this itself, because fetching the result of another thread
  // takes longer: the cores exchange fewer cache lines in each step.
  ARRAY(conv2_forward)[150 * 16];              // conv2.w as (25 taps, 6 in, 16 out)
  ARRAY(conv2_back)[BACK_COPIES * BACK_COPY];  // conv2.w surrounded by zeros
  ARRAY(conv3_back)[128 * 400];                // conv3.w transposed
  ARRAY(linear1_back)[96 * 128];               // linear1.w transposed
  ARRAY(linear2_back)[16 * 96];                // linear2.w transposed
  uint32_t always_inked;  // rows that conv1 must not skip: all if a weight is not finite
  int64_t version;        // of the weights
  // The samples that the thread processes.
  ARRAY(halves)[CHUNK][2 * HALF + 16];
  ARRAY(triples)[31 * TRIPLE_ROW + 16];
  ARRAY(a1)[CHUNK][196 * 8];
  ARRAY(da1)[196 * 8];
  ARRAY(da2)[CHUNK][400];
  alignas(64) uint8_t winners1[CHUNK][2 * 14 * 64];
  alignas(64) uint8_t winners2[CHUNK][25 * 16];
  Ink ink[CHUNK];
  struct Windows {  // only for average pooling: the four planes of values
    ARRAY(conv1)[WINDOW * A1];
    ARRAY(conv2)[WINDOW * A2];
  } windows[CHUNK];
};
#undef ARRAY

static int64_t shared_floats() { return (int64_t)(sizeof(Shared) / sizeof(float)); }
static int64_t own_floats(Pooling pooling) {
  const size_t bytes = pooling == AVERAGE_POOLING ? sizeof(Own) : offsetof(Own, windows);
  return (int64_t)(bytes / sizeof(float));
}

static void fill_rows(float* out, int row, const float* values, int columns, int rows) {
  for (int r = 0; r < rows; r++) memcpy(out + r * row, values, columns * sizeof(float));
}

static void activate_all(Activation kind, float* values, int count) {
  for (int i = 0; i < count; i += 16) store(values + i, activate(kind, load16(values + i)));
}

// The values of the activations are those of `values` times `scale`.
static void deactivate_all(Activation kind, float* gradients, const float* values, float scale,
                           int count) {
  for (int i = 0; i < count; i += 16)
    store(gradients + i, deactivate(kind, load16(gradients + i), load16(values + i) * scale));
}

// Dropout of the values of n samples, or of their gradients: those that are kept are scaled.
static void drop(float* values, int row, const uint8_t* keep, int units, float dropout, int n) {
  const float scale = 1 / (1 - dropout);
  for (int i = 0; i < n; i++)
    for (int unit = 0; unit < units; unit++)
      values[i * row + unit] *= scale * (float)keep[i * DROPPABLE + unit];
}

static void add_rows(float* out, const float* values, int row, int rows) {
  for (int r = 0; r < rows; r++)
    for (int i = 0; i < row; i += 16) store(out + i, load16(out + i) + load16(values + r * row + i));
}

// Rearrange the weights for the forward pass.
static void prepare_forward(const float* p, Own* own) {
  float zero = 0;  // becomes NaN if a weight is infinite or NaN
  for (int i = 0; i < 150; i++) zero += 0 * p[CONV1_W + i];
  own->always_inked = zero == 0 ? 0 : ~0u;
  for (int out = 0; out < 16; out++)
    for (int tap = 0; tap < 25; tap++)
      for (int in = 0; in < 6; in++)
        own->conv2_forward[(tap * 6 + in) * 16 + out] = p[CONV2_W + (out * 25 + tap) * 8 + in];
}

static void prepare_backward(const float* p, Own* own) {
  surround(p + CONV2_W, own->conv2_back);
  transpose(p + CONV3_W, 128, own->conv3_back, 400, 400, 120);
  transpose(p + LINEAR1_W, 96, own->linear1_back, 128, 120, 84);
  transpose(p + LINEAR2_W, 16, own->linear2_back, 96, 84, 10);
}

// Pixels -> a row of a2. Also stores what the backward pass needs as sample n of the thread.
template <Pooling POOLING>
static void convolve(const Network* net, const uint8_t* pixels, Own* own, int n, float* a2) {
  const float* p = net->parameters;
  Own::Windows* windows = POOLING == MAX_POOLING ? nullptr : &own->windows[n];
  own->ink[n] = unpack(net->normalization, pixels, own->halves[n]);
  const uint32_t inked = own->ink[n].rows | own->always_inked;
  conv1_forward<POOLING>(net->activation, own->halves[n], inked, p + CONV1_W, p + CONV1_B, own->a1[n],
                         own->winners1[n], windows ? windows->conv1 : nullptr);
  conv2_forward<POOLING>(net->activation, own->a1[n], own->conv2_forward, p + CONV2_B, a2,
                         own->winners2[n], windows ? windows->conv2 : nullptr);
}

// The gradient of a row of a2, that of sample n -> added to the gradients of the convolutions.
template <Pooling POOLING>
static void convolve_backward(const Network* net, const float* a2, Own* own, int n,
                              Shared::Convolutions* sum) {
  Own::Windows* windows = POOLING == MAX_POOLING ? nullptr : &own->windows[n];
  conv2_backward<POOLING>(net->activation, own->a1[n], a2, own->winners2[n],
                          windows ? windows->conv2 : nullptr, own->da2[n], own->conv2_back, own->da1,
                          sum->conv2, sum->conv2 + (CONV2_B - CONV2_W));
  interleave_rows(own->halves[n], own->triples);
  conv1_backward<POOLING>(net->activation, own->triples, own->ink[n], own->a1[n], own->winners1[n],
                          windows ? windows->conv1 : nullptr, own->da1, sum->conv1, sum->conv1_bias);
}

// The dense layers of n samples from sample `first` of the round: a2 -> logits. keep (n, DROPPABLE), or
// null for no dropout.
static void dense_forward(const Network* net, const uint8_t* keep, Shared* s, int first, int n) {
  const float* p = net->parameters;
  float *a2 = s->a2[first], *a3 = s->a3[first], *a4 = s->a4[first], *logits = s->logits[first];
  fill_rows(a3, 128, p + CONV3_B, 128, n);
  product(a2, 400, 1, p + CONV3_W, 128, a3, 128, n, 400, 128);
  activate_all(net->activation, a3, n * 128);
  if (keep) drop(a3, 128, keep, 120, net->dropout, n);
  fill_rows(a4, 96, p + LINEAR1_B, 96, n);
  product(a3, 128, 1, p + LINEAR1_W, 96, a4, 96, n, 120, 96);
  activate_all(net->activation, a4, n * 96);
  if (keep) drop(a4, 96, keep + 120, 84, net->dropout, n);
  fill_rows(logits, 16, p + LINEAR2_B, 16, n);
  product(a4, 96, 1, p + LINEAR2_W, 16, logits, 16, n, 84, 16);
}

// Returns the loss of a sample and replaces its logits by log-probabilities.
static float log_softmax(float* logits, int label, float smoothing) {
  float most = logits[0];
  for (int i = 1; i < 10; i++) most = logits[i] > most || logits[i] != logits[i] ? logits[i] : most;
  float sum = 0;
  for (int i = 0; i < 10; i++) sum += expf(logits[i] - most);
  float log_sum = logf(sum) + most;
  for (int i = 0; i < 10; i++) logits[i] -= log_sum;
  if (smoothing == 0) return -logits[label];
  float all = 0;
  for (int i = 0; i < 10; i++) all -= logits[i];
  return smoothing / 10 * all - (1 - smoothing) * logits[label];
}

// The gradients of the activations of the dense layers, for n samples from sample `first` of the round:
// log-probabilities -> logits (their gradient), da4, da3 and da2 (n, 400). share is the weight of a
// sample, 1 / batch. keep is that of dense_forward.
static void dense_backward(const Network* net, const uint8_t* labels, const int64_t* order,
                           float share, const uint8_t* keep, Shared* s, Own* own, int first, int n) {
  float *d = s->logits[first], *da3 = s->da3[first], *da4 = s->da4[first];
  float* da2 = own->da2[0];
  const float smoothing = net->label_smoothing, others = smoothing / 10 * share;
  const float kept = keep ? 1 - net->dropout : 1;
  for (int i = 0; i < n; i++) {  // softmax - target
    for (int k = 0; k < 10; k++) d[i * 16 + k] = expf(d[i * 16 + k]) * share - others;
    d[i * 16 + labels[order[i]]] -= (1 - smoothing) * share;
  }
  memset(da4, 0, n * sizeof s->da4[0]);
  product(d, 16, 1, own->linear2_back, 96, da4, 96, n, 10, 96);
  if (keep) drop(da4, 96, keep + 120, 84, net->dropout, n);
  deactivate_all(net->activation, da4, s->a4[first], kept, n * 96);
  memset(da3, 0, n * sizeof s->da3[0]);
  product(da4, 96, 1, own->linear1_back, 128, da3, 128, n, 84, 128);
  if (keep) drop(da3, 128, keep, 120, net->dropout, n);
  deactivate_all(net->activation, da3, s->a3[first], kept, n * 128);
  memset(da2, 0, n * 400 * sizeof(float));
  product(da3, 128, 1, own->conv3_back, 400, da2, 400, n, 120, 400);
}

// What all parameters of a step have in common.
struct StepFactors {
  float size, correction2;  // of Adam
  float keep;               // the factor of the weights that AdamW's decay leaves
};

static StepFactors step_factors(const Optimizer& o, int64_t steps) {
  StepFactors factors = {(float)o.lr, 1, (float)(1 - o.lr * o.weight_decay)};
  if (o.rule == ADAM) {
    factors.size = (float)(o.lr / (1 - pow(o.beta1, (double)steps)));
    factors.correction2 = (float)sqrt(1 - pow(o.beta2, (double)steps));
  } else if (o.rule == ADAGRAD) {
    factors.size = (float)(o.lr / (1 + (double)(steps - 1) * o.lr_decay));
  }
  return factors;
}

// One step of torch.optim.SGD, Adam, AdamW, RMSprop or Adagrad for `count` parameters, with the same
// order of operations. net->steps includes this step.
static void update(Network* net, StepFactors factors, int from, int count) {
  const Optimizer& o = net->optimizer;
  float *p = net->parameters + from, *m = net->first + from, *v = net->second + from;
  float* mean = net->third + from;
  const float* g = net->gradients + from;
  const float decay = o.decoupled ? 0.0f : (float)o.weight_decay;
  const float keep2 = (float)o.beta2, take2 = (float)(1 - o.beta2), eps = (float)o.eps;
  if (o.decoupled)
    for (int i = 0; i < count; i++) p[i] *= factors.keep;
  if (o.rule == ADAM) {
    const float take1 = (float)(1 - o.beta1);
    for (int i = 0; i < count; i++) {
      const float gradient = g[i] + decay * p[i];
      m[i] += take1 * (gradient - m[i]);
      v[i] = keep2 * v[i] + take2 * gradient * gradient;
      p[i] -= factors.size * m[i] / (sqrtf(v[i]) / factors.correction2 + eps);
    }
    return;
  }
  if (o.rule == ADAGRAD) {
    for (int i = 0; i < count; i++) {
      const float gradient = g[i] + decay * p[i];
      v[i] += gradient * gradient;
      p[i] -= factors.size * gradient / (sqrtf(v[i]) + eps);
    }
    return;
  }
  const float momentum = (float)o.momentum;
  if (o.rule == RMSPROP) {
    for (int i = 0; i < count; i++) {
      const float gradient = g[i] + decay * p[i];
      v[i] = keep2 * v[i] + take2 * gradient * gradient;
      float spread = v[i];
      if (o.centered) {
        mean[i] += take2 * (gradient - mean[i]);
        spread -= mean[i] * mean[i];
      }
      const float step = gradient / (sqrtf(spread) + eps);
      m[i] = momentum * m[i] + step;
      p[i] -= factors.size * m[i];
    }
    return;
  }
  if (o.momentum == 0) {
    for (int i = 0; i < count; i++) p[i] -= factors.size * (g[i] + decay * p[i]);
    return;
  }
  const float keep = net->steps == 1 ? 0.0f : momentum;  // the first step copies the gradient
  const float take = net->steps == 1 ? 1.0f : (float)(1 - o.dampening);
  for (int i = 0; i < count; i++) {
    const float gradient = g[i] + decay * p[i];
    m[i] = keep * m[i] + take * gradient;
    p[i] -= factors.size * (o.nesterov ? gradient + momentum * m[i] : m[i]);
  }
}

// Shuffled images are not in a cache, so the next one is fetched while the current one is processed.
INLINE void prefetch(const uint8_t* pixels) {
  for (int i = 0; i < 784; i += 64) __builtin_prefetch(pixels + i);
  __builtin_prefetch(pixels + 783);
}

static float sum_of_squares(const float* values, int count) {
  v16 sum = splat16(0);
  for (int i = 0; i < count; i += 16) sum += load16(values + i) * load16(values + i);
  float lanes[16], total = 0;
  store(lanes, sum);
  for (int i = 0; i < 16; i++) total += lanes[i];
  return total;
}

// An epoch, in phases that repeat. A batch is processed in rounds of up to ROUND samples; most
// batches are one round.
//
// SAMPLES: each unit takes some samples through the forward pass and back to the first layer. Samples
// belong to blocks, and each block adds the gradients of the convolutions to its own partial sum.
//
// WEIGHTS: each unit adds the samples of the round to the gradient of some rows of a dense layer. After
// the last round of a batch, it then updates these rows. Another unit adds up the partial sums.
//
// UPDATE: if gradients are clipped, the update has to wait for the norm of all of them. Each unit then
// scales and updates some parameters.
//
// Blocks depend on the batch size but not on the number of threads, and every other sum is over the
// samples in their order. So the results are the same bits for any number of threads.
struct Training {
  Network* net;
  const uint8_t *images, *labels;
  const int64_t* order;
  int64_t count;
  const double* lrs;
  const uint8_t* keep;
  float* losses;

  int block, round;          // samples in a block and, at most, in a round
  enum { SAMPLES, WEIGHTS, UPDATE } phase;
  int64_t start, size;       // of the batch
  int64_t done;              // samples of the batch before this round
  int n;                     // samples in this round
  int unit;                  // samples of a unit of SAMPLES
  int conv3_rows, linear1_rows, conv3_units, linear1_units;  // of WEIGHTS
  double loss;
  StepFactors factors;
  float scale;               // of the gradient, in UPDATE
};

constexpr int UPDATE_UNITS = 16;

INLINE int ceil_divide(int64_t a, int64_t b) { return (int)((a + b - 1) / b); }

static int next_phase(void* work) {
  Training* t = (Training*)work;
  Network* net = t->net;
  Shared* s = (Shared*)net->shared;
  const bool last = t->done + t->n == t->size;
  if (t->phase == Training::SAMPLES) {
    for (int i = 0; i < t->n; i++) t->loss += s->losses[i];
    t->phase = Training::WEIGHTS;
    if (last) {
      net->optimizer.lr = *t->lrs++;
      t->factors = step_factors(net->optimizer, ++net->steps);
      net->version++;
    }
    return 3 + t->conv3_units + t->linear1_units;
  }
  if (t->phase == Training::WEIGHTS && last && t->n > 0 && net->optimizer.clip > 0) {
    double squares = 0;
    for (float part : s->squares) squares += part;
    const double scale = net->optimizer.clip / (sqrt(squares) + 1e-6);  // as clip_grad_norm_
    t->scale = scale < 1 || scale != scale ? (float)scale : 1.0f;
    t->phase = Training::UPDATE;
    return UPDATE_UNITS;
  }
  t->done += t->n;
  if (t->done == t->size) {
    if (t->size > 0) *t->losses++ = (float)(t->loss / (double)t->size);
    t->start += t->size;
    t->size = t->count - t->start < net->batch ? t->count - t->start : net->batch;
    t->done = 0;
    t->loss = 0;
    if (t->size == 0) return 0;
  }
  const int64_t left = t->size - t->done;
  t->n = (int)(left < t->round ? left : t->round);
  t->phase = Training::SAMPLES;
  return ceil_divide(t->n, t->unit);
}

static void run_samples(Training* t, int unit, int thread) {
  Network* net = t->net;
  Shared* s = (Shared*)net->shared;
  Own* own = (Own*)net->own[thread];
  const bool averages = net->pooling == AVERAGE_POOLING;
  const auto forward = averages ? convolve<AVERAGE_POOLING> : convolve<MAX_POOLING>;
  const auto backward = averages ? convolve_backward<AVERAGE_POOLING> : convolve_backward<MAX_POOLING>;
  const int first = unit * t->unit, n = t->n - first < t->unit ? t->n - first : t->unit;
  const int64_t at = t->start + t->done + first;
  const int64_t* order = t->order + at;
  const uint8_t* keep = t->keep ? t->keep + at * DROPPABLE : nullptr;
  if (own->version != net->version) {
    own->version = net->version;
    prepare_forward(net->parameters, own);
    prepare_backward(net->parameters, own);
  }
  for (int i = 0; i < n; i++) {
    if (at + i + 1 < t->count) prefetch(t->images + order[i + 1] * 784);
    forward(net, t->images + order[i] * 784, own, i, s->a2[first + i]);
  }
  dense_forward(net, keep, s, first, n);
  for (int i = 0; i < n; i++)
    s->losses[first + i] =
        log_softmax(s->logits[first + i], t->labels[order[i]], net->label_smoothing);
  dense_backward(net, t->labels, order, 1.0f / (float)t->size, keep, s, own, first, n);
  for (int i = 0; i < n; i++) {
    const int64_t sample = t->done + first + i;  // in the batch
    Shared::Convolutions* sum = &s->partial[sample / t->block % PARTIAL_SUMS];
    if (sample % t->block == 0 && sample < t->block * PARTIAL_SUMS) memset(sum, 0, sizeof *sum);
    backward(net, s->a2[first + i], own, i, sum);
  }
}

// Adds the gradients of some rows of a dense layer: a (n, rows) and d (n, columns) -> weights (rows,
// columns) at an offset of the parameters.
static void add_gradient(const Training* t, int weights, int columns, const float* a, int a_row,
                         const float* d, int rows) {
  float* g = t->net->gradients + weights;
  if (t->done == 0) memset(g, 0, rows * columns * sizeof(float));
  product(a, 1, a_row, d, columns, g, columns, rows, t->n, columns);
}

static void add_bias_gradient(const Training* t, int bias, const float* d, int columns) {
  float* g = t->net->gradients + bias;
  if (t->done == 0) memset(g, 0, columns * sizeof(float));
  add_rows(g, d, columns, t->n);
}

// Updates the parameters whose gradient is complete, or, if gradients are clipped, adds up its squares in
// parts of at most `most` parameters.
static void finish(Training* t, int part, int from, int count, int most = PARAMETERS) {
  Network* net = t->net;
  if (net->optimizer.clip == 0) return update(net, t->factors, from, count);
  float* squares = ((Shared*)net->shared)->squares + part;
  for (int at = 0; at < count; at += most)
    *squares++ = sum_of_squares(net->gradients + from + at, count - at < most ? count - at : most);
}

static void finish_convolutions(Training* t) {
  Network* net = t->net;
  Shared* s = (Shared*)net->shared;
  float* g = net->gradients;
  const int sums = ceil_divide(t->size, t->block);
  Shared::Convolutions* sum = &s->partial[0];
  for (int k = 1; k < sums && k < PARTIAL_SUMS; k++) {
    const Shared::Convolutions* other = &s->partial[k];
    add_rows(sum->conv1, other->conv1, 6 * 32, 1);
    add_rows(sum->conv1_bias, other->conv1_bias, 16, 1);
    add_rows(sum->conv2, other->conv2, CONV2_B + 16 - CONV2_W, 1);
  }
  unpack_conv1_gradient(sum->conv1, g + CONV1_W);
  memcpy(g + CONV1_B, sum->conv1_bias, sizeof sum->conv1_bias);
  memcpy(g + CONV2_W, sum->conv2, sizeof sum->conv2);
  finish(t, 0, 0, CONV3_W);
}

static void run_weights(Training* t, int unit) {
  Network* net = t->net;
  Shared* s = (Shared*)net->shared;
  const bool last = t->done + t->n == t->size;
  if (unit == 0) {  // first, since it takes longest
    if (last) finish_convolutions(t);
    return;
  }
  unit--;
  if (unit < t->conv3_units) {
    const int row = unit * t->conv3_rows, rows = 400 - row < t->conv3_rows ? 400 - row : t->conv3_rows;
    const int at = CONV3_W + row * 128;
    add_gradient(t, at, 128, s->a2[0] + row, 400, s->da3[0], rows);
    if (last) finish(t, 4 + row / ROWS, at, rows * 128, ROWS * 128);
    return;
  }
  unit -= t->conv3_units;
  if (unit < t->linear1_units) {
    const int row = unit * t->linear1_rows;
    const int rows = 120 - row < t->linear1_rows ? 120 - row : t->linear1_rows;
    const int at = LINEAR1_W + row * 96;
    add_gradient(t, at, 96, s->a3[0] + row, 128, s->da4[0], rows);
    if (last) finish(t, 4 + CONV3_PARTS + row / ROWS, at, rows * 96, ROWS * 96);
    return;
  }
  unit -= t->linear1_units;
  if (unit == 0) {
    add_gradient(t, LINEAR2_W, 16, s->a4[0], 96, s->logits[0], 84);
    add_bias_gradient(t, LINEAR2_B, s->logits[0], 16);
    if (last) finish(t, 1, LINEAR2_W, PARAMETERS - LINEAR2_W);
  }
  if (unit == 1) {
    add_bias_gradient(t, CONV3_B, s->da3[0], 128);
    add_bias_gradient(t, LINEAR1_B, s->da4[0], 96);
    if (!last) return;
    finish(t, 2, CONV3_B, 128);
    finish(t, 3, LINEAR1_B, 96);
  }
}

static void run_update(Training* t, int unit) {
  const int most = ceil_divide(PARAMETERS / 16, UPDATE_UNITS) * 16, from = unit * most;
  const int count = PARAMETERS - from < most ? PARAMETERS - from : most;
  float* g = t->net->gradients + from;
  for (int i = 0; i < count; i++) g[i] *= t->scale;
  update(t->net, t->factors, from, count);
}

static void run_unit(void* work, int unit, int thread) {
  Training* t = (Training*)work;
  if (t->phase == Training::SAMPLES) run_samples(t, unit, thread);
  else if (t->phase == Training::WEIGHTS) run_weights(t, unit);
  else run_update(t, unit);
}

static void train(Network* net, const uint8_t* images, const uint8_t* labels, const int64_t* order,
                  int64_t count, const double* lrs, const uint8_t* keep, float* losses) {
  Training t = {};
  t.net = net, t.images = images, t.labels = labels, t.order = order, t.count = count;
  t.lrs = lrs, t.keep = keep, t.losses = losses;
  net->version++;  // the parameters may have been set since the last call
  const int64_t eighth = ceil_divide(net->batch, PARTIAL_SUMS);
  t.block = (int)(eighth < MIN_BLOCK ? MIN_BLOCK : eighth > CHUNK ? CHUNK : eighth);
  t.round = t.block * PARTIAL_SUMS;
  const int threads = t.block >= net->batch ? 1 : net->threads;  // too little work to share
  const int most = CHUNK / t.block;  // blocks in a unit
  const int shared = (int)(t.round < net->batch ? t.round : net->batch) / t.block / (2 * threads);
  t.unit = t.block * (threads == 1 || shared > most ? most : shared < 1 ? 1 : shared);
  if (threads == 1) t.round = t.unit;
  t.phase = Training::UPDATE;  // as if a batch had just ended
  t.conv3_rows = threads == 1 ? 400 : ROWS;
  t.linear1_rows = threads == 1 ? 120 : ROWS;
  t.conv3_units = ceil_divide(400, t.conv3_rows);
  t.linear1_units = ceil_divide(120, t.linear1_rows);
  run(net->pool, {&t, next_phase, run_unit}, threads);
}

struct Evaluation {
  Network* net;
  const uint8_t *images, *labels;
  int64_t count;
  uint8_t* predictions;
  float* losses;
  int units;
  bool begun;
};

static int next_evaluation_phase(void* work) {
  Evaluation* e = (Evaluation*)work;
  if (e->begun) return 0;
  e->begun = true;
  return e->units;
}

// A unit is every units-th chunk.
static void evaluate_unit(void* work, int unit, int thread) {
  const Evaluation* e = (const Evaluation*)work;
  Network* net = e->net;
  Shared* s = (Shared*)net->shared;
  Own* own = (Own*)net->own[thread];
  const auto forward =
      net->pooling == AVERAGE_POOLING ? convolve<AVERAGE_POOLING> : convolve<MAX_POOLING>;
  if (own->version != net->version) {
    own->version = net->version;
    prepare_forward(net->parameters, own);
  }
  const int first = thread * CHUNK;
  for (int64_t start = (int64_t)unit * CHUNK; start < e->count; start += CHUNK * e->units) {
    const int n = (int)(e->count - start < CHUNK ? e->count - start : CHUNK);
    for (int i = 0; i < n; i++)
      forward(net, e->images + (start + i) * 784, own, i, s->a2[first + i]);
    dense_forward(net, nullptr, s, first, n);
    for (int i = 0; i < n; i++) {
      float* z = s->logits[first + i];
      e->losses[start + i] = log_softmax(z, e->labels[start + i], net->label_smoothing);
      int best = 0;
      for (int k = 1; k < 10; k++) best = z[k] > z[best] ? k : best;
      e->predictions[start + i] = (uint8_t)best;
    }
  }
}

static void evaluate(Network* net, const uint8_t* images, const uint8_t* labels, int64_t count,
                     uint8_t* predictions, float* losses) {
  net->version++;
  Evaluation e = {net, images, labels, count, predictions, losses, net->threads == 1 ? 1 : 8 * net->threads, false};
  run(net->pool, {&e, next_evaluation_phase, evaluate_unit}, net->threads);
}

#define NAME_OF(isa) #isa
#define NAME(isa) NAME_OF(isa)
extern const Kernels kernels;
const Kernels kernels = {NAME(LENET_ISA), shared_floats, own_floats, train,
                         evaluate, affine, elastic};

}  // namespace LENET_ISA
